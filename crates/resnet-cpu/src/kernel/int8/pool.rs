//! Pools and shortcut A on bytes. Loops over contiguous channels, which the compiler turns into vectors.

use resnet_core::int8::requantize;
use resnet_core::op::SubsamplePad;
use resnet_simd::{Isa, Kernel, Simd};

use crate::kernel::subsample::{Size, output_size};
use crate::kernel::window::Windows;
use crate::threads::ThreadPool;

/// Channels whose sums are kept at a time.
const SUMS: usize = 256;

/// The largest byte of each window.
///
/// # Panics
/// If the lengths do not fit.
pub fn max_pool(isa: Isa, pool: &ThreadPool, windows: Windows, x: &[u8], y: &mut [u8]) {
    let Windows { ih, iw, c, oh, ow, .. } = windows;
    assert_eq!((x.len(), y.len()), (windows.input_len(), windows.output_len()));
    pool.run_parts(y, ow * c, |row, y| {
        let (n, oy) = (row / oh, row % oh);
        let picture = &x[n * ih * iw * c..][..ih * iw * c];
        isa.run(MaxRow { windows, oy, picture, y });
    });
}

struct MaxRow<'a> {
    windows: Windows,
    oy: usize,
    picture: &'a [u8],
    y: &'a mut [u8],
}

impl Kernel for MaxRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Windows { ih, iw, c, .. } = self.windows;
        for (ox, y) in self.y.chunks_exact_mut(c).enumerate() {
            let columns = self.windows.covered(ox, iw);
            y.fill(0);
            for iy in self.windows.covered(self.oy, ih) {
                for ix in columns.clone() {
                    let x = &self.picture[(iy * iw + ix) * c..][..c];
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x.max(*y);
                    }
                }
            }
        }
    }
}

/// `requantize(Σ x + offset, multiplier)` of each picture's channels; `size`: pixels and channels.
///
/// # Panics
/// If the lengths do not fit.
pub fn global_average_pool(
    isa: Isa,
    pool: &ThreadPool,
    (pixels, c): (usize, usize),
    (offset, multiplier): (i32, f32),
    x: &[u8],
    y: &mut [u8],
) {
    assert_eq!(x.len(), y.len() * pixels);
    pool.run_parts(y, c, |n, y| {
        let x = &x[n * pixels * c..][..pixels * c];
        isa.run(Average { offset, multiplier, x, y });
    });
}

struct Average<'a> {
    offset: i32,
    multiplier: f32,
    x: &'a [u8],
    y: &'a mut [u8],
}

impl Kernel for Average<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let c = self.y.len();
        for (part, y) in self.y.chunks_mut(SUMS).enumerate() {
            let mut sums = [self.offset; SUMS];
            let sums = &mut sums[..y.len()];
            for x in self.x.chunks_exact(c) {
                for (sum, &x) in sums.iter_mut().zip(&x[part * SUMS..]) {
                    *sum += i32::from(x);
                }
            }
            for (y, &sum) in y.iter_mut().zip(&*sums) {
                *y = requantize(sum, self.multiplier, None);
            }
        }
    }
}

/// `y[n, oy, ox, before + c] = x[n, oy * stride, ox * stride, c]`, other channels `zero`.
///
/// # Panics
/// If the lengths do not fit.
pub fn subsample_pad(
    pool: &ThreadPool,
    shortcut: SubsamplePad,
    zero: u8,
    size: Size,
    x: &[u8],
    y: &mut [u8],
) {
    let ([h, w, c], [oh, ow, oc]) = (size, output_size(shortcut, size));
    assert_eq!(x.len() / (h * w * c).max(1) * oh * ow * oc, y.len());
    pool.run_parts(y, ow * oc, |row, y| {
        let (n, oy) = (row / oh, row % oh);
        let x = &x[(n * h + oy * shortcut.stride) * w * c..][..w * c];
        y.fill(zero);
        for (pixel, y) in y.chunks_exact_mut(oc).enumerate() {
            y[shortcut.before..][..c].copy_from_slice(&x[pixel * shortcut.stride * c..][..c]);
        }
    });
}
