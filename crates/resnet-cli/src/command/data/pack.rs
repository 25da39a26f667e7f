//! `resnet data pack`: a set as tar shards.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use resnet::io::pack::{PackOptions, pack};
use resnet::train::TrainError;
use serde_json::json;

use super::Place;
use crate::Outcome;
use crate::failure::Status;
use crate::view::{View, bytes};

const EXAMPLES: &str = "\
Examples:
  resnet data pack --data photos --resize 256 --out packed
  resnet train --data packed --model resnet50
Exit status: 0 done, 1 failed, 2 wrong usage. What was stopped goes on where it stood.";

/// Pack pictures into tar shards
///
/// Fewer, larger files are read faster and copied more easily, smaller pictures are decoded faster.
/// Names keep their classes, so a packed set trains as the set itself does; WebDataset reads the
/// shards too. Files are copied as they are, or scaled and written as JPEG. Pictures that cannot be
/// read are left out and named.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// The folder of the shards
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Scale larger pictures so that the shorter side has so many pixels
    #[arg(long, value_name = "PIXELS", value_parser = clap::value_parser!(u32).range(1..=16_384))]
    resize: Option<u32>,
    /// Quality of the JPEGs that scaled pictures become
    #[arg(long, value_name = "Q", default_value_t = 95, value_parser = clap::value_parser!(u8).range(1..=100))]
    quality: u8,
    /// Pictures in a shard
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    shard_images: u32,
}

pub(super) fn run(options: &Options, view: &View) -> Outcome {
    let set = options.place.open()?;
    set.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    let parts = [&set.train, &set.val, &set.test];
    let samples = parts.into_iter().flatten().map(|source| source.len()).sum();
    let bar = super::progress(view, samples);
    let how = PackOptions {
        out: options.out.clone(),
        side: options.resize.map(|side| side as usize),
        quality: options.quality,
        shard_images: options.shard_images as usize,
        threads: options.place.threads(),
    };
    let report = pack(&set, &how, &|samples| bar.inc(samples as u64)).map_err(TrainError::from)?;
    bar.finish_and_clear();
    report.broken.iter().for_each(|problem| view.note(&format!("note: left out: {problem}")));
    let mut out = view.stdout();
    if view.json() {
        let object = json!({
            "out": options.out,
            "shards": report.shards,
            "kept": report.kept,
            "images": report.images,
            "bytes": report.bytes,
            "skipped": report.broken.len(),
        });
        writeln!(out, "{object}")?;
    } else {
        let (shards, kept, images) = (report.shards, report.kept, report.images);
        let (size, skipped) = (bytes(report.bytes), report.broken.len());
        writeln!(
            out,
            "{}: {shards} shards ({kept} were there); {images} pictures written, {size}, {skipped} left out",
            options.out.display()
        )?;
    }
    Ok(Status::Done)
}
