//! `resnet quantize`: a model on bytes from one in f32, with what that costs and brings.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Args, ValueEnum};
use resnet::core::pass::quantize::range::RangeMethod;
use resnet::io::source::{self, OpenOptions, Source};
use resnet::quantize::{CalibrateOptions, agreement, quantize, speed};
use resnet::train::TrainError;
use resnet::train::evaluate::Evaluation;
use resnet::train::int8;
use resnet::train::score::Quality;
use resnet::{Device, EvaluateOptions, Model, Predictor};
use serde_json::json;

use crate::Outcome;
use crate::arguments::{self, Compute};
use crate::failure::{Failure, Status};
use crate::view::View;

const EXAMPLES: &str = "\
Examples:
  resnet quantize --weights runs/first/checkpoints/best.safetensors --calibrate flowers
  resnet quantize --model resnet20 --weights resnet20-12fca82f.th --calibrate cifar-10-batches-bin \\
      --out resnet20-int8.safetensors
  resnet quantize --weights best.safetensors --calibrate flowers/train --eval flowers/val \\
      --method percentile --max-drop 0.5 --json";

/// Seconds that each speed is measured for.
const SECONDS: f64 = 1.5;

/// Make a model that computes on bytes
///
/// Watches the network's activations on calibration pictures, rounds weights and activations to
/// bytes, and compares accuracy, predictions and speed with the model in f32. Nothing is written
/// when top-1 falls by more than --max-drop or nothing is gained, but with --force. `eval`,
/// `classify` and `bench` take the file like any other.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Pictures to calibrate with: as for `train`, whose training part is taken
    #[arg(long, value_name = "ADDR", default_value = "generated", help_heading = "Data")]
    calibrate: String,
    /// How many of them, at even distances
    #[arg(long, value_name = "N", default_value_t = 256, help_heading = "Data")]
    images: usize,
    /// Pictures to compare on [default: the evaluation part of --calibrate]
    #[arg(long, value_name = "ADDR", help_heading = "Data")]
    eval: Option<String>,
    /// How the range of an activation is chosen
    #[arg(long, value_name = "METHOD", default_value = "mse", help_heading = "Quantisation")]
    method: Method,
    /// Share of values, in percent, that `percentile` keeps at each end
    #[arg(long, value_name = "P", default_value_t = 99.99, help_heading = "Quantisation")]
    percentile: f64,
    /// Points of top-1 that may be lost
    #[arg(long, value_name = "POINTS", default_value_t = 0.3, help_heading = "Quantisation")]
    max_drop: f64,
    /// Write the model whatever it lost
    #[arg(long, help_heading = "Quantisation")]
    force: bool,
    /// The file to write [default: the weights' name with `-int8.safetensors`]
    #[arg(long, value_name = "FILE", help_heading = "Quantisation")]
    out: Option<PathBuf>,
    /// Pictures at a time when speed is measured
    #[arg(long, value_name = "N", default_value_t = 16, help_heading = "Computing")]
    batch_size: usize,
    #[command(flatten)]
    model: arguments::Model,
    #[command(flatten)]
    compute: Compute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Method {
    /// Least squared error
    Mse,
    /// All but the rarest
    Percentile,
    /// From the smallest to the largest
    Largest,
}

/// A model's accuracy and speed.
struct Measured {
    evaluation: Evaluation,
    images_per_second: f64,
}

pub(crate) fn run(options: &Options, view: &View, stop: &AtomicBool) -> Outcome {
    check(options)?;
    let device = options.compute.device_in_f32()?;
    let model = Model::load(&options.model.request(&options.compute)?)?;
    model.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
    if model.int8.is_some() {
        let message = format!("{}: is a model on bytes already", weights(options).display());
        return Err(Failure::usage(message, "quantise the model in f32 that it was made of"));
    }
    let (calibration, evaluation) = pictures(options, view)?;
    view.note(&format!("calibrating on {} pictures", options.images.min(calibration.len())));
    let calibrate = CalibrateOptions {
        images: options.images,
        method: match options.method {
            Method::Mse => RangeMethod::Mse,
            Method::Percentile => RangeMethod::Percentile(options.percentile),
            Method::Largest => RangeMethod::Largest,
        },
        ..CalibrateOptions::default()
    };
    let bytes = quantize(&model, device, &calibration, calibrate, stop)?;
    let Some(bytes) = bytes else { return Ok(Status::Interrupted) };
    view.note(&format!("comparing on {} pictures", evaluation.len()));
    let measure = |model: &Model| measure(model, device, &evaluation, options.batch_size, stop);
    let Some(before) = measure(&model)? else { return Ok(Status::Interrupted) };
    let Some(after) = measure(&bytes)? else { return Ok(Status::Interrupted) };
    let path = out(options);
    let refused = refusal(options, &before, &after);
    let writes = refused.is_none() || options.force;
    if writes {
        int8::write(&bytes, &path)?;
    }
    print(view, &path, writes, &before, &after)?;
    match refused {
        None => Ok(Status::Done),
        Some(why) if options.force => {
            view.note(&format!("note: {why}; written all the same"));
            Ok(Status::Done)
        }
        Some(why) => {
            let hint = "other or more --calibrate pictures, another --method, or --force";
            Err(Failure::new(anyhow::anyhow!("not written: {why}"), Some(hint.into())))
        }
    }
}

fn check(options: &Options) -> Result<(), Failure> {
    if options.images == 0 || options.batch_size == 0 {
        let name = if options.images == 0 { "--images" } else { "--batch-size" };
        return Err(Failure::usage(format!("{name} is 0, expected at least 1"), "leave it out"));
    }
    if !(50.0..=100.0).contains(&options.percentile) {
        let message = format!("--percentile is {}, expected 50 to 100", options.percentile);
        return Err(Failure::usage(message, "99.99 is the default"));
    }
    if options.max_drop.is_nan() || options.max_drop < 0.0 {
        let message = format!("--max-drop is {}, expected at least 0", options.max_drop);
        return Err(Failure::usage(message, "0.3 is the default, in points of top-1"));
    }
    Ok(())
}

fn weights(options: &Options) -> &Path {
    options.model.weights.as_deref().unwrap_or(Path::new(""))
}

fn out(options: &Options) -> PathBuf {
    options.out.clone().unwrap_or_else(|| {
        let stem = weights(options).file_stem().unwrap_or_default().to_string_lossy();
        weights(options).with_file_name(format!("{stem}-int8.safetensors"))
    })
}

type Pictures = Arc<dyn Source>;

/// The pictures to calibrate with and those to compare on.
fn pictures(options: &Options, view: &View) -> Result<(Pictures, Pictures), Failure> {
    let open = |address: &str| -> Result<_, Failure> {
        let data = source::open(address, &OpenOptions::default()).map_err(TrainError::from)?;
        data.notices.iter().for_each(|notice| view.note(&format!("note: {notice}")));
        Ok(data)
    };
    let data = open(&options.calibrate)?;
    let evaluation = match &options.eval {
        None => data.for_evaluation().cloned(),
        Some(address) => open(address)?.for_evaluation().cloned(),
    };
    let calibration = data.train.as_ref().or(data.for_evaluation()).cloned();
    match (calibration, evaluation) {
        (Some(calibration), Some(evaluation)) => Ok((calibration, evaluation)),
        _ => {
            let message = format!("{}: has no pictures", options.calibrate);
            Err(Failure::usage(message, "a folder of pictures by class, or CIFAR files"))
        }
    }
}

fn measure(
    model: &Model,
    device: Device,
    pictures: &Pictures,
    batch_size: usize,
    stop: &AtomicBool,
) -> Result<Option<Measured>, Failure> {
    let mut predictor = Predictor::new(model.clone(), device)?;
    let how = EvaluateOptions::default();
    let Some(evaluation) = predictor.evaluate(pictures, how, stop, &mut |_| {})? else {
        return Ok(None);
    };
    drop(predictor);
    let images_per_second = speed(model, device, batch_size, SECONDS)?;
    Ok(Some(Measured { evaluation, images_per_second }))
}

/// Why the model on bytes is not worth having.
fn refusal(options: &Options, before: &Measured, after: &Measured) -> Option<String> {
    let (quality, after_all) = (before.evaluation.score.quality, after.evaluation.score.quality);
    let drop = 100.0 * (quality.goal() - after_all.goal());
    if options.max_drop < drop {
        let (name, most) = (quality.goal_name(), options.max_drop);
        return Some(format!("{name} falls by {drop:.2} points, --max-drop is {most}"));
    }
    (after.images_per_second <= before.images_per_second).then(|| {
        let (f32, int8) = (before.images_per_second, after.images_per_second);
        format!("{int8:.1} images/s on bytes are no more than {f32:.1} in f32")
    })
}

fn print(
    view: &View,
    path: &Path,
    written: bool,
    before: &Measured,
    after: &Measured,
) -> std::io::Result<()> {
    let agreement = agreement(&before.evaluation, &after.evaluation);
    let mut out = view.stdout();
    if view.json() {
        let side = |m: &Measured| {
            let score = &m.evaluation.score;
            let mut side = json!(score.quality);
            side["loss"] = json!(score.loss);
            side["images_per_second"] = json!(m.images_per_second);
            side
        };
        let object = json!({
            "path": path.display().to_string(),
            "written": written,
            "images": before.evaluation.score.images,
            "agreement": agreement,
            "f32": side(before),
            "int8": side(after),
        });
        return writeln!(out, "{object}");
    }
    for (name, m) in [("f32 ", before), ("int8", after)] {
        let score = &m.evaluation.score;
        let (goal, what) = (100.0 * score.quality.goal(), score.quality.goal_name());
        let counted = match score.quality {
            Quality::OneClass { correct, .. } => format!(" ({correct} of {})", score.images),
            Quality::MultiLabel { .. } => String::new(),
        };
        writeln!(
            out,
            "{name}  {what} {goal:.2} %{counted}, loss {:.4}, {:.1} images/s",
            score.loss, m.images_per_second
        )?;
    }
    writeln!(out, "{:.2} % of the predictions agree", 100.0 * agreement)?;
    if written {
        writeln!(out, "wrote {}", path.display())?;
    }
    Ok(())
}
