//! Losses of class numbers or of a target for each class.
//!
//! In both, `q = (1 - s) * target + s / classes` with label smoothing `s` (Szegedy et al. 2015,
//! arXiv:1512.00567, section 7).
//!
//! Softmax cross-entropy, PyTorch's `CrossEntropyLoss`:
//! `loss = sum over samples of -sum_k q[k] * log p[k] / divisor`, `p = softmax(logits)`.
//!
//! Binary cross-entropy, PyTorch's `BCEWithLogitsLoss` with one `pos_weight` `w` for all classes:
//! `loss = sum over samples and classes of w * q * softplus(-x) + (1 - q) * softplus(x) / (classes *
//! divisor)`, `softplus(x) = log(1 + exp(x))`. What smoothing and threshold make of the targets is
//! timm's `BinaryCrossEntropy` (huggingface/pytorch-image-models, `timm/loss/binary_cross_entropy.py`),
//! with which "ResNet strikes back" trains (Wightman et al. 2021, arXiv:2110.00476).

use super::{Real, Value, View};
use crate::op::{BinaryCrossEntropy, CrossEntropy};

/// The smoothed target distribution of sample `n`.
///
/// # Panics
/// If a class number is not below `classes`: whoever loads the labels checks them.
fn smoothed<R: Real>(smoothing: f64, targets: &Value<R>, n: usize, classes: usize) -> Vec<f64> {
    let mut q = match targets {
        Value::Real(q) => q[n * classes..][..classes].iter().map(|q| q.to_f64()).collect(),
        Value::U32(labels) => {
            let mut q = vec![0.0; classes];
            q[labels[n] as usize] = 1.0;
            q
        }
        Value::U8(_) => unreachable!("shape inference admits class numbers and real targets"),
    };
    for q in &mut q {
        *q = (1.0 - smoothing) * *q + smoothing / classes as f64;
    }
    q
}

/// `loss` and `probabilities`.
pub(super) fn cross_entropy<R: Real>(
    loss: &CrossEntropy,
    logits: View<'_, R>,
    targets: &Value<R>,
) -> (R, Vec<R>) {
    let classes = logits.channels();
    let (mut total, mut probabilities) = (0.0, Vec::with_capacity(logits.values.len()));
    for (n, logits) in logits.values.chunks_exact(classes).enumerate() {
        let logits: Vec<f64> = logits.iter().map(|v| v.to_f64()).collect();
        let largest = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = logits.iter().map(|v| libm::exp(v - largest)).sum();
        let log_sum = largest + libm::log(sum);
        for (q, v) in smoothed(loss.label_smoothing, targets, n, classes).iter().zip(&logits) {
            total -= q * (v - log_sum);
        }
        probabilities.extend(logits.iter().map(|v| R::from_f64(libm::exp(v - log_sum))));
    }
    (R::from_f64(total / loss.divisor as f64), probabilities)
}

/// `dlogits = (p * sum(q) - q) / divisor`.
pub(super) fn cross_entropy_grad<R: Real>(
    loss: &CrossEntropy,
    probabilities: View<'_, R>,
    targets: &Value<R>,
) -> Vec<R> {
    let classes = probabilities.channels();
    let mut dlogits = Vec::with_capacity(probabilities.values.len());
    for (n, p) in probabilities.values.chunks_exact(classes).enumerate() {
        let q = smoothed(loss.label_smoothing, targets, n, classes);
        let total: f64 = q.iter().sum();
        let value = |(p, q): (&R, &f64)| (p.to_f64() * total - q) / loss.divisor as f64;
        dlogits.extend(p.iter().zip(&q).map(|pair| R::from_f64(value(pair))));
    }
    dlogits
}

/// The targets of sample `n` after smoothing and threshold.
fn binary<R: Real>(
    loss: &BinaryCrossEntropy,
    targets: &Value<R>,
    n: usize,
    classes: usize,
) -> Vec<f64> {
    let mut q = smoothed(loss.label_smoothing, targets, n, classes);
    if let Some(threshold) = loss.target_threshold {
        q.iter_mut().for_each(|q| *q = f64::from(u8::from(threshold < *q)));
    }
    q
}

/// `log(1 + exp(x))`, without overflow.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + libm::log1p(libm::exp(-x.abs()))
}

/// `loss`.
pub(super) fn binary_cross_entropy<R: Real>(
    loss: &BinaryCrossEntropy,
    logits: View<'_, R>,
    targets: &Value<R>,
) -> R {
    let classes = logits.channels();
    let mut total = 0.0;
    for (n, logits) in logits.values.chunks_exact(classes).enumerate() {
        for (q, x) in binary(loss, targets, n, classes).iter().zip(logits) {
            let x = x.to_f64();
            total += loss.pos_weight * q * softplus(-x) + (1.0 - q) * softplus(x);
        }
    }
    R::from_f64(total / (classes * loss.divisor) as f64)
}

/// `dlogits = ((1 - q) * sigmoid(x) - w * q * sigmoid(-x)) / (classes * divisor)`.
pub(super) fn binary_cross_entropy_grad<R: Real>(
    loss: &BinaryCrossEntropy,
    logits: View<'_, R>,
    targets: &Value<R>,
) -> Vec<R> {
    let classes = logits.channels();
    let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
    let mut dlogits = Vec::with_capacity(logits.values.len());
    for (n, logits) in logits.values.chunks_exact(classes).enumerate() {
        for (q, x) in binary(loss, targets, n, classes).iter().zip(logits) {
            let x = x.to_f64();
            let d = (1.0 - q) * sigmoid(x) - loss.pos_weight * q * sigmoid(-x);
            dlogits.push(R::from_f64(d / (classes * loss.divisor) as f64));
        }
    }
    dlogits
}
