//! Batch norm's statistics: partial sums over rows, and what follows from them.

use resnet_simd::{Element, Isa, Simd};

use crate::kernel::Source;
use crate::kernel::lane::At;
use crate::kernel::sums::{Rows, Terms, combine, sum_rows};
use crate::threads::ThreadPool;

/// The terms `z - pivot` and its square.
struct Moments<'a, E> {
    z: &'a [E],
    pivot: &'a [f32],
}

impl<E: Element> Terms<2> for Moments<'_, E> {
    fn scalar(&self, i: usize, j: usize) -> [f32; 2] {
        let d = self.z[i].to_f32() - self.pivot[j];
        [d, d * d]
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, at: At) -> [S::F32; 2] {
        let d = s.sub(at.load(s, self.z), at.channels(s, self.pivot));
        [d, s.mul(d, d)]
    }
}

/// Sums of `z - pivot[c]` and of its square over chunks of rows: `partials` is
/// `[chunks][2][channels]`, as a convolution's epilogue leaves it.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn statistics<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    rows: Rows,
    z: &[E],
    pivot: &[f32],
    partials: &mut [f32],
) {
    assert_eq!((z.len(), pivot.len()), (rows.len(), rows.channels));
    sum_rows(isa, pool, rows, partials, Moments { z, pivot });
}

/// The parameters of a batch norm; slices are `[c]`.
#[derive(Clone, Copy, Debug)]
pub struct Parameters<'a> {
    /// Factor of each channel.
    pub gamma: &'a [f32],
    /// Offset of each channel.
    pub beta: &'a [f32],
    /// Added to the variance.
    pub eps: f64,
}

/// What a batch norm's forward pass leaves for its use and its gradient; slices are `[c]`.
#[derive(Debug)]
pub struct BatchStats<'a> {
    /// The batch's mean.
    pub mean: &'a mut [f32],
    /// `1 / sqrt(var + eps)`.
    pub rstd: &'a mut [f32],
    /// `gamma * rstd`.
    pub scale: &'a mut [f32],
    /// `beta - mean * scale`.
    pub shift: &'a mut [f32],
}

/// The running statistics; slices are `[c]`.
#[derive(Debug)]
pub struct Running<'a> {
    /// Running mean.
    pub mean: &'a mut [f32],
    /// Running unbiased variance.
    pub var: &'a mut [f32],
    /// Weight of the new batch, 0.1 in PyTorch.
    pub bn_momentum: f64,
}

/// From the partial sums to mean, `rstd`, scale and shift, and the update of the running statistics,
/// which take the unbiased variance `var * m / (m - 1)`.
///
/// `m` values a channel were summed, in whatever chunks. `pivot` is what [`statistics`] or the convolution subtracted; [`Source::InPlace`] stands for the
/// running mean as it is before its update.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn finish(
    m: usize,
    partials: &[f32],
    pivot: Source<'_>,
    parameters: Parameters<'_>,
    stats: BatchStats<'_>,
    running: Running<'_>,
) {
    let Parameters { gamma, beta, eps } = parameters;
    let m = m as f64;
    // A batch of one value has no unbiased variance; PyTorch refuses it, and so does the graph.
    let unbiased = m / (m - 1.0).max(1.0);
    let keep = 1.0 - running.bn_momentum;
    combine(gamma.len(), partials, (2, [0, 1]), |c, [sum, squares]| {
        let pivot = f64::from(pivot.scalar(running.mean[c], c));
        let offset = sum / m;
        let mean = pivot + offset;
        // Rounding may leave a small negative; NaN stays NaN.
        let var = squares / m - offset * offset;
        let var = if var < 0.0 { 0.0 } else { var };
        let rstd = 1.0 / (var + eps).sqrt();
        let scale = f64::from(gamma[c]) * rstd;
        stats.mean[c] = mean as f32;
        stats.rstd[c] = rstd as f32;
        stats.scale[c] = scale as f32;
        stats.shift[c] = (f64::from(beta[c]) - mean * scale) as f32;
        let blend = |old: f32, new: f64| (keep * f64::from(old) + running.bn_momentum * new) as f32;
        running.mean[c] = blend(running.mean[c], mean);
        running.var[c] = blend(running.var[c], var * unbiased);
    });
}

/// Scale and shift of a batch norm in evaluation: `mean` and `var` are the running statistics.
///
/// # Panics
/// If a slice is shorter than `scale`.
pub fn affine_of_running(
    parameters: Parameters<'_>,
    (mean, var): (&[f32], &[f32]),
    scale: &mut [f32],
    shift: &mut [f32],
) {
    for c in 0..scale.len() {
        let rstd = 1.0 / (f64::from(var[c]) + parameters.eps).sqrt();
        let factor = f64::from(parameters.gamma[c]) * rstd;
        scale[c] = factor as f32;
        shift[c] = (f64::from(parameters.beta[c]) - f64::from(mean[c]) * factor) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{expected_sums, for_machines, odd_rows, random};

    /// Twin and vectors add a channel's rows in the same order without fusing.
    #[test]
    fn partial_sums_equal_the_twin_for_every_width_and_number_of_threads() {
        for rows in odd_rows() {
            let (z, pivot) = (random(1, rows.len()), random(2, rows.channels));
            let twin = Moments { z: &z, pivot: &pivot };
            let expected = expected_sums(rows, |i, j| twin.scalar(i, j));
            for_machines(|isa, pool| {
                let mut partials = vec![f32::NAN; rows.partials_len(2)];
                statistics(isa, pool, rows, &z, &pivot, &mut partials);
                assert_eq!(partials, expected, "{rows:?}");
            });
        }
    }

    #[test]
    fn mean_and_variances_are_those_of_the_values() {
        let rows = Rows { rows: 500, channels: 19, chunk_rows: 42 };
        let z: Vec<f32> = random(3, rows.len()).iter().map(|x| x * 2.0 + 5.0).collect();
        let (gamma, beta) = (random(4, 19), random(5, 19));
        let mut running_mean = vec![4.5; 19];
        let mut running_var = vec![1.0; 19];
        let mut partials = vec![0.0; rows.partials_len(2)];
        for_machines(|isa, pool| {
            statistics(isa, pool, rows, &z, &running_mean, &mut partials);
        });
        let [mut mean, mut rstd, mut scale, mut shift] = std::array::from_fn(|_| vec![0.0; 19]);
        finish(
            rows.rows,
            &partials,
            Source::InPlace,
            Parameters { gamma: &gamma, beta: &beta, eps: 1e-5 },
            BatchStats { mean: &mut mean, rstd: &mut rstd, scale: &mut scale, shift: &mut shift },
            Running { mean: &mut running_mean, var: &mut running_var, bn_momentum: 0.1 },
        );
        // f32 sums of 42 squares near 1: some 1e-6.
        const TOLERANCE: f64 = 5e-6;
        let close = |a: f32, b: f64| (f64::from(a) - b).abs() <= TOLERANCE * b.abs().max(1.0);
        for c in 0..19 {
            let values: Vec<f64> = z.iter().skip(c).step_by(19).map(|&x| f64::from(x)).collect();
            let m = values.iter().sum::<f64>() / 500.0;
            let v = values.iter().map(|x| (x - m).powi(2)).sum::<f64>() / 500.0;
            let r = 1.0 / (v + 1e-5).sqrt();
            assert!(close(mean[c], m) && close(rstd[c], r));
            assert!(close(scale[c], f64::from(gamma[c]) * r));
            assert!(close(shift[c], f64::from(beta[c]) - m * f64::from(gamma[c]) * r));
            assert!(close(running_mean[c], 0.9 * 4.5 + 0.1 * m));
            assert!(close(running_var[c], 0.9 + 0.1 * v * 500.0 / 499.0));
        }
        let (mut scale_eval, mut shift_eval) = (vec![0.0; 19], vec![0.0; 19]);
        affine_of_running(
            Parameters { gamma: &gamma, beta: &beta, eps: 1e-5 },
            (&running_mean, &running_var),
            &mut scale_eval,
            &mut shift_eval,
        );
        let r = 1.0 / (f64::from(running_var[7]) + 1e-5).sqrt();
        assert!(close(scale_eval[7], f64::from(gamma[7]) * r));
    }
}
