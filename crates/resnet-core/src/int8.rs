//! Arithmetic of int8 inference: what every engine must do to the bit.
//!
//! Activations are bytes `q` that stand for `scale * (q - zero)`, weights whole numbers with one
//! scale for each output channel. Sums of products are exact in 32 bits. A sum becomes a byte by one
//! f32 product, with a residual by another and one addition, each rounded; there is no fused
//! multiply-add. Zero points, bias and the zero point of the result are part of the sum's offset.

use crate::op::Affine;

/// The largest weight: two products of a byte and a weight then add up to no more than
/// `2 * 255 * 64 < 2^15`, so that instruction sets which add pairs in 16 bits stay exact.
pub const MAX_WEIGHT: i8 = 64;

/// The nearest byte, ties to even; numbers beyond the last byte give the last, NaN gives 0.
pub fn round_to_byte(x: f32) -> u8 {
    // `as` takes NaN to 0 and clamps.
    x.round_ties_even() as u8
}

/// The byte that stands for `x`: `round(x * (1 / scale) + zero)`.
pub fn quantize(affine: Affine, x: f32) -> u8 {
    round_to_byte(x * (1.0 / affine.scale) + f32::from(affine.zero))
}

/// What a byte stands for.
pub fn dequantize(affine: Affine, q: u8) -> f32 {
    affine.scale * (f32::from(q) - f32::from(affine.zero))
}

/// The byte of an exact sum: `round(sum * multiplier (+ residual * factor))`.
///
/// Magnitudes before rounding must be less than `2^31`.
pub fn requantize(sum: i32, multiplier: f32, residual: Option<(u8, f32)>) -> u8 {
    let scaled = sum as f32 * multiplier;
    round_to_byte(match residual {
        None => scaled,
        Some((byte, factor)) => scaled + f32::from(byte) * factor,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ties_go_to_even_and_the_ends_clamp() {
        let halves = [-0.5, 0.5, 1.5, 2.5, 254.5, 255.5, 1e9, -7.0, f32::NAN];
        assert_eq!(halves.map(round_to_byte), [0, 0, 2, 2, 254, 255, 255, 0, 0]);
    }

    #[test]
    fn bytes_come_back_as_themselves() {
        let affine = Affine { scale: 0.037, zero: 113 };
        for q in 0..=255 {
            assert_eq!(quantize(affine, dequantize(affine, q)), q);
        }
    }

    #[test]
    fn the_sum_of_a_pair_of_products_fits_16_bits() {
        assert!(2 * 255 * i32::from(MAX_WEIGHT) <= i32::from(i16::MAX));
    }
}
