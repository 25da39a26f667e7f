//! Shortcut A: every `stride`-th pixel, zero channels before and after; and its gradient.
//! He et al. 2015, arXiv:1512.03385, section 3.3, option A.
//!
//! Rows of pixels are copied as they are: there is no vector version to write.

use resnet_core::op::SubsamplePad;
use resnet_simd::Element;

use crate::threads::ThreadPool;

/// Rows, columns and channels of the forward input.
pub type Size = [usize; 3];

pub(super) fn output_size(shortcut: SubsamplePad, [h, w, c]: Size) -> Size {
    let SubsamplePad { stride, before, after } = shortcut;
    [h.div_ceil(stride), w.div_ceil(stride), before + c + after]
}

/// `y[n, oy, ox, before + c] = x[n, oy * stride, ox * stride, c]`, other channels 0.
///
/// # Panics
/// If the lengths do not fit.
pub fn subsample_pad<E: Element>(
    pool: &ThreadPool,
    shortcut: SubsamplePad,
    size: Size,
    x: &[E],
    y: &mut [E],
) {
    let ([h, w, c], [oh, ow, oc]) = (size, output_size(shortcut, size));
    assert_eq!(x.len() / (h * w * c).max(1) * oh * ow * oc, y.len());
    pool.run_parts(y, ow * oc, |row, y| {
        let (n, oy) = (row / oh, row % oh);
        let x = &x[(n * h + oy * shortcut.stride) * w * c..][..w * c];
        for (pixel, y) in y.chunks_exact_mut(oc).enumerate() {
            y.fill(E::default());
            let x = &x[pixel * shortcut.stride * c..][..c];
            y[shortcut.before..][..c].copy_from_slice(x);
        }
    });
}

/// `dx` is `dy` without the added channels at every `stride`-th pixel, else 0.
///
/// # Panics
/// If the lengths do not fit.
pub fn subsample_pad_grad<E: Element>(
    pool: &ThreadPool,
    shortcut: SubsamplePad,
    size: Size,
    dy: &[E],
    dx: &mut [E],
) {
    let ([h, w, c], [oh, ow, oc]) = (size, output_size(shortcut, size));
    assert_eq!(dx.len() / (h * w * c).max(1) * oh * ow * oc, dy.len());
    pool.run_parts(dx, w * c, |row, dx| {
        dx.fill(E::default());
        let (n, iy) = (row / h, row % h);
        if !iy.is_multiple_of(shortcut.stride) {
            return;
        }
        let dy = &dy[(n * oh + iy / shortcut.stride) * ow * oc..][..ow * oc];
        for (dy, dx) in dy.chunks_exact(oc).zip(dx.chunks_mut(shortcut.stride * c)) {
            dx[..c].copy_from_slice(&dy[shortcut.before..][..c]);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{for_machines, guarded, random};

    #[test]
    fn forward_and_gradient_are_each_others_transpose() {
        for (stride, before, after) in [(2, 8, 8), (1, 0, 3), (3, 1, 0)] {
            let shortcut = SubsamplePad { stride, before, after };
            let size @ [h, w, c] = [5, 7, 6];
            let [oh, ow, oc] = output_size(shortcut, size);
            let (x, dy) = (random(1, 2 * h * w * c), random(2, 2 * oh * ow * oc));
            for_machines(|_, pool| {
                let y = guarded(&vec![9.0; dy.len()], 3.0, |y| {
                    subsample_pad(pool, shortcut, size, &x, y);
                });
                let dx = guarded(&vec![9.0; x.len()], 3.0, |dx| {
                    subsample_pad_grad(pool, shortcut, size, &dy, dx);
                });
                for (i, &y) in y.iter().enumerate() {
                    let (n, oy, ox, k) =
                        (i / (oh * ow * oc), i / (ow * oc) % oh, i / oc % ow, i % oc);
                    let inside = before <= k && k < before + c;
                    let expected = if inside {
                        x[((n * h + oy * stride) * w + ox * stride) * c + k - before]
                    } else {
                        0.0
                    };
                    assert_eq!(y, expected);
                }
                let dot = |a: &[f32], b: &[f32]| -> f64 {
                    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
                };
                assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-9);
            });
        }
    }
}
