//! Dot products by AVX2: pairs of products in 16 bits, pairs of those in 32.

use std::arch::x86_64::*;

use super::avx2::Avx2;
use crate::Dot;

/// Where the bytes of a pair's two vectors are within 128 bits; -1 gives 0.
pub(super) const FIRST: [i8; 16] = [0, -1, -1, -1, 1, -1, -1, -1, 2, -1, -1, -1, 3, -1, -1, -1];
pub(super) const SECOND: [i8; 16] = [4, -1, -1, -1, 5, -1, -1, -1, 6, -1, -1, -1, 7, -1, -1, -1];

/// Sixteen bytes as floats, in the order of a pair.
///
/// # Safety
/// The CPU has AVX2; sixteen bytes are readable.
#[inline(always)]
pub(super) unsafe fn load_pair8(p: *const u8) -> [__m256; 2] {
    // SAFETY: the caller promises instructions and memory.
    unsafe {
        let bytes = _mm256_castsi128_si256(_mm_loadu_si128(p.cast()));
        // Eight bytes in the lower half of each 128 bits.
        let spread = _mm256_permute4x64_epi64::<0b01_01_00_00>(bytes);
        [FIRST, SECOND].map(|from| {
            let from = _mm256_broadcastsi128_si256(_mm_loadu_si128(from.as_ptr().cast()));
            _mm256_cvtepi32_ps(_mm256_shuffle_epi8(spread, from))
        })
    }
}

/// Writes a pair as sixteen bytes, rounded and clamped.
///
/// # Safety
/// The CPU has AVX2; sixteen bytes are writable.
#[inline(always)]
pub(super) unsafe fn store_pair8(pair: [__m256; 2], p: *mut u8) {
    // SAFETY: the caller promises instructions and memory.
    unsafe {
        let [a, b] = pair.map(|v| _mm256_cvtps_epi32(v));
        let words = _mm256_packs_epi32(a, b);
        let bytes = _mm256_packus_epi16(words, words);
        let sorted = _mm256_permute4x64_epi64::<0b11_01_10_00>(bytes);
        _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(sorted));
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
    unsafe fn load_pair(self, p: *const u8) -> [__m256; 2] {
        // SAFETY: the token proves the instructions; the caller promises sixteen readable bytes.
        unsafe { load_pair8(p) }
    }

    #[inline(always)]
    unsafe fn store_pair(self, pair: [__m256; 2], p: *mut u8) {
        // SAFETY: the token proves the instructions; the caller promises sixteen writable bytes.
        unsafe { store_pair8(pair, p) }
    }
}
