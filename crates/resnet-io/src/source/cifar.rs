//! CIFAR-10 and CIFAR-100 in the binary version: records of one or two label bytes and 3,072 pixel bytes.
//!
//! Source: A. Krizhevsky, <https://www.cs.toronto.edu/~kriz/cifar.html>, "Binary version". A record's pixels are
//! three planes of 32x32 (red, green, blue); they are interleaved once, when the file is read.

use std::fs;
use std::path::Path;

use super::{Encoded, Source, sample_id};
use crate::error::DataError;
use crate::picture::ImageRef;

const SIDE: usize = 32;
const PIXELS: usize = SIDE * SIDE;

/// CIFAR-10's classes, in the order of `batches.meta.txt`.
const CIFAR10_CLASSES: &str = "airplane automobile bird cat deer dog frog horse ship truck";

/// CIFAR-100's fine classes, in the order of `fine_label_names.txt`.
const CIFAR100_CLASSES: &str = "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus \
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup \
    dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion \
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear \
    pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark \
    shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone \
    television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm";

/// The two sets, which differ in the bytes before the pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One label byte.
    Ten,
    /// A coarse label byte, then the fine one, which is the class.
    Hundred,
}

impl Kind {
    fn label_bytes(self) -> usize {
        match self {
            Kind::Ten => 1,
            Kind::Hundred => 2,
        }
    }

    fn record_bytes(self) -> usize {
        self.label_bytes() + 3 * PIXELS
    }

    fn known_classes(self) -> &'static str {
        match self {
            Kind::Ten => CIFAR10_CLASSES,
            Kind::Hundred => CIFAR100_CLASSES,
        }
    }

    /// The file beside the data that names the classes.
    fn names_file(self) -> &'static str {
        match self {
            Kind::Ten => "batches.meta.txt",
            Kind::Hundred => "fine_label_names.txt",
        }
    }

    /// The kind whose records fill a file of `bytes` exactly.
    ///
    /// A length that suits both (a common multiple of 3073 and 3074, above 9 MB) is settled by the label
    /// bytes of the first records.
    pub(super) fn of(content: &[u8]) -> Option<Kind> {
        [Kind::Ten, Kind::Hundred].into_iter().find(|kind| {
            let size = kind.record_bytes();
            let limits: &[u8] = match kind {
                Kind::Ten => &[10],
                Kind::Hundred => &[20, 100],
            };
            let labels_fit = |record: &[u8]| record.iter().zip(limits).all(|(&l, &end)| l < end);
            !content.is_empty()
                && content.len().is_multiple_of(size)
                && content.chunks_exact(size).take(64).all(labels_fit)
        })
    }
}

/// One split of CIFAR, in memory.
pub struct Cifar {
    pixels: Vec<u8>,
    labels: Vec<u8>,
    /// (name, records) of each file, in order.
    files: Vec<(String, usize)>,
    ids: Vec<u64>,
    classes: Vec<String>,
}

impl Cifar {
    /// Reads binary files as one set; all must be of one kind.
    ///
    /// # Errors
    /// When a file cannot be read, is not made of whole records, or holds a class beyond the last.
    pub fn open(paths: &[impl AsRef<Path>]) -> Result<Cifar, DataError> {
        let mut set = Cifar {
            pixels: Vec::new(),
            labels: Vec::new(),
            files: Vec::new(),
            ids: Vec::new(),
            classes: Vec::new(),
        };
        for path in paths {
            set.append(path.as_ref())?;
        }
        Ok(set)
    }

    fn append(&mut self, path: &Path) -> Result<(), DataError> {
        let content =
            fs::read(path).map_err(|source| DataError::Io { path: path.into(), source })?;
        let place = path.display().to_string();
        let Some(kind) = Kind::of(&content) else {
            return Err(DataError::NotASet {
                place,
                found: format!(
                    "{} bytes that are not whole CIFAR-10 or CIFAR-100 records",
                    content.len()
                ),
            });
        };
        let classes = class_names(kind, path);
        if self.files.is_empty() {
            self.classes = classes;
        } else if self.classes.len() != classes.len() {
            let found = "CIFAR-10 and CIFAR-100 files side by side".to_string();
            return Err(DataError::NotASet { place, found });
        }
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for (record, bytes) in content.chunks_exact(kind.record_bytes()).enumerate() {
            let (labels, planes) = bytes.split_at(kind.label_bytes());
            let label = labels[labels.len() - 1];
            if usize::from(label) >= self.classes.len() {
                let last = (self.classes.len() - 1) as u8;
                return Err(DataError::BadLabel { place, record, label, last });
            }
            self.labels.push(label);
            self.ids.push(sample_id(&format!("{file}:{record}")));
            interleave(planes, &mut self.pixels);
        }
        self.files.push((file, content.len() / kind.record_bytes()));
        Ok(())
    }
}

impl Source for Cifar {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        u32::from(self.labels[index])
    }

    fn name(&self, index: usize) -> String {
        let mut record = index;
        for (file, records) in &self.files {
            if record < *records {
                return format!("{file}:{record}");
            }
            record -= records;
        }
        unreachable!("sample {index} of {}", self.len())
    }

    fn id(&self, index: usize) -> u64 {
        self.ids[index]
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        let pixels = &self.pixels[index * 3 * PIXELS..(index + 1) * 3 * PIXELS];
        Ok(Encoded::Pixels(ImageRef { width: SIDE, height: SIDE, pixels }))
    }
}

/// The names beside the file if they are there and complete, else the known ones.
fn class_names(kind: Kind, data_file: &Path) -> Vec<String> {
    let known: Vec<String> = kind.known_classes().split_whitespace().map(String::from).collect();
    let Ok(text) = fs::read_to_string(data_file.with_file_name(kind.names_file())) else {
        return known;
    };
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(String::from).collect();
    if names.len() == known.len() { names } else { known }
}

fn interleave(planes: &[u8], pixels: &mut Vec<u8>) {
    let (red, rest) = planes.split_at(PIXELS);
    let (green, blue) = rest.split_at(PIXELS);
    pixels.reserve(3 * PIXELS);
    for ((&r, &g), &b) in red.iter().zip(green).zip(blue) {
        pixels.extend_from_slice(&[r, g, b]);
    }
}
