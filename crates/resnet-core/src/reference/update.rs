//! Gradient clipping and stochastic gradient descent in PyTorch's semantics.

use super::{Real, View};
use crate::op::Sgd;

/// `factor = min(1, max_norm / (norm + 1e-6))` and `norm`, over all gradients together.
///
/// As PyTorch's `clip_grad_norm_`; a NaN norm makes a NaN factor.
pub(super) fn clip_factor<R: Real>(max_norm: f64, gradients: &[View<'_, R>]) -> [R; 2] {
    let squares = |g: &View<'_, R>| g.values.iter().map(|v| v.to_f64() * v.to_f64()).sum::<f64>();
    let norm = gradients.iter().map(squares).sum::<f64>().sqrt();
    let factor = max_norm / (norm + 1e-6);
    // `f64::min` would hide a NaN.
    let factor = if factor > 1.0 { 1.0 } else { factor };
    [factor, norm].map(R::from_f64)
}

/// One step: the new parameter and velocity.
///
/// `g = dw * factor + weight_decay * w; v = momentum * v + g; w -= lr * rate * (g + momentum * v`
/// with Nesterov, else `v)`: PyTorch's `SGD` without dampening.
pub(super) fn sgd<R: Real>(
    sgd: &Sgd,
    [w, dw, velocity]: [View<'_, R>; 3],
    [lr, momentum]: [f64; 2],
    factor: f64,
) -> [Vec<R>; 2] {
    let mut new = [Vec::with_capacity(w.values.len()), Vec::with_capacity(w.values.len())];
    for ((w, dw), v) in w.values.iter().zip(dw.values).zip(velocity.values) {
        let g = dw.to_f64() * factor + sgd.weight_decay * w.to_f64();
        let v = momentum * v.to_f64() + g;
        let step = if sgd.nesterov { g + momentum * v } else { v };
        new[0].push(R::from_f64(w.to_f64() - lr * sgd.rate * step));
        new[1].push(R::from_f64(v));
    }
    new
}
