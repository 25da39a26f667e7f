//! Prediction: a picture's classes with their probabilities.

use serde::Serialize;

use crate::classes::Classes;
use crate::score::rank;

/// A class and how probable it is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Its number.
    pub index: usize,
    /// Its label, or its number where it has none.
    pub label: String,
    /// Its probability: among all classes, or by itself where a picture may have any number.
    pub probability: f64,
}

/// The `k` most probable classes, most probable first, the lower number first of equals.
pub fn top_k(
    logits: &[f32],
    probabilities: &[f64],
    classes: &Classes,
    k: usize,
) -> Vec<Prediction> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by_cached_key(|&class| rank(logits, class));
    let one = |index| Prediction {
        index,
        label: classes.label(index),
        probability: probabilities[index],
    };
    order.into_iter().take(k).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::score::probabilities;

    #[test]
    fn the_most_probable_come_first_and_equals_by_number() {
        let top_k = |logits: &[f32], k| {
            super::top_k(logits, &probabilities(logits), &Classes::default(), k)
        };
        let found = top_k(&[0.0, 2f32.ln(), 0.0, f32::NEG_INFINITY], 3);
        let summary: Vec<_> = found.iter().map(|p| (p.index, p.label.as_str())).collect();
        assert_eq!(summary, [(1, "1"), (0, "0"), (2, "2")]);
        assert!((found[0].probability - 0.5).abs() < 1e-7);
        assert_eq!(top_k(&[1.0], 5).len(), 1);
    }
}
