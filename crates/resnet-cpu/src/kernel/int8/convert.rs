//! From real numbers to bytes and back.

use resnet_core::int8;
use resnet_core::op::Affine;

use crate::threads::ThreadPool;

/// Elements of a part.
const PART: usize = 1 << 14;

/// The byte of each number.
///
/// # Panics
/// If the lengths differ.
pub fn quantize(pool: &ThreadPool, affine: Affine, x: &[f32], y: &mut [u8]) {
    assert_eq!(x.len(), y.len());
    pool.run_parts(y, PART, |part, y| {
        for (y, &x) in y.iter_mut().zip(&x[part * PART..]) {
            *y = int8::quantize(affine, x);
        }
    });
}

/// What each byte stands for.
///
/// # Panics
/// If the lengths differ.
pub fn dequantize(pool: &ThreadPool, affine: Affine, x: &[u8], y: &mut [f32]) {
    assert_eq!(x.len(), y.len());
    pool.run_parts(y, PART, |part, y| {
        for (y, &x) in y.iter_mut().zip(&x[part * PART..]) {
            *y = int8::dequantize(affine, x);
        }
    });
}
