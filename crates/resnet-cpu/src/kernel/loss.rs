//! Softmax cross-entropy and its gradient.
//!
//! For logits `z`, targets `q` (a class, or a distribution), `k` classes and smoothing `s`:
//!
//! ```text
//! q' = (1 - s) * q + s / k * sum(q)      log p = z - log sum exp z
//! loss = -sum over samples and classes of q' * log p, / divisor
//! dz = (p * sum(q') - q') / divisor
//! ```
//!
//! PyTorch's `CrossEntropyLoss`. A sample has some thousand logits at most, so all is f64 and
//! serial; the sum over samples is in their order.

use resnet_core::op::CrossEntropy;

/// What the logits are compared with.
#[derive(Clone, Copy, Debug)]
pub enum Targets<'a> {
    /// A class number a sample. Numbers beyond the classes count as no class at all.
    Classes(&'a [u32]),
    /// A weight for each class and sample, `[n][k]`.
    Dense(&'a [f32]),
}

impl Targets<'_> {
    /// The smoothed target of class `class` for sample `row`, and the sum of the row's.
    fn smoothed(&self, loss: &CrossEntropy, (row, classes): (usize, usize)) -> (f64, f64) {
        let total = match self {
            Targets::Classes(labels) => f64::from(u8::from((labels[row] as usize) < classes)),
            Targets::Dense(q) => q[row * classes..][..classes].iter().map(|&q| f64::from(q)).sum(),
        };
        (loss.label_smoothing / classes as f64 * total, total)
    }

    fn at(&self, row: usize, class: usize, classes: usize) -> f64 {
        match self {
            Targets::Classes(labels) => f64::from(u8::from(labels[row] as usize == class)),
            Targets::Dense(q) => f64::from(q[row * classes + class]),
        }
    }
}

/// The mean loss; `probabilities` gets `p`, `[n][k]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn cross_entropy(
    loss: &CrossEntropy,
    classes: usize,
    logits: &[f32],
    targets: Targets<'_>,
    probabilities: &mut [f32],
) -> f32 {
    assert_eq!(logits.len(), probabilities.len());
    let rows = logits.chunks_exact(classes).zip(probabilities.chunks_exact_mut(classes));
    let mut total = 0.0;
    for (row, (z, p)) in rows.enumerate() {
        let largest = z.iter().fold(f64::NEG_INFINITY, |a, &z| a.max(f64::from(z)));
        let sum: f64 = z.iter().map(|&z| libm::exp(f64::from(z) - largest)).sum();
        let log_sum = largest + libm::log(sum);
        let (uniform, _) = targets.smoothed(loss, (row, classes));
        for (class, (p, &z)) in p.iter_mut().zip(z).enumerate() {
            let log_p = f64::from(z) - log_sum;
            *p = libm::exp(log_p) as f32;
            let q = (1.0 - loss.label_smoothing) * targets.at(row, class, classes) + uniform;
            if q != 0.0 {
                total -= q * log_p;
            }
        }
    }
    (total / loss.divisor as f64) as f32
}

/// The gradient by the logits from the probabilities.
///
/// # Panics
/// If the lengths do not fit.
pub fn cross_entropy_grad(
    loss: &CrossEntropy,
    classes: usize,
    probabilities: &[f32],
    targets: Targets<'_>,
    dlogits: &mut [f32],
) {
    assert_eq!(probabilities.len(), dlogits.len());
    let rows = probabilities.chunks_exact(classes).zip(dlogits.chunks_exact_mut(classes));
    for (row, (p, d)) in rows.enumerate() {
        let (uniform, total) = targets.smoothed(loss, (row, classes));
        for (class, (d, &p)) in d.iter_mut().zip(p).enumerate() {
            let q = (1.0 - loss.label_smoothing) * targets.at(row, class, classes) + uniform;
            *d = ((f64::from(p) * total - q) / loss.divisor as f64) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: CrossEntropy = CrossEntropy { label_smoothing: 0.0, divisor: 2 };

    #[test]
    fn equal_logits_cost_the_logarithm_of_the_classes() {
        let mut p = [0.0; 8];
        let loss = cross_entropy(&PLAIN, 4, &[3.0; 8], Targets::Classes(&[0, 3]), &mut p);
        assert!((loss - 4.0_f32.ln()).abs() < 1e-6 && p.iter().all(|&p| p == 0.25));
    }

    #[test]
    fn the_gradient_is_the_slope() {
        let spec = CrossEntropy { label_smoothing: 0.1, divisor: 2 };
        let z = [0.5_f32, -1.0, 2.0, 0.0, 1.5, -0.25];
        for targets in [Targets::Classes(&[2, 0]), Targets::Dense(&[0.2, 0.3, 0.5, 0.0, 0.6, 0.4])]
        {
            let (mut p, mut d) = ([0.0; 6], [0.0; 6]);
            cross_entropy(&spec, 3, &z, targets, &mut p);
            cross_entropy_grad(&spec, 3, &p, targets, &mut d);
            for i in 0..6 {
                let at = |delta: f32| {
                    let mut z = z;
                    z[i] += delta;
                    cross_entropy(&spec, 3, &z, targets, &mut [0.0; 6])
                };
                // Differences of f32 losses over 2^-6: some 1e-5 each.
                let slope = (at(1.0 / 128.0) - at(-1.0 / 128.0)) * 64.0;
                assert!((slope - d[i]).abs() < 1e-4, "{slope} is not {}", d[i]);
            }
        }
    }

    #[test]
    fn huge_logits_stay_finite() {
        let mut p = [0.0; 4];
        let loss = cross_entropy(
            &PLAIN,
            2,
            &[3e38, -3e38, 90.0, 100.0],
            Targets::Classes(&[0, 1]),
            &mut p,
        );
        assert!(loss.is_finite() && p[0] == 1.0);
    }
}
