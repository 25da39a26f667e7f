//! Dot products in plain Rust: the meaning of [`Dot`].

use crate::dot::pair_column;
use crate::{Dot, Portable};

const LANES: usize = 8;

impl Dot for Portable {
    type Floats = Portable;
    type I32 = [i32; LANES];
    type Bytes = [u8; 4 * LANES];
    const SUMS: usize = LANES;

    #[inline(always)]
    fn floats(self) -> Portable {
        self
    }

    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> Self::I32 {
        // SAFETY: the caller promises LANES readable sums.
        unsafe { p.cast::<Self::I32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn splat4(self, p: *const u8) -> Self::Bytes {
        // SAFETY: the caller promises four readable bytes.
        let four = unsafe { p.cast::<[u8; 4]>().read_unaligned() };
        std::array::from_fn(|i| four[i % 4])
    }

    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> Self::Bytes {
        // SAFETY: the caller promises 4 * LANES readable bytes.
        unsafe { p.cast::<Self::Bytes>().read_unaligned() }
    }

    #[inline(always)]
    fn dot(self, sum: Self::I32, bytes: Self::Bytes, weights: Self::Bytes) -> Self::I32 {
        std::array::from_fn(|lane| {
            let product = |i: usize| i32::from(bytes[i]) * i32::from(weights[i] as i8);
            (4 * lane..4 * lane + 4).fold(sum[lane], |sum, i| sum + product(i))
        })
    }

    #[inline(always)]
    fn to_f32(self, sum: Self::I32) -> [f32; LANES] {
        sum.map(|sum| sum as f32)
    }

    #[inline(always)]
    unsafe fn load_scaled(self, p: *const u8, factor: [f32; LANES]) -> [[f32; LANES]; 2] {
        // SAFETY: the caller promises 2 * LANES readable bytes.
        let bytes = unsafe { p.cast::<[u8; 2 * LANES]>().read_unaligned() };
        let mut pair = [[0.0; LANES]; 2];
        for (channel, &byte) in bytes.iter().enumerate() {
            let column = pair_column(LANES, channel);
            pair[column / LANES][column % LANES] = f32::from(byte) * factor[column % LANES];
        }
        pair
    }

    #[inline(always)]
    unsafe fn store_pairs(self, pairs: [[[f32; LANES]; 2]; 2], to: [*mut u8; 2]) {
        for (pair, to) in pairs.iter().zip(to) {
            let bytes: [u8; 2 * LANES] = std::array::from_fn(|channel| {
                let column = pair_column(LANES, channel);
                // `as` clamps.
                pair[column / LANES][column % LANES].round_ties_even() as u8
            });
            // SAFETY: the caller promises 2 * LANES writable bytes.
            unsafe { to.cast::<[u8; 2 * LANES]>().write_unaligned(bytes) };
        }
    }
}
