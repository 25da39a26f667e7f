//! Picture files with their classes, wherever their bytes are.

use std::borrow::Cow;
use std::sync::Arc;

use rayon::prelude::*;

use super::place::{Entry, Store};
use super::{Asked, Encoded, Source, sample_id};
use crate::error::DataError;

/// Endings of picture files, in any case.
const EXTENSIONS: [&str; 8] = ["jpg", "jpeg", "png", "gif", "bmp", "webp", "tif", "tiff"];

/// Whether a file is a picture by its name.
pub(super) fn is_picture(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

/// Picture files with their classes.
pub struct PictureFiles {
    store: Arc<Store>,
    classes: Vec<String>,
    samples: Vec<Sample>,
}

/// A file of a split.
pub(super) struct Sample {
    pub(super) entry: Entry,
    /// Where the name within the split begins in its path: at `cat/1.jpg` of `train/cat/1.jpg`. The
    /// name's hash is the sample's identity.
    pub(super) name_at: u32,
    pub(super) label: u32,
    pub(super) group: Option<Box<str>>,
}

impl Sample {
    fn name(&self) -> &str {
        &self.entry.path[self.name_at as usize..]
    }
}

impl PictureFiles {
    /// Files whose classes are known.
    pub(super) fn new(
        store: Arc<Store>,
        classes: Vec<String>,
        samples: Vec<Sample>,
    ) -> PictureFiles {
        PictureFiles { store, classes, samples }
    }

    /// Files by their names in the split, `class/.../file`, in the order of the names' bytes.
    pub(super) fn by_folder(store: Arc<Store>, mut samples: Vec<Sample>) -> PictureFiles {
        samples.par_sort_unstable_by(|a, b| a.name().as_bytes().cmp(b.name().as_bytes()));
        let class = |sample: &Sample| sample.name().split('/').next().unwrap_or_default().len();
        // Files of a class follow each other, but the classes are not yet in order: `a-b/` is before `a/`.
        let same = |a: &Sample, b: &Sample| {
            let (of_a, of_b) = (class(a), class(b));
            a.name()[..of_a] == b.name()[..of_b]
        };
        let mut classes: Vec<String> =
            samples.chunk_by(same).map(|run| run[0].name()[..class(&run[0])].to_string()).collect();
        classes.sort_unstable();
        for run in samples.chunk_by_mut(same) {
            let name = &run[0].name()[..class(&run[0])];
            let label = classes.binary_search_by(|known| known.as_str().cmp(name));
            let label = label.expect("every class is listed");
            let label = u32::try_from(label).expect("fewer than 2^32 classes");
            run.iter_mut().for_each(|sample| sample.label = label);
        }
        PictureFiles { store, classes, samples }
    }
}

impl Source for PictureFiles {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.samples[index].label
    }

    fn name(&self, index: usize) -> String {
        let entry = &self.samples[index].entry;
        self.store.name(entry.archive, &entry.path)
    }

    fn key(&self, index: usize) -> String {
        self.samples[index].name().to_string()
    }

    fn id(&self, index: usize) -> u64 {
        sample_id(self.samples[index].name())
    }

    fn group(&self, index: usize) -> Option<&str> {
        self.samples[index].group.as_deref()
    }

    fn ask(&self, samples: &[usize]) -> Option<Asked> {
        self.store.ask(samples.iter().map(|&index| &self.samples[index].entry))
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        let bytes = self.store.read(&self.samples[index].entry)?;
        Ok(Encoded::File(Cow::Owned(bytes)))
    }
}
