//! Operations that make each element from one element of each input, and the random masks.

use super::{Real, View};
use crate::rng::{Purpose, Stream, drop_threshold};

/// Pixels to real numbers: `(x/255 - mean[c]) / std[c]`.
pub(super) fn normalize<R: Real>(mean: &[f64], std: &[f64], x: &[u8]) -> Vec<R> {
    let channel = mean.iter().zip(std).cycle();
    x.iter()
        .zip(channel)
        .map(|(&x, (mean, std))| R::from_f64((f64::from(x) / 255.0 - mean) / std))
        .collect()
}

/// `f` of each element.
pub(super) fn map<R: Real>(x: View<'_, R>, f: impl Fn(f64) -> f64) -> Vec<R> {
    x.values.iter().map(|x| R::from_f64(f(x.to_f64()))).collect()
}

/// `f` of each pair of elements.
pub(super) fn zip<R: Real>(a: View<'_, R>, b: View<'_, R>, f: impl Fn(f64, f64) -> f64) -> Vec<R> {
    let pairs = a.values.iter().zip(b.values);
    pairs.map(|(a, b)| R::from_f64(f(a.to_f64(), b.to_f64()))).collect()
}

/// `max(x, 0)`; NaN stays NaN, -0.0 stays -0.0.
pub(super) fn relu(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// `1 / (1 + exp(-x))`, by `libm`, so that it is the same everywhere.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

/// `x * s`, `s` one a sample and channel.
pub(super) fn channel_scale<R: Real>(x: View<'_, R>, s: View<'_, R>) -> Vec<R> {
    let [_, h, w, c] = x.dims();
    let value = |(i, x): (usize, &R)| {
        let s = s.values[i / (h * w * c) * c + i % c];
        R::from_f64(x.to_f64() * s.to_f64())
    };
    x.values.iter().enumerate().map(value).collect()
}

/// `ds[n,c] = sum of dy * x` over the picture.
pub(super) fn channel_scale_grad<R: Real>(dy: View<'_, R>, x: View<'_, R>) -> Vec<R> {
    let [n, h, w, c] = x.dims();
    let mut ds = vec![0.0; n * c];
    for (i, (dy, x)) in dy.values.iter().zip(x.values).enumerate() {
        ds[i / (h * w * c) * c + i % c] += dy.to_f64() * x.to_f64();
    }
    ds.into_iter().map(R::from_f64).collect()
}

/// `y = x * mask`, where `mask` has a value for each run of `x.len() / mask.len()` elements:
/// elements themselves in dropout, samples in stochastic depth.
pub(super) fn scale_runs<R: Real>(x: View<'_, R>, mask: &[R]) -> Vec<R> {
    let run = (x.values.len() / mask.len()).max(1);
    let value = |(i, x): (usize, &R)| R::from_f64(x.to_f64() * mask[i / run].to_f64());
    x.values.iter().enumerate().map(value).collect()
}

/// Where the random masks of a run come from.
#[derive(Clone, Copy)]
pub(super) struct Random<'a> {
    /// Low and high word.
    pub(super) seed: &'a [u32],
    /// The step's number.
    pub(super) step: &'a [u32],
}

/// A mask of 0 and `1 / (1 - p)`, see [`drop_threshold`].
pub(super) fn mask<R: Real>(
    purpose: Purpose,
    p: f64,
    stream: u32,
    random: Random<'_>,
    len: usize,
) -> Vec<R> {
    let seed = u64::from(random.seed[0]) | u64::from(random.seed[1]) << 32;
    let mut words = Stream::new(seed, purpose, random.step[0], u64::from(stream));
    let (threshold, scale) = (drop_threshold(p), 1.0 / (1.0 - p));
    (0..len).map(|_| R::from_f64(if words.next_u32() < threshold { 0.0 } else { scale })).collect()
}
