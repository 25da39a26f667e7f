//! Where pictures come from: a list of labelled samples, and the ways to open one.

mod beside;
mod cached;
mod cifar;
mod files;
mod generated;
mod idx;
mod imagenet;
mod kept;
mod keyed;
mod labels;
mod layout;
mod list;
mod multi_label;
mod open;
mod parquet;
mod place;
mod relabel;
mod remote;
mod shards;
mod subset;

use std::borrow::Cow;

pub use self::cached::{Cached, memory_to_spare};
pub use self::cifar::Cifar;
pub use self::files::PictureFiles;
pub use self::generated::{Generated, GeneratedSpec, GeneratedSplit};
pub use self::idx::Idx;
pub use self::multi_label::MultiLabel;
pub use self::open::{DataSet, OpenOptions, open, open_any};
pub use self::relabel::Relabelled;
pub use self::subset::{Fold, HeldBack, Subset, hold_back};
use crate::error::DataError;
use crate::picture::ImageRef;

/// A list of labelled pictures that can be read in any order from any thread.
pub trait Source: Send + Sync {
    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The names of the classes; labels are positions in it.
    fn classes(&self) -> &[String];

    /// The class of sample `index`, where each sample has one.
    fn label(&self, index: usize) -> u32;

    /// All classes of sample `index`: of one source always the same kind of [`Labels`].
    fn labels(&self, index: usize) -> Labels<'_> {
        Labels::One(self.label(index))
    }

    /// Whether samples have any number of classes.
    fn is_multi_label(&self) -> bool {
        !self.is_empty() && matches!(self.labels(0), Labels::Many(_))
    }

    /// What to call sample `index` in a message: a path, or a file and record.
    fn name(&self, index: usize) -> String;

    /// What sample `index` is called within the source: what [`Source::id`] hashes.
    fn key(&self, index: usize) -> String {
        self.name(index)
    }

    /// Who sample `index` is, wherever and in whatever order it is read: [`sample_id`] of its
    /// [`Source::key`].
    fn id(&self, index: usize) -> u64;

    /// What sample `index` shares with others that must not be torn apart by a split: a patient, a film, a place.
    fn group(&self, _index: usize) -> Option<&str> {
        None
    }

    /// Begins to bring samples that will be read soon, if reading takes so long that it is worth while.
    ///
    /// What comes is kept as long as what is returned; [`Source::read`] is the same with it as without.
    fn ask(&self, _samples: &[usize]) -> Option<Asked> {
        None
    }

    /// The bytes of sample `index`.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError>;
}

/// The classes of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Labels<'a> {
    /// Exactly one, as every sample of its source.
    One(u32),
    /// Any number of them, ascending; perhaps none.
    Many(&'a [u32]),
}

impl Labels<'_> {
    /// The classes, ascending.
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Labels::One(label) => std::slice::from_ref(label),
            Labels::Many(labels) => labels,
        }
    }
}

/// Samples that were asked for; dropping it gives them up.
pub struct Asked {
    _held: Box<dyn Send>,
}

impl Asked {
    /// Holds what its source keeps until it is dropped.
    pub fn new(held: impl Send + 'static) -> Asked {
        Asked { _held: Box::new(held) }
    }
}

/// A sample as its source has it.
#[derive(Clone, Debug)]
pub enum Encoded<'a> {
    /// The bytes of a picture file, still to be decoded.
    File(Cow<'a, [u8]>),
    /// Pixels that are ready.
    Pixels(ImageRef<'a>),
}

/// The 64-bit identity of a sample: xxh64 (seed 0) of its name within its source, `/` between folders.
///
/// Part of the format: the split and the augmentation of every sample hang on it.
pub fn sample_id(name: &str) -> u64 {
    xxhash_rust::xxh64::xxh64(name.as_bytes(), 0)
}
