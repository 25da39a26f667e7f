//! Checkpoints: all that a run needs to go on to the bit, in model files of its folder.
//!
//! `checkpoints/last.safetensors` and `checkpoints/best.safetensors` are model files (parameters
//! and statistics under torchvision's names, momentum under `optim/velocity/`); their
//! `resnet.progress` is [`Progress`]. Random numbers need no state: they are functions of seed,
//! epoch and step.
//!
//! A run may be killed at any moment. What makes that safe is an order, which [`save`]'s callers
//! keep:
//!
//! 1. metrics are appended and synced ([`sync_metrics`]), and their length is noted in
//!    [`Progress`];
//! 2. `best` is replaced if this is the best so far;
//! 3. `last` is replaced.
//!
//! Killed before 3, the run goes on from the old `last`, whose length cuts the new metrics off
//! ([`cut_back`]), and comes to the same `best` again. Each replacement is atomic, so neither file
//! is ever half there.

mod progress;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use resnet_core::executor::{Executor, ExecutorError};
use resnet_io::weights::{
    Expected, Head, ModelFile, ModelMeta, TensorRef, WeightsError, atomic, match_tensors,
    model_file,
};

pub use progress::{Best, Bits, Progress};

/// State under this prefix lives only within a step.
const GRADIENT: &str = "grad/";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// Something about the file.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The executor and the file disagree on the state.
    #[error("{}: {source}", path.display())]
    State {
        /// The checkpoint.
        path: PathBuf,
        /// What the executor said.
        source: Box<ExecutorError>,
    },
    /// A model file without a run behind it, or of a later version.
    #[error("{}: metadata \"resnet.progress\": {source}", path.display())]
    Progress {
        /// The checkpoint.
        path: PathBuf,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The metrics end before the checkpoint was written.
    #[error("{}: {found} bytes, but the checkpoint was written after {expected}", path.display())]
    MetricsShort {
        /// The metrics file.
        path: PathBuf,
        /// Bytes when the checkpoint was written.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// The system would not let us.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The checkpoints of one run.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    /// Where a run goes on from.
    pub last: PathBuf,
    /// The one with the best validation top-1 so far.
    pub best: PathBuf,
}

impl Checkpoints {
    /// Those of the run in this folder; nothing is touched.
    pub fn of_run(run: &Path) -> Checkpoints {
        let folder = run.join("checkpoints");
        Checkpoints { last: folder.join("last.safetensors"), best: folder.join("best.safetensors") }
    }

    /// Makes the folder, and clears away what writes that were killed left in it.
    ///
    /// # Errors
    /// What the system says.
    pub fn prepare(&self) -> Result<(), CheckpointError> {
        let folder = self.last.parent().expect("it is a file in a folder");
        let io = |source| CheckpointError::Io { path: folder.into(), source };
        std::fs::create_dir_all(folder).map_err(io)?;
        atomic::remove_leftovers(folder).map_err(io)
    }
}

/// Writes a checkpoint in place of what was there: all state of the executor but gradients.
///
/// `meta` is what the run is; its progress is replaced by `progress`.
///
/// # Errors
/// [`WeightsError::Write`] when the system refuses (a full disk); the old file is then untouched.
pub fn save(
    path: &Path,
    meta: &ModelMeta,
    progress: &Progress,
    executor: &dyn Executor,
) -> Result<(), CheckpointError> {
    let mut states = lasting_states(executor);
    // By name, so that equal states are equal bytes in whatever order graphs were compiled.
    states.sort();
    let export = |(name, _): &'_ (String, _)| {
        let name = name.clone();
        move || executor.export(&name).expect("the executor has named it")
    };
    let exports: Vec<_> = states.iter().map(export).collect();
    let tensors: Vec<_> = states
        .iter()
        .zip(&exports)
        .map(|((name, shape), export)| TensorRef::made(name, shape, export))
        .collect();
    let progress = serde_json::to_value(progress).expect("numbers and texts always serialise");
    let meta = ModelMeta { progress, ..meta.clone() };
    Ok(model_file::write(path, &meta, &tensors)?)
}

/// A checkpoint that was read and found whole.
#[derive(Debug)]
pub struct Checkpoint {
    /// How far the run had come.
    pub progress: Progress,
    /// The state, and what the run is.
    pub model: ModelFile,
}

/// Reads a checkpoint and verifies its checksum.
///
/// # Errors
/// A file that is damaged, no model file, or not of a run.
pub fn load(path: &Path) -> Result<Checkpoint, CheckpointError> {
    let model = ModelFile::read(path)?;
    model.verify()?;
    let progress = serde_json::from_value(model.meta.progress.clone())
        .map_err(|source| CheckpointError::Progress { path: path.into(), source })?;
    Ok(Checkpoint { progress, model })
}

/// Gives an executor the state of a checkpoint; its training and update graphs must have been
/// compiled.
///
/// # Errors
/// A mismatch in either direction: state that the file has not, and state of the optimiser in the
/// file that the executor has no place for (its momentum would be lost without a word).
pub fn restore(
    executor: &mut dyn Executor,
    checkpoint: &Checkpoint,
) -> Result<(), CheckpointError> {
    let file = &checkpoint.model.file;
    let error = |e| CheckpointError::State { path: file.path.clone(), source: Box::new(e) };
    let states = lasting_states(executor);
    if let Some((name, _)) = checkpoint
        .model
        .under(model_file::OPTIM)
        .find(|(_, tensor)| !states.iter().any(|(name, _)| *name == tensor.name))
    {
        let name = format!("{}{name}", model_file::OPTIM);
        return Err(error(ExecutorError::UnknownState { name }));
    }
    let expected: Vec<_> = states.iter().map(|(name, shape)| Expected { name, shape }).collect();
    let matched = match_tensors("this run's network", &expected, file, Head::Keep)
        .map_err(WeightsError::from)?;
    for ((name, shape), tensor) in states.iter().zip(matched.tensors) {
        let tensor = tensor.expect("every tensor is matched when the head is kept");
        executor.import(name, shape, &tensor.to_f32()).map_err(error)?;
    }
    Ok(())
}

/// Names and shapes of the state that outlives a step.
fn lasting_states(executor: &dyn Executor) -> Vec<(String, Vec<usize>)> {
    let mut states = executor.states();
    states.retain(|(name, _)| !name.starts_with(GRADIENT));
    states
}

/// Makes what was appended to the metrics durable, and says how long they are.
///
/// # Errors
/// What the system says.
pub fn sync_metrics(path: &Path, file: &File) -> Result<u64, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.into(), source };
    file.sync_all().map_err(io)?;
    Ok(file.metadata().map_err(io)?.len())
}

/// Cuts metrics back to what they were when a checkpoint was written, and opens them at their end.
///
/// With `bytes` zero the file need not exist.
///
/// # Errors
/// [`CheckpointError::MetricsShort`] when there is less than that; what the system says.
pub fn cut_back(path: &Path, bytes: u64) -> Result<File, CheckpointError> {
    let io = |source| CheckpointError::Io { path: path.into(), source };
    // Not by `create` alone: a checkpoint whose metrics are gone is an error, not a fresh start.
    let file = File::options().append(true).create(bytes == 0).open(path).map_err(io)?;
    let found = file.metadata().map_err(io)?.len();
    if found < bytes {
        return Err(CheckpointError::MetricsShort { path: path.into(), expected: bytes, found });
    }
    file.set_len(bytes).map_err(io)?;
    file.sync_all().map_err(io)?;
    Ok(file)
}
