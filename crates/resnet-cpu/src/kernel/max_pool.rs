//! Max pool, the place of each maximum in its window, and the gradient.
//!
//! As PyTorch's `MaxPool2d`: the first of equal maxima wins, padding never does, and NaN is above
//! everything. The place is `ky * kernel + kx`, counted from the window's corner, in the border or
//! not.

use resnet_simd::{Element, Isa, Kernel, Simd};

use super::lane::{load, store};
use super::window::Windows;
use crate::threads::ThreadPool;

/// No vector is wider.
const MAX_LANES: usize = 16;

/// `y[n,oy,ox,c]` is the largest input that window `(oy, ox)` covers, `index` its place.
///
/// # Panics
/// If the lengths are not those of `windows`, or a window has more than 256 places.
pub fn max_pool<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    windows: Windows,
    x: &[E],
    y: &mut [E],
    index: &mut [u8],
) {
    let (w, len) = (windows, windows.ow * windows.c);
    assert_eq!((x.len(), y.len(), index.len()), (w.input_len(), w.output_len(), w.output_len()));
    assert!(w.pool.kernel <= 16, "windows of at most 256 places");
    pool.run_part_pairs((y, len), (index, len), |row, y, index| {
        let mut job = Row { w, x, row, y, index };
        match isa {
            Isa::Portable => job.run_scalar(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => {
                if isa.run(Vectors(&mut job)) == Found::Doubtful {
                    job.run_scalar();
                }
            }
        }
    });
}

/// One row of output pixels.
struct Row<'a, E> {
    w: Windows,
    x: &'a [E],
    /// Number of the row, counted over all pictures.
    row: usize,
    y: &'a mut [E],
    index: &'a mut [u8],
}

/// What a vector pass says of the numbers it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Finite ones only: the row is right.
    Finite,
    /// Perhaps a NaN, which vector compares would lose.
    Doubtful,
}

impl<E: Element> Row<'_, E> {
    fn run_scalar(&mut self) {
        let w = self.w;
        let (n, oy) = (self.row / w.oh, self.row % w.oh);
        for i in 0..self.y.len() {
            let (ox, c) = (i / w.c, i % w.c);
            let mut best: Option<(f32, usize)> = None;
            for iy in w.covered(oy, w.ih) {
                for ix in w.covered(ox, w.iw) {
                    let v = self.x[((n * w.ih + iy) * w.iw + ix) * w.c + c].to_f32();
                    if best.is_none_or(|(b, _)| b < v || v.is_nan() && !b.is_nan()) {
                        best = Some((v, w.place(oy, iy) * w.pool.kernel + w.place(ox, ix)));
                    }
                }
            }
            let (v, place) = best.expect("every window covers an input");
            (self.y[i], self.index[i]) = (E::from_f32(v), place as u8);
        }
    }
}

/// Places are small whole numbers in float lanes, so that one select serves both.
struct Vectors<'a, 'b, E>(&'a mut Row<'b, E>);

impl<E: Element> Kernel for Vectors<'_, '_, E> {
    type Output = Found;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> Found {
        let Row { w, x, row, ref mut y, ref mut index } = *self.0;
        let (n, oy) = (row / w.oh, row % w.oh);
        let rows = w.covered(oy, w.ih);
        let zero = s.splat(0.0);
        let mut doubt = zero;
        for ox in 0..w.ow {
            let columns = w.covered(ox, w.iw);
            let corner = w.place(oy, rows.start) * w.pool.kernel + w.place(ox, columns.start);
            for j in (0..w.c).step_by(S::LANES) {
                let lanes = S::LANES.min(w.c - j);
                let mut best = s.splat(f32::NEG_INFINITY);
                let mut place = s.splat(corner as f32);
                let mut sum = zero;
                for (ky, iy) in rows.clone().enumerate() {
                    let line = (n * w.ih + iy) * w.iw;
                    for (kx, ix) in columns.clone().enumerate() {
                        let v = load(s, x, (line + ix) * w.c + j, lanes);
                        let here = s.splat((corner + ky * w.pool.kernel + kx) as f32);
                        place = s.select_gt(v, best, here, place);
                        best = s.max(v, best);
                        sum = s.add(sum, v);
                    }
                }
                // 0 for finite sums, NaN for all others.
                doubt = s.add(doubt, s.mul(sum, zero));
                let at = ox * w.c + j;
                store(s, best, y, at, lanes);
                store_places(s, place, &mut index[at..at + lanes]);
            }
        }
        if s.sum(doubt) == 0.0 { Found::Finite } else { Found::Doubtful }
    }
}

#[inline(always)]
fn store_places<S: Simd>(s: S, place: S::F32, index: &mut [u8]) {
    if index.len() == S::LANES {
        return s.store_u8(place, index);
    }
    let mut bytes = [0; MAX_LANES];
    s.store_u8(place, &mut bytes);
    index.copy_from_slice(&bytes[..index.len()]);
}

/// `dx[n,iy,ix,c]` is the sum of `dy` over the windows whose maximum was there, row by row.
///
/// # Panics
/// If the lengths are not those of `windows`.
pub fn max_pool_grad<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    windows: Windows,
    (dy, index): (&[E], &[u8]),
    dx: &mut [E],
) {
    let w = windows;
    assert_eq!((dx.len(), dy.len(), index.len()), (w.input_len(), w.output_len(), w.output_len()));
    pool.run_parts(dx, w.iw * w.c, |row, dx| {
        let job = GradRow { w, dy, index, row, dx };
        match isa {
            Isa::Portable => job.run_scalar(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(job),
        }
    });
}

/// One row of input pixels, which gathers from the windows that cover it: no two tasks write the
/// same pixel, and the order of each sum is fixed.
struct GradRow<'a, E> {
    w: Windows,
    dy: &'a [E],
    index: &'a [u8],
    /// Number of the row, counted over all pictures.
    row: usize,
    dx: &'a mut [E],
}

impl<E: Element> GradRow<'_, E> {
    fn run_scalar(self) {
        let w = self.w;
        let (n, iy) = (self.row / w.ih, self.row % w.ih);
        for (i, dx) in self.dx.iter_mut().enumerate() {
            let (ix, c) = (i / w.c, i % w.c);
            let mut sum = 0.0;
            for oy in w.covering(iy, w.oh) {
                for ox in w.covering(ix, w.ow) {
                    let at = ((n * w.oh + oy) * w.ow + ox) * w.c + c;
                    let place = w.place(oy, iy) * w.pool.kernel + w.place(ox, ix);
                    let here = usize::from(self.index[at]) == place;
                    sum += if here { self.dy[at].to_f32() } else { 0.0 };
                }
            }
            *dx = E::from_f32(sum);
        }
    }
}

impl<E: Element> Kernel for GradRow<'_, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GradRow { w, dy, index, row, dx } = self;
        let (n, iy) = (row / w.ih, row % w.ih);
        let (zero, half) = (s.splat(0.0), s.splat(0.5));
        for (ix, dx) in dx.chunks_exact_mut(w.c).enumerate() {
            let columns = w.covering(ix, w.ow);
            for j in (0..w.c).step_by(S::LANES) {
                let lanes = S::LANES.min(w.c - j);
                let mut sum = zero;
                for oy in w.covering(iy, w.oh) {
                    for ox in columns.clone() {
                        let at = ((n * w.oh + oy) * w.ow + ox) * w.c + j;
                        let place = w.place(oy, iy) * w.pool.kernel + w.place(ox, ix);
                        let away =
                            s.sub(load_places(s, &index[at..at + lanes]), s.splat(place as f32));
                        // Whole numbers are equal if their difference squared is below a half.
                        let here =
                            s.select_gt(half, s.mul(away, away), load(s, dy, at, lanes), zero);
                        sum = s.add(sum, here);
                    }
                }
                store(s, sum, dx, j, lanes);
            }
        }
    }
}

#[inline(always)]
fn load_places<S: Simd>(s: S, index: &[u8]) -> S::F32 {
    if index.len() == S::LANES {
        return s.load_u8(index);
    }
    let mut bytes = [0; MAX_LANES];
    bytes[..index.len()].copy_from_slice(index);
    s.load_u8(&bytes)
}

#[cfg(test)]
mod tests {
    use resnet_core::op::Pool2d;

    use super::*;
    use crate::kernel::testing::{assert_same, for_machines, guarded, pools, random, special};

    /// Every machine gives the twin's bits, forward and backward.
    #[track_caller]
    fn check(windows: Windows, x: &[f32]) {
        let (w, dy) = (windows, random(2, windows.output_len()));
        let (mut y, mut index) = (vec![0.0; dy.len()], vec![0; dy.len()]);
        let len = w.ow * w.c;
        let outputs = y.chunks_exact_mut(len).zip(index.chunks_exact_mut(len));
        for (row, (y, index)) in outputs.enumerate() {
            Row { w, x, row, y, index }.run_scalar();
        }
        let mut dx = vec![0.0; x.len()];
        for (row, dx) in dx.chunks_exact_mut(w.iw * w.c).enumerate() {
            GradRow { w, dy: &dy, index: &index, row, dx }.run_scalar();
        }
        for_machines(|isa, pool| {
            let mut places = vec![];
            let found = guarded(&vec![7.0; dy.len()], 3.0, |y| {
                places = guarded(&vec![9_u8; dy.len()], 201, |index| {
                    max_pool(isa, pool, w, x, y, index);
                });
            });
            assert_same(&found, &y);
            assert_eq!(places, index, "{w:?}");
            let found = guarded(&vec![7.0; x.len()], 3.0, |dx| {
                max_pool_grad(isa, pool, w, (&dy, &index), dx);
            });
            assert_same(&found, &dx);
        });
    }

    #[test]
    fn every_machine_gives_the_bits_of_the_twin() {
        for windows in pools() {
            check(windows, &random(1, windows.input_len()));
        }
    }

    #[test]
    fn ties_nan_and_infinities_are_as_in_the_twin() {
        for windows in pools() {
            check(windows, &special(1, windows.input_len()));
            check(windows, &vec![f32::NEG_INFINITY; windows.input_len()]);
            // Many ties, as ReLU makes them.
            let x = random(3, windows.input_len());
            check(windows, &x.iter().map(|x| x.max(0.0)).collect::<Vec<f32>>());
        }
    }

    #[test]
    fn the_first_of_equal_maxima_gets_the_gradient() {
        let pool = Pool2d { kernel: 2, stride: 2, pad: 0, ceil: false };
        let windows = Windows::new(pool, [1, 2, 4, 1]).expect("two windows");
        let x = [1.0, 5.0, f32::NAN, 9.0, 5.0, 5.0, 2.0, f32::NAN];
        let (mut y, mut index, mut dx) = ([0.0; 2], [0; 2], [0.0; 8]);
        let (isa, threads) = (Isa::detect(), ThreadPool::new(1));
        max_pool(isa, &threads, windows, &x, &mut y, &mut index);
        max_pool_grad(isa, &threads, windows, (&[3.0, 4.0], &index), &mut dx);
        assert!(y[0] == 5.0 && y[1].is_nan());
        assert_eq!((index, dx), ([1, 0], [0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 0.0]));
    }
}
