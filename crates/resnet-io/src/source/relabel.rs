//! A source under another list of classes.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Asked, Encoded, Labels, Source};
use crate::error::DataError;

/// The samples of a source, with classes in another order or among others.
pub struct Relabelled {
    source: Arc<dyn Source>,
    classes: Vec<String>,
    /// For each class of the source, its place in the list.
    labels: Vec<u32>,
    /// The new classes of each sample, where it has any number of them; else empty.
    many: Vec<Box<[u32]>>,
}

impl Relabelled {
    /// The source's classes found by name in `classes`.
    ///
    /// # Errors
    /// [`DataError::UnknownClass`] with the first that is not there.
    pub fn new(source: Arc<dyn Source>, classes: &[String]) -> Result<Relabelled, DataError> {
        let places: HashMap<&str, u32> = classes.iter().map(String::as_str).zip(0..).collect();
        let place = |class: &String| {
            places.get(class.as_str()).copied().ok_or_else(|| DataError::UnknownClass {
                place: source.name(0),
                class: class.clone(),
                known: classes.len(),
            })
        };
        let labels = source.classes().iter().map(place).collect::<Result<_, _>>()?;
        Ok(Relabelled::by_place(source, classes.to_vec(), labels))
    }

    /// The source's classes at these places in `classes`.
    ///
    /// # Panics
    /// When there is not a place within the list for each class.
    pub fn by_place(source: Arc<dyn Source>, classes: Vec<String>, places: Vec<u32>) -> Relabelled {
        let known = places.iter().all(|&place| (place as usize) < classes.len());
        assert!(known && places.len() == source.classes().len(), "each class has a place");
        let many = match source.is_multi_label() {
            true => (0..source.len()).map(|index| moved(source.labels(index), &places)).collect(),
            false => Vec::new(),
        };
        Relabelled { source, classes, labels: places, many }
    }
}

/// Classes at their new places, ascending.
fn moved(labels: Labels<'_>, places: &[u32]) -> Box<[u32]> {
    let mut moved: Vec<u32> = labels.as_slice().iter().map(|&l| places[l as usize]).collect();
    moved.sort_unstable();
    moved.dedup();
    moved.into()
}

impl Source for Relabelled {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[self.source.label(index) as usize]
    }

    fn labels(&self, index: usize) -> Labels<'_> {
        match self.many.get(index) {
            Some(labels) => Labels::Many(labels),
            None => Labels::One(self.label(index)),
        }
    }

    fn name(&self, index: usize) -> String {
        self.source.name(index)
    }

    fn key(&self, index: usize) -> String {
        self.source.key(index)
    }

    fn id(&self, index: usize) -> u64 {
        self.source.id(index)
    }

    fn group(&self, index: usize) -> Option<&str> {
        self.source.group(index)
    }

    fn ask(&self, samples: &[usize]) -> Option<Asked> {
        self.source.ask(samples)
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        self.source.read(index)
    }
}
