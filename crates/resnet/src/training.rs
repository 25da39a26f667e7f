//! Training: a run in its folder, begun or gone on with.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use resnet_io::DataError;
use resnet_train::TrainError;
use resnet_train::event::{End, Event};
use resnet_train::recipe::{self, Assignment, Recipe, RecipeText};
use resnet_train::run_folder::RunFolder;
use resnet_train::setup::{BatchSize, Setup, prepare};
use resnet_train::trainer::{Control, Moment, train};

use crate::device::Device;

/// A run that is ready to train.
pub struct Training {
    setup: Setup,
    folder: RunFolder,
    device: Device,
}

impl Training {
    /// Resolves a recipe and changes to it, opens the pictures, and makes the run's folder.
    ///
    /// Nothing is written before the pictures are there and the network fits them. Without a recipe,
    /// the one for these pictures is taken ([`default_recipe`]).
    ///
    /// # Errors
    /// Whatever of the recipe cannot be done; a folder that holds a run already.
    pub fn begin(
        run: &Path,
        recipe: Option<&RecipeText>,
        assignments: &[Assignment],
        device: Device,
    ) -> Result<Training, TrainError> {
        let setup = set_up(recipe, assignments)?;
        let folder = RunFolder::create(run, &setup.recipe)?;
        Ok(Training { setup, folder, device })
    }

    /// Goes on with the run in a folder, from its checkpoint if it has one.
    ///
    /// # Errors
    /// A folder without a run, a change that a run cannot take, data that has changed.
    pub fn resume(
        run: &Path,
        assignments: &[Assignment],
        device: Device,
    ) -> Result<Training, TrainError> {
        let (folder, recipe) = RunFolder::resume(run, assignments)?;
        Ok(Training { setup: prepare(recipe, BatchSize::Given)?, folder, device })
    }

    /// The resolved recipe.
    pub fn recipe(&self) -> &Recipe {
        &self.setup.recipe
    }

    /// What the run consists of.
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// The run's folder.
    pub fn folder(&self) -> &RunFolder {
        &self.folder
    }

    /// Trains until the run is finished, reaches a limit, or `stop` becomes true.
    ///
    /// # Errors
    /// The first thing that cannot be; the last good checkpoint stays.
    pub fn run(
        &self,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event),
    ) -> Result<End, TrainError> {
        self.run_watched(stop, on_event, None)
    }

    /// The same, with a hook at the moments in which a kill would hurt most, for tests.
    ///
    /// # Errors
    /// As [`Training::run`].
    pub fn run_watched(
        &self,
        stop: &AtomicBool,
        on_event: &mut dyn FnMut(&Event),
        on_moment: Option<&dyn Fn(Moment)>,
    ) -> Result<End, TrainError> {
        let isa = self.device.arithmetic(self.recipe().train.precision.into());
        let control = Control { stop, on_event, on_moment, isa };
        train(&self.setup, &self.folder, self.device.executor(), control)
    }
}

/// Resolves a recipe and changes to it, and opens the pictures, without a run. Without a recipe, the one
/// for these pictures is taken ([`default_recipe`]).
///
/// # Errors
/// Whatever of the recipe cannot be done.
pub fn set_up(
    recipe: Option<&RecipeText>,
    assignments: &[Assignment],
) -> Result<Setup, TrainError> {
    let chosen = recipe.cloned().unwrap_or_else(|| default_recipe(assignments));
    let resolved = recipe::resolve(Some(&chosen), assignments)?;
    let is_given = assignments.iter().any(|a| a.key == "train.batch_size");
    prepare(resolved, if is_given { BatchSize::Given } else { BatchSize::Default })
}

/// The recipe for pictures at an address, where none is named: one of its own for the generated ones
/// as they come, one for any other.
pub fn default_recipe(assignments: &[Assignment]) -> RecipeText {
    let source = assignments.iter().rev().find(|a| a.key == "data.source");
    let address = source.and_then(|a| a.value.as_ref()).and_then(|value| value.as_str());
    let is_generated =
        address.is_none_or(|address| address == "generated" || address.starts_with("generated:"));
    let name = if is_generated { "generated" } else { "pictures" };
    recipe::named(name).expect("both are embedded")
}

/// Whether an error is about how a command was called, not about what it found.
pub fn is_wrong_usage(error: &TrainError) -> bool {
    match error {
        TrainError::Recipe(error) => !matches!(error, recipe::RecipeError::Io { .. }),
        TrainError::Spec(_)
        | TrainError::RunExists { .. }
        | TrainError::ChangedOnResume { .. }
        | TrainError::Channels { .. }
        | TrainError::ChannelNumbers { .. }
        | TrainError::UnknownNetwork { .. } => true,
        TrainError::Data(error) => matches!(
            error,
            DataError::UnknownGeneratedKey { .. }
                | DataError::GeneratedValue { .. }
                | DataError::BadFraction { .. }
                | DataError::EmptySide { .. }
                | DataError::SplitTwice { .. }
                | DataError::BatchSize { .. }
                | DataError::OtherPack { .. }
                | DataError::NeedsOneClass { .. }
        ),
        TrainError::Checkpoint(_)
        | TrainError::Weights(_)
        | TrainError::SpecFile { .. }
        | TrainError::Graph(_)
        | TrainError::Quantize(_)
        | TrainError::Executor(_)
        | TrainError::Io { .. }
        | TrainError::NoRun { .. }
        | TrainError::DataChanged { .. }
        | TrainError::NoTrainingSplit { .. }
        | TrainError::NotFinite { .. }
        | TrainError::ClassNames { .. }
        | TrainError::Classes { .. } => false,
    }
}
