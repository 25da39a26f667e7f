//! The scalar twins: convolution and its gradients straight from the equation, summed in `f64`.
//!
//! They read canonical weights (OIHW), and define what the vector versions compute. An f32 chain of
//! `k` multiply-adds differs from them by at most about `k·ε·Σ|x·w|`.

use super::ConvShape;

/// Calls `f(x index, w index, y index)` for every product of the convolution.
fn each_product(shape: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    let s = shape;
    let (cin_g, cout_g) = (s.cin / s.groups, s.cout / s.groups);
    for y_pixel in 0..s.n * s.oh * s.ow {
        let (image, oy, ox) = (y_pixel / (s.oh * s.ow), y_pixel / s.ow % s.oh, y_pixel % s.ow);
        for tap in 0..s.kh * s.kw {
            let (iy, ix) = (s.input_at(oy, tap / s.kw), s.input_at(ox, tap % s.kw));
            if iy < 0 || ix < 0 || s.ih as isize <= iy || s.iw as isize <= ix {
                continue;
            }
            let x_pixel = (image * s.ih + iy as usize) * s.iw + ix as usize;
            for co in 0..s.cout {
                for ci in 0..cin_g {
                    let x = x_pixel * s.cin + co / cout_g * cin_g + ci;
                    f(x, (co * cin_g + ci) * s.kh * s.kw + tap, y_pixel * s.cout + co);
                }
            }
        }
    }
}

fn rounded(sums: Vec<f64>) -> Vec<f32> {
    sums.into_iter().map(|sum| sum as f32).collect()
}

/// `y` from `x` (NHWC) and `w` (OIHW). What the forward convolution means.
pub fn conv_forward_scalar(shape: &ConvShape, x: &[f32], w: &[f32]) -> Vec<f32> {
    let mut y = vec![0.0; shape.output_len()];
    each_product(shape, |xi, wi, yi| y[yi] += f64::from(x[xi]) * f64::from(w[wi]));
    rounded(y)
}

/// `dx` from `dy` (NHWC) and `w` (OIHW). What the input gradient means.
pub fn conv_input_gradient_scalar(shape: &ConvShape, dy: &[f32], w: &[f32]) -> Vec<f32> {
    let mut dx = vec![0.0; shape.input_len()];
    each_product(shape, |xi, wi, yi| dx[xi] += f64::from(dy[yi]) * f64::from(w[wi]));
    rounded(dx)
}

/// `dw` (OIHW) from `x` and `dy` (NHWC). What the weight gradient means.
pub fn conv_weight_gradient_scalar(shape: &ConvShape, x: &[f32], dy: &[f32]) -> Vec<f32> {
    let mut dw = vec![0.0; shape.weight_len()];
    each_product(shape, |xi, wi, yi| dw[wi] += f64::from(x[xi]) * f64::from(dy[yi]));
    rounded(dw)
}
