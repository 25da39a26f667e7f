//! Recipes: everything that a training run's result depends on, as one TOML file.
//!
//! Layers, lowest first: the defaults, a recipe file (or a named one), `--set key=value` and flags.
//! Each layer is checked on its own, so that an error can name its file and line; the tables are
//! merged, and the result is parsed once into a [`Recipe`].

mod error;
mod layers;
mod named;
mod reference;
mod tables;
mod validate;

use serde::{Deserialize, Serialize};

pub use self::error::RecipeError;
pub use self::layers::{Assignment, RecipeText, resolve};
pub use self::named::{NAMES, load, named};
pub use self::reference::markdown;
pub use self::tables::{
    Anneal, Augment, Checkpoint, Data, DecayGroup, Eval, Key, Loss, LossKind, Model, Optimizer,
    Schedule, ScheduleKind, Table, Train, TrainPrecision, Unit, WarmupKind,
};

/// The version of the file format that this program writes, and the newest that it reads.
pub const VERSION: u32 = 1;

/// A resolved recipe: every key has a value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Version of the file format.
    pub version: u32,
    /// The network.
    pub model: Model,
    /// The pictures.
    pub data: Data,
    /// What happens to training pictures.
    pub augment: Augment,
    /// How parameters change.
    pub optimizer: Optimizer,
    /// The learning rate over time.
    pub schedule: Schedule,
    /// What is minimised.
    pub loss: Loss,
    /// How long, and in what portions.
    pub train: Train,
    /// What is kept, and when.
    pub checkpoint: Checkpoint,
    /// How accuracy is measured.
    pub eval: Eval,
}

/// All tables, in the order of the file.
pub static TABLES: [Table; 9] = [
    Model::TABLE,
    Data::TABLE,
    Augment::TABLE,
    Optimizer::TABLE,
    Schedule::TABLE,
    Loss::TABLE,
    Train::TABLE,
    Checkpoint::TABLE,
    Eval::TABLE,
];

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            version: VERSION,
            model: Model::default(),
            data: Data::default(),
            augment: Augment::default(),
            optimizer: Optimizer::default(),
            schedule: Schedule::default(),
            loss: Loss::default(),
            train: Train::default(),
            checkpoint: Checkpoint::default(),
            eval: Eval::default(),
        }
    }
}

impl Recipe {
    /// The learning rate for the recipe's batch size: `lr`, scaled by `batch_size / lr_batch`
    /// where `lr_batch` is given (Goyal et al. 2017, arXiv:1706.02677, section 2.1).
    pub fn learning_rate(&self) -> f64 {
        match self.optimizer.lr_batch {
            0 => self.optimizer.lr,
            lr_batch => self.optimizer.lr * self.train.batch_size as f64 / lr_batch as f64,
        }
    }
}
