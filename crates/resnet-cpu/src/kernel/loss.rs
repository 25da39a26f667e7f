//! Softmax cross-entropy and its gradient.
//!
//! ```text
//! loss = sum over samples of u[n] * sum_k -t[n,k] * log p[n,k] / divisor,   p = softmax(logits)
//! t[n,k] = w[k] * ((1 - s) * target[n,k] + s / classes),   s = label_smoothing
//! dlogits[n,k] = u[n] * (p[n,k] * sum_k t[n,k] - t[n,k]) / divisor
//! ```
//!
//! As PyTorch's `CrossEntropyLoss`, with class weights `w` and sample weights `u` where given.
//! Smoothing: Szegedy et al. 2015, arXiv:1512.00567, section 7. Everything is computed in f64 on
//! `libm`, the same everywhere; there is no vector version, as a step has a few thousand logits.

pub mod binary;

use resnet_core::op::CrossEntropy;

use crate::threads::ThreadPool;

/// What the logits should be.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class for each sample, `[n]`.
    Classes(&'a [u32]),
    /// A distribution for each sample, `[n, classes]`.
    Dense(&'a [f32]),
}

impl Targets<'_> {
    /// The target of class `k` of sample `n`.
    fn at(&self, n: usize, k: usize, classes: usize) -> f64 {
        match self {
            Targets::Classes(labels) => f64::from(u8::from(labels[n] as usize == k)),
            Targets::Dense(dense) => f64::from(dense[n * classes + k]),
        }
    }

    /// Checks that they are for so many logits, and gives the number of samples.
    #[track_caller]
    fn assert_fits(&self, logits: usize, classes: usize) -> usize {
        let samples = match self {
            Targets::Classes(labels) => {
                assert!(labels.iter().all(|&k| (k as usize) < classes), "a class of the net");
                labels.len()
            }
            Targets::Dense(dense) => dense.len() / classes,
        };
        assert_eq!(samples * classes, logits);
        samples
    }
}

/// Factors on the terms of the loss; None is 1.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weights<'a> {
    /// Of each class, `[classes]`.
    pub classes: Option<&'a [f32]>,
    /// Of each sample, `[n]`.
    pub samples: Option<&'a [f32]>,
}

/// A loss, but for the logits.
#[derive(Clone, Copy, Debug)]
pub struct Loss<'a> {
    /// Smoothing and divisor.
    pub spec: CrossEntropy,
    /// Width of a row of logits.
    pub classes: usize,
    /// What the logits should be.
    pub targets: Targets<'a>,
    /// Factors.
    pub weights: Weights<'a>,
}

impl Loss<'_> {
    /// `t[n,k]`.
    fn target(&self, n: usize, k: usize) -> f64 {
        let s = self.spec.label_smoothing;
        let target = self.targets.at(n, k, self.classes);
        let weight = self.weights.classes.map_or(1.0, |w| f64::from(w[k]));
        weight * ((1.0 - s) * target + s / self.classes as f64)
    }

    /// `u[n] / divisor`.
    fn factor(&self, n: usize) -> f64 {
        let weight = self.weights.samples.map_or(1.0, |u| f64::from(u[n]));
        weight / self.spec.divisor as f64
    }

    #[track_caller]
    fn assert_fits(&self, logits: usize) {
        let samples = self.targets.assert_fits(logits, self.classes);
        self.weights.classes.iter().for_each(|w| assert_eq!(w.len(), self.classes));
        self.weights.samples.iter().for_each(|u| assert_eq!(u.len(), samples));
    }
}

/// The loss, and `probabilities`, the softmax of `logits`; both `[n, classes]`. Samples are added in
/// their order.
///
/// # Panics
/// If lengths do not fit, or a class number is not below `classes`: whoever loads labels checks them.
pub fn cross_entropy(
    pool: &ThreadPool,
    loss: Loss<'_>,
    logits: &[f32],
    probabilities: &mut [f32],
) -> f64 {
    loss.assert_fits(logits.len());
    assert_eq!(probabilities.len(), logits.len());
    let classes = loss.classes;
    pool.run_parts(probabilities, classes, |n, p| {
        let logits = &logits[n * classes..][..classes];
        let log_sum = log_sum_exp(logits);
        for (p, &z) in p.iter_mut().zip(logits) {
            *p = libm::exp(f64::from(z) - log_sum) as f32;
        }
    });
    // The exponentials once more, but for one caller and without scratch: a tenth of a millisecond
    // for 16 samples of 1000 classes.
    let sample = |(n, logits): (usize, &[f32])| {
        let log_sum = log_sum_exp(logits);
        let term = |(k, &z): (usize, &f32)| loss.target(n, k) * (log_sum - f64::from(z));
        loss.factor(n) * logits.iter().enumerate().map(term).sum::<f64>()
    };
    logits.chunks_exact(classes).enumerate().map(sample).sum()
}

/// `log sum_k exp(logits[k])`, shifted by the largest so that nothing overflows.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = logits.iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    let largest = f64::from(largest);
    let sum: f64 = logits.iter().map(|&z| libm::exp(f64::from(z) - largest)).sum();
    largest + libm::log(sum)
}

/// `dlogits` from the probabilities, both `[n, classes]`.
///
/// # Panics
/// As [`cross_entropy`].
pub fn cross_entropy_grad(
    pool: &ThreadPool,
    loss: Loss<'_>,
    probabilities: &[f32],
    dlogits: &mut [f32],
) {
    loss.assert_fits(probabilities.len());
    assert_eq!(dlogits.len(), probabilities.len());
    let classes = loss.classes;
    pool.run_parts(dlogits, classes, |n, dlogits| {
        let total: f64 = (0..classes).map(|k| loss.target(n, k)).sum();
        let factor = loss.factor(n);
        let p = &probabilities[n * classes..][..classes];
        for (k, (d, &p)) in dlogits.iter_mut().zip(p).enumerate() {
            *d = (factor * (f64::from(p) * total - loss.target(n, k))) as f32;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{assert_same, for_machines, random};

    const SPEC: CrossEntropy = CrossEntropy { label_smoothing: 0.1, divisor: 3 };

    fn cases<'a>(labels: &'a [u32], dense: &'a [f32], factors: &'a [f32]) -> Vec<Loss<'a>> {
        let weights = [
            Weights::default(),
            Weights { classes: Some(&factors[..5]), samples: Some(&factors[5..8]) },
        ];
        let targets = [Targets::Classes(labels), Targets::Dense(dense)];
        let loss = |targets, weights| Loss { spec: SPEC, classes: 5, targets, weights };
        targets.into_iter().flat_map(|t| weights.map(|w| loss(t, w))).collect()
    }

    #[test]
    fn gradients_are_those_of_central_differences() {
        let (logits, dense, factors) = (random(1, 15), random(2, 15), random(3, 8));
        let pool = ThreadPool::new(1);
        for loss in cases(&[1, 4, 0], &dense, &factors) {
            let (mut p, mut dlogits) = (vec![0.0; 15], vec![0.0; 15]);
            cross_entropy(&pool, loss, &logits, &mut p);
            cross_entropy_grad(&pool, loss, &p, &mut dlogits);
            for i in 0..15 {
                let at = |step: f32| {
                    let mut logits = logits.clone();
                    logits[i] += step;
                    (cross_entropy(&pool, loss, &logits, &mut [0.0; 15]), f64::from(logits[i]))
                };
                let ((up, z_up), (down, z_down)) = (at(1e-3), at(-1e-3));
                // Third order of the difference, and f32 probabilities.
                assert!(((up - down) / (z_up - z_down) - f64::from(dlogits[i])).abs() < 2e-6);
            }
        }
    }

    #[test]
    fn known_losses_come_out() {
        let pool = ThreadPool::new(1);
        let spec = CrossEntropy { label_smoothing: 0.0, divisor: 2 };
        let (targets, weights) = (Targets::Classes(&[0, 1]), Weights::default());
        let loss = Loss { spec, classes: 2, targets, weights };
        let mut p = [0.0; 4];
        let even = cross_entropy(&pool, loss, &[0.0; 4], &mut p);
        assert!((even - 2.0_f64.ln()).abs() < 1e-12 && p == [0.5; 4]);
        // Neither large logits nor a class that is out of the question overflow.
        let far = cross_entropy(&pool, loss, &[3e38, -3e38, -3e38, 3e38], &mut p);
        assert!(far == 0.0 && p == [1.0, 0.0, 0.0, 1.0]);
        let nan = cross_entropy(&pool, loss, &[f32::NAN, 0.0, 0.0, 0.0], &mut p);
        assert!(nan.is_nan() && p[0].is_nan());
    }

    #[test]
    fn every_number_of_threads_gives_the_same_bits() {
        let logits = random(1, 15);
        let loss = cases(&[1, 4, 0], &[], &[1.0; 8])[0];
        let mut first: Option<(f64, Vec<f32>)> = None;
        for_machines(|_, pool| {
            let mut p = vec![0.0; 15];
            let value = cross_entropy(pool, loss, &logits, &mut p);
            let (expected, probabilities) = first.get_or_insert_with(|| (value, p.clone()));
            assert_eq!(value.to_bits(), expected.to_bits());
            assert_same(&p, probabilities);
        });
    }
}
