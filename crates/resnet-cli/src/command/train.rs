//! `resnet train`: a recipe in a run's folder, begun or gone on with.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use clap::Args;
use resnet::io::source::{Fold, HeldBack};
use resnet::train::TrainError;
use resnet::train::event::{End, Ending};
use resnet::train::recipe::{self, Assignment, Recipe};
use resnet::{Device, Training};

use crate::Outcome;
use crate::arguments::{Compute, Stem};
use crate::failure::{Failure, Status};
use crate::view::View;
use crate::view::training::TrainingView;

const EXAMPLES: &str = "\
Examples:
  resnet train                                    a small network on generated pictures
  resnet train --data flowers --val-fraction 0.1  a folder with one folder of images per class
  resnet train --data cifar-10-batches-bin --val-fraction 0.1 --recipe cifar-fast
  resnet train --resume runs/20260101-120000-resnet20 --epochs 20
  resnet train --recipe mine.toml --set optimizer.lr=0.05 --set schedule.kind=cosine

Recipes that come with it: cifar-fast, cifar-paper, imagenet-paper, imagenet-torchvision, generated,
pictures. docs/recipes.md lists every key.
Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted (the run can be resumed).";

/// Train a network
///
/// Everything about a run is in one folder: recipe.toml, metrics.jsonl, log.txt and
/// checkpoints/{last,best}.safetensors. A run that was stopped or killed goes on from its last
/// checkpoint, to the bit.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Network: a name that `resnet info` lists, or a TOML file [default: resnet20 up to 64 pixels,
    /// resnet18 above]
    #[arg(long, value_name = "NAME|FILE.toml")]
    model: Option<String>,
    /// Weights to start from: a model file of ours, safetensors, .pth or .th
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Start the classifier anew, whatever --weights has for it
    #[arg(long, requires = "weights")]
    new_head: bool,
    /// Channels of the pictures: 3 (RGB) or 1 (greyscale) [default: the network's own]
    #[arg(long, value_name = "N")]
    in_channels: Option<u32>,
    /// Rows and columns that the network sees of a picture [default: the network's own]
    #[arg(long, value_name = "PIXELS")]
    size: Option<u32>,
    /// `small`: a 3x3 stem without pooling, for small pictures
    #[arg(long, value_name = "KIND")]
    stem: Option<Stem>,
    /// Pictures: `generated`, a folder (by class), an archive, CIFAR files [default: generated]
    #[arg(long, value_name = "ADDR", help_heading = "Data")]
    data: Option<String>,
    /// Validation pictures, if elsewhere
    #[arg(long, value_name = "ADDR", help_heading = "Data")]
    val: Option<String>,
    /// Share of the training pictures held back for validation
    #[arg(long, value_name = "F", help_heading = "Data")]
    val_fraction: Option<f64>,
    /// The part held back for validation, for cross-validation: 2/5 is the second of five
    #[arg(long, value_name = "I/K", help_heading = "Data", conflicts_with = "val_fraction")]
    fold: Option<Fold>,
    /// Keep decoded pictures in memory, up to half of what is free
    #[arg(long, help_heading = "Data")]
    cache: bool,
    /// Names of the classes in their order: one a line, or columns `index`, `wnid`, `label` between tabs
    #[arg(long, value_name = "FILE", help_heading = "Data")]
    classes_file: Option<String>,
    /// Read every picture first, and do not start if one is broken
    #[arg(long, help_heading = "Data")]
    strict: bool,
    /// What to do: a name or a TOML file
    #[arg(long, value_name = "NAME|FILE.toml", help_heading = "Recipe", conflicts_with = "resume")]
    recipe: Option<String>,
    /// Change a key of the recipe; may be repeated
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Recipe")]
    set: Vec<String>,
    /// Passes over the training pictures
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    epochs: Option<u32>,
    /// Pictures a step
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    batch_size: Option<u32>,
    /// Learning rate, the schedule's highest
    #[arg(long, value_name = "X", help_heading = "Recipe")]
    lr: Option<f64>,
    /// Initial weights, order and augmentation follow from it
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    seed: Option<u32>,
    /// Stop after so many steps in all; the schedule keeps its length
    #[arg(long, value_name = "N", help_heading = "Recipe")]
    max_steps: Option<u32>,
    /// Stop after so much time, such as 90s or 2h; the schedule keeps its length
    #[arg(long, value_name = "TIME", help_heading = "Recipe", value_parser = humantime::parse_duration)]
    max_time: Option<std::time::Duration>,
    /// The run's folder [default: runs/<time>-<model>]
    #[arg(long, value_name = "DIR", help_heading = "Run", conflicts_with = "resume")]
    run: Option<PathBuf>,
    /// Go on with the run in a folder
    #[arg(long, value_name = "DIR", help_heading = "Run")]
    resume: Option<PathBuf>,
    /// Drop what is cheap to make again: less memory, the same bits, a little slower
    #[arg(long, help_heading = "Computing")]
    recompute: bool,
    #[command(flatten)]
    compute: Compute,
}

pub(crate) fn run(options: &Options, view: &View, stop: &AtomicBool) -> Outcome {
    let device = Device { recompute: options.recompute, ..options.compute.device()? };
    let assignments = options.assignments()?;
    let training = match &options.resume {
        Some(run) => Training::resume(run, &assignments, device)?,
        None => {
            let text = options.recipe.as_deref().map(recipe::load).transpose();
            let text = text.map_err(TrainError::from)?;
            let run = options.run.clone().unwrap_or_else(|| options.default_run());
            Training::begin(&run, text.as_ref(), &assignments, device)?
        }
    };
    let mut events = TrainingView::new(view);
    let end = training.run(stop, &mut |event| events.show(event))?;
    events.finish()?;
    if !view.json() {
        what_next(view, &end, training.recipe());
    }
    Ok(match end.ending {
        Ending::Interrupted => Status::Interrupted,
        Ending::Finished | Ending::AlreadyFinished | Ending::MaxSteps | Ending::MaxTime => {
            Status::Done
        }
    })
}

/// What to type next, to stderr: it is no result.
fn what_next(view: &View, end: &End, recipe: &Recipe) {
    let run = end.run.display();
    let best = end.run.join("checkpoints/best.safetensors");
    // Without validation pictures no epoch is better than another.
    let weights = if best.exists() { best } else { end.run.join("checkpoints/last.safetensors") };
    let weights = weights.display();
    let go_on = match end.ending {
        Ending::Finished | Ending::AlreadyFinished => {
            let mut data = format!("--data {}", recipe.data.source);
            match recipe.data.held_back() {
                Some(HeldBack::Share(share)) => data = format!("{data} --val-fraction {share}"),
                Some(HeldBack::Fold(fold)) => data = format!("{data} --fold {fold}"),
                None => {}
            }
            view.note(&format!("next: resnet eval --weights {weights} {data}"));
            view.note(&format!("      resnet classify --weights {weights} PICTURE..."));
            let more = 2 * recipe.train.epochs;
            view.note(&format!("      resnet train --resume {run} --epochs {more}"));
            return;
        }
        Ending::Interrupted => "",
        // The limit is in the run's recipe: without another one it would stop there again.
        Ending::MaxSteps => " --max-steps 0",
        Ending::MaxTime => " --max-time 0s",
    };
    view.note(&format!("next: resnet train --resume {run}{go_on}"));
}

impl Options {
    /// The flags as changes to the recipe, after those of `--set`.
    fn assignments(&self) -> Result<Vec<Assignment>, Failure> {
        let mut all = Vec::new();
        for text in &self.set {
            all.push(Assignment::parse(text).map_err(TrainError::from)?);
        }
        let mut add = |key: &str, flag: &str, value: Option<toml::Value>| {
            all.extend(value.map(|value| Assignment::new(key, value, flag)));
        };
        let text = |value: &Option<String>| value.clone().map(toml::Value::String);
        let number = |value: Option<u32>| value.map(|n| toml::Value::Integer(n.into()));
        let weights = self.weights.as_ref().map(|path| path.display().to_string().into());
        let seconds = self.max_time.map(|time| toml::Value::Float(time.as_secs_f64()));
        add("model.name", "--model", text(&self.model));
        add("model.weights", "--weights", weights);
        add("model.new_head", "--new-head", self.new_head.then_some(toml::Value::Boolean(true)));
        add("model.in_channels", "--in-channels", number(self.in_channels));
        add("augment.size", "--size", number(self.size));
        add("model.stem", "--stem", self.stem.map(|Stem::Small| "small".into()));
        add("data.source", "--data", text(&self.data));
        add("data.val", "--val", text(&self.val));
        add("data.val_fraction", "--val-fraction", self.val_fraction.map(toml::Value::Float));
        add("data.fold", "--fold", self.fold.map(|fold| fold.to_string().into()));
        add("data.cache", "--cache", self.cache.then_some(toml::Value::Boolean(true)));
        add("data.classes_file", "--classes-file", text(&self.classes_file));
        add("data.strict", "--strict", self.strict.then_some(toml::Value::Boolean(true)));
        add("train.epochs", "--epochs", number(self.epochs));
        add("train.batch_size", "--batch-size", number(self.batch_size));
        add("optimizer.lr", "--lr", self.lr.map(toml::Value::Float));
        let precision = self.compute.precision.map(|_| self.compute.precision().name().into());
        add("train.precision", "--precision", precision);
        add("train.seed", "--seed", number(self.seed));
        add("train.max_steps", "--max-steps", number(self.max_steps));
        add("train.max_seconds", "--max-time", seconds);
        Ok(all)
    }

    /// `runs/<time>-<what>`, the time in UTC.
    fn default_run(&self) -> PathBuf {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let digits: String = now.chars().filter(char::is_ascii_digit).collect();
        let (day, time) = digits.split_at(8);
        let what = self.model.as_deref().or(self.recipe.as_deref()).unwrap_or("generated");
        let what = Path::new(what).file_stem().map_or("run".into(), |stem| stem.to_string_lossy());
        PathBuf::from("runs").join(format!("{day}-{time}-{what}"))
    }
}
