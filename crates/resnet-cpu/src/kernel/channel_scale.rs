//! Excitation: `y[n,h,w,c] = x[n,h,w,c] * s[n,c]`, its gradients, and the same with one factor a
//! picture (stochastic depth).

use resnet_simd::{Element, Isa, Simd};

use super::lane::{At, Source};
use super::map::{Map, map_pictures};
use super::sums::{Terms, sum_pictures};
use crate::threads::ThreadPool;

struct Scale<'a, E> {
    x: Source<'a, E>,
    /// Factors of one picture, `[c]`.
    by: &'a [f32],
}

impl<E: Element> Map for Scale<'_, E> {
    fn scalar(&self, old: f32, i: usize, j: usize) -> f32 {
        self.x.scalar(old, i) * self.by[j]
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        s.mul(self.x.lanes(s, old, at), at.channels(s, self.by))
    }
}

/// `y = x * by[n,c]`; also the gradient by `x`, from `dy`. Pictures are `[pixels, channels]`.
///
/// # Panics
/// If the lengths do not fit.
pub fn channel_scale<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    (pixels, channels): (usize, usize),
    x: Source<'_, E>,
    by: &[f32],
    y: &mut [E],
) {
    x.assert_len(y.len());
    assert_eq!(y.len(), by.len() * pixels);
    map_pictures(isa, pool, (pixels, channels), y, |picture| Scale {
        x,
        by: &by[picture * channels..][..channels],
    });
}

struct Product<'a, E> {
    x: &'a [E],
    dy: &'a [E],
}

impl<E: Element> Terms<1> for Product<'_, E> {
    fn scalar(&self, i: usize, _j: usize) -> [f32; 1] {
        [self.dy[i].to_f32() * self.x[i].to_f32()]
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, at: At) -> [S::F32; 1] {
        [s.mul(at.load(s, self.dy), at.load(s, self.x))]
    }
}

/// The gradient by the factors: `ds[n,c] = sum over the picture of dy * x`.
///
/// # Panics
/// If the lengths do not fit.
pub fn channel_scale_grad<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    (pixels, channels): (usize, usize),
    (x, dy): (&[E], &[E]),
    ds: &mut [f32],
) {
    assert_eq!((x.len(), dy.len()), (ds.len() * pixels, ds.len() * pixels));
    sum_pictures(isa, pool, (pixels, channels), ds, 1.0, Product { x, dy });
}

struct ScalePicture<'a, E> {
    x: Source<'a, E>,
    by: f32,
}

impl<E: Element> Map for ScalePicture<'_, E> {
    fn scalar(&self, old: f32, i: usize, _j: usize) -> f32 {
        self.x.scalar(old, i) * self.by
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        s.mul(self.x.lanes(s, old, at), s.splat(self.by))
    }
}

/// `y = x * by[n]`, one factor a picture: stochastic depth and its gradient.
///
/// # Panics
/// If `y` does not consist of `by.len()` equal pictures, or `x` has another length.
pub fn picture_scale<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    x: Source<'_, E>,
    by: &[f32],
    y: &mut [E],
) {
    x.assert_len(y.len());
    if y.is_empty() {
        return;
    }
    assert!(y.len().is_multiple_of(by.len()), "{} equal pictures", by.len());
    let len = y.len() / by.len();
    map_pictures(isa, pool, (len, 1), y, |picture| ScalePicture { x, by: by[picture] });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{assert_same, check_map, for_machines, guarded, random, shapes};

    #[test]
    fn scaling_equals_its_twin_from_elsewhere_and_in_place() {
        for [n, pixels, c] in shapes() {
            let (x, by) = (random(1, n * pixels * c), random(2, n * c));
            for (source, start) in
                [(Source::From(&x), vec![0.0; x.len()]), (Source::InPlace, x.clone())]
            {
                check_map(
                    c,
                    &start,
                    |_, i, j| x[i] * by[i / (pixels * c) * c + j],
                    |isa, pool, y| channel_scale(isa, pool, (pixels, c), source, &by, y),
                );
            }
            check_map(
                c,
                &x,
                |old, i, _| old * by[i / (pixels * c)],
                |isa, pool, y| picture_scale(isa, pool, Source::InPlace, &by[..n], y),
            );
        }
    }

    #[test]
    fn the_factors_gradient_is_that_of_f64_and_the_same_bits_everywhere() {
        for [n, pixels, c] in shapes() {
            let (x, dy) = (random(1, n * pixels * c), random(2, n * pixels * c));
            let sum = |k: usize| -> (f64, f64) {
                let at = |p: usize| (k / c * pixels + p) * c + k % c;
                let terms = (0..pixels).map(|p| f64::from(x[at(p)]) * f64::from(dy[at(p)]));
                terms.fold((0.0, 0.0), |(sum, size), t| (sum + t, size + t.abs()))
            };
            let mut first: Option<Vec<f32>> = None;
            for_machines(|isa, pool| {
                let ds = guarded(&vec![0.0; n * c], 3.0, |ds| {
                    channel_scale_grad(isa, pool, (pixels, c), (&x, &dy), ds);
                });
                for (k, &ds) in ds.iter().enumerate() {
                    let (sum, size) = sum(k);
                    // (4 + sqrt(64)) half-ulps of the sum of sizes.
                    assert!((f64::from(ds) - sum).abs() <= 12.0 * 6e-8 * size);
                }
                assert_same(&ds, first.get_or_insert_with(|| ds.clone()));
            });
        }
    }
}
