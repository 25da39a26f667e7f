//! `resnet data check`: every file decoded, and what is wrong with the set.

use std::io::Write;

use clap::Args;
use resnet::io::survey::{self, Finding, Measured, Picture, Summary, Survey};
use serde_json::json;

use super::Place;
use crate::Outcome;
use crate::failure::Status;
use crate::view::{View, count};

const EXAMPLES: &str = "\
Examples:
  resnet data check --data flowers
  resnet data check --data train.tar --val val.tar --json
  resnet data check --data photos --hashes --json

Exit status: 0 done, 1 failed: files that cannot be read, training pictures in another part, classes
that differ; 2 wrong usage.";

/// Decode every file and say what is wrong
///
/// Names files that cannot be decoded, endings that lie about the format, equal and nearly equal
/// pictures, training pictures that are in another part too, classes that a part lacks or that only
/// one part has, and classes of very different sizes.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// Also print size and SHA-256 of the RGB pixels of each file
    #[arg(long)]
    hashes: bool,
}

pub(super) fn run(options: &Options, view: &View) -> Outcome {
    let set = options.place.list()?;
    set.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    let samples = survey::parts(&set).iter().map(|(_, source)| source.len()).sum();
    let bar = super::progress(view, samples);
    let survey = survey::survey(&set, options.place.threads(), &|| bar.inc(1));
    bar.finish_and_clear();
    let (findings, summary) = survey.findings();
    if view.json() {
        print_json(&mut view.stdout(), options.hashes, &survey, &findings, &summary)?;
    } else {
        print(&mut view.stdout(), options.hashes, &survey, &findings, &summary)?;
    }
    let is_fine = summary.bad + summary.leaks + summary.class_problems == 0;
    Ok(if is_fine { Status::Done } else { Status::Failed })
}

/// The files that can be used: path, columns, rows, hash.
fn hashes(survey: &Survey) -> impl Iterator<Item = (&Picture, usize, usize, String)> {
    survey.pictures.iter().filter_map(|picture| match &picture.measured {
        Measured::Good(good) => {
            let hash = good.rgb_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            Some((picture, good.width, good.height, hash))
        }
        Measured::Bad(..) | Measured::Stray => None,
    })
}

fn print_json(
    out: &mut impl Write,
    with_hashes: bool,
    survey: &Survey,
    findings: &[Finding],
    summary: &Summary,
) -> std::io::Result<()> {
    for finding in findings {
        writeln!(out, "{}", json!(finding))?;
    }
    if with_hashes {
        for (picture, width, height, hash) in hashes(survey) {
            let path = &picture.path;
            let object =
                json!({"path": path, "width": width, "height": height, "rgb_sha256": hash});
            writeln!(out, "{object}")?;
        }
    }
    writeln!(out, "{}", json!(summary))
}

fn print(
    out: &mut impl Write,
    with_hashes: bool,
    survey: &Survey,
    findings: &[Finding],
    summary: &Summary,
) -> std::io::Result<()> {
    for Finding { path, problem, detail } in findings {
        writeln!(out, "{path}: {}: {detail}", problem.name().replace('_', " "))?;
    }
    if with_hashes {
        for (picture, width, height, hash) in hashes(survey) {
            writeln!(out, "{hash}  {width}x{height}  {}", picture.path)?;
        }
    }
    for (part, classes) in &survey.classes {
        let counts = survey.counts(*part, classes.len());
        let sizes = || counts.iter().map(|count| count.good);
        let images = count(sizes().sum::<usize>() as u64);
        let (least, most) = (sizes().min().unwrap_or(0), sizes().max().unwrap_or(0));
        let (part, classes) = (part.name(), classes.len());
        writeln!(out, "{part}: {images} images of {classes} classes, {least} to {most} in each")?;
    }
    let Summary { files, ok, bad, duplicates, leaks, near_duplicates, near_leaks, .. } = *summary;
    writeln!(
        out,
        "{files} files: {ok} ok, {bad} bad; {duplicates} duplicates ({near_duplicates} more nearly), \
         {leaks} leaks ({near_leaks} more nearly)"
    )
}
