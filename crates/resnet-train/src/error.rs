//! What can be wrong with a run, an evaluation or a prediction.

use std::io;
use std::path::PathBuf;

use resnet_core::executor::ExecutorError;
use resnet_core::graph::GraphError;
use resnet_core::pass::quantize::QuantizeError;
use resnet_core::spec::SpecError;
use resnet_io::weights::WeightsError;
use resnet_io::{DataError, system_hint};

use crate::checkpoint::CheckpointError;
use crate::recipe::RecipeError;

/// Why training, evaluating or predicting cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The pictures.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint or the metrics.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file of weights.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The network's name or numbers.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The network's specification as a file.
    #[error("{}: {message}", path.display())]
    SpecFile {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
    },
    /// The network does not fit the pictures.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The quantisation is not the network's.
    #[error(transparent)]
    Quantize(#[from] QuantizeError),
    /// The executor refused.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The system could not read or write.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A new run in a folder that holds one.
    #[error("{}: holds a run with a checkpoint already", run.display())]
    RunExists {
        /// The run's folder.
        run: PathBuf,
    },
    /// Nothing to go on with.
    #[error("{}: no run to resume: there is no recipe.toml in it", run.display())]
    NoRun {
        /// The folder.
        run: PathBuf,
    },
    /// A key that cannot change in the middle of a run.
    #[error("{key} cannot change when a run is resumed")]
    ChangedOnResume {
        /// The key, dotted.
        key: String,
    },
    /// The checkpoint is of other data than there is now.
    #[error("{}: was trained on {expected} images, the data now has {found}", checkpoint.display())]
    DataChanged {
        /// The checkpoint.
        checkpoint: PathBuf,
        /// Images then.
        expected: usize,
        /// Images now.
        found: usize,
    },
    /// Pictures without a training part.
    #[error("{address}: has no training pictures")]
    NoTrainingSplit {
        /// The address.
        address: String,
    },
    /// A number that is infinite or none.
    #[error("the {what} is not finite at step {step} (epoch {epoch}, learning rate {lr})")]
    NotFinite {
        /// What it is: the loss, a parameter, the evaluation's loss.
        what: String,
        /// The step, counted from 1.
        step: u64,
        /// The epoch, counted from 1.
        epoch: u64,
        /// The learning rate of the step.
        lr: f64,
        /// Whether a checkpoint from before it is kept.
        checkpoint: bool,
    },
    /// A network for something else than pictures in colour or in grey.
    #[error("the network takes {found} channels, but pictures have 3 (RGB) or 1 (greyscale)")]
    Channels {
        /// The network's.
        found: usize,
    },
    /// Means or deviations that are not one for each channel.
    #[error("{what} has {found} numbers, expected {expected}")]
    ChannelNumbers {
        /// The flag.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// The network's channels.
        expected: usize,
    },
    /// A file of class names that cannot be read as one.
    #[error("{}: {message}", path.display())]
    ClassNames {
        /// The file.
        path: PathBuf,
        /// What is wrong in it.
        message: String,
    },
    /// Classes of the pictures that the model does not know, or another number of them.
    #[error("{message}")]
    Classes {
        /// What does not fit.
        message: String,
    },
    /// Weights that do not say what network they are of.
    #[error("{}: says nothing about its network", path.display())]
    UnknownNetwork {
        /// The file.
        path: PathBuf,
    },
}

impl TrainError {
    /// What the user can do about it, for the line after the error.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            TrainError::Recipe(error) => return error.hint(),
            TrainError::Data(error) => return error.hint(),
            TrainError::Weights(WeightsError::Mismatch(mismatch))
            | TrainError::Checkpoint(CheckpointError::Weights(WeightsError::Mismatch(mismatch))) => {
                mismatch.hint()
            }
            TrainError::Spec(SpecError::UnknownName { similar, .. }) if !similar.is_empty() => {
                format!("did you mean {}?", similar.join(" or "))
            }
            TrainError::RunExists { run } => {
                format!("--resume {} goes on with it; another --run begins anew", run.display())
            }
            TrainError::NoRun { .. } => "--run begins a new one".into(),
            TrainError::ChangedOnResume { .. } => "begin a new run, with --run".into(),
            TrainError::DataChanged { .. } => {
                "resume with the data that the run began with, or begin a new run with --weights"
                    .into()
            }
            TrainError::NotFinite { checkpoint, .. } => {
                let kept = if *checkpoint { "; the last good checkpoint is kept" } else { "" };
                format!("a lower learning rate (--lr), a warm-up or clipping may help{kept}")
            }
            TrainError::NoTrainingSplit { .. } => {
                "a folder needs train/ in it, or one folder of images per class".into()
            }
            TrainError::Channels { .. } => "--in-channels 3, or 1".into(),
            TrainError::ChannelNumbers { .. } => "as in 0.5,0.5,0.5, or 0.5 for greyscale".into(),
            TrainError::UnknownNetwork { .. } => "name it with --model".into(),
            TrainError::Classes { .. } => {
                "--classes-file names the model's classes, one a line in its order".into()
            }
            TrainError::Spec(SpecError::UnknownName { .. }) => {
                "`resnet info` lists the networks; one of your own is a file that ends in .toml"
                    .into()
            }
            TrainError::Weights(WeightsError::Read { source, .. }) => system_hint(source),
            TrainError::Weights(_) => {
                "safetensors, .pth and .th files are read; if this is one, it may be incomplete: \
                 fetch it again"
                    .into()
            }
            TrainError::Checkpoint(error) => checkpoint_hint(error),
            TrainError::Spec(_) => {
                "it is a number of the network: from a flag, or from the recipe's [model]".into()
            }
            TrainError::SpecFile { .. } => {
                "`resnet info resnet18 --toml` prints a network to start from".into()
            }
            TrainError::Graph(_) => {
                "larger pictures (--size, eval.crop) or a small stem may fit the network".into()
            }
            TrainError::Io { source, .. } => system_hint(source),
            TrainError::ClassNames { .. } => {
                "one name a line, or columns between tabs with a header: index, wnid, label".into()
            }
            TrainError::Quantize(_) => "`resnet quantize` makes an int8 model of one in f32".into(),
            TrainError::Executor(_) => return None,
        })
    }
}

/// What to do about a checkpoint; the error has named the file.
fn checkpoint_hint(error: &CheckpointError) -> String {
    match error {
        CheckpointError::Weights(WeightsError::Write { .. }) => {
            "the checkpoint before it is whole: make room, then --resume goes on from there".into()
        }
        CheckpointError::Weights(_) | CheckpointError::Progress { .. } => {
            "--weights begins a new run from another checkpoint, such as best.safetensors".into()
        }
        CheckpointError::State { .. } => {
            "the optimiser was another one: --weights begins a new run from it".into()
        }
        CheckpointError::MetricsShort { .. } => {
            "metrics.jsonl was changed since; --weights begins a new run from the checkpoint".into()
        }
        CheckpointError::Io { source, .. } => system_hint(source),
    }
}

/// Names the file in an error of the system.
pub(crate) fn io_error(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> TrainError {
    let path = path.into();
    move |source| TrainError::Io { path, source }
}
