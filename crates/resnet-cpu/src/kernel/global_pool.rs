//! Global average pool: `y[n,c] = mean over h, w of x[n,h,w,c]`, and its gradient.

use resnet_simd::{Element, Isa, Simd};

use super::lane::At;
use super::map::{Map, map_pictures};
use super::sums::{Terms, sum_pictures};
use crate::threads::ThreadPool;

struct Values<'a, E>(&'a [E]);

impl<E: Element> Terms<1> for Values<'_, E> {
    fn scalar(&self, i: usize, _j: usize) -> [f32; 1] {
        [self.0[i].to_f32()]
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, at: At) -> [S::F32; 1] {
        [at.load(s, self.0)]
    }
}

/// `y[n,c]` is the mean of picture `n`; `x` is `[n, pixels, channels]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn global_average_pool<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    (pixels, channels): (usize, usize),
    x: &[E],
    y: &mut [f32],
) {
    assert_eq!(x.len(), y.len() * pixels);
    sum_pictures(isa, pool, (pixels, channels), y, 1.0 / pixels as f64, Values(x));
}

struct Spread<'a> {
    /// Gradient by the means of one picture, `[c]`.
    dy: &'a [f32],
    factor: f32,
}

impl Map for Spread<'_> {
    fn scalar(&self, _old: f32, _i: usize, j: usize) -> f32 {
        self.dy[j] * self.factor
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, _old: S::F32, at: At) -> S::F32 {
        s.mul(at.channels(s, self.dy), s.splat(self.factor))
    }
}

/// `dx[n,h,w,c] = dy[n,c] / pixels`.
///
/// # Panics
/// If the lengths do not fit.
pub fn global_average_pool_grad<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    (pixels, channels): (usize, usize),
    dy: &[f32],
    dx: &mut [E],
) {
    assert_eq!(dx.len(), dy.len() * pixels);
    let factor = (1.0 / pixels as f64) as f32;
    map_pictures(isa, pool, (pixels, channels), dx, |picture| Spread {
        dy: &dy[picture * channels..][..channels],
        factor,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{assert_same, check_map, for_machines, guarded, random, shapes};

    #[test]
    fn means_are_those_of_f64_and_the_same_bits_everywhere() {
        for [n, pixels, c] in shapes() {
            let x = random(1, n * pixels * c);
            let mean = |k: usize| {
                let (n, c_idx) = (k / c, k % c);
                let sum: f64 =
                    (0..pixels).map(|p| f64::from(x[(n * pixels + p) * c + c_idx])).sum();
                sum / pixels as f64
            };
            let mut first: Option<Vec<f32>> = None;
            for_machines(|isa, pool| {
                let y = guarded(&vec![0.0; n * c], 3.0, |y| {
                    global_average_pool(isa, pool, (pixels, c), &x, y);
                });
                // Sums of 64 values near 1 in f32, divided by their number.
                assert!(y.iter().enumerate().all(|(k, &y)| (f64::from(y) - mean(k)).abs() < 1e-6));
                assert_same(&y, first.get_or_insert_with(|| y.clone()));
            });
        }
    }

    #[test]
    fn the_gradient_spreads_evenly() {
        for [n, pixels, c] in shapes() {
            let dy = random(1, n * c);
            let factor = (1.0 / pixels as f64) as f32;
            check_map(
                c,
                &vec![1.0; n * pixels * c],
                |_, i, j| dy[i / (pixels * c) * c + j] * factor,
                |isa, pool, dx| global_average_pool_grad(isa, pool, (pixels, c), &dy, dx),
            );
        }
    }
}
