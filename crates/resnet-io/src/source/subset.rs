//! Part of a source, and the stratified split into a training and a validation part.

use std::sync::Arc;

use super::{Encoded, Source};
use crate::error::DataError;

/// Some of a source's samples, with the same classes.
pub struct Subset {
    source: Arc<dyn Source>,
    indices: Vec<u32>,
}

impl Subset {
    /// The samples at `indices`, in that order.
    ///
    /// # Panics
    /// When an index is not below `source.len()`.
    pub fn new(source: Arc<dyn Source>, indices: Vec<u32>) -> Subset {
        assert!(indices.iter().all(|&i| (i as usize) < source.len()), "indices are in the source");
        Subset { source, indices }
    }
}

impl Source for Subset {
    fn len(&self) -> usize {
        self.indices.len()
    }

    fn classes(&self) -> &[String] {
        self.source.classes()
    }

    fn label(&self, index: usize) -> u32 {
        self.source.label(self.indices[index] as usize)
    }

    fn name(&self, index: usize) -> String {
        self.source.name(self.indices[index] as usize)
    }

    fn key(&self, index: usize) -> String {
        self.source.key(self.indices[index] as usize)
    }

    fn id(&self, index: usize) -> u64 {
        self.source.id(self.indices[index] as usize)
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        self.source.read(self.indices[index] as usize)
    }
}

/// Splits a source into (training, validation): in each class the `round(fraction * n)` samples with the
/// smallest identities are held back.
///
/// The number is exact, and one added file moves at most one other sample to the other side.
///
/// # Errors
/// When the fraction is not strictly between 0 and 1, or one side would be empty.
pub fn split_by_fraction(
    source: &Arc<dyn Source>,
    fraction: f64,
) -> Result<(Subset, Subset), DataError> {
    if !(fraction > 0.0 && fraction < 1.0) {
        return Err(DataError::BadFraction { fraction });
    }
    let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); source.classes().len()];
    for index in 0..source.len() {
        let position = u32::try_from(index).expect("fewer than 2^32 samples");
        by_class[source.label(index) as usize].push(position);
    }
    let mut is_held_back = vec![false; source.len()];
    for samples in &mut by_class {
        // Names break ties between equal hashes, so that the order of the files never decides.
        samples.sort_by_cached_key(|&i| (source.id(i as usize), source.name(i as usize)));
        let count = (fraction * samples.len() as f64).round() as usize;
        for &index in &samples[..count] {
            is_held_back[index as usize] = true;
        }
    }
    let side = |wanted: bool| -> Vec<u32> {
        let picked = is_held_back.iter().enumerate().filter(|&(_, &held)| held == wanted);
        picked.map(|(index, _)| index as u32).collect()
    };
    let (train, val) = (side(false), side(true));
    for (part, side) in [(&train, "to train on"), (&val, "for validation")] {
        if part.is_empty() {
            return Err(DataError::EmptySide { fraction, images: source.len(), side });
        }
    }
    Ok((Subset::new(source.clone(), train), Subset::new(source.clone(), val)))
}
