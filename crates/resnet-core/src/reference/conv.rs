//! Convolution and its two gradients, and the classifier with its own.
//!
//! `y[n,oy,ox,co] = b[co] + sum over ky, kx, ci of x[n,iy,ix,ci] * w[co,ci,ky,kx]`, where
//! `iy = oy * stride + ky * dilation - pad`, pixels outside the picture are zero, and `co` and `ci`
//! run within a group. Activations NHWC, weights OIHW.
//! Sums are f64 whatever the storage; the innermost loops run over contiguous channels.

use super::{Real, View};
use crate::op::Conv2d;

/// The sizes of one convolution, forward or backward.
struct Geometry {
    conv: Conv2d,
    n: usize,
    ih: usize,
    iw: usize,
    oh: usize,
    ow: usize,
    cin: usize,
    cout: usize,
}

impl Geometry {
    fn new(conv: &Conv2d, x: [usize; 4], cout: usize) -> Geometry {
        let [n, ih, iw, cin] = x;
        let (oh, ow) = conv.output_size(ih, iw).expect("shape inference found an output");
        Geometry { conv: *conv, n, ih, iw, oh, ow, cin, cout }
    }

    /// Channels of one group: in, out.
    fn group(&self) -> (usize, usize) {
        (self.cin / self.conv.groups, self.cout / self.conv.groups)
    }

    /// The input row (column) that tap `k` of output `o` reads, if it lies in the picture.
    fn source(&self, o: usize, k: usize, size: usize) -> Option<usize> {
        let padded = o * self.conv.stride + k * self.conv.dilation;
        padded.checked_sub(self.conv.pad).filter(|&i| i < size)
    }

    /// The output row (column) whose tap `k` reads input `i`, if there is one.
    fn sink(&self, i: usize, k: usize, size: usize) -> Option<usize> {
        let padded = (i + self.conv.pad).checked_sub(k * self.conv.dilation)?;
        let (o, rest) = (padded / self.conv.stride, padded % self.conv.stride);
        (rest == 0 && o < size).then_some(o)
    }
}

/// `sum += a * x`.
fn add_scaled(sum: &mut [f64], a: f64, x: &[f64]) {
    for (sum, x) in sum.iter_mut().zip(x) {
        *sum += a * x;
    }
}

fn widen<R: Real>(values: &[R]) -> Vec<f64> {
    values.iter().map(|v| v.to_f64()).collect()
}

/// OIHW to `[kh, kw, ci within the group, co]`, so that output channels are contiguous.
fn outputs_innermost<R: Real>(w: View<'_, R>) -> Vec<f64> {
    let [cout, gi, kh, kw] = w.dims();
    let mut packed = vec![0.0; w.values.len()];
    for (i, value) in w.values.iter().enumerate() {
        let (co, ci, tap) = (i / (gi * kh * kw), i / (kh * kw) % gi, i % (kh * kw));
        packed[(tap * gi + ci) * cout + co] = value.to_f64();
    }
    packed
}

/// OIHW to `[kh, kw, co, ci within the group]`, so that input channels are contiguous.
fn inputs_innermost<R: Real>(w: View<'_, R>) -> Vec<f64> {
    let [cout, gi, kh, kw] = w.dims();
    let mut packed = vec![0.0; w.values.len()];
    for (i, value) in w.values.iter().enumerate() {
        let (co, ci, tap) = (i / (gi * kh * kw), i / (kh * kw) % gi, i % (kh * kw));
        packed[(tap * cout + co) * gi + ci] = value.to_f64();
    }
    packed
}

/// The convolution itself.
pub(super) fn forward<R: Real>(
    conv: &Conv2d,
    x: View<'_, R>,
    w: View<'_, R>,
    bias: Option<View<'_, R>>,
) -> Vec<R> {
    let g = Geometry::new(conv, x.dims(), w.dims::<4>()[0]);
    let (x, w) = (widen(x.values), outputs_innermost(w));
    let bias = bias.map_or(vec![0.0; g.cout], |b| widen(b.values));
    let mut y = Vec::with_capacity(g.n * g.oh * g.ow * g.cout);
    for n in 0..g.n {
        for oy in 0..g.oh {
            let mut row = bias.repeat(g.ow);
            for ky in 0..conv.kh {
                let Some(iy) = g.source(oy, ky, g.ih) else { continue };
                let x = &x[(n * g.ih + iy) * g.iw * g.cin..][..g.iw * g.cin];
                forward_row(&g, ky, x, &w, &mut row);
            }
            y.extend(row.iter().map(|&v| R::from_f64(v)));
        }
    }
    y
}

/// Adds what one row of taps makes of one input row to an output row.
fn forward_row(g: &Geometry, ky: usize, x: &[f64], w: &[f64], row: &mut [f64]) {
    let (gi, go) = g.group();
    for kx in 0..g.conv.kw {
        for ci in 0..g.cin {
            let (group, within) = (ci / gi, ci % gi);
            let w = &w[((ky * g.conv.kw + kx) * gi + within) * g.cout + group * go..][..go];
            for ox in 0..g.ow {
                if let Some(ix) = g.source(ox, kx, g.iw) {
                    let y = &mut row[ox * g.cout + group * go..][..go];
                    add_scaled(y, x[ix * g.cin + ci], w);
                }
            }
        }
    }
}

/// `dx[n,iy,ix,ci] = sum of dy[n,oy,ox,co] * w[co,ci,ky,kx]` over the taps that read that pixel.
pub(super) fn input_grad<R: Real>(
    conv: &Conv2d,
    [ih, iw]: [usize; 2],
    dy: View<'_, R>,
    w: View<'_, R>,
) -> Vec<R> {
    let ([n, ..], [cout, gi, ..]) = (dy.dims::<4>(), w.dims::<4>());
    let g = Geometry::new(conv, [n, ih, iw, gi * conv.groups], cout);
    let (dy, w) = (widen(dy.values), inputs_innermost(w));
    let mut dx = Vec::with_capacity(g.n * g.ih * g.iw * g.cin);
    for n in 0..g.n {
        for iy in 0..g.ih {
            let mut row = vec![0.0; g.iw * g.cin];
            for ky in 0..conv.kh {
                let Some(oy) = g.sink(iy, ky, g.oh) else { continue };
                let dy = &dy[(n * g.oh + oy) * g.ow * g.cout..][..g.ow * g.cout];
                input_grad_row(&g, ky, dy, &w, &mut row);
            }
            dx.extend(row.iter().map(|&v| R::from_f64(v)));
        }
    }
    dx
}

/// Adds what one row of taps brings back from one output row to an input row.
fn input_grad_row(g: &Geometry, ky: usize, dy: &[f64], w: &[f64], row: &mut [f64]) {
    let (gi, go) = g.group();
    for kx in 0..g.conv.kw {
        for co in 0..g.cout {
            let first = co / go * gi;
            let w = &w[((ky * g.conv.kw + kx) * g.cout + co) * gi..][..gi];
            for ix in 0..g.iw {
                if let Some(ox) = g.sink(ix, kx, g.ow) {
                    let dx = &mut row[ix * g.cin + first..][..gi];
                    add_scaled(dx, dy[ox * g.cout + co], w);
                }
            }
        }
    }
}

/// `dw[co,ci,ky,kx] = sum of x[n,iy,ix,ci] * dy[n,oy,ox,co]` over samples and output pixels.
pub(super) fn weight_grad<R: Real>(conv: &Conv2d, x: View<'_, R>, dy: View<'_, R>) -> Vec<R> {
    let g = Geometry::new(conv, x.dims(), dy.dims::<4>()[3]);
    let (x, dy) = (widen(x.values), widen(dy.values));
    let ((gi, go), taps) = (g.group(), conv.kh * conv.kw);
    let mut dw = vec![R::from_f64(0.0); g.cout * gi * taps];
    for tap in 0..taps {
        for ci in 0..g.cin {
            let group = ci / gi;
            let sums = weight_grad_tap(&g, [tap / conv.kw, tap % conv.kw], ci, &x, &dy);
            for (co, &sum) in sums.iter().enumerate() {
                dw[((group * go + co) * gi + ci % gi) * taps + tap] = R::from_f64(sum);
            }
        }
    }
    dw
}

/// The gradients of one tap and input channel, for each output channel of its group.
fn weight_grad_tap(
    g: &Geometry,
    [ky, kx]: [usize; 2],
    ci: usize,
    x: &[f64],
    dy: &[f64],
) -> Vec<f64> {
    let (gi, go) = g.group();
    let first = ci / gi * go;
    let mut sums = vec![0.0; go];
    for n in 0..g.n {
        for oy in 0..g.oh {
            let Some(iy) = g.source(oy, ky, g.ih) else { continue };
            for ox in 0..g.ow {
                if let Some(ix) = g.source(ox, kx, g.iw) {
                    let x = x[((n * g.ih + iy) * g.iw + ix) * g.cin + ci];
                    let dy = &dy[((n * g.oh + oy) * g.ow + ox) * g.cout + first..][..go];
                    add_scaled(&mut sums, x, dy);
                }
            }
        }
    }
    sums
}

/// `db[c] = sum of dy[..., c]`.
pub(super) fn bias_grad<R: Real>(dy: View<'_, R>) -> Vec<R> {
    let c = dy.channels();
    let mut sums = vec![0.0; c];
    for pixel in dy.values.chunks_exact(c) {
        for (sum, v) in sums.iter_mut().zip(pixel) {
            *sum += v.to_f64();
        }
    }
    sums.into_iter().map(R::from_f64).collect()
}

/// `y[n,k] = b[k] + sum of x[n,c] * w[k,c]`.
pub(super) fn linear<R: Real>(x: View<'_, R>, w: View<'_, R>, b: View<'_, R>) -> Vec<R> {
    let features = w.channels();
    let (x, w) = (widen(x.values), widen(w.values));
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let sample = |x: &[f64]| -> Vec<R> {
        let outputs = w.chunks_exact(features).zip(b.values);
        outputs.map(|(w, b)| R::from_f64(b.to_f64() + dot(x, w))).collect()
    };
    x.chunks_exact(features).flat_map(sample).collect()
}

/// `dx[n,c] = sum of dy[n,k] * w[k,c]`.
pub(super) fn linear_input_grad<R: Real>(dy: View<'_, R>, w: View<'_, R>) -> Vec<R> {
    let [classes, features] = w.dims();
    let (dy, w) = (widen(dy.values), widen(w.values));
    let sample = |dy: &[f64]| {
        let mut dx = vec![0.0; features];
        for (&dy, w) in dy.iter().zip(w.chunks_exact(features)) {
            add_scaled(&mut dx, dy, w);
        }
        dx.into_iter().map(R::from_f64)
    };
    dy.chunks_exact(classes).flat_map(sample).collect()
}

/// `dw[k,c] = sum of dy[n,k] * x[n,c]`.
pub(super) fn linear_weight_grad<R: Real>(x: View<'_, R>, dy: View<'_, R>) -> Vec<R> {
    let (features, classes) = (x.channels(), dy.channels());
    let (x, dy) = (widen(x.values), widen(dy.values));
    let class = |k: usize| {
        let mut dw = vec![0.0; features];
        for (x, dy) in x.chunks_exact(features).zip(dy.chunks_exact(classes)) {
            add_scaled(&mut dw, dy[k], x);
        }
        dw.into_iter().map(R::from_f64)
    };
    (0..classes).flat_map(class).collect()
}
