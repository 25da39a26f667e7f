//! Generated pictures: a labelled set made from a seed, in memory at once.
//!
//! Ten classes of shapes and textures (more on request). What a class *is* is its shape alone: position,
//! size, rotation, colours, background and clutter are drawn anew for each picture from the same
//! distributions for every class, so that neither a linear classifier on pixels nor the nearest neighbour
//! gets far, while a small convolutional network learns it within seconds.

mod paint;
mod shapes;

use std::thread;

use resnet_core::rng::{Purpose, Stream};

use self::paint::paint;
use self::shapes::Figure;
use super::{Encoded, Source, sample_id};
use crate::error::DataError;
use crate::picture::ImageRef;

/// The most bytes a generated set may take.
const MAX_BYTES: u64 = 16 << 30;

/// What to generate; the part of an address after `generated:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeneratedSpec {
    /// Number of classes, 2 to 1000.
    pub classes: u32,
    /// Training pictures; a fifth as many are made for validation.
    pub images: u32,
    /// Pixels on a side, 8 to 1024.
    pub size: u32,
    /// The seed; another one gives other pictures of the same classes.
    pub seed: u64,
}

impl Default for GeneratedSpec {
    fn default() -> GeneratedSpec {
        GeneratedSpec { classes: 10, images: 5000, size: 32, seed: 1 }
    }
}

impl GeneratedSpec {
    /// Reads `classes=10,images=5000,size=32,seed=1`; what is left out keeps its default.
    ///
    /// # Errors
    /// When a key is unknown or a value cannot be used.
    pub fn parse(text: &str) -> Result<GeneratedSpec, DataError> {
        let mut spec = GeneratedSpec::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            match key.trim() {
                "classes" => spec.classes = number("classes", value, 2, 1000)? as u32,
                "images" => spec.images = number("images", value, 2, u64::from(u32::MAX))? as u32,
                "size" => spec.size = number("size", value, 8, 1024)? as u32,
                "seed" => spec.seed = number("seed", value, 0, u64::MAX)?,
                unknown => {
                    let known = ["classes", "images", "size", "seed"];
                    let suggestion = super::open::nearest(unknown, &known);
                    return Err(DataError::UnknownGeneratedKey { key: unknown.into(), suggestion });
                }
            }
        }
        if spec.images < spec.classes {
            return Err(DataError::GeneratedValue {
                key: "images",
                value: spec.images.to_string(),
                expected: format!("at least one a class, {}", spec.classes),
            });
        }
        let bytes = u64::from(spec.images) * 3 * u64::from(spec.size).pow(2);
        if bytes > MAX_BYTES {
            return Err(DataError::GeneratedValue {
                key: "images",
                value: spec.images.to_string(),
                expected: format!("at most {} MiB of pixels", MAX_BYTES >> 20),
            });
        }
        Ok(spec)
    }

    /// How many pictures a split has: a fifth of the training pictures for validation, one a class at least.
    pub fn images_in(&self, split: GeneratedSplit) -> u32 {
        match split {
            GeneratedSplit::Train => self.images,
            GeneratedSplit::Val => (self.images / 5).max(self.classes),
        }
    }
}

fn number(key: &'static str, value: &str, least: u64, most: u64) -> Result<u64, DataError> {
    match value.trim().parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        _ => Err(DataError::GeneratedValue {
            key,
            value: value.to_string(),
            expected: format!("a number from {least} to {most}"),
        }),
    }
}

/// The two splits, which come from different counter streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeneratedSplit {
    /// Pictures to learn from.
    Train,
    /// Pictures to measure with.
    Val,
}

impl GeneratedSplit {
    fn purpose(self) -> Purpose {
        match self {
            GeneratedSplit::Train => Purpose::GeneratedTrain,
            GeneratedSplit::Val => Purpose::GeneratedVal,
        }
    }

    fn name(self) -> &'static str {
        match self {
            GeneratedSplit::Train => "train",
            GeneratedSplit::Val => "val",
        }
    }
}

/// A generated split, in memory.
pub struct Generated {
    split: GeneratedSplit,
    side: usize,
    pixels: Vec<u8>,
    ids: Vec<u64>,
    classes: Vec<String>,
}

impl Generated {
    /// Paints all pictures of a split, in as many threads as the machine has.
    ///
    /// Picture `i` is of class `i % classes` and depends on the seed, the split, `i` and the size alone: a
    /// larger set begins with the same pictures.
    pub fn new(spec: &GeneratedSpec, split: GeneratedSplit) -> Generated {
        let side = spec.size as usize;
        let count = spec.images_in(split) as usize;
        let figures: Vec<Figure> = (0..spec.classes).map(Figure::of_class).collect();
        let mut pixels = vec![0; count * 3 * side * side];
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let share = count.div_ceil(threads);
        thread::scope(|scope| {
            for (part, chunk) in pixels.chunks_mut(share * 3 * side * side).enumerate() {
                let figures = &figures;
                scope.spawn(move || {
                    for (offset, picture) in chunk.chunks_exact_mut(3 * side * side).enumerate() {
                        let index = part * share + offset;
                        let mut stream = Stream::new(spec.seed, split.purpose(), index as u32, 0);
                        paint(&figures[index % figures.len()], side, &mut stream, picture);
                    }
                });
            }
        });
        let ids = (0..count).map(|i| sample_id(&format!("{}/{i}", split.name()))).collect();
        let classes = figures.iter().map(Figure::name).collect();
        Generated { split, side, pixels, ids, classes }
    }
}

impl Source for Generated {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        (index % self.classes.len()) as u32
    }

    fn name(&self, index: usize) -> String {
        format!("generated:{}/{index}", self.split.name())
    }

    fn id(&self, index: usize) -> u64 {
        self.ids[index]
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        let bytes = 3 * self.side * self.side;
        let pixels = &self.pixels[index * bytes..(index + 1) * bytes];
        Ok(Encoded::Pixels(ImageRef { width: self.side, height: self.side, pixels }))
    }
}
