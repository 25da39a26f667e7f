//! What a run reports while it goes on, as data: views draw it, `metrics.jsonl` keeps part of it.
//!
//! The JSON form is a contract: one object a line, keys in snake_case, SI units, never NaN; keys are
//! only ever added. What depends on time stands in `seconds`, `images_per_second` and `wait_fraction`
//! alone, so that two runs are equal when these are taken out.

mod plain;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::score::Score;

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
    /// Share of the batch whose class has the highest logit.
    pub top1: f64,
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
    /// Share of them whose class had the highest logit at its step.
    pub train_top1: f64,
    /// Mean loss over the validation pictures; none without an evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// Share of them whose class has the highest logit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_top1: Option<f64>,
    /// Share of them whose class is among the five highest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub val_top5: Option<f64>,
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

/// An evaluation outside the order of epochs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Updates made.
    pub step: u64,
    /// Mean loss over the validation pictures.
    pub val_loss: f64,
    /// Share of them whose class has the highest logit.
    pub val_top1: f64,
    /// Share of them whose class is among the five highest.
    pub val_top5: f64,
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
    /// The best evaluation's share of hits.
    pub best_top1: Option<f64>,
    /// The last evaluation's share of hits.
    pub final_top1: Option<f64>,
    /// The run's folder.
    pub run: PathBuf,
    /// Updates made.
    pub step: u64,
    /// Epochs finished.
    pub epoch: u64,
    /// Seconds of training, over all processes.
    pub seconds: f64,
}

impl Evaluation {
    pub(crate) fn new(step: u64, score: &Score, seconds: f64) -> Evaluation {
        let Score { loss: val_loss, top1: val_top1, top5: val_top5, .. } = *score;
        Evaluation { step, val_loss, val_top1, val_top5, seconds }
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
