//! Samples of any number of classes each.

use std::sync::Arc;

use super::{Asked, Encoded, Labels, Source};
use crate::error::DataError;

/// The samples of a source, each with any number of classes.
pub struct MultiLabel {
    source: Arc<dyn Source>,
    classes: Vec<String>,
    /// Of each sample, ascending.
    labels: Vec<Box<[u32]>>,
}

impl MultiLabel {
    /// Gives each sample of a source its classes, in any order.
    ///
    /// # Panics
    /// When there are not classes for each sample, or a class is not below `classes.len()`.
    pub fn new(
        source: Arc<dyn Source>,
        classes: Vec<String>,
        labels: impl IntoIterator<Item = Vec<u32>>,
    ) -> MultiLabel {
        let ascending = |mut labels: Vec<u32>| {
            labels.sort_unstable();
            labels.dedup();
            let known = labels.last().is_none_or(|&last| (last as usize) < classes.len());
            assert!(known, "every class is listed");
            labels.into_boxed_slice()
        };
        let labels: Vec<Box<[u32]>> = labels.into_iter().map(ascending).collect();
        assert_eq!(labels.len(), source.len(), "every sample has its classes");
        MultiLabel { source, classes, labels }
    }

    /// A source as it is, where each sample's class, or classes, are as many as it happens to have.
    pub fn of(source: Arc<dyn Source>) -> MultiLabel {
        let (classes, own) = (source.classes().to_vec(), source.clone());
        let labels = (0..source.len()).map(|index| own.labels(index).as_slice().to_vec());
        MultiLabel::new(source, classes, labels)
    }
}

impl Source for MultiLabel {
    fn len(&self) -> usize {
        self.source.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The first class, or 0: nothing asks where [`Source::labels`] says that there are many.
    fn label(&self, index: usize) -> u32 {
        self.labels[index].first().copied().unwrap_or(0)
    }

    fn labels(&self, index: usize) -> Labels<'_> {
        Labels::Many(&self.labels[index])
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
