//! `resnet eval`: accuracy of a model on a set of pictures.

use std::io::Write;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::{Args, ValueEnum};
use resnet::io::source::{self, Fold, HeldBack, OpenOptions};
use resnet::train::TrainError;
use resnet::train::score::{Quality, Score};
use resnet::{EvaluateOptions, Model, Predictor};
use serde_json::json;

use crate::Outcome;
use crate::arguments::{self, Compute};
use crate::failure::{Failure, Status};
use crate::view::View;

const EXAMPLES: &str = "\
Examples:
  resnet eval --weights runs/first/checkpoints/best.safetensors --data flowers
  resnet eval --model resnet20 --weights resnet20-12fca82f.th --data test_batch.bin
  resnet eval --model resnet50-v1 --weights resnet50.safetensors --data photos.tar \\
      --classes-file imagenet_classes.tsv --json";

/// Measure a model's accuracy
///
/// Every picture counts once. The classes of the pictures are matched to the model's by name where
/// both have names.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Pictures: `generated`, a folder (by class), an archive, CIFAR files
    #[arg(long, value_name = "ADDR", default_value = "generated", help_heading = "Data")]
    data: String,
    /// Which part of them [default: test, else val, else what there is]
    #[arg(long, value_name = "PART", help_heading = "Data")]
    split: Option<Split>,
    /// Share of the training pictures that was held back for validation
    #[arg(long, value_name = "F", help_heading = "Data")]
    val_fraction: Option<f64>,
    /// The part of the training pictures that was held back: 2/5 is the second of five
    #[arg(long, value_name = "I/K", help_heading = "Data", conflicts_with = "val_fraction")]
    fold: Option<Fold>,
    /// Pictures at a time; results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 32, help_heading = "Computing")]
    batch_size: usize,
    #[command(flatten)]
    model: arguments::Model,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Split {
    /// The training pictures
    Train,
    /// The validation pictures
    Val,
    /// The test pictures
    Test,
}

pub(crate) fn run(options: &Options, view: &View, stop: &AtomicBool) -> Outcome {
    let start = Instant::now();
    let device = options.compute.device()?;
    let request = options.model.request(&options.compute)?;
    if options.batch_size == 0 {
        return Err(Failure::usage("--batch-size is 0, expected at least 1", "32 is the default"));
    }
    let model = Model::load(&request)?;
    model.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    view.note(&format!("pictures: {}", model.preprocess.describe()));
    let share = options.val_fraction.map(HeldBack::Share);
    let held_back = share.or(options.fold.map(HeldBack::Fold));
    let opened = OpenOptions { held_back, ..OpenOptions::default() };
    let data = source::open(&options.data, &opened).map_err(TrainError::from)?;
    data.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    let chosen = match options.split {
        None => data.for_evaluation(),
        Some(Split::Train) => data.train.as_ref(),
        Some(Split::Val) => data.val.as_ref(),
        Some(Split::Test) => data.test.as_ref(),
    };
    let Some(pictures) = chosen else {
        let message = format!("{}: has no such part", options.data);
        return Err(Failure::usage(message, "leave --split out to take what there is"));
    };
    let mut predictor = Predictor::new(model, device)?;
    let how = EvaluateOptions { batch_size: options.batch_size, ..EvaluateOptions::default() };
    let found = predictor.evaluate(pictures, how, stop, &mut |_| {})?;
    let Some(found) = found else { return Ok(Status::Interrupted) };
    for broken in &found.broken {
        view.note(&format!("note: left out: {}", broken.problem));
    }
    let (score, seconds) = (found.score, start.elapsed().as_secs_f64());
    let mut out = view.stdout();
    if view.json() {
        let mut object = json!(score);
        object["seconds"] = json!(seconds);
        writeln!(out, "{object}")?;
    } else {
        let rate = score.images as f64 / seconds;
        writeln!(
            out,
            "{}, loss {:.4}, {} skipped, {rate:.0} images/s",
            quality(&score),
            score.loss,
            score.skipped,
        )?;
    }
    Ok(Status::Done)
}

/// How good the predictions are, in words.
fn quality(score: &Score) -> String {
    match score.quality {
        Quality::OneClass { correct, top1, top5 } => {
            let (top1, top5) = (100.0 * top1, 100.0 * top5);
            format!("top-1 {top1:.2} % ({correct} of {}), top-5 {top5:.2} %", score.images)
        }
        Quality::MultiLabel { map, f1_macro, f1_micro } => {
            let [map, f1_macro, f1_micro] = [map, f1_macro, f1_micro].map(|share| 100.0 * share);
            format!(
                "mAP {map:.2} %, F1 {f1_micro:.2} % (mean of classes {f1_macro:.2} %), {} images",
                score.images
            )
        }
    }
}
