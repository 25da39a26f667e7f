//! Dot products by AVX2: pairs of products in 16 bits, pairs of those in 32.

use std::arch::x86_64::*;

use super::avx2::Avx2;
use crate::Dot;

/// Which of sixteen bytes each 128 bits of a pair's first vector are, as floats: -1 gives 0.
const FIRST: [i8; 32] = [
    0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1, //
    4, -1, -1, -1, 5, -1, -1, -1, 6, -1, -1, -1, 7, -1, -1, -1,
];
/// And of its second one.
const SECOND: [i8; 32] = [
    8, -1, -1, -1, 9, -1, -1, -1, 10, -1, -1, -1, 11, -1, -1, -1, //
    12, -1, -1, -1, 13, -1, -1, -1, 14, -1, -1, -1, 15, -1, -1, -1,
];
/// Fours of channels of two narrowed pairs, in the order of the channels.
const SORTED: [i32; 8] = [0, 4, 1, 5, 2, 6, 3, 7];

/// Sixteen bytes times `factor`, in the order of a pair.
///
/// # Safety
/// The CPU has AVX2; sixteen bytes are readable.
#[inline(always)]
pub(super) unsafe fn load_scaled8(p: *const u8, factor: __m256) -> [__m256; 2] {
    // SAFETY: the caller promises instructions and memory.
    unsafe {
        let bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(p.cast()));
        let first = _mm256_shuffle_epi8(bytes, _mm256_loadu_si256(FIRST.as_ptr().cast()));
        let second = _mm256_shuffle_epi8(bytes, _mm256_loadu_si256(SECOND.as_ptr().cast()));
        [
            _mm256_mul_ps(_mm256_cvtepi32_ps(first), factor),
            _mm256_mul_ps(_mm256_cvtepi32_ps(second), factor),
        ]
    }
}

/// Writes two pairs as sixteen bytes each, rounded and clamped.
///
/// # Safety
/// The CPU has AVX2; sixteen bytes are writable at both.
#[inline(always)]
pub(super) unsafe fn store_pairs8([a, b]: [[__m256; 2]; 2], to: [*mut u8; 2]) {
    // SAFETY: the caller promises instructions and memory.
    unsafe {
        let a = _mm256_packs_epi32(_mm256_cvtps_epi32(a[0]), _mm256_cvtps_epi32(a[1]));
        let b = _mm256_packs_epi32(_mm256_cvtps_epi32(b[0]), _mm256_cvtps_epi32(b[1]));
        let sorted = _mm256_loadu_si256(SORTED.as_ptr().cast());
        let bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(a, b), sorted);
        _mm_storeu_si128(to[0].cast(), _mm256_castsi256_si128(bytes));
        _mm_storeu_si128(to[1].cast(), _mm256_extracti128_si256::<1>(bytes));
    }
}

impl Dot for Avx2 {
    type Floats = Avx2;
    type I32 = __m256i;
    type Bytes = __m256i;
    const SUMS: usize = 8;

    #[inline(always)]
    fn floats(self) -> Avx2 {
        self
    }

    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> __m256i {
        // SAFETY: the caller promises eight readable sums.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline(always)]
    unsafe fn splat4(self, p: *const u8) -> __m256i {
        // SAFETY: the caller promises four readable bytes.
        unsafe { _mm256_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> __m256i {
        // SAFETY: the caller promises 32 readable bytes.
        unsafe { _mm256_loadu_si256(p.cast()) }
    }

    #[inline(always)]
    fn dot(self, sum: __m256i, bytes: __m256i, weights: __m256i) -> __m256i {
        // SAFETY: the token proves the instructions.
        unsafe {
            let pairs = _mm256_maddubs_epi16(bytes, weights);
            _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    #[inline(always)]
    fn to_f32(self, sum: __m256i) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_cvtepi32_ps(sum) }
    }

    #[inline(always)]
    unsafe fn load_scaled(self, p: *const u8, factor: __m256) -> [__m256; 2] {
        // SAFETY: the token proves the instructions; the caller promises sixteen readable bytes.
        unsafe { load_scaled8(p, factor) }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, pairs: [[__m256; 2]; 2], to: [*mut u8; 2]) {
        // SAFETY: the token proves the instructions; the caller promises sixteen writable bytes at
        // both.
        unsafe { store_pairs8(pairs, to) }
    }
}
