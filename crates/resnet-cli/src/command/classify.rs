//! `resnet classify`: what a model sees in pictures.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use resnet::train::TrainError;
use resnet::train::predict::Prediction;
use resnet::{Model, Predictor};
use serde_json::json;

use crate::Outcome;
use crate::arguments::{self, Compute};
use crate::failure::{Failure, Status};
use crate::view::View;

/// Cells of the longest bar.
const BAR: usize = 30;

const EXAMPLES: &str = "\
Examples:
  resnet classify --weights runs/first/checkpoints/best.safetensors daisy.jpg tulip.png
  resnet classify --model resnet50 --weights resnet50.pth --classes-file classes.txt *.jpg --json

One picture that cannot be read does not stop the others; the exit status is 1 then.";

/// Say what is in pictures
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Picture files: JPEG, PNG, GIF, BMP, WebP or TIFF
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// How many classes to name
    #[arg(long, value_name = "K", default_value_t = 5)]
    top: usize,
    #[command(flatten)]
    model: arguments::Model,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(options: &Options, view: &View) -> Outcome {
    let device = options.compute.device()?;
    let model = Model::load(&options.model.request(&options.compute)?)?;
    model.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    let mut predictor = Predictor::new(model, device)?;
    let mut status = Status::Done;
    let mut out = view.stdout();
    for path in &options.files {
        let name = path.display().to_string();
        let found =
            read(path).and_then(|bytes| Ok(predictor.classify(&name, &bytes, options.top)?));
        match found {
            Ok(predictions) if view.json() => {
                writeln!(out, "{}", json!({ "path": name, "predictions": predictions }))?;
            }
            Ok(predictions) => write(&mut out, &name, &predictions)?,
            Err(failure) => {
                status = Status::Failed;
                if view.json() {
                    writeln!(out, "{}", json!({ "path": name, "error": failure.line() }))?;
                } else {
                    failure.report();
                }
            }
        }
    }
    Ok(status)
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|source| TrainError::Io { path: path.clone(), source }.into())
}

fn write(out: &mut impl Write, name: &str, predictions: &[Prediction]) -> std::io::Result<()> {
    let bold = anstyle::Style::new().bold();
    writeln!(out, "{bold}{name}{bold:#}")?;
    let width = predictions.iter().map(|p| p.label.chars().count()).max().unwrap_or(0);
    for Prediction { label, probability, .. } in predictions {
        let cells = (probability * BAR as f64).round() as usize;
        let bar = "█".repeat(cells);
        writeln!(out, "  {label:<width$}  {:>5.1} %  {bar}", 100.0 * probability)?;
    }
    Ok(())
}
