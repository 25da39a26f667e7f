//! Batch norm in its three roles and its gradients: PyTorch's `BatchNorm2d` to the letter.
//!
//! `y = gamma * (x - mean) * rstd + beta` a channel, `rstd = 1 / sqrt(var + eps)`.
//! Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1 and section 3.

use super::{Real, View};

/// Per-channel values in f64.
fn widen<R: Real>(v: View<'_, R>) -> Vec<f64> {
    v.values.iter().map(|v| v.to_f64()).collect()
}

fn narrow<R: Real>(v: &[f64]) -> Vec<R> {
    v.iter().map(|&v| R::from_f64(v)).collect()
}

/// Sums `f(channel, pixel's value)` over all pixels, for each channel.
fn sum_pixels<R: Real>(x: View<'_, R>, f: impl Fn(usize, f64) -> f64) -> Vec<f64> {
    let mut sums = vec![0.0; x.channels()];
    for pixel in x.values.chunks_exact(x.channels()) {
        for (c, (sum, v)) in sums.iter_mut().zip(pixel).enumerate() {
            *sum += f(c, v.to_f64());
        }
    }
    sums
}

/// `y = gamma * (x - mean) * rstd + beta`.
fn normalize<R: Real>(x: View<'_, R>, [gamma, beta, mean, rstd]: [&[f64]; 4]) -> Vec<R> {
    let channels = x.channels();
    let value = |(i, x): (usize, &R)| {
        let c = i % channels;
        R::from_f64(gamma[c] * ((x.to_f64() - mean[c]) * rstd[c]) + beta[c])
    };
    x.values.iter().enumerate().map(value).collect()
}

/// Training: `y, mean, rstd, new_mean, new_var`.
///
/// Normalises by the mean and the *biased* variance of the batch. The running statistics become
/// `(1 - momentum) * running + momentum * batch`, the variance with the *unbiased*
/// `var * m / (m - 1)`, `m = n*h*w`. With one value a channel, which PyTorch refuses, the unbiased
/// variance is taken to be the biased one: zero.
pub(super) fn batch_norm<R: Real>(
    [eps, momentum]: [f64; 2],
    x: View<'_, R>,
    [gamma, beta, running_mean, running_var]: [View<'_, R>; 4],
) -> [Vec<R>; 5] {
    let m = x.values.len() / x.channels();
    let mean: Vec<f64> = sum_pixels(x, |_, v| v).iter().map(|s| s / m as f64).collect();
    let squares = sum_pixels(x, |c, v| (v - mean[c]) * (v - mean[c]));
    let var = |divisor: usize| squares.iter().map(move |s| s / divisor as f64);
    let rstd: Vec<f64> = var(m).map(|v| 1.0 / (v + eps).sqrt()).collect();
    let blend = |running: View<'_, R>, batch: &mut dyn Iterator<Item = f64>| -> Vec<R> {
        let running = running.values.iter().map(|v| v.to_f64());
        let new = running.zip(batch).map(|(old, new)| (1.0 - momentum) * old + momentum * new);
        new.map(R::from_f64).collect()
    };
    let new_mean = blend(running_mean, &mut mean.iter().copied());
    let new_var = blend(running_var, &mut var((m - 1).max(1)));
    let y = normalize(x, [&widen(gamma), &widen(beta), &mean, &rstd]);
    [y, narrow(&mean), narrow(&rstd), new_mean, new_var]
}

/// Evaluation: the running statistics normalise.
pub(super) fn batch_norm_inference<R: Real>(
    eps: f64,
    x: View<'_, R>,
    [gamma, beta, mean, var]: [View<'_, R>; 4],
) -> Vec<R> {
    let rstd: Vec<f64> = var.values.iter().map(|v| 1.0 / (v.to_f64() + eps).sqrt()).collect();
    normalize(x, [&widen(gamma), &widen(beta), &widen(mean), &rstd])
}

/// `dgamma = sum(dy * xhat)` and `dbeta = sum(dy)`, `xhat = (x - mean) * rstd`.
fn parameter_grads<R: Real>(
    dy: View<'_, R>,
    x: View<'_, R>,
    mean: &[f64],
    rstd: &[f64],
) -> [Vec<f64>; 2] {
    let channels = x.channels();
    let (mut dgamma, mut dbeta) = (vec![0.0; channels], vec![0.0; channels]);
    for (i, (dy, x)) in dy.values.iter().zip(x.values).enumerate() {
        let c = i % channels;
        dgamma[c] += dy.to_f64() * ((x.to_f64() - mean[c]) * rstd[c]);
        dbeta[c] += dy.to_f64();
    }
    [dgamma, dbeta]
}

/// `dx, dgamma, dbeta` of [`batch_norm`]:
/// `dx = gamma * rstd * (dy - mean(dy) - xhat * mean(dy * xhat))`.
pub(super) fn batch_norm_grad<R: Real>(
    dy: View<'_, R>,
    x: View<'_, R>,
    [gamma, mean, rstd]: [View<'_, R>; 3],
) -> [Vec<R>; 3] {
    let channels = x.channels();
    let m = (x.values.len() / channels) as f64;
    let (gamma, mean, rstd) = (widen(gamma), widen(mean), widen(rstd));
    let [dgamma, dbeta] = parameter_grads(dy, x, &mean, &rstd);
    let value = |(i, (dy, x)): (usize, (&R, &R))| {
        let c = i % channels;
        let xhat = (x.to_f64() - mean[c]) * rstd[c];
        let centred = dy.to_f64() - dbeta[c] / m - xhat * (dgamma[c] / m);
        R::from_f64(gamma[c] * rstd[c] * centred)
    };
    let dx = dy.values.iter().zip(x.values).enumerate().map(value).collect();
    [dx, narrow(&dgamma), narrow(&dbeta)]
}

/// `dx, dgamma, dbeta` of [`batch_norm_inference`]: `dx = gamma * rstd * dy`.
pub(super) fn batch_norm_inference_grad<R: Real>(
    eps: f64,
    dy: View<'_, R>,
    x: View<'_, R>,
    [gamma, mean, var]: [View<'_, R>; 3],
) -> [Vec<R>; 3] {
    let rstd: Vec<f64> = var.values.iter().map(|v| 1.0 / (v.to_f64() + eps).sqrt()).collect();
    let gamma = widen(gamma);
    let [dgamma, dbeta] = parameter_grads(dy, x, &widen(mean), &rstd);
    let channels = x.channels();
    let value =
        |(i, dy): (usize, &R)| R::from_f64(gamma[i % channels] * rstd[i % channels] * dy.to_f64());
    let dx = dy.values.iter().enumerate().map(value).collect();
    [dx, narrow(&dgamma), narrow(&dbeta)]
}
