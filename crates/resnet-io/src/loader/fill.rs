//! Making one batch: read, decode, apply the steps, replace or leave out what is broken.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use resnet_core::rng::{Purpose, Stream};

use super::order::{LastBatch, Sampling, balanced_order, epoch_order, in_order, steps_per_epoch};
use super::{Batch, Broken, LoaderSpec, Mode};
use crate::augment;
use crate::decode;
use crate::error::{DataError, RemoteFault};
use crate::mix;
use crate::source::{Asked, Encoded, Labels, Source};

/// How many samples are drawn for one broken picture before giving up.
///
/// If half of all pictures were broken, a hundred draws would all fail once in 10^30.
const REPLACEMENT_DRAWS: usize = 100;

/// What the workers share: where samples come from and what has been found broken.
pub(super) struct Filler {
    pub(super) source: Arc<dyn Source>,
    pub(super) spec: LoaderSpec,
    class_sizes: Vec<usize>,
    broken: Mutex<BrokenSet>,
}

/// A place in an epoch's order.
#[derive(Clone, Copy)]
pub(super) struct Place {
    sample: u32,
    /// How often the sample was there before.
    copy: u32,
}

/// When a sample is looked at: in which epoch, and how often in it before.
#[derive(Clone, Copy)]
struct Turn {
    epoch: u32,
    copy: u32,
}

#[derive(Default)]
struct BrokenSet {
    samples: HashSet<u32>,
    by_class: Vec<usize>,
}

impl Filler {
    pub(super) fn new(source: Arc<dyn Source>, spec: LoaderSpec) -> Filler {
        let mut class_sizes = vec![0; source.classes().len()];
        for index in 0..source.len() {
            let labels = source.labels(index);
            labels.as_slice().iter().for_each(|&label| class_sizes[label as usize] += 1);
        }
        let by_class = vec![0; class_sizes.len()];
        let broken = Mutex::new(BrokenSet { samples: HashSet::new(), by_class });
        Filler { source, spec, class_sizes, broken }
    }

    /// The number of batches in an epoch. Evaluation leaves nothing out.
    pub(super) fn steps_per_epoch(&self) -> usize {
        steps_per_epoch(self.source.len(), self.spec.batch_size, self.cut().1)
    }

    /// How batches are cut.
    pub(super) fn cut(&self) -> (Mode, LastBatch) {
        match self.spec.mode {
            Mode::Train => (Mode::Train, self.spec.order.last_batch),
            Mode::Eval => (Mode::Eval, LastBatch::Keep),
        }
    }

    /// The samples of an epoch, in order, and how often each was there before.
    pub(super) fn order(&self, epoch: u32) -> Vec<Place> {
        let (source, seed) = (&self.source, self.spec.seed);
        let order = match (self.spec.mode, self.spec.order.sampling) {
            (Mode::Eval, _) => in_order(source.len()),
            (Mode::Train, Sampling::Each) => {
                epoch_order(source.len(), seed, epoch, self.spec.repeats)
            }
            (Mode::Train, Sampling::Balanced) => {
                let labels: Vec<u32> = (0..source.len()).map(|i| source.label(i)).collect();
                balanced_order(&labels, self.class_sizes.len(), seed, epoch)
            }
        };
        let mut seen = vec![0; source.len()];
        let place = |sample: u32| {
            let copy = &mut seen[sample as usize];
            *copy += 1;
            Place { sample, copy: (*copy - 1) % augment::MAX_COPIES }
        };
        order.into_iter().map(place).collect()
    }

    /// Where in an epoch's order the pictures of a batch stand.
    ///
    /// With repeats, copies of a sample are spread over the batch, first all first ones, then all second ones: mixing
    /// is between neighbours.
    fn places(&self, batch: Range<usize>) -> impl Iterator<Item = usize> {
        let repeats = self.spec.repeats.max(1) as usize;
        (0..repeats)
            .flat_map(move |copy| batch.clone().filter(move |place| place % repeats == copy))
    }

    /// Asks for the pictures of a piece, which [`Filler::fill`] will read.
    pub(super) fn ask(
        &self,
        order: &[Place],
        (range, piece): (Range<usize>, Range<usize>),
    ) -> Option<Asked> {
        let places = self.places(range).skip(piece.start).take(piece.len());
        let samples: Vec<usize> = places.map(|place| order[place].sample as usize).collect();
        self.source.ask(&samples)
    }

    /// Fills a piece of the batch that has the pictures at `range` of an epoch's order.
    ///
    /// # Errors
    /// When a class has no readable picture, or a picture does not come out in the batch's size.
    pub(super) fn fill(
        &self,
        batch: &mut Batch,
        epoch: u32,
        order: &[Place],
        (range, piece): (Range<usize>, Range<usize>),
    ) -> Result<(), DataError> {
        batch.clear();
        for place in self.places(range).skip(piece.start).take(piece.len()) {
            let Place { sample, copy } = order[place];
            self.add(batch, Turn { epoch, copy }, sample)?;
        }
        Ok(())
    }

    /// What is done to a whole batch, once its pieces are together: its pictures are mixed, by a draw of (seed,
    /// epoch, step).
    pub(super) fn finish(&self, batch: &mut Batch, epoch: u32) {
        let Some(mix) = self.spec.mix else { return };
        let size = (self.spec.width, self.spec.height);
        let mut stream = Stream::new(self.spec.seed, Purpose::Mix, epoch, batch.step as u64);
        let mixing = mix::draw(mix, size, &mut stream);
        let (images, classes, share) = (batch.len(), self.class_sizes.len(), mixing.share(size));
        mix::mix_pixels(&mut batch.pixels, images, size, mixing);
        if batch.targets.is_empty() {
            batch.targets = mix::targets(&batch.labels, classes, share);
            mix::heavier_labels(&mut batch.labels, share);
        } else {
            batch.targets = mix::mix_targets(&batch.targets, classes, share);
        }
    }

    fn add(&self, batch: &mut Batch, turn: Turn, sample: u32) -> Result<(), DataError> {
        let Err(error) = self.append(batch, turn, sample) else { return Ok(()) };
        let mut last = self.note_broken(batch, sample, error)?;
        if self.spec.mode == Mode::Eval {
            return Ok(());
        }
        let id = self.source.id(sample as usize);
        let mut stream = Stream::new(self.spec.seed, Purpose::Replacement, turn.epoch, id);
        let count = u32::try_from(self.source.len()).expect("fewer than 2^32 samples");
        for _ in 0..REPLACEMENT_DRAWS {
            match self.append(batch, turn, stream.below(count)) {
                Ok(()) => return Ok(()),
                // It is named where it stands in the epoch itself.
                Err(error) => last = broken_picture(error)?,
            }
        }
        let images = self.source.len();
        Err(DataError::NoReadable { class: "any".to_string(), images, last })
    }

    /// Reads, decodes and transforms one sample to the end of the batch.
    fn append(&self, batch: &mut Batch, turn: Turn, sample: u32) -> Result<(), DataError> {
        let index = sample as usize;
        let encoded = self.source.read(index)?;
        let (steps, colour, before) = (&self.spec.steps, self.spec.colour, batch.pixels.len());
        let mut stream =
            augment::stream_for(self.spec.seed, turn.epoch, turn.copy, self.source.id(index));
        let size = match &encoded {
            Encoded::Pixels(view) => {
                augment::prepare(*view, colour, steps, &mut stream, &mut batch.pixels)
            }
            Encoded::File(bytes) => {
                self.prepare_file(index, bytes, &mut stream, &mut batch.pixels)?
            }
        };
        if let Err(error) = self.check_size(index, size) {
            batch.pixels.truncate(before);
            return Err(error);
        }
        match self.source.labels(index) {
            Labels::One(label) => batch.labels.push(label),
            Labels::Many(labels) => {
                let row = batch.targets.len();
                batch.targets.resize(row + self.class_sizes.len(), 0.0);
                labels.iter().for_each(|&label| batch.targets[row + label as usize] = 1.0);
            }
        }
        batch.samples.push(sample);
        Ok(())
    }

    /// Appends a file's picture, after the steps; its columns and rows. Where they begin by cutting a part out, no
    /// more than that is decoded.
    fn prepare_file(
        &self,
        index: usize,
        bytes: &[u8],
        stream: &mut Stream,
        pixels: &mut Vec<u8>,
    ) -> Result<(usize, usize), DataError> {
        let (name, steps, colour) = (self.source.name(index), &self.spec.steps, self.spec.colour);
        let cut = |width, height| augment::first_cut(steps, (width, height), stream);
        if let Some(part) = decode::decode_part(&name, bytes, self.spec.exif, cut)? {
            return Ok(augment::prepare_after_cut(part.view(), colour, steps, stream, pixels));
        }
        let image = decode::decode_by(&name, bytes, self.spec.exif)?;
        Ok(augment::prepare(image.view(), colour, steps, stream, pixels))
    }

    fn check_size(&self, index: usize, (width, height): (usize, usize)) -> Result<(), DataError> {
        let (expected_width, expected_height) = (self.spec.width, self.spec.height);
        if (width, height) == (expected_width, expected_height) {
            return Ok(());
        }
        Err(DataError::WrongSize {
            name: self.source.name(index),
            width,
            height,
            expected_width,
            expected_height,
        })
    }

    /// Records a broken sample; an error when it was the last hope of its class.
    fn note_broken(
        &self,
        batch: &mut Batch,
        sample: u32,
        error: DataError,
    ) -> Result<String, DataError> {
        let problem = broken_picture(error)?;
        let labels = self.source.labels(sample as usize);
        // A worker that panicked elsewhere leaves the counts as they are: each change is complete.
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.samples.insert(sample) {
            labels.as_slice().iter().for_each(|&label| broken.by_class[label as usize] += 1);
        }
        let mut lost = labels.as_slice().iter().map(|&label| label as usize);
        let lost = lost.find(|&label| broken.by_class[label] == self.class_sizes[label]);
        if let Some(label) = lost {
            return Err(DataError::NoReadable {
                class: self.source.classes()[label].clone(),
                images: self.class_sizes[label],
                last: problem,
            });
        }
        batch.broken.push(Broken { sample, problem: problem.clone() });
        Ok(problem)
    }
}

/// The message, if it is one picture that is broken; the error itself, if the specification is wrong, or a server
/// gives out: others would fare no better.
fn broken_picture(error: DataError) -> Result<String, DataError> {
    match error {
        DataError::WrongSize { .. } => Err(error),
        DataError::Remote { kind, .. } if kind != RemoteFault::Missing => Err(error),
        other => Ok(other.to_string()),
    }
}
