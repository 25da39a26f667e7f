//! How a run begins.

use resnet_io::source::memory_to_spare;

use super::Trainer;
use crate::checkpoint::{self, Progress};
use crate::engine::Engine;
use crate::error::TrainError;
use crate::event::{self, Event, gigabytes};
use crate::run_folder::RunFolder;
use crate::setup::Setup;

impl Trainer<'_> {
    /// Says what is about to be done, and what the user should know before it is.
    pub(super) fn report_start(&mut self, notices: Vec<String>) -> Result<(), TrainError> {
        let (setup, recipe) = (self.setup, &self.setup.recipe);
        let weights = match self.progress.step {
            0 => setup.weights_from.clone(),
            step => format!("{} after step {step}", self.run.checkpoints().last.display()),
        };
        let steps_per_epoch = self.steps_per_epoch();
        let memory_bytes = self.engine.executor().memory_bytes() as u64;
        self.report.note(Event::Start(event::Start {
            run: self.run.path().into(),
            params: setup.params,
            steps: recipe.train.epochs * steps_per_epoch,
            seed: recipe.train.seed,
            model: setup.spec.name.clone(),
            weights,
            epochs: recipe.train.epochs,
            batch_size: recipe.train.batch_size,
            steps_per_epoch,
            train_images: setup.train.source().len(),
            val_images: setup.val.as_ref().map_or(0, |val| val.source().len()),
            classes: setup.classes.len(),
            lr: recipe.learning_rate(),
            resumed_step: self.progress.step,
            isa: self.progress.isa.clone(),
            memory_bytes,
        }))?;
        let mut notices = notices.into_iter().chain(too_large(memory_bytes));
        notices.try_for_each(|notice| self.report.note(Event::Notice(notice)))
    }
}

/// What to do where so many bytes are more than there are, as far as the system tells.
fn too_large(memory_bytes: u64) -> Option<String> {
    let free = 2 * memory_to_spare()?;
    (free < memory_bytes).then(|| {
        let (needed, free) = (gigabytes(memory_bytes), gigabytes(free));
        let less = "--precision bf16, --recompute or a smaller --batch-size need less";
        format!("training needs {needed} of memory, {free} are free: {less}")
    })
}

/// Puts a checkpoint's tensors into the engine and checks that the run is still the same.
pub(super) fn restore(
    setup: &Setup,
    run: &RunFolder,
    engine: &mut Engine,
    isa: &str,
    notices: &mut Vec<String>,
) -> Result<Progress, TrainError> {
    let path = run.checkpoints().last;
    let loaded = checkpoint::load(&path)?;
    let (found, expected) = (setup.train.source().len(), loaded.progress.train_images);
    if found != expected {
        return Err(TrainError::DataChanged { checkpoint: path, expected, found });
    }
    checkpoint::restore(engine.executor(), &loaded)?;
    let written_by = &loaded.model.meta.version;
    notices.extend(loaded.progress.warning(written_by, env!("CARGO_PKG_VERSION"), isa));
    Ok(Progress { isa: isa.into(), ..loaded.progress })
}
