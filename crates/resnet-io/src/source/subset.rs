//! Part of a source, and the splits into a training and a validation part.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Asked, Encoded, Labels, Source, sample_id};
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

    fn labels(&self, index: usize) -> Labels<'_> {
        self.source.labels(self.indices[index] as usize)
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

    fn group(&self, index: usize) -> Option<&str> {
        self.source.group(self.indices[index] as usize)
    }

    fn ask(&self, samples: &[usize]) -> Option<Asked> {
        let inner = samples.iter().map(|&index| self.indices[index] as usize);
        self.source.ask(&inner.collect::<Vec<_>>())
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        self.source.read(self.indices[index] as usize)
    }
}

/// Which of the training pictures are held back for validation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum HeldBack {
    /// This share of each class.
    Share(f64),
    /// One of several parts of equal size.
    Fold(Fold),
}

/// Part `number` of `of`, for cross-validation: as text `2/5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fold {
    number: usize,
    of: usize,
}

impl Fold {
    /// The part of `len` things in an order that belongs to the fold.
    fn range(self, len: usize) -> Range<usize> {
        (self.number - 1) * len / self.of..self.number * len / self.of
    }
}

impl FromStr for Fold {
    type Err = String;

    fn from_str(text: &str) -> Result<Fold, String> {
        let numbers = text.split_once('/').map(|(number, of)| (number.parse(), of.parse()));
        match numbers {
            Some((Ok(number), Ok(of)))
                if (1..=of).contains(&number) && (2..=1000).contains(&of) =>
            {
                Ok(Fold { number, of })
            }
            _ => Err(format!("{text:?} is no fold: 2/5 is the second of five, of 1000 at most")),
        }
    }
}

impl TryFrom<String> for Fold {
    type Error = String;

    fn try_from(text: String) -> Result<Fold, String> {
        text.parse()
    }
}

impl From<Fold> for String {
    fn from(fold: Fold) -> String {
        fold.to_string()
    }
}

impl fmt::Display for Fold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl fmt::Display for HeldBack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HeldBack::Share(share) => write!(f, "validation fraction {share}"),
            HeldBack::Fold(fold) => write!(f, "fold {fold}"),
        }
    }
}

/// Splits a source into (training, validation).
///
/// In each class the samples are ordered by their identities; of a share the first `round(share * n)` are
/// held back, of a fold its part. The number is exact, and one added file moves at most one other sample
/// across the end of a share. Samples of any number of classes are ordered all together. Samples of a group ([`Source::group`]) stay together instead: groups are
/// ordered by their names' hashes, and the classes are not looked at.
///
/// # Errors
/// When a share is not strictly between 0 and 1, or one side would be empty.
pub fn hold_back(source: &Arc<dyn Source>, what: HeldBack) -> Result<(Subset, Subset), DataError> {
    if let HeldBack::Share(share) = what
        && !(share > 0.0 && share < 1.0)
    {
        return Err(DataError::BadFraction { fraction: share });
    }
    let has_groups = (0..source.len()).any(|index| source.group(index).is_some());
    let held = if has_groups { of_groups(source, what) } else { of_classes(source, what) };
    let mut is_held_back = vec![false; source.len()];
    held.into_iter().for_each(|index| is_held_back[index as usize] = true);
    let side = |wanted: bool| -> Vec<u32> {
        let picked = is_held_back.iter().enumerate().filter(|&(_, &held)| held == wanted);
        picked.map(|(index, _)| index as u32).collect()
    };
    let (train, val) = (side(false), side(true));
    for (part, side) in [(&train, "to train on"), (&val, "for validation")] {
        if part.is_empty() {
            return Err(DataError::EmptySide { what, images: source.len(), side });
        }
    }
    Ok((Subset::new(source.clone(), train), Subset::new(source.clone(), val)))
}

/// A number of samples as their type has it.
fn position(index: usize) -> u32 {
    u32::try_from(index).expect("fewer than 2^32 samples")
}

/// Those of each class.
fn of_classes(source: &Arc<dyn Source>, what: HeldBack) -> Vec<u32> {
    let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); source.classes().len()];
    for index in 0..source.len() {
        // Samples of any number of classes are not told apart.
        let class = match source.labels(index) {
            Labels::One(label) => label as usize,
            Labels::Many(_) => 0,
        };
        by_class[class].push(position(index));
    }
    let mut held = Vec::new();
    for samples in &mut by_class {
        // Names break ties between equal hashes, so that the order of the files never decides.
        samples.sort_by_cached_key(|&i| (source.id(i as usize), source.name(i as usize)));
        let range = match what {
            HeldBack::Share(share) => 0..(share * samples.len() as f64).round() as usize,
            HeldBack::Fold(fold) => fold.range(samples.len()),
        };
        held.extend_from_slice(&samples[range]);
    }
    held
}

/// Those of whole groups; a sample without one is a group of its own.
fn of_groups(source: &Arc<dyn Source>, what: HeldBack) -> Vec<u32> {
    let mut groups: BTreeMap<(u64, String), Vec<u32>> = BTreeMap::new();
    for index in 0..source.len() {
        let name = source.group(index).map_or_else(|| source.name(index), str::to_string);
        groups.entry((sample_id(&name), name)).or_default().push(position(index));
    }
    match what {
        HeldBack::Share(share) => {
            let wanted = (share * source.len() as f64).round() as usize;
            let mut held: Vec<u32> = Vec::new();
            for samples in groups.into_values() {
                // As near to the number as it gets.
                let (before, after) = (held.len(), held.len() + samples.len());
                if wanted.abs_diff(before) < wanted.abs_diff(after) {
                    break;
                }
                held.extend(samples);
            }
            held
        }
        HeldBack::Fold(fold) => {
            // Each group goes to the fold that has the fewest samples yet.
            let mut folds: Vec<Vec<u32>> = vec![Vec::new(); fold.of];
            for samples in groups.into_values() {
                let smallest = folds.iter_mut().min_by_key(|fold| fold.len());
                smallest.expect("two folds or more").extend(samples);
            }
            folds.swap_remove(fold.number - 1)
        }
    }
}
