//! Dot products by AVX-512 VNNI: one instruction for four products a sum.

use std::arch::x86_64::*;

use super::avx512::{Avx512, Avx512Narrow};
use super::dot_avx2::{load_scaled8, store_pairs8};
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

/// Which of sixteen bytes each 128 bits of a pair's first vector are, every one at the place of a
/// float's lowest byte; the others are not looked at.
const FIRST: [i8; 64] = spread([0, 0, 4, 4]);
/// And of its second one.
const SECOND: [i8; 64] = spread([8, 8, 12, 12]);
/// The lowest byte of each float.
const LOWEST: u64 = 0x1111_1111_1111_1111;
/// Fours of channels of two narrowed pairs, in the order of the channels.
const SORTED: [i32; 16] = [0, 8, 1, 9, 4, 12, 5, 13, 2, 10, 3, 11, 6, 14, 7, 15];
/// A float whose lowest byte may be any number: it counts that much more.
const BASE: f32 = 8_388_608.0;

/// Four bytes from each `start` on, one for each float of 128 bits.
const fn spread(start: [i8; 4]) -> [i8; 64] {
    let (mut all, mut float) = ([0; 64], 0);
    while float < 16 {
        all[4 * float] = start[float / 4] + (float % 4) as i8;
        float += 1;
    }
    all
}

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
    unsafe fn load_scaled(self, p: *const u8, factor: __m512) -> [__m512; 2] {
        // SAFETY: the token proves the instructions; the caller promises 32 readable bytes.
        unsafe {
            let bytes = _mm512_broadcast_i64x4(_mm256_loadu_si256(p.cast()));
            let base = _mm512_castps_si512(_mm512_set1_ps(BASE));
            let first = _mm512_loadu_si512(FIRST.as_ptr().cast());
            let second = _mm512_loadu_si512(SECOND.as_ptr().cast());
            let first = _mm512_mask_shuffle_epi8(base, LOWEST, bytes, first);
            let second = _mm512_mask_shuffle_epi8(base, LOWEST, bytes, second);
            // (BASE + byte) * factor - BASE * factor, whose last term is exact, rounded once.
            let less = _mm512_mul_ps(_mm512_set1_ps(-BASE), factor);
            [
                _mm512_fmadd_ps(_mm512_castsi512_ps(first), factor, less),
                _mm512_fmadd_ps(_mm512_castsi512_ps(second), factor, less),
            ]
        }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, [a, b]: [[__m512; 2]; 2], to: [*mut u8; 2]) {
        // SAFETY: the token proves the instructions; the caller promises 32 writable bytes at both.
        unsafe {
            let a = _mm512_packs_epi32(_mm512_cvtps_epi32(a[0]), _mm512_cvtps_epi32(a[1]));
            let b = _mm512_packs_epi32(_mm512_cvtps_epi32(b[0]), _mm512_cvtps_epi32(b[1]));
            let sorted = _mm512_loadu_si512(SORTED.as_ptr().cast());
            let bytes = _mm512_permutexvar_epi32(sorted, _mm512_packus_epi16(a, b));
            _mm256_storeu_si256(to[0].cast(), _mm512_castsi512_si256(bytes));
            _mm256_storeu_si256(to[1].cast(), _mm512_extracti64x4_epi64::<1>(bytes));
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
    unsafe fn load_scaled(self, p: *const u8, factor: __m256) -> [__m256; 2] {
        // SAFETY: the token proves AVX2 too; the caller promises sixteen readable bytes.
        unsafe { load_scaled8(p, factor) }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, pairs: [[__m256; 2]; 2], to: [*mut u8; 2]) {
        // SAFETY: the token proves AVX2 too; the caller promises sixteen writable bytes at both.
        unsafe { store_pairs8(pairs, to) }
    }
}
