//! A run's folder: everything about one run in one place.
//!
//! ```text
//! recipe.toml                     resolved: what `--resume` follows
//! metrics.jsonl                   one event a line
//! log.txt                         the same for people, with what happened beside
//! checkpoints/last.safetensors    where training stands
//! checkpoints/best.safetensors    the best evaluation so far
//! ```

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use resnet_io::weights::atomic;

use crate::checkpoint::Checkpoints;
use crate::error::{TrainError, io_error};
use crate::recipe::{Assignment, Recipe, RecipeError, RecipeText, resolve};

/// Keys that a resumed run may be given anew. Others would make it another run.
const CHANGEABLE: [&str; 12] = [
    "data.source",
    "data.val",
    "data.workers",
    "optimizer.lr",
    "train.epochs",
    "train.max_steps",
    "train.max_seconds",
    "train.log_every",
    "checkpoint.every_steps",
    "checkpoint.every_seconds",
    "checkpoint.keep",
    "eval.batch_size",
];

/// A run's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFolder {
    path: PathBuf,
}

impl RunFolder {
    /// A folder for a new run: made if it is not there, emptied of a run that never came to a
    /// checkpoint.
    ///
    /// # Errors
    /// [`TrainError::RunExists`] where a checkpoint lies; what the system says.
    pub fn create(path: &Path, recipe: &Recipe) -> Result<RunFolder, TrainError> {
        let folder = RunFolder { path: path.into() };
        if folder.checkpoints().last.exists() {
            return Err(TrainError::RunExists { run: path.into() });
        }
        folder.checkpoints().prepare()?;
        for old in [folder.metrics(), folder.log_path(), folder.checkpoints().best] {
            match fs::remove_file(&old) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(io_error(old)(e)),
                _ => {}
            }
        }
        folder.write_recipe(recipe)?;
        Ok(folder)
    }

    /// The folder of a run to go on with, and its recipe changed by `assignments`.
    ///
    /// # Errors
    /// [`TrainError::NoRun`] without a recipe; [`TrainError::ChangedOnResume`] for a key that cannot
    /// change; errors of the recipe.
    pub fn resume(
        path: &Path,
        assignments: &[Assignment],
    ) -> Result<(RunFolder, Recipe), TrainError> {
        let folder = RunFolder { path: path.into() };
        let origin = folder.recipe();
        if !origin.exists() {
            return Err(TrainError::NoRun { run: path.into() });
        }
        let text = fs::read_to_string(&origin).map_err(io_error(&origin))?;
        let text = RecipeText { origin: origin.display().to_string(), text };
        let before = resolve(Some(&text), &[])?;
        let recipe = resolve(Some(&text), assignments)?;
        let is_fixed = |key: &str| !CHANGEABLE.contains(&key) && !key.starts_with("schedule.");
        for assignment in assignments.iter().filter(|a| is_fixed(&a.key)) {
            if resolve(Some(&text), std::slice::from_ref(assignment))? != before {
                return Err(TrainError::ChangedOnResume { key: assignment.key.clone() });
            }
        }
        folder.checkpoints().prepare()?;
        atomic::remove_leftovers(path).map_err(io_error(path))?;
        if before != recipe {
            folder.write_recipe(&recipe)?;
        }
        Ok((folder, recipe))
    }

    fn write_recipe(&self, recipe: &Recipe) -> Result<(), TrainError> {
        let path = self.recipe();
        let text = recipe.to_toml();
        atomic::write(&path, |file| file.write_all(text.as_bytes()))
            .map_err(|source| TrainError::Recipe(RecipeError::Io { path, source }))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The resolved recipe.
    pub fn recipe(&self) -> PathBuf {
        self.path.join("recipe.toml")
    }

    /// One event a line.
    pub fn metrics(&self) -> PathBuf {
        self.path.join("metrics.jsonl")
    }

    /// Where training stands, and the best evaluation so far.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::of_run(&self.path)
    }

    /// A file of its own for an epoch, counted from 1.
    pub fn epoch(&self, epoch: u64) -> PathBuf {
        self.path.join(format!("checkpoints/epoch-{epoch}.safetensors"))
    }

    fn log_path(&self) -> PathBuf {
        self.path.join("log.txt")
    }

    /// Appends a line to `log.txt`.
    ///
    /// # Errors
    /// What the system says.
    pub fn log(&self, line: &str) -> Result<(), TrainError> {
        let path = self.log_path();
        let append = || {
            let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.write_all(format!("{line}\n").as_bytes())
        };
        append().map_err(io_error(&path))
    }
}
