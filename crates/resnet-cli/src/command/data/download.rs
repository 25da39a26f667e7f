//! `resnet data download`: well-known sets from where their authors keep them.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use resnet::io::download::{KNOWN, Known, Progress, download, known};
use resnet::train::TrainError;
use serde_json::json;

use crate::Outcome;
use crate::failure::Status;
use crate::view::{View, bytes};

const EXAMPLES: &str = "\
Examples:
  resnet data download cifar10
  resnet train --recipe cifar-fast --data data/cifar-10-batches-bin
  resnet data download imagenette-160 --out pictures --mirror https://mirror.example.org/sets
Exit status: 0 done, 1 failed, 2 wrong usage. What was stopped goes on where it stood.";

/// Bring a well-known set of pictures
///
/// From its authors' own address, or from a mirror that has the same files. Files are compared with
/// the MD5 sums that the authors publish, and archives unpacked. A set that is there is left alone.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Options {
    /// Which set
    #[arg(value_name = "SET", value_parser = names())]
    set: String,
    /// The folder that gets the set's folder
    #[arg(long, value_name = "DIR", default_value = "data")]
    out: PathBuf,
    /// Take the files below this address instead
    #[arg(long, value_name = "URL")]
    mirror: Option<String>,
}

/// The names of the sets, each with what it is.
fn names() -> clap::builder::PossibleValuesParser {
    let value = |set: &Known| clap::builder::PossibleValue::new(set.name).help(set.about);
    KNOWN.iter().map(value).collect::<Vec<_>>().into()
}

pub(super) fn run(options: &Options, view: &View) -> Outcome {
    let set = known(&options.set).expect("the parser admits known names only");
    let bar = bar(view);
    let mut show = |progress: Progress<'_>| match progress {
        Progress::File { name, have, of } => {
            view.note(&format!("{name}{}", if have == 0 { "" } else { ": goes on" }));
            bar.set_length(of.unwrap_or(0));
            bar.set_position(have);
        }
        Progress::Bytes(bytes) => bar.inc(bytes),
        Progress::Unpack(name) => {
            bar.finish_and_clear();
            view.note(&format!("unpacking {name}"));
        }
    };
    let done = download(set, options.mirror.as_deref(), &options.out, &mut show);
    bar.finish_and_clear();
    let done = done.map_err(TrainError::from)?;
    let mut out = view.stdout();
    if view.json() {
        let object = json!({ "set": set.name, "folder": done.folder, "bytes": done.bytes });
        writeln!(out, "{object}")?;
        return Ok(Status::Done);
    }
    let folder = done.folder.display();
    let what =
        if done.bytes == 0 { "was there".into() } else { format!("{} came", bytes(done.bytes)) };
    writeln!(out, "{folder}: {what}")?;
    writeln!(out, "Next: resnet train --data {folder}")?;
    Ok(Status::Done)
}

/// A bar over a file's bytes, on a terminal that wants one.
fn bar(view: &View) -> ProgressBar {
    if view.quiet() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(
        "{wide_bar} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} eta {eta}",
    )
    .expect("the template is a constant")
    .progress_chars("━╸ ");
    ProgressBar::new(0).with_style(style)
}
