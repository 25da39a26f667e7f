//! What a run reports while it goes on, as data: views draw it, `metrics.jsonl` keeps part of it.
//!
//! The JSON form is a contract: one object a line, keys in snake_case, SI units, never NaN; keys are
//! only ever added. What depends on time stands in `seconds`, `images_per_second` and `wait_fraction`
//! alone, so that two runs are equal when these are taken out.

mod plain;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

pub(crate) use self::plain::gigabytes;
use crate::score::{Quality, Score};

/// The keys whose values depend on time, and on nothing else does their presence depend.
pub const TIME_KEYS: [&str; 3] = ["seconds", "images_per_second", "wait_fraction"];

/// Something that happened in a run.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The run begins, or goes on.
    Start(Start),
    /// Something that the user should know, one line.
    Notice(String),
    /// An update of the parameters was made.
    Step(Step),
    /// An evaluation has come so far.
    Evaluating {
        /// Pictures done.
        images: u64,
        /// Pictures in all.
        total: u64,
    },
    /// An epoch is over and evaluated.
    Epoch(Epoch),
    /// A run that stopped early was evaluated where it stands.
    Evaluation(Evaluation),
    /// A checkpoint was written.
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Updates made until then.
        step: u64,
    },
    /// The run is over for now.
    End(End),
}

/// How a run begins.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Start {
    /// The run's folder.
    pub run: PathBuf,
    /// Numbers that are trained.
    pub params: u64,
    /// Steps that the schedule has in all.
    pub steps: u64,
    /// The seed.
    pub seed: u64,
    /// The network.
    pub model: String,
    /// Where the weights are from.
    pub weights: String,
    /// Epochs in all.
    pub epochs: u64,
    /// Pictures a step.
    pub batch_size: usize,
    /// Steps an epoch.
    pub steps_per_epoch: u64,
    /// Training pictures.
    pub train_images: usize,
    /// Validation pictures.
    pub val_images: usize,
    /// Classes.
    pub classes: usize,
    /// The schedule's highest learning rate, for this batch size.
    pub lr: f64,
    /// Updates made before, in a run that is resumed.
    pub resumed_step: u64,
    /// The instruction set that is computed with.
    pub isa: String,
    /// Bytes for weights, activations and gradients; they depend on the number of threads, and so are
    /// not written down.
    #[serde(skip)]
    pub memory_bytes: u64,
}

/// One update of the parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Step {
    /// Updates made, this one included.
    pub step: u64,
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Mean loss of the batch.
    pub loss: f64,
    /// Share of the batch whose class has the highest logit, where pictures have one class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// F1 of all decisions on the batch together, where pictures have any number of classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub f1_micro: Option<f64>,
    /// The learning rate of this update.
    pub lr: f64,
    /// The norm of all gradients before clipping, where they are clipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<f64>,
    /// Seconds of training until now, over all processes.
    pub seconds: f64,
    /// Rate since the epoch, or this process, began.
    pub images_per_second: f64,
    /// Share of that time in which training waited for pictures.
    pub wait_fraction: f64,
}

/// An epoch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Epoch {
    /// The epoch, counted from 1.
    pub epoch: u64,
    /// Updates made.
    pub step: u64,
    /// Mean loss over the epoch's pictures, each at its own step.
    pub train_loss: f64,
    /// Share of them whose class had the highest logit at its step, where pictures have one class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_top1: Option<f64>,
    /// F1 of all decisions on them together, where pictures have any number of classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_f1_micro: Option<f64>,
    /// The score on the validation pictures; empty without an evaluation.
    #[serde(flatten)]
    pub val: Validation,
    /// Training pictures that could not be read, whose places others took.
    pub replaced: u64,
    /// Validation pictures that could not be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skipped: Option<u64>,
    /// Whether it is the best evaluation so far.
    pub best: bool,
    /// Training pictures a second, evaluation aside.
    pub images_per_second: f64,
    /// Share of the time in which training waited for pictures.
    pub wait_fraction: f64,
    /// Seconds of this epoch, evaluation included; in a resumed one, of this process.
    pub seconds: f64,
}

/// A score on validation pictures: the keys that pictures of one class have, or of any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Validation {
    /// Mean loss.
    #[serde(rename = "val_loss", skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Share of the pictures whose class has the highest logit.
    #[serde(rename = "val_top1", skip_serializing_if = "Option::is_none")]
    pub top1: Option<f64>,
    /// Share of the pictures whose class is among the five highest.
    #[serde(rename = "val_top5", skip_serializing_if = "Option::is_none")]
    pub top5: Option<f64>,
    /// Mean of the classes' average precisions.
    #[serde(rename = "val_map", skip_serializing_if = "Option::is_none")]
    pub map: Option<f64>,
    /// Mean of the classes' F1.
    #[serde(rename = "val_f1_macro", skip_serializing_if = "Option::is_none")]
    pub f1_macro: Option<f64>,
    /// F1 of all decisions together.
    #[serde(rename = "val_f1_micro", skip_serializing_if = "Option::is_none")]
    pub f1_micro: Option<f64>,
}

/// An evaluation outside the order of epochs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Updates made.
    pub step: u64,
    /// The score on the validation pictures.
    #[serde(flatten)]
    pub val: Validation,
    /// Seconds that it took.
    pub seconds: f64,
}

/// Why a run is over for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// All epochs are done.
    Finished,
    /// All epochs had been done before.
    AlreadyFinished,
    /// `train.max_steps` is reached.
    MaxSteps,
    /// `train.max_seconds` is reached.
    MaxTime,
    /// Someone asked for it.
    Interrupted,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct End {
    /// Why.
    pub ending: Ending,
    /// The best evaluation's share of hits, where pictures have one class.
    pub best_top1: Option<f64>,
    /// The last evaluation's share of hits.
    pub final_top1: Option<f64>,
    /// The best evaluation's mAP, where pictures have any number of classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub best_map: Option<f64>,
    /// The last evaluation's mAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_map: Option<f64>,
    /// The run's folder.
    pub run: PathBuf,
    /// Updates made.
    pub step: u64,
    /// Epochs finished.
    pub epoch: u64,
    /// Seconds of training, over all processes.
    pub seconds: f64,
}

impl Validation {
    /// The score of an evaluation.
    pub fn new(score: &Score) -> Validation {
        let own = Validation { loss: Some(score.loss), ..Validation::default() };
        match score.quality {
            Quality::OneClass { top1, top5, .. } => {
                Validation { top1: Some(top1), top5: Some(top5), ..own }
            }
            Quality::MultiLabel { map, f1_macro, f1_micro } => Validation {
                map: Some(map),
                f1_macro: Some(f1_macro),
                f1_micro: Some(f1_micro),
                ..own
            },
        }
    }
}

impl Event {
    /// The object of `train --json`; none for what is only a matter of views.
    pub fn to_json(&self) -> Option<Value> {
        match self {
            Event::Start(start) => Some(tagged("start", start)),
            Event::Step(step) => Some(tagged("step", step)),
            Event::Epoch(epoch) => Some(tagged("epoch", epoch)),
            Event::Evaluation(evaluation) => Some(tagged("evaluation", evaluation)),
            Event::End(end) => Some(tagged("end", end)),
            Event::Checkpoint { path, step } => {
                Some(json!({"event": "checkpoint", "path": path, "step": step}))
            }
            Event::Notice(text) => Some(json!({"event": "notice", "message": text})),
            Event::Evaluating { .. } => None,
        }
    }
}

fn tagged(name: &str, body: &impl Serialize) -> Value {
    let mut value = serde_json::to_value(body).expect("numbers and texts always serialise");
    if let Value::Object(object) = &mut value {
        object.insert("event".into(), name.into());
    }
    value
}
