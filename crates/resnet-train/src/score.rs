//! What a batch of logits is worth: loss and hits, summed so that the order of batches alone decides.

pub mod multi_label;

use serde::{Deserialize, Serialize};

use self::multi_label::{Decisions, is_there};
use crate::checkpoint::Bits;

/// Sums over pictures. A checkpoint keeps the loss as bits, so that a resumed sum is the same sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sums {
    /// Pictures.
    pub images: u64,
    /// Pictures whose class has the highest logit.
    pub top1: u64,
    /// Pictures whose class is among the five highest logits.
    pub top5: u64,
    /// Sum of the losses of single pictures.
    pub loss: Bits,
    /// Decisions on single classes, where pictures have any number of them.
    #[serde(default, skip_serializing_if = "Decisions::is_empty")]
    pub decisions: Decisions,
}

/// A score of one evaluation, as fractions and a mean.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Pictures that were read.
    pub images: u64,
    /// How good the predictions are.
    #[serde(flatten)]
    pub quality: Quality,
    /// Mean softmax cross-entropy; binary where pictures have any number of classes.
    pub loss: f64,
    /// Pictures that could not be read, and are not counted.
    pub skipped: u64,
}

/// How good predictions are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Quality {
    /// A picture has one class.
    OneClass {
        /// Pictures whose class has the highest logit.
        correct: u64,
        /// That, as a share of the pictures.
        top1: f64,
        /// Share of pictures whose class is among the five highest logits.
        top5: f64,
    },
    /// A picture has any number of classes; [`multi_label`] defines the terms.
    MultiLabel {
        /// Mean of the classes' average precisions.
        map: f64,
        /// Mean of the classes' F1.
        f1_macro: f64,
        /// F1 of all decisions together.
        f1_micro: f64,
    },
}

impl Quality {
    /// What evaluations are compared by: top-1, or mAP.
    pub fn goal(&self) -> f64 {
        match *self {
            Quality::OneClass { top1, .. } => top1,
            Quality::MultiLabel { map, .. } => map,
        }
    }

    /// What that is called.
    pub fn goal_name(&self) -> &'static str {
        match self {
            Quality::OneClass { .. } => "top-1",
            Quality::MultiLabel { .. } => "mAP",
        }
    }
}

impl Sums {
    /// Adds a batch by its logits `[n, classes]`; the loss is the plain cross-entropy.
    pub fn add_logits(&mut self, logits: &[f32], labels: &[u32]) {
        self.add_hits(logits, labels);
        for (logits, &label) in rows(logits, labels).zip(labels) {
            self.loss.0 += cross_entropy(logits, label as usize);
        }
    }

    /// Adds a batch whose mean loss is known.
    pub fn add_batch(&mut self, logits: &[f32], labels: &[u32], mean_loss: f64) {
        self.add_hits(logits, labels);
        self.loss.0 += mean_loss * labels.len() as f64;
    }

    /// Adds a batch of pictures of any number of classes, whose mean loss is known; logits and targets are
    /// `[n, classes]`.
    pub fn add_decisions(&mut self, logits: &[f32], targets: &[f32], images: u64, mean_loss: f64) {
        for (&logit, &target) in logits.iter().zip(targets) {
            self.decisions.add(logit, is_there(target));
        }
        self.images += images;
        self.loss.0 += mean_loss * images as f64;
    }

    /// Adds the sums of pictures that follow.
    pub fn merge(&mut self, other: Sums) {
        self.images += other.images;
        self.top1 += other.top1;
        self.top5 += other.top5;
        self.loss.0 += other.loss.0;
        self.decisions.merge(other.decisions);
    }

    fn add_hits(&mut self, logits: &[f32], labels: &[u32]) {
        for (logits, &label) in rows(logits, labels).zip(labels) {
            let rank = rank(logits, label as usize);
            self.top1 += u64::from(rank < 1);
            self.top5 += u64::from(rank < 5);
        }
        self.images += labels.len() as u64;
    }

    /// Means over pictures of one class, of which there is at least one.
    pub fn score(&self, skipped: u64) -> Score {
        let quality = Quality::OneClass {
            correct: self.top1,
            top1: self.mean(self.top1 as f64),
            top5: self.mean(self.top5 as f64),
        };
        Score { images: self.images, quality, loss: self.mean(self.loss.0), skipped }
    }

    /// A sum over the pictures as a mean.
    pub fn mean(&self, sum: f64) -> f64 {
        sum / self.images as f64
    }
}

fn rows<'a>(logits: &'a [f32], labels: &[u32]) -> std::slice::ChunksExact<'a, f32> {
    logits.chunks_exact((logits.len() / labels.len().max(1)).max(1))
}

/// How many classes stand before this one: of equal logits the lower class comes first, as in an
/// arg-max that takes the first. A logit that is no number stands last.
pub fn rank(logits: &[f32], class: usize) -> usize {
    let own = logits[class];
    if own.is_nan() {
        return usize::MAX;
    }
    let before = |(other, &logit): (usize, &f32)| logit > own || (logit == own && other < class);
    logits.iter().enumerate().filter(|&entry| before(entry)).count()
}

/// `ln(sum(exp(logits))) - logits[class]`, in f64 about the highest logit.
pub fn cross_entropy(logits: &[f32], class: usize) -> f64 {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&l| (f64::from(l) - f64::from(highest)).exp()).sum();
    sum.ln() + f64::from(highest) - f64::from(logits[class])
}

/// Softmax, in f64 about the highest logit.
pub fn probabilities(logits: &[f32]) -> Vec<f64> {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exps: Vec<f64> =
        logits.iter().map(|&l| (f64::from(l) - f64::from(highest)).exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.into_iter().map(|e| e / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_logits_go_to_the_lower_class() {
        assert_eq!([0, 1, 2].map(|class| rank(&[1.0, 1.0, 1.0], class)), [0, 1, 2]);
        assert_eq!([0, 1, 2].map(|class| rank(&[1.0, 2.0, 1.0], class)), [1, 0, 2]);
    }

    #[test]
    fn a_logit_that_is_no_number_is_never_a_hit() {
        let mut sums = Sums::default();
        sums.add_batch(&[f32::NAN; 3], &[0], 0.0);
        assert_eq!((sums.images, sums.top1, sums.top5), (1, 0, 0));
        assert_eq!(rank(&[f32::NAN, 0.0], 1), 0);
    }

    #[test]
    fn the_cross_entropy_of_equal_logits_is_the_logarithm_of_the_classes() {
        assert!((cross_entropy(&[7.0; 10], 3) - 10f64.ln()).abs() < 1e-15);
        // Large logits neither overflow nor lose the difference.
        assert!((cross_entropy(&[1e30, 0.0], 0)).abs() < 1e-15);
        assert!((cross_entropy(&[1000.0, 1001.0], 1) - (-1f64).exp().ln_1p()).abs() < 1e-12);
    }

    #[test]
    fn sums_survive_json_to_the_bit() {
        let sums = Sums { images: 3, top1: 2, top5: 3, loss: Bits(0.1 + 0.2), ..Sums::default() };
        assert!(!serde_json::to_string(&sums).unwrap().contains("decisions"));
        let decisions = Decisions { true_positives: 1, false_positives: 2, false_negatives: 3 };
        let many = Sums { decisions, ..sums };
        let text = serde_json::to_string(&many).unwrap();
        assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), many);
        let text = serde_json::to_string(&sums).unwrap();
        assert_eq!(serde_json::from_str::<Sums>(&text).unwrap(), sums);
    }
}
