//! Batches of pictures, made by worker threads, delivered in order.
//!
//! What a batch holds is a function of (source, specification, epoch, step) alone: workers only decide when it
//! is ready. They fill pieces of batches, up to a bounded number ahead of the consumer, into buffers that it
//! hands back. A broken picture is named in its batch; in training another sample, drawn by counter, takes its place,
//! in evaluation it is left out.

mod fill;
mod order;
mod queue;

use std::sync::Arc;

use self::fill::Filler;
pub use self::order::{LastBatch, Order, Sampling, balanced_order, epoch_order, steps_per_epoch};
pub use self::queue::Batches;
use crate::augment::Step;
use crate::decode::Exif;
use crate::error::DataError;
use crate::mix::Mix;
use crate::picture::Colour;
use crate::source::Source;

/// What passes over a source for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In a new order each epoch; no batch of one; broken pictures are replaced.
    Train,
    /// Every sample once, in order; broken pictures are left out.
    Eval,
}

/// How to make batches.
#[derive(Clone, Debug)]
pub struct LoaderSpec {
    /// Training or evaluation.
    pub mode: Mode,
    /// Pictures in a batch; the last may have fewer.
    pub batch_size: usize,
    /// Pixels in a row of what the steps deliver.
    pub width: usize,
    /// Rows of what the steps deliver.
    pub height: usize,
    /// What the network sees of colours.
    pub colour: Colour,
    /// Whether pictures are turned as their EXIF data say.
    pub exif: Exif,
    /// From a decoded picture to what the network sees.
    pub steps: Vec<Step>,
    /// How often an epoch of training has each of its samples, augmented anew each time, at least once: it has so
    /// many times fewer samples then (Hoffer et al. 2019, arXiv:1901.09335).
    pub repeats: u32,
    /// How the pictures of a training batch are mixed, if they are.
    pub mix: Option<Mix>,
    /// The seed of order, augmentation, mixing and replacement.
    pub seed: u64,
    /// How often samples come, how batches are cut, and which piece of them is made here.
    pub order: Order,
    /// Threads that make batches, at least one; no more than two a processor are started.
    pub workers: usize,
}

/// A batch: `[images, height, width, channels]` bytes and the classes of each.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Step within the epoch, from 0.
    pub step: usize,
    /// u8 NHWC.
    pub pixels: Vec<u8>,
    /// The class of each picture; of a mixed one, the class that weighs more. Empty where pictures have
    /// any number of classes.
    pub labels: Vec<u32>,
    /// How much of each class is in each picture, 0 to 1, `[images, classes]`: where pictures are mixed or
    /// have any number of classes; else empty.
    pub targets: Vec<f32>,
    /// Where in the source each picture is.
    pub samples: Vec<u32>,
    /// What could not be read or decoded.
    pub broken: Vec<Broken>,
}

/// A sample that could not be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where in the source it is.
    pub sample: u32,
    /// What is wrong, beginning with its name.
    pub problem: String,
}

impl Batch {
    /// The number of pictures.
    pub fn len(&self) -> usize {
        self.samples.len()
    }

    /// Whether every picture of it was broken.
    pub fn is_empty(&self) -> bool {
        self.samples.is_empty()
    }

    /// Takes all pictures out; the buffers stay.
    fn clear(&mut self) {
        self.pixels.clear();
        self.labels.clear();
        self.targets.clear();
        self.samples.clear();
        self.broken.clear();
    }

    /// Takes over what another batch holds, behind its own.
    fn append(&mut self, piece: &mut Batch) {
        self.pixels.append(&mut piece.pixels);
        self.labels.append(&mut piece.labels);
        self.targets.append(&mut piece.targets);
        self.samples.append(&mut piece.samples);
        self.broken.append(&mut piece.broken);
    }

    /// The pixels of one picture, `[height, width, channels]`.
    pub fn picture(&self, position: usize) -> &[u8] {
        let bytes = self.pixels.len() / self.len();
        &self.pixels[position * bytes..(position + 1) * bytes]
    }
}

/// A source and how to make batches of it.
#[derive(Clone)]
pub struct Loader {
    filler: Arc<Filler>,
}

impl Loader {
    /// Checks that the batches can be made.
    ///
    /// # Errors
    /// When the source is empty, or the batch size is 0, in training 1 or above the number of samples; when
    /// classes are to be balanced of which a sample may have any number.
    pub fn new(source: Arc<dyn Source>, spec: LoaderSpec) -> Result<Loader, DataError> {
        let batch_size = spec.batch_size;
        let fail = |expected: String| Err(DataError::BatchSize { batch_size, expected });
        if source.is_empty() {
            return Err(DataError::Empty { place: "the split".to_string() });
        }
        match spec.mode {
            Mode::Eval if batch_size == 0 => return fail("at least 1".to_string()),
            Mode::Train if batch_size < 2 => {
                return fail(
                    "at least 2, since batch norm cannot train on one picture".to_string(),
                );
            }
            Mode::Train if source.len() < batch_size => {
                return fail(format!("at most the {} images of the training set", source.len()));
            }
            Mode::Train | Mode::Eval => {}
        }
        if spec.order.sampling == Sampling::Balanced && source.is_multi_label() {
            let what = "data.sampling = \"balanced\"";
            return Err(DataError::NeedsOneClass { what });
        }
        Ok(Loader { filler: Arc::new(Filler::new(source, spec)) })
    }

    /// The source the batches come from.
    pub fn source(&self) -> &Arc<dyn Source> {
        &self.filler.source
    }

    /// How the batches are made.
    pub fn spec(&self) -> &LoaderSpec {
        &self.filler.spec
    }

    /// The number of batches in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.filler.steps_per_epoch()
    }

    /// Starts the workers at `first_step` of `epoch`; the batches end with the epoch.
    pub fn epoch(&self, epoch: u32, first_step: usize) -> Batches {
        Batches::start(self.filler.clone(), epoch, first_step)
    }
}
