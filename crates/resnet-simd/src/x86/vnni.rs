//! Dot products by AVX-512 VNNI: one instruction for four products a sum.

use std::arch::x86_64::*;

use super::avx512::{Avx512, Avx512Narrow};
use super::dot_avx2::{FIRST, SECOND, load_pair8, store_pair8};
use crate::{Dot, Simd};

/// Proof that the CPU has AVX-512 VNNI beside what [`Avx512`] proves. Sixteen sums a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vnni(Avx512);

/// Eight sums a vector, for few channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VnniNarrow(Avx512Narrow);

impl Vnni {
    /// The token, if the CPU has the instructions.
    pub fn detect(avx512: Avx512) -> Option<Vnni> {
        // The same as `isa::run_vnni` enables.
        is_x86_feature_detected!("avx512vnni").then_some(Vnni(avx512))
    }

    /// The token of the half-width vectors.
    #[inline(always)]
    pub fn narrow(self) -> VnniNarrow {
        VnniNarrow(self.0.half())
    }
}

/// Eight bytes in the lower half of each 128 bits: which 64 bits go where.
const SPREAD: [i64; 8] = [0, 0, 1, 1, 2, 2, 3, 3];
/// The first half of each 128 bits.
const GATHER: [i64; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

impl Dot for Vnni {
    type Floats = Avx512;
    type I32 = __m512i;
    type Bytes = __m512i;
    const SUMS: usize = 16;

    #[inline(always)]
    fn floats(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> __m512i {
        // SAFETY: the caller promises sixteen readable sums.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    unsafe fn splat4(self, p: *const u8) -> __m512i {
        // SAFETY: the caller promises four readable bytes.
        unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> __m512i {
        // SAFETY: the caller promises 64 readable bytes.
        unsafe { _mm512_loadu_si512(p.cast()) }
    }

    #[inline(always)]
    fn dot(self, sum: __m512i, bytes: __m512i, weights: __m512i) -> __m512i {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_dpbusd_epi32(sum, bytes, weights) }
    }

    #[inline(always)]
    fn to_f32(self, sum: __m512i) -> __m512 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_cvtepi32_ps(sum) }
    }

    #[inline(always)]
    unsafe fn load_pair(self, p: *const u8) -> [__m512; 2] {
        // SAFETY: the token proves the instructions; the caller promises 32 readable bytes.
        unsafe {
            let bytes = _mm512_castsi256_si512(_mm256_loadu_si256(p.cast()));
            let spread =
                _mm512_permutexvar_epi64(_mm512_loadu_si512(SPREAD.as_ptr().cast()), bytes);
            [FIRST, SECOND].map(|from| {
                let from = _mm512_broadcast_i32x4(_mm_loadu_si128(from.as_ptr().cast()));
                _mm512_cvtepi32_ps(_mm512_shuffle_epi8(spread, from))
            })
        }
    }

    #[inline(always)]
    unsafe fn store_pair(self, pair: [__m512; 2], p: *mut u8) {
        // SAFETY: the token proves the instructions; the caller promises 32 writable bytes.
        unsafe {
            let [a, b] = pair.map(|v| _mm512_cvtps_epi32(v));
            let words = _mm512_packs_epi32(a, b);
            let bytes = _mm512_packus_epi16(words, words);
            let sorted =
                _mm512_permutexvar_epi64(_mm512_loadu_si512(GATHER.as_ptr().cast()), bytes);
            _mm256_storeu_si256(p.cast(), _mm512_castsi512_si256(sorted));
        }
    }
}

impl Dot for VnniNarrow {
    type Floats = Avx512Narrow;
    type I32 = __m256i;
    type Bytes = __m256i;
    const SUMS: usize = 8;

    #[inline(always)]
    fn floats(self) -> Avx512Narrow {
        self.0
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
        unsafe { _mm256_dpbusd_epi32(sum, bytes, weights) }
    }

    #[inline(always)]
    fn to_f32(self, sum: __m256i) -> __m256 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_cvtepi32_ps(sum) }
    }

    #[inline(always)]
    unsafe fn load_pair(self, p: *const u8) -> [__m256; 2] {
        // SAFETY: the token proves AVX2 too; the caller promises sixteen readable bytes.
        unsafe { load_pair8(p) }
    }

    #[inline(always)]
    unsafe fn store_pair(self, pair: [__m256; 2], p: *mut u8) {
        // SAFETY: the token proves AVX2 too; the caller promises sixteen writable bytes.
        unsafe { store_pair8(pair, p) }
    }
}
