//! Average pool: the mean over the pixels of a window that lie in the picture; and its gradient.
//!
//! PyTorch's `AvgPool2d` with `count_include_pad=False`: the border is not counted.

use resnet_simd::{Element, Isa, Kernel, Simd};

use super::lane::{load, store};
use super::window::Windows;
use crate::threads::ThreadPool;

/// `y[n,oy,ox,c]` is the mean of the inputs that window `(oy, ox)` covers, added row by row.
///
/// # Panics
/// If the lengths are not those of `windows`.
pub fn average_pool<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    windows: Windows,
    x: &[E],
    y: &mut [E],
) {
    assert_eq!((x.len(), y.len()), (windows.input_len(), windows.output_len()));
    pool.run_parts(y, windows.ow * windows.c, |row, y| {
        let job = Row { windows, tensor: x, row, out: y };
        match isa {
            Isa::Portable => average_row_scalar(job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(Average(job)),
        }
    });
}

/// `dx[n,iy,ix,c]` is the sum of `dy / count` over the windows that cover `(iy, ix)`, row by row.
///
/// # Panics
/// If the lengths are not those of `windows`.
pub fn average_pool_grad<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    windows: Windows,
    dy: &[E],
    dx: &mut [E],
) {
    assert_eq!((dx.len(), dy.len()), (windows.input_len(), windows.output_len()));
    pool.run_parts(dx, windows.iw * windows.c, |row, dx| {
        let job = Row { windows, tensor: dy, row, out: dx };
        match isa {
            Isa::Portable => spread_row_scalar(job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(Spread(job)),
        }
    });
}

/// One row of pixels to be written.
struct Row<'a, E> {
    windows: Windows,
    /// What is read: the whole input, or the whole output's gradient.
    tensor: &'a [E],
    /// Number of the row, counted over all pictures.
    row: usize,
    out: &'a mut [E],
}

impl Windows {
    /// `1 / count` of the pixels that window `(oy, ox)` covers.
    fn share(&self, oy: usize, ox: usize) -> f32 {
        let count = self.covered(oy, self.ih).len() * self.covered(ox, self.iw).len();
        1.0 / count as f32
    }
}

fn average_row_scalar<E: Element>(job: Row<'_, E>) {
    let Row { windows: w, tensor: x, row, out } = job;
    let (n, oy) = (row / w.oh, row % w.oh);
    for (i, y) in out.iter_mut().enumerate() {
        let (ox, c) = (i / w.c, i % w.c);
        let mut sum = 0.0;
        for iy in w.covered(oy, w.ih) {
            for ix in w.covered(ox, w.iw) {
                sum += x[((n * w.ih + iy) * w.iw + ix) * w.c + c].to_f32();
            }
        }
        *y = E::from_f32(sum * w.share(oy, ox));
    }
}

struct Average<'a, E>(Row<'a, E>);

impl<E: Element> Kernel for Average<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Row { windows: w, tensor: x, row, out } = self.0;
        let (n, oy) = (row / w.oh, row % w.oh);
        for (ox, y) in out.chunks_exact_mut(w.c).enumerate() {
            let share = s.splat(w.share(oy, ox));
            let columns = w.covered(ox, w.iw);
            for j in (0..w.c).step_by(S::LANES) {
                let lanes = S::LANES.min(w.c - j);
                let mut sum = s.splat(0.0);
                for iy in w.covered(oy, w.ih) {
                    for ix in columns.clone() {
                        let i = ((n * w.ih + iy) * w.iw + ix) * w.c + j;
                        sum = s.add(sum, load(s, x, i, lanes));
                    }
                }
                store(s, s.mul(sum, share), y, j, lanes);
            }
        }
    }
}

fn spread_row_scalar<E: Element>(job: Row<'_, E>) {
    let Row { windows: w, tensor: dy, row, out } = job;
    let (n, iy) = (row / w.ih, row % w.ih);
    for (i, dx) in out.iter_mut().enumerate() {
        let (ix, c) = (i / w.c, i % w.c);
        let mut sum = 0.0;
        for oy in w.covering(iy, w.oh) {
            for ox in w.covering(ix, w.ow) {
                let at = ((n * w.oh + oy) * w.ow + ox) * w.c + c;
                sum += dy[at].to_f32() * w.share(oy, ox);
            }
        }
        *dx = E::from_f32(sum);
    }
}

struct Spread<'a, E>(Row<'a, E>);

impl<E: Element> Kernel for Spread<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Row { windows: w, tensor: dy, row, out } = self.0;
        let (n, iy) = (row / w.ih, row % w.ih);
        for (ix, dx) in out.chunks_exact_mut(w.c).enumerate() {
            let columns = w.covering(ix, w.ow);
            for j in (0..w.c).step_by(S::LANES) {
                let lanes = S::LANES.min(w.c - j);
                let mut sum = s.splat(0.0);
                for oy in w.covering(iy, w.oh) {
                    for ox in columns.clone() {
                        let i = ((n * w.oh + oy) * w.ow + ox) * w.c + j;
                        let share = s.splat(w.share(oy, ox));
                        sum = s.add(sum, s.mul(load(s, dy, i, lanes), share));
                    }
                }
                store(s, sum, dx, j, lanes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use resnet_core::op::Pool2d;

    use super::*;
    use crate::kernel::testing::{assert_same, for_machines, guarded, pools, random};

    #[test]
    fn the_mean_leaves_out_the_border() {
        let pool = Pool2d { kernel: 2, stride: 2, pad: 0, ceil: true };
        let windows = Windows::new(pool, [1, 3, 3, 1]).expect("four windows");
        let x: Vec<f32> = (1..=9).map(|x| x as f32).collect();
        let mut y = [0.0; 4];
        average_pool(Isa::detect(), &ThreadPool::new(1), windows, &x, &mut y);
        assert_eq!(y, [3.0, 4.5, 7.5, 9.0]);
    }

    #[test]
    fn every_machine_gives_the_bits_of_the_twin() {
        for windows in pools() {
            let (x, dy) = (random(1, windows.input_len()), random(2, windows.output_len()));
            let mut y = vec![0.0; dy.len()];
            let mut dx = vec![0.0; x.len()];
            for (row, out) in y.chunks_exact_mut(windows.ow * windows.c).enumerate() {
                average_row_scalar(Row { windows, tensor: &x, row, out });
            }
            for (row, out) in dx.chunks_exact_mut(windows.iw * windows.c).enumerate() {
                spread_row_scalar(Row { windows, tensor: &dy, row, out });
            }
            for_machines(|isa, pool| {
                let zeros = vec![0.0; dy.len()];
                let found = guarded(&zeros, 3.0, |y| average_pool(isa, pool, windows, &x, y));
                assert_same(&found, &y);
                let zeros = vec![0.0; x.len()];
                let found =
                    guarded(&zeros, 3.0, |dx| average_pool_grad(isa, pool, windows, &dy, dx));
                assert_same(&found, &dx);
            });
            let dot = |a: &[f32], b: &[f32]| -> f64 {
                a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
            };
            // The gradient is the transpose; sums of a few thousand f32 products near 1.
            assert!((dot(&y, &dy) - dot(&x, &dx)).abs() < 1e-4, "{windows:?}");
        }
    }
}
