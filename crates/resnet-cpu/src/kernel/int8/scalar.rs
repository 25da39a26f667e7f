//! The scalar twin: convolution on bytes straight from the equation.

use resnet_core::int8::requantize;

use super::plan::Int8Output;
use crate::kernel::conv::ConvShape;

/// `y` from `x` (NHWC), `w` (OIHW), offsets and multipliers; what lies outside the picture is `padding`.
/// Real numbers are given by their bits where the output is [`Int8Output::Floats`].
pub fn int8_conv_scalar(
    shape: &ConvShape,
    x: &[u8],
    padding: &[u8],
    (w, offset, multiplier): (&[f32], &[f32], &[f32]),
    residual: Option<(&[u8], f32)>,
    output: Int8Output,
) -> Vec<u32> {
    let s = shape;
    let (cin_g, cout_g) = (s.cin / s.groups, s.cout / s.groups);
    let mut y = Vec::with_capacity(s.output_len());
    for pixel in 0..s.n * s.oh * s.ow {
        let (image, oy, ox) = (pixel / (s.oh * s.ow), pixel / s.ow % s.oh, pixel % s.ow);
        for co in 0..s.cout {
            let mut sum = offset[co] as i32;
            for tap in 0..s.kh * s.kw {
                let iy = (oy * s.stride + tap / s.kw * s.dilation).wrapping_sub(s.pad);
                let ix = (ox * s.stride + tap % s.kw * s.dilation).wrapping_sub(s.pad);
                for ci in 0..cin_g {
                    let channel = co / cout_g * cin_g + ci;
                    let inside = iy < s.ih && ix < s.iw;
                    let byte = if inside {
                        x[((image * s.ih + iy) * s.iw + ix) * s.cin + channel]
                    } else {
                        padding[channel]
                    };
                    let weight = w[(co * cin_g + ci) * s.kh * s.kw + tap] as i32;
                    sum += i32::from(byte) * weight;
                }
            }
            let residual = residual.map(|(bytes, factor)| (bytes[pixel * s.cout + co], factor));
            y.push(match output {
                Int8Output::Bytes => u32::from(requantize(sum, multiplier[co], residual)),
                Int8Output::Floats => (sum as f32 * multiplier[co]).to_bits(),
            });
        }
    }
    y
}
