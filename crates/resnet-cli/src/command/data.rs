//! `resnet data`: what a set of pictures is like, and what is wrong with it.

mod check;
mod download;
mod pack;
mod preview;
mod stats;

use std::io::IsTerminal;
use std::num::NonZeroUsize;

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use resnet::io::source::{self, DataSet, OpenOptions};
use resnet::train::TrainError;

use crate::Outcome;
use crate::failure::Failure;
use crate::view::View;

const EXAMPLES: &str = "\
Examples:
  resnet data check --data flowers
  resnet data check --data train.tar --val val.tar --json
  resnet data stats --data flowers --html flowers.html
  resnet data preview --data flowers --out sheet.png
  resnet data pack --data photos --resize 256 --out packed
  resnet data download cifar10
Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.";

/// Look at pictures before training on them
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, subcommand_required = true, disable_help_subcommand = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    command: DataCommand,
}

#[derive(Debug, Subcommand)]
enum DataCommand {
    Check(check::Options),
    Stats(stats::Options),
    Preview(preview::Options),
    Pack(pack::Options),
    Download(download::Options),
}

pub(crate) fn run(options: &Options, view: &View) -> Outcome {
    match &options.command {
        DataCommand::Check(options) => check::run(options, view),
        DataCommand::Stats(options) => stats::run(options, view),
        DataCommand::Preview(options) => preview::run(options, view),
        DataCommand::Pack(options) => pack::run(options, view),
        DataCommand::Download(options) => download::run(options, view),
    }
}

/// Where the pictures are.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Data")]
struct Place {
    /// Pictures: `generated`, a folder (by class), an archive, CIFAR files
    #[arg(long, value_name = "ADDR")]
    data: String,
    /// Validation pictures, if elsewhere
    #[arg(long, value_name = "ADDR")]
    val: Option<String>,
    /// Threads that read and decode [default: all cores this process may use]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl Place {
    /// The set, whether or not its pictures have classes.
    fn list(&self) -> Result<DataSet, Failure> {
        let options = OpenOptions { val: self.val.clone(), ..OpenOptions::default() };
        Ok(source::open_any(&self.data, &options).map_err(TrainError::from)?)
    }

    /// The set, whose pictures have classes.
    fn open(&self) -> Result<DataSet, Failure> {
        let options = OpenOptions { val: self.val.clone(), ..OpenOptions::default() };
        Ok(source::open(&self.data, &options).map_err(TrainError::from)?)
    }

    fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(all, NonZeroUsize::get)
    }
}

/// A bar over so many samples, on a terminal that wants one.
fn progress(view: &View, samples: usize) -> ProgressBar {
    if view.quiet() || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {per_sec} eta {eta}")
        .expect("the template is a constant")
        .progress_chars("━╸ ");
    ProgressBar::new(samples as u64).with_style(style)
}
