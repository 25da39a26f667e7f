//! Pooling, shortcut A, and their gradients. All NHWC.

use super::{Real, View};
use crate::op::{Pool2d, SubsamplePad};

/// The rows (columns) of a picture that window `o` covers: tap and position of each.
pub(super) fn window(pool: &Pool2d, o: usize, size: usize) -> impl Iterator<Item = (usize, usize)> {
    let (start, pad) = (o * pool.stride, pool.pad);
    let taps = (0..pool.kernel).filter_map(move |k| Some((k, (start + k).checked_sub(pad)?)));
    taps.filter(move |&(_, i)| i < size)
}

/// Output rows and columns of a pool.
fn output_size(pool: &Pool2d, [h, w]: [usize; 2]) -> [usize; 2] {
    [h, w].map(|size| pool.output_len(size).expect("shape inference found an output"))
}

/// `y` and the place of each maximum in its window, `ky * kernel + kx`.
///
/// The first of equal maxima wins. NaN is above everything, the first one again. Padding never wins.
pub(super) fn max_pool<R: Real>(pool: &Pool2d, x: View<'_, R>) -> (Vec<R>, Vec<u8>) {
    let [n, h, w, c] = x.dims();
    let [oh, ow] = output_size(pool, [h, w]);
    let mut y = Vec::with_capacity(n * oh * ow * c);
    let mut index = Vec::with_capacity(n * oh * ow * c);
    for (n, oy, ox) in pixels(n, oh, ow) {
        for c in 0..c {
            let mut best: Option<(f64, usize)> = None;
            for (ky, iy) in window(pool, oy, h) {
                for (kx, ix) in window(pool, ox, w) {
                    let v = x.pixel([n, iy, ix])[c].to_f64();
                    let wins = best.is_none_or(|(b, _)| b < v || (v.is_nan() && !b.is_nan()));
                    if wins {
                        best = Some((v, ky * pool.kernel + kx));
                    }
                }
            }
            let (v, place) = best.expect("every window starts in the picture or its border");
            y.push(R::from_f64(v));
            index.push(u8::try_from(place).expect("windows have at most 256 places"));
        }
    }
    (y, index)
}

/// Each `dy` is added to the pixel that was its window's maximum.
pub(super) fn max_pool_grad<R: Real>(
    pool: &Pool2d,
    [h, w]: [usize; 2],
    dy: View<'_, R>,
    index: &[u8],
) -> Vec<R> {
    let [n, oh, ow, c] = dy.dims();
    let mut dx = vec![0.0; n * h * w * c];
    for (i, (dy, &place)) in dy.values.iter().zip(index).enumerate() {
        let (n, oy, ox, c_idx) = (i / (oh * ow * c), i / (ow * c) % oh, i / c % ow, i % c);
        let iy = oy * pool.stride + usize::from(place) / pool.kernel - pool.pad;
        let ix = ox * pool.stride + usize::from(place) % pool.kernel - pool.pad;
        dx[((n * h + iy) * w + ix) * c + c_idx] += dy.to_f64();
    }
    dx.into_iter().map(R::from_f64).collect()
}

/// Mean over the pixels of the window that lie in the picture: PyTorch's `AvgPool2d` with
/// `count_include_pad=False`.
pub(super) fn avg_pool<R: Real>(pool: &Pool2d, x: View<'_, R>) -> Vec<R> {
    let [n, h, w, c] = x.dims();
    let [oh, ow] = output_size(pool, [h, w]);
    let mut y = Vec::with_capacity(n * oh * ow * c);
    for (n, oy, ox) in pixels(n, oh, ow) {
        let mut sums = vec![0.0; c];
        let mut count = 0;
        for (_, iy) in window(pool, oy, h) {
            for (_, ix) in window(pool, ox, w) {
                count += 1;
                for (sum, v) in sums.iter_mut().zip(x.pixel([n, iy, ix])) {
                    *sum += v.to_f64();
                }
            }
        }
        y.extend(sums.iter().map(|sum| R::from_f64(sum / f64::from(count))));
    }
    y
}

/// Each `dy` is shared evenly by its window's pixels.
pub(super) fn avg_pool_grad<R: Real>(pool: &Pool2d, [h, w]: [usize; 2], dy: View<'_, R>) -> Vec<R> {
    let [n, oh, ow, c] = dy.dims();
    let mut dx = vec![0.0; n * h * w * c];
    for (n, oy, ox) in pixels(n, oh, ow) {
        let count = (window(pool, oy, h).count() * window(pool, ox, w).count()) as f64;
        for (_, iy) in window(pool, oy, h) {
            for (_, ix) in window(pool, ox, w) {
                let dx = &mut dx[((n * h + iy) * w + ix) * c..][..c];
                for (dx, dy) in dx.iter_mut().zip(dy.pixel([n, oy, ox])) {
                    *dx += dy.to_f64() / count;
                }
            }
        }
    }
    dx.into_iter().map(R::from_f64).collect()
}

/// Mean over each picture.
pub(super) fn global_avg_pool<R: Real>(x: View<'_, R>) -> Vec<R> {
    let [_, h, w, c] = x.dims();
    let sample = |x: &[R]| {
        let mut sums = vec![0.0; c];
        for pixel in x.chunks_exact(c) {
            for (sum, v) in sums.iter_mut().zip(pixel) {
                *sum += v.to_f64();
            }
        }
        sums.into_iter().map(move |sum| R::from_f64(sum / (h * w) as f64))
    };
    x.values.chunks_exact(h * w * c).flat_map(sample).collect()
}

/// `dx = dy / (h * w)` at every pixel.
pub(super) fn global_avg_pool_grad<R: Real>([h, w]: [usize; 2], dy: View<'_, R>) -> Vec<R> {
    let sample = |dy: &[R]| {
        let pixel: Vec<R> = dy.iter().map(|v| R::from_f64(v.to_f64() / (h * w) as f64)).collect();
        pixel.repeat(h * w)
    };
    dy.values.chunks_exact(dy.channels()).flat_map(sample).collect()
}

/// Shortcut A: every `stride`-th pixel between zero channels.
pub(super) fn subsample_pad<R: Real>(shortcut: &SubsamplePad, x: View<'_, R>) -> Vec<R> {
    let SubsamplePad { stride, before, after } = *shortcut;
    let [n, h, w, c] = x.dims();
    let zero = R::from_f64(0.0);
    let mut y = Vec::with_capacity(n * h.div_ceil(stride) * w.div_ceil(stride) * (c + before));
    for (n, oy, ox) in pixels(n, h.div_ceil(stride), w.div_ceil(stride)) {
        y.extend(std::iter::repeat_n(zero, before));
        y.extend_from_slice(x.pixel([n, oy * stride, ox * stride]));
        y.extend(std::iter::repeat_n(zero, after));
    }
    y
}

/// `dx = dy` at the pixels and channels that were kept, 0 elsewhere.
pub(super) fn subsample_pad_grad<R: Real>(
    shortcut: &SubsamplePad,
    [h, w]: [usize; 2],
    dy: View<'_, R>,
) -> Vec<R> {
    let SubsamplePad { stride, before, after } = *shortcut;
    let [n, oh, ow, channels] = dy.dims();
    let c = channels - before - after;
    let mut dx = vec![R::from_f64(0.0); n * h * w * c];
    for (n, oy, ox) in pixels(n, oh, ow) {
        let at = ((n * h + oy * stride) * w + ox * stride) * c;
        dx[at..][..c].copy_from_slice(&dy.pixel([n, oy, ox])[before..][..c]);
    }
    dx
}

/// Sample, row and column of every pixel in memory order.
fn pixels(n: usize, h: usize, w: usize) -> impl Iterator<Item = (usize, usize, usize)> {
    (0..n * h * w).map(move |i| (i / (h * w), i / w % h, i % w))
}
