//! What logits are worth where a picture may have any number of classes: average precision and F1.
//!
//! ```text
//! AP  = sum over distinct scores, highest first, of (R[i] - R[i-1]) * P[i]
//! mAP = mean of AP over the classes that a picture has
//! F1  = 2 tp / (2 tp + fp + fn), 0 where that is 0 / 0; a class is said to be there above probability 0.5
//! ```
//!
//! AP is scikit-learn's `average_precision_score` of a class; equal scores count as one threshold. Classes
//! without a picture have no AP and are left out of the mean, as torchmetrics'
//! `MultilabelAveragePrecision` leaves them out. F1 is scikit-learn's `f1_score`: macro, the mean over all
//! classes, or micro, of all decisions together.

use serde::{Deserialize, Serialize};

use super::{Quality, Score};

/// How often a class was said to be there, rightly and wrongly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decisions {
    /// It was said, and is so.
    pub true_positives: u64,
    /// It was said, and is not so.
    pub false_positives: u64,
    /// It was not said, but is so.
    pub false_negatives: u64,
}

impl Decisions {
    /// Adds one decision: a class is said to be there when its logit is above 0.
    pub fn add(&mut self, logit: f32, is_there: bool) {
        match (0.0 < logit, is_there) {
            (true, true) => self.true_positives += 1,
            (true, false) => self.false_positives += 1,
            (false, true) => self.false_negatives += 1,
            (false, false) => {}
        }
    }

    /// Adds those of others.
    pub fn merge(&mut self, other: Decisions) {
        self.true_positives += other.true_positives;
        self.false_positives += other.false_positives;
        self.false_negatives += other.false_negatives;
    }

    /// The harmonic mean of precision and recall; 0 where nothing is there and nothing was said.
    pub fn f1(&self) -> f64 {
        let twice = 2 * self.true_positives;
        let all = twice + self.false_positives + self.false_negatives;
        if all == 0 { 0.0 } else { twice as f64 / all as f64 }
    }

    /// Whether there was nothing to decide.
    pub fn is_empty(&self) -> bool {
        *self == Decisions::default()
    }
}

/// Whether a target counts as a class that is there: of a mixed picture, what half of it or more has.
pub fn is_there(target: f32) -> bool {
    0.5 <= target
}

/// The logits and classes of all pictures of an evaluation.
///
/// It keeps five bytes a picture and class: all scores of a class are ranked against each other.
#[derive(Clone, Debug, Default)]
pub struct Rankings {
    classes: usize,
    logits: Vec<f32>,
    is_there: Vec<bool>,
    loss: f64,
}

impl Rankings {
    /// Adds a batch; logits and targets are `[n, classes]`.
    ///
    /// # Panics
    /// When they are not.
    pub fn add(&mut self, logits: &[f32], targets: &[f32], classes: usize) {
        assert_eq!((logits.len(), logits.len() % classes), (targets.len(), 0));
        self.classes = classes;
        for (logits, targets) in logits.chunks_exact(classes).zip(targets.chunks_exact(classes)) {
            self.loss += binary_cross_entropy(logits, targets);
        }
        self.logits.extend_from_slice(logits);
        self.is_there.extend(targets.iter().map(|&target| is_there(target)));
    }

    /// The score of all pictures. Without a class that any of them has, the mAP is 0.
    pub fn score(&self, skipped: u64) -> Score {
        let images = self.logits.len() / self.classes.max(1);
        let (mut precisions, mut together, mut f1) = (Vec::new(), Decisions::default(), 0.0);
        for class in 0..self.classes {
            let own = |values: usize| (0..values).map(|i| i * self.classes + class);
            let scores: Vec<f32> = own(images).map(|at| self.logits[at]).collect();
            let is_there: Vec<bool> = own(images).map(|at| self.is_there[at]).collect();
            precisions.extend(average_precision(&scores, &is_there));
            let mut decisions = Decisions::default();
            scores.iter().zip(&is_there).for_each(|(&s, &there)| decisions.add(s, there));
            f1 += decisions.f1();
            together.merge(decisions);
        }
        let quality = Quality::MultiLabel {
            map: precisions.iter().sum::<f64>() / precisions.len().max(1) as f64,
            f1_macro: f1 / self.classes.max(1) as f64,
            f1_micro: together.f1(),
        };
        let loss = self.loss / images.max(1) as f64;
        Score { images: images as u64, quality, loss, skipped }
    }
}

/// The average precision of one class; none where no picture has it. A score that is no number stands
/// last.
pub fn average_precision(scores: &[f32], is_there: &[bool]) -> Option<f64> {
    let number = |score: f32| if score.is_nan() { f32::NEG_INFINITY } else { score };
    let mut ranked: Vec<(f32, bool)> =
        scores.iter().zip(is_there).map(|(&score, &there)| (number(score), there)).collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
    let positives = is_there.iter().filter(|&&there| there).count();
    if positives == 0 {
        return None;
    }
    let (mut said, mut right, mut sum) = (0, 0, 0.0);
    for equal in ranked.chunk_by(|a, b| a.0 == b.0) {
        let there = equal.iter().filter(|(_, there)| *there).count();
        (said, right) = (said + equal.len(), right + there);
        sum += there as f64 / positives as f64 * (right as f64 / said as f64);
    }
    Some(sum)
}

/// Mean over the classes of a picture of `-t ln(p) - (1 - t) ln(1 - p)`, `p` the logit's sigmoid.
pub fn binary_cross_entropy(logits: &[f32], targets: &[f32]) -> f64 {
    let term = |(&x, &t): (&f32, &f32)| {
        let (x, t) = (f64::from(x), f64::from(t));
        let rest = (-x.abs()).exp().ln_1p();
        t * ((-x).max(0.0) + rest) + (1.0 - t) * (x.max(0.0) + rest)
    };
    logits.iter().zip(targets).map(term).sum::<f64>() / logits.len().max(1) as f64
}

/// The probability of each class by itself.
pub fn sigmoids(logits: &[f32]) -> Vec<f64> {
    logits.iter().map(|&x| 1.0 / (1.0 + (-f64::from(x)).exp())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn average_precision_is_the_area_below_precision_over_recall() {
        // scikit-learn's example: (0.1, 0.4, 0.35, 0.8), of which the last two are there.
        let found = average_precision(&[0.1, 0.4, 0.35, 0.8], &[false, false, true, true]);
        assert!((found.unwrap() - (0.5 + 0.5 * 2.0 / 3.0)).abs() < 1e-15);
        assert_eq!(average_precision(&[0.3, 0.1], &[true, false]), Some(1.0));
        assert_eq!(average_precision(&[0.3, 0.1], &[false, false]), None);
    }

    #[test]
    fn equal_scores_are_one_threshold_whatever_their_order() {
        // Three of equal score, one of them there: precision 1/3 at full recall.
        for there in 0..3 {
            let is_there = [0, 1, 2].map(|i| i == there);
            assert_eq!(average_precision(&[1.5; 3], &is_there), Some(1.0 / 3.0));
        }
        assert_eq!(average_precision(&[0.0, -0.0], &[true, false]), Some(0.5));
        assert_eq!(
            average_precision(&[f32::NAN, 1.0, -9.0], &[true, false, false]),
            Some(1.0 / 3.0)
        );
    }

    #[test]
    fn scores_leave_out_classes_that_no_picture_has_from_map_but_not_from_f1() {
        let mut rankings = Rankings::default();
        // Class 0 is found; class 1 is there twice and said once, wrongly; nobody has class 2.
        rankings.add(&[2.0, -1.0, -3.0, -2.0, -2.0, -1.0], &[1.0, 1.0, 0.0, 0.0, 1.0, 0.0], 3);
        rankings.add(&[-1.0, 0.5, -1.0], &[0.0, 0.0, 0.0], 3);
        let score = rankings.score(4);
        let Quality::MultiLabel { map, f1_macro, f1_micro } = score.quality else { panic!() };
        // Class 1 ranks 0.5 (not there), -1, -2 (there): (1/2 + 2/3) / 2.
        assert!((map - (1.0 + (0.5 + 2.0 / 3.0) / 2.0) / 2.0).abs() < 1e-15, "{map}");
        assert_eq!((f1_macro, f1_micro), (1.0 / 3.0, 2.0 / 5.0));
        assert_eq!((score.images, score.skipped), (3, 4));
    }

    #[test]
    fn the_loss_of_even_logits_is_the_logarithm_of_two() {
        assert!((binary_cross_entropy(&[0.0; 4], &[1.0, 0.0, 0.3, 1.0]) - 2f64.ln()).abs() < 1e-15);
        assert_eq!(binary_cross_entropy(&[1e30, -1e30], &[1.0, 0.0]), 0.0);
        assert_eq!(sigmoids(&[0.0, f32::INFINITY, -200.0])[..2], [0.5, 1.0]);
    }
}
