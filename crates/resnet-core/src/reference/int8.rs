//! Int8 inference by the definitions in [`crate::int8`]: sums are exact, so results are bits.

use super::pool::window;
use super::{Real, View, conv};
use crate::int8::{self, requantize};
use crate::op::{Affine, Int8Conv2d, Pool2d, SubsamplePad};

/// Shape and bytes of a tensor.
type Bytes<'a> = (&'a [usize], &'a [u8]);

fn dims((shape, _): Bytes<'_>) -> [usize; 4] {
    shape.try_into().expect("shape inference checked the rank")
}

pub(super) fn quantize<R: Real>(affine: Affine, x: View<'_, R>) -> Vec<u8> {
    x.values.iter().map(|v| int8::quantize(affine, v.to_f64() as f32)).collect()
}

pub(super) fn dequantize<R: Real>(affine: Affine, x: &[u8]) -> Vec<R> {
    x.iter().map(|&q| R::from_f64(f64::from(int8::dequantize(affine, q)))).collect()
}

/// `sum of (x - padding) * w + (offset + sum of padding * w)`: zeros around the picture then stand for
/// padding. All are whole numbers below `2^53`.
pub(super) fn conv<R: Real>(
    op: &Int8Conv2d,
    x: Bytes<'_>,
    [w, offset, multiplier]: [View<'_, R>; 3],
    residual: Option<(&[u8], f32)>,
) -> Vec<u8> {
    let channels = op.padding.len();
    let padding = |channel: usize| f64::from(op.padding[channel]);
    let centred: Vec<f64> =
        x.1.iter().enumerate().map(|(i, &q)| f64::from(q) - padding(i % channels)).collect();
    let weights: Vec<f64> = w.values.iter().map(|w| w.to_f64()).collect();
    let (cout, group_in) = (offset.values.len(), w.shape[1]);
    let per_output = weights.len() / cout;
    let sums = (0..cout).map(|co| {
        let first = co / (cout / op.conv.groups) * group_in;
        let own = weights[co * per_output..][..per_output].iter().enumerate();
        let taps = per_output / group_in;
        let padded: f64 = own.map(|(i, w)| w * padding(first + i / taps)).sum();
        offset.values[co].to_f64() + padded
    });
    let bias: Vec<f64> = sums.collect();
    let view = |shape, values| View { shape, values };
    let bias = view(offset.shape, &bias[..]);
    let sums = conv::forward(&op.conv, view(x.0, &centred), view(w.shape, &weights), Some(bias));
    let byte = |(i, sum): (usize, &f64)| {
        let multiplier = multiplier.values[i % cout].to_f64() as f32;
        requantize(*sum as i32, multiplier, residual.map(|(bytes, factor)| (bytes[i], factor)))
    };
    sums.iter().enumerate().map(byte).collect()
}

pub(super) fn linear<R: Real>(x: &[u8], [w, offset, multiplier]: [View<'_, R>; 3]) -> Vec<R> {
    let features = w.channels();
    let row = |x: &[u8]| -> Vec<R> {
        let outputs = w.values.chunks_exact(features).zip(offset.values).zip(multiplier.values);
        let output = |((w, offset), multiplier): ((&[R], &R), &R)| {
            let products = w.iter().zip(x).map(|(w, &q)| w.to_f64() * f64::from(q));
            let sum = (products.sum::<f64>() + offset.to_f64()) as f32;
            R::from_f64(f64::from(sum * multiplier.to_f64() as f32))
        };
        outputs.map(output).collect()
    };
    x.chunks_exact(features).flat_map(row).collect()
}

pub(super) fn max_pool(pool: &Pool2d, shape: &[usize], x: &[u8]) -> Vec<u8> {
    let [n, h, w, c] = dims((shape, x));
    let size = |size| pool.output_len(size).expect("shape inference found an output");
    let (oh, ow) = (size(h), size(w));
    let value = |i: usize| {
        let (n, oy, ox, c_idx) = (i / (oh * ow * c), i / (ow * c) % oh, i / c % ow, i % c);
        let rows = window(pool, oy, h).flat_map(|(_, iy)| {
            window(pool, ox, w).map(move |(_, ix)| ((n * h + iy) * w + ix) * c + c_idx)
        });
        rows.map(|at| x[at]).max().expect("every window has a pixel of the picture")
    };
    (0..n * oh * ow * c).map(value).collect()
}

pub(super) fn global_avg_pool(offset: i32, multiplier: f32, x: Bytes<'_>) -> Vec<u8> {
    let [_, h, w, c] = dims(x);
    let picture = |x: &[u8]| {
        let channel = |channel| {
            let pixels = x.iter().skip(channel).step_by(c);
            let sum: i32 = pixels.map(|&q| i32::from(q)).sum();
            requantize(sum + offset, multiplier, None)
        };
        (0..c).map(channel).collect::<Vec<u8>>()
    };
    x.1.chunks_exact(h * w * c).flat_map(picture).collect()
}

pub(super) fn subsample_pad(shortcut: &SubsamplePad, zero: u8, x: Bytes<'_>) -> Vec<u8> {
    let [n, h, w, c] = dims(x);
    let SubsamplePad { stride, before, after } = *shortcut;
    let (oh, ow, oc) = (h.div_ceil(stride), w.div_ceil(stride), before + c + after);
    let mut y = vec![zero; n * oh * ow * oc];
    for (i, y) in y.chunks_exact_mut(oc).enumerate() {
        let (n, oy, ox) = (i / (oh * ow), i / ow % oh, i % ow);
        let x = &x.1[((n * h + oy * stride) * w + ox * stride) * c..][..c];
        y[before..before + c].copy_from_slice(x);
    }
    y
}
