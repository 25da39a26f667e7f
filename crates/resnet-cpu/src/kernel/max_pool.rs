//! Max pool: the largest value of each window and its place; and its gradient.
//!
//! PyTorch's `MaxPool2d`: the first of equal values wins, row by row; a NaN wins over everything;
//! the border never does.

use resnet_simd::{Isa, Kernel, Simd};

use super::lane::{load, store};
use super::window::Windows;
use crate::threads::{DisjointMut, ThreadPool};

/// `y[n,oy,ox,c]` is the largest input that window `(oy, ox)` covers, `index` its place in the
/// window, `ky * kernel + kx`.
///
/// # Panics
/// If the lengths are not those of `windows`.
pub fn max_pool(
    isa: Isa,
    pool: &ThreadPool,
    windows: Windows,
    x: &[f32],
    (y, index): (&mut [f32], &mut [u8]),
) {
    assert_eq!((x.len(), y.len()), (windows.input_len(), windows.output_len()));
    assert_eq!(index.len(), windows.output_len());
    let row_len = windows.ow * windows.c;
    let (y, index) = (DisjointMut::new(y), DisjointMut::new(index));
    pool.run(windows.n * windows.oh, &|row| {
        let range = row * row_len..(row + 1) * row_len;
        // SAFETY: tasks have rows of their own.
        let (y, index) = unsafe { (y.slice(range.clone()), index.slice(range)) };
        let job = Row { windows, x, row, y, index };
        match isa {
            Isa::Portable => pool_row_scalar(job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(Vectors(job)),
        }
    });
}

/// `dx[n,iy,ix,c]` is the sum of `dy` over the windows whose maximum lies there, row by row.
///
/// # Panics
/// If the lengths are not those of `windows`.
pub fn max_pool_grad(
    isa: Isa,
    pool: &ThreadPool,
    windows: Windows,
    (dy, index): (&[f32], &[u8]),
    dx: &mut [f32],
) {
    assert_eq!((dx.len(), dy.len()), (windows.input_len(), windows.output_len()));
    assert_eq!(index.len(), windows.output_len());
    pool.run_parts(dx, windows.iw * windows.c, |row, dx| {
        let job = GradRow { windows, dy, index, row, dx };
        match isa {
            Isa::Portable => grad_row_scalar(job),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(GradVectors(job)),
        }
    });
}

/// One row of output pixels, counted over all pictures.
struct Row<'a> {
    windows: Windows,
    x: &'a [f32],
    row: usize,
    y: &'a mut [f32],
    index: &'a mut [u8],
}

impl Row<'_> {
    /// Whether `x` takes the place of `best`: written so that a NaN comes in and stays.
    fn wins(x: f32, best: f32) -> bool {
        !(x <= best) && !best.is_nan()
    }
}

fn pool_row_scalar(job: Row<'_>) {
    let Row { windows: w, x, row, y, index } = job;
    let (n, oy) = (row / w.oh, row % w.oh);
    for (i, (y, index)) in y.iter_mut().zip(index).enumerate() {
        let (ox, c) = (i / w.c, i % w.c);
        let mut best = None;
        for iy in w.covered(oy, w.ih) {
            for ix in w.covered(ox, w.iw) {
                let value = x[((n * w.ih + iy) * w.iw + ix) * w.c + c];
                let place = w.place(oy, iy) * w.pool.kernel + w.place(ox, ix);
                if best.is_none_or(|(best, _)| Row::wins(value, best)) {
                    best = Some((value, place as u8));
                }
            }
        }
        (*y, *index) = best.expect("a window covers a pixel");
    }
}

/// The same by vectors of channels; places are kept as floats.
struct Vectors<'a>(Row<'a>);

impl Kernel for Vectors<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Row { windows: w, x, row, y, index } = self.0;
        let (n, oy) = (row / w.oh, row % w.oh);
        let rows = w.covered(oy, w.ih);
        let pixels = y.chunks_exact_mut(w.c).zip(index.chunks_exact_mut(w.c));
        for (ox, (y, index)) in pixels.enumerate() {
            let columns = w.covered(ox, w.iw);
            for j in (0..w.c).step_by(S::LANES) {
                let lanes = S::LANES.min(w.c - j);
                let first = ((n * w.ih + rows.start) * w.iw + columns.start) * w.c + j;
                let mut best = load(s, x, first, lanes);
                let start = w.place(oy, rows.start) * w.pool.kernel + w.place(ox, columns.start);
                let mut place = s.splat(start as f32);
                for iy in rows.clone() {
                    for ix in columns.clone() {
                        let value = load(s, x, ((n * w.ih + iy) * w.iw + ix) * w.c + j, lanes);
                        let here = w.place(oy, iy) * w.pool.kernel + w.place(ox, ix);
                        let here = s.splat(here as f32);
                        // `best - value` is NaN if either is: then a NaN value, not yet held, wins.
                        place = s.select_gt(value, best, here, place);
                        best = s.select_gt(value, best, value, best);
                        (best, place) = keep_nan(s, (best, place), (value, here));
                    }
                }
                store(s, best, y, j, lanes);
                store_places(s, place, &mut index[j..j + lanes]);
            }
        }
    }
}

/// Lets the first NaN in: comparisons with it are false, so it neither entered nor can be beaten.
#[inline(always)]
fn keep_nan<S: Simd>(
    s: S,
    (best, place): (S::F32, S::F32),
    (value, here): (S::F32, S::F32),
) -> (S::F32, S::F32) {
    let (low, zero) = (s.splat(f32::NEG_INFINITY), s.splat(0.0));
    // 0 where a number is, 1 where NaN is: of NaN, neither `x > -inf` nor `0 - x > -inf` holds.
    let is_nan = |x: S::F32| {
        let number = s.select_gt(x, low, zero, s.splat(1.0));
        s.select_gt(s.sub(zero, x), low, zero, number)
    };
    let enters = s.sub(is_nan(value), is_nan(best));
    (s.select_gt(enters, zero, value, best), s.select_gt(enters, zero, here, place))
}

#[inline(always)]
fn store_places<S: Simd>(s: S, place: S::F32, index: &mut [u8]) {
    if index.len() == S::LANES {
        s.store_u8(place, index);
        return;
    }
    let mut places = [0.0; 16];
    s.store(place, &mut places);
    index.iter_mut().zip(places).for_each(|(index, place)| *index = place as u8);
}

/// One row of input pixels, counted over all pictures.
struct GradRow<'a> {
    windows: Windows,
    dy: &'a [f32],
    index: &'a [u8],
    row: usize,
    dx: &'a mut [f32],
}

fn grad_row_scalar(job: GradRow<'_>) {
    let GradRow { windows: w, dy, index, row, dx } = job;
    let (n, iy) = (row / w.ih, row % w.ih);
    for (i, dx) in dx.iter_mut().enumerate() {
        let (ix, c) = (i / w.c, i % w.c);
        *dx = 0.0;
        for oy in w.covering(iy, w.oh) {
            for ox in w.covering(ix, w.ow) {
                let at = ((n * w.oh + oy) * w.ow + ox) * w.c + c;
                let place = w.place(oy, iy) * w.pool.kernel + w.place(ox, ix);
                if index[at] == place as u8 {
                    *dx += dy[at];
                }
            }
        }
    }
}

struct GradVectors<'a>(GradRow<'a>);

impl Kernel for GradVectors<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let GradRow { windows: w, dy, index, row, dx } = self.0;
        let (n, iy) = (row / w.ih, row % w.ih);
        let zero = s.splat(0.0);
        for (ix, dx) in dx.chunks_exact_mut(w.c).enumerate() {
            for j in (0..w.c).step_by(S::LANES) {
                let lanes = S::LANES.min(w.c - j);
                let mut sum = zero;
                for oy in w.covering(iy, w.oh) {
                    for ox in w.covering(ix, w.ow) {
                        let at = ((n * w.oh + oy) * w.ow + ox) * w.c + j;
                        let here = w.place(oy, iy) * w.pool.kernel + w.place(ox, ix);
                        let here = s.splat(here as f32);
                        let place = load_places(s, &index[at..at + lanes]);
                        // Equal where the squared distance is not above zero.
                        let apart = s.sub(place, here);
                        let dy = load(s, dy, at, lanes);
                        let open = s.select_gt(s.mul(apart, apart), zero, zero, dy);
                        sum = s.add(sum, open);
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
    let mut places = [0.0; 16];
    places.iter_mut().zip(index).for_each(|(place, &index)| *place = f32::from(index));
    s.load(&places)
}

#[cfg(test)]
mod tests {
    use resnet_core::op::Pool2d;

    use super::*;
    use crate::kernel::testing::{for_machines, random};

    #[test]
    fn every_width_equals_the_twin_with_ties_and_nans() {
        for c in [1, 3, 8, 16, 17, 40] {
            for (kernel, stride, pad) in [(3, 2, 1), (2, 2, 0), (3, 1, 1)] {
                let pool2d = Pool2d { kernel, stride, pad, ceil: false };
                let windows = Windows::new(pool2d, [2, 7, 6, c]).expect("windows");
                // Coarse values tie often; every 29th is NaN.
                let x: Vec<f32> = random(1, windows.input_len())
                    .iter()
                    .enumerate()
                    .map(|(i, x)| if i % 29 == 7 { f32::NAN } else { (x * 3.0).round() })
                    .collect();
                let dy = random(2, windows.output_len());
                let run = |isa: Isa, pool: &ThreadPool| {
                    let (mut y, mut index) = (vec![0.0; dy.len()], vec![0; dy.len()]);
                    max_pool(isa, pool, windows, &x, (&mut y, &mut index));
                    let mut dx = vec![f32::NAN; x.len()];
                    max_pool_grad(isa, pool, windows, (&dy, &index), &mut dx);
                    let bits = |x: &[f32]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    (bits(&y), index, bits(&dx))
                };
                let expected = run(Isa::Portable, &ThreadPool::new(1));
                for_machines(|isa, pool| {
                    assert!(run(isa, pool) == expected, "{} channels {c}", isa.name());
                });
            }
        }
    }

    #[test]
    fn the_first_of_equal_values_wins() {
        let pool2d = Pool2d { kernel: 2, stride: 2, pad: 0, ceil: false };
        let windows = Windows::new(pool2d, [1, 2, 2, 1]).expect("windows");
        let (mut y, mut index) = ([0.0], [9]);
        let x = [-1.0, 2.0, 2.0, f32::NEG_INFINITY];
        max_pool(Isa::Portable, &ThreadPool::new(1), windows, &x, (&mut y, &mut index));
        assert_eq!((y, index), ([2.0], [1]));
    }
}
