//! Binary cross-entropy of each class and its gradient.
//!
//! ```text
//! loss = sum over samples and classes of w * q * softplus(-x) + (1 - q) * softplus(x)
//!        / (classes * divisor),   softplus(x) = log(1 + exp(x)) = max(x, 0) + log1p(exp(-|x|))
//! q = (1 - s) * target + s / classes,   s = label_smoothing;   then q > threshold, if there is one
//! dlogits = ((1 - q) * sigmoid(x) - w * q * sigmoid(-x)) / (classes * divisor)
//! ```
//!
//! As PyTorch's `BCEWithLogitsLoss` with one `pos_weight` `w`; targets as timm's `BinaryCrossEntropy`.
//! In f64 on `libm`, as the softmax cross-entropy, and for the same reason without a vector version.

use resnet_core::op::BinaryCrossEntropy;

use super::Targets;
use crate::threads::ThreadPool;

/// A loss, but for the logits.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    /// Smoothing, threshold, weight and divisor.
    pub spec: BinaryCrossEntropy,
    /// Width of a row of logits.
    pub classes: usize,
    /// What the sigmoids of the logits should be.
    pub targets: Targets<'a>,
}

impl Loss<'_> {
    /// `q[n,k]`.
    fn target(&self, n: usize, k: usize) -> f64 {
        let s = self.spec.label_smoothing;
        let q = (1.0 - s) * self.targets.at(n, k, self.classes) + s / self.classes as f64;
        match self.spec.target_threshold {
            None => q,
            Some(threshold) => f64::from(u8::from(threshold < q)),
        }
    }

    /// `classes * divisor`.
    fn divisor(&self) -> f64 {
        (self.classes * self.spec.divisor) as f64
    }
}

/// The loss of `logits`, `[n, classes]`. Samples are added in their order.
///
/// # Panics
/// If lengths do not fit, or a class number is not below `classes`: whoever loads labels checks them.
pub fn cross_entropy(loss: Loss<'_>, logits: &[f32]) -> f64 {
    loss.targets.assert_fits(logits.len(), loss.classes);
    let sample = |(n, logits): (usize, &[f32])| {
        let term = |(k, &x): (usize, &f32)| {
            let (q, x) = (loss.target(n, k), f64::from(x));
            let rest = libm::log1p(libm::exp(-x.abs()));
            let (there, not) = ((-x).max(0.0) + rest, x.max(0.0) + rest);
            loss.spec.pos_weight * q * there + (1.0 - q) * not
        };
        logits.iter().enumerate().map(term).sum::<f64>()
    };
    logits.chunks_exact(loss.classes).enumerate().map(sample).sum::<f64>() / loss.divisor()
}

/// `dlogits` from the logits, both `[n, classes]`.
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_grad(pool: &ThreadPool, loss: Loss<'_>, logits: &[f32], dlogits: &mut [f32]) {
    loss.targets.assert_fits(logits.len(), loss.classes);
    assert_eq!(dlogits.len(), logits.len());
    let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
    pool.run_parts(dlogits, loss.classes, |n, dlogits| {
        let logits = &logits[n * loss.classes..][..loss.classes];
        for (k, (d, &x)) in dlogits.iter_mut().zip(logits).enumerate() {
            let (q, x) = (loss.target(n, k), f64::from(x));
            let there = loss.spec.pos_weight * q * sigmoid(-x);
            *d = (((1.0 - q) * sigmoid(x) - there) / loss.divisor()) as f32;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{assert_same, for_machines, random};

    const SPEC: BinaryCrossEntropy = BinaryCrossEntropy {
        label_smoothing: 0.1,
        target_threshold: None,
        pos_weight: 1.5,
        divisor: 3,
    };

    #[test]
    fn gradients_are_those_of_central_differences() {
        let pool = ThreadPool::new(1);
        let (logits, dense) = (random(1, 15), random(2, 15));
        let thresholded = BinaryCrossEntropy { target_threshold: Some(0.3), ..SPEC };
        for spec in [SPEC, thresholded] {
            for targets in [Targets::Classes(&[1, 4, 0]), Targets::Dense(&dense)] {
                let loss = Loss { spec, classes: 5, targets };
                let mut dlogits = vec![0.0; 15];
                cross_entropy_grad(&pool, loss, &logits, &mut dlogits);
                for i in 0..15 {
                    let at = |step: f32| {
                        let mut logits = logits.clone();
                        logits[i] += step;
                        (cross_entropy(loss, &logits), f64::from(logits[i]))
                    };
                    let ((up, z_up), (down, z_down)) = (at(1e-3), at(-1e-3));
                    // Third order of the difference, and a gradient in f32.
                    assert!(((up - down) / (z_up - z_down) - f64::from(dlogits[i])).abs() < 1e-7);
                }
            }
        }
    }

    #[test]
    fn known_losses_come_out() {
        let spec = BinaryCrossEntropy { pos_weight: 1.0, label_smoothing: 0.0, ..SPEC };
        let loss = |targets, spec| Loss { spec, classes: 2, targets };
        let both = Targets::Dense(&[1.0, 1.0, 0.0, 0.0, 1.0, 0.0]);
        let even = cross_entropy(loss(both, spec), &[0.0; 6]);
        assert!((even - 2.0_f64.ln()).abs() < 1e-15);
        // A class that is there counts as often as its weight says: 3 of 6 are.
        let heavy = BinaryCrossEntropy { pos_weight: 3.0, ..spec };
        let weighted = cross_entropy(loss(both, heavy), &[0.0; 6]);
        assert!((weighted - 2.0 * 2.0_f64.ln()).abs() < 1e-15);
        // Large logits neither overflow nor lose what is small.
        let right = [300.0, 300.0, -300.0, -300.0, 300.0, -300.0];
        let far = cross_entropy(loss(both, spec), &right);
        assert!((far - (-300.0_f64).exp()).abs() < 1e-12 * far, "{far:e}");
        let wrong = cross_entropy(loss(both, spec), &right.map(|x| -x * 1e36));
        assert!((wrong / 3e38 - 1.0).abs() < 1e-6);
        assert!(cross_entropy(loss(both, spec), &[f32::NAN; 6]).is_nan());
    }

    #[test]
    fn every_number_of_threads_gives_the_same_bits() {
        let (logits, dense) = (random(1, 35), random(2, 35));
        let loss = Loss { spec: SPEC, classes: 5, targets: Targets::Dense(&dense) };
        let mut first: Option<Vec<f32>> = None;
        for_machines(|_, pool| {
            let mut dlogits = vec![0.0; 35];
            cross_entropy_grad(pool, loss, &logits, &mut dlogits);
            assert_same(&dlogits, first.get_or_insert_with(|| dlogits.clone()));
        });
    }
}
