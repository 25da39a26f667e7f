//! Plain loops for kernels that are being written: loss, optimiser, max pool.

use resnet_core::op::{CrossEntropy, Sgd};

use crate::kernel::window::Windows;

pub(super) fn cross_entropy(
    spec: &CrossEntropy,
    classes: usize,
    logits: &[f32],
    labels: &[u32],
    loss: &mut f32,
    probabilities: &mut [f32],
) {
    let mut total = 0.0_f64;
    for ((z, p), &label) in
        logits.chunks(classes).zip(probabilities.chunks_mut(classes)).zip(labels)
    {
        let max = z.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
        let sum: f64 = z.iter().map(|&z| f64::from(z - max).exp()).sum();
        let log_sum = sum.ln() + f64::from(max);
        for (p, &z) in p.iter_mut().zip(z) {
            *p = (f64::from(z) - log_sum).exp() as f32;
        }
        let s = spec.label_smoothing;
        let uniform: f64 = z.iter().map(|&z| log_sum - f64::from(z)).sum::<f64>() / classes as f64;
        total += (1.0 - s) * (log_sum - f64::from(z[label as usize])) + s * uniform;
    }
    *loss = (total / spec.divisor as f64) as f32;
}

pub(super) fn cross_entropy_grad(
    spec: &CrossEntropy,
    classes: usize,
    probabilities: &[f32],
    labels: &[u32],
    dlogits: &mut [f32],
) {
    for ((p, d), &label) in
        probabilities.chunks(classes).zip(dlogits.chunks_mut(classes)).zip(labels)
    {
        for (k, (d, &p)) in d.iter_mut().zip(p).enumerate() {
            let s = spec.label_smoothing;
            let target = s / classes as f64 + if k == label as usize { 1.0 - s } else { 0.0 };
            *d = ((f64::from(p) - target) / spec.divisor as f64) as f32;
        }
    }
}

pub(super) fn sgd(
    sgd: &Sgd,
    w: &mut [f32],
    dw: &[f32],
    velocity: &mut [f32],
    hyper: &[f32],
    factor: f32,
) {
    let (lr, momentum, decay) = (hyper[0] * sgd.rate as f32, hyper[1], sgd.weight_decay as f32);
    for ((w, &dw), v) in w.iter_mut().zip(dw).zip(velocity) {
        let g = dw * factor + decay * *w;
        *v = momentum * *v + g;
        *w -= lr * if sgd.nesterov { g + momentum * *v } else { *v };
    }
}

pub(super) fn max_pool(w: &Windows, x: &[f32], y: &mut [f32], index: &mut [u8]) {
    let (k, s, pad) = (w.pool.kernel, w.pool.stride, w.pool.pad);
    for at in 0..w.n * w.oh * w.ow {
        let (n, oy, ox) = (at / (w.oh * w.ow), at / w.ow % w.oh, at % w.ow);
        let (y, index) = (&mut y[at * w.c..][..w.c], &mut index[at * w.c..][..w.c]);
        y.fill(f32::NEG_INFINITY);
        for ky in 0..k {
            for kx in 0..k {
                let (iy, ix) = ((oy * s + ky).wrapping_sub(pad), (ox * s + kx).wrapping_sub(pad));
                if iy < w.ih && ix < w.iw {
                    let x = &x[((n * w.ih + iy) * w.iw + ix) * w.c..][..w.c];
                    for ((y, index), &x) in y.iter_mut().zip(&mut *index).zip(x) {
                        if x > *y || x.is_nan() || *y == f32::NEG_INFINITY {
                            (*y, *index) = (x, (ky * k + kx) as u8);
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn max_pool_grad(w: &Windows, dy: &[f32], index: &[u8], dx: &mut [f32]) {
    let (k, s, pad) = (w.pool.kernel, w.pool.stride, w.pool.pad);
    dx.fill(0.0);
    for at in 0..w.n * w.oh * w.ow {
        let (n, oy, ox) = (at / (w.oh * w.ow), at / w.ow % w.oh, at % w.ow);
        for c in 0..w.c {
            let place = index[at * w.c + c] as usize;
            let (iy, ix) = (oy * s + place / k - pad, ox * s + place % k - pad);
            dx[((n * w.ih + iy) * w.iw + ix) * w.c + c] += dy[at * w.c + c];
        }
    }
}

pub(super) fn clip(max_norm: f64, squares: f64, factor: &mut [f32], norm: &mut [f32]) {
    let total = squares.sqrt();
    norm[0] = total as f32;
    factor[0] = (max_norm / (total + 1e-6)).min(1.0) as f32;
}
