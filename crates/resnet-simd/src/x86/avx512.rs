//! AVX-512: sixteen lanes, thirty-two registers; and the eight-lane form of the same registers.

use std::arch::x86_64::*;

use half::bf16;

use super::avx2::{Avx2, round8, sum8, widen8};
use crate::Simd;

/// Proof that the CPU has AVX-512 F, BW, DQ and VL (and AVX2 and FMA, which come with them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512(());

/// Eight lanes under AVX-512 VL: half the cost of sixteen where the hardware is 256 bits wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx512Narrow(());

impl Avx512 {
    /// The token, if the CPU has the instructions.
    pub fn detect() -> Option<Avx512> {
        // The same list as `isa::run_avx512` enables.
        let has = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma");
        has.then_some(Avx512(()))
    }

    /// The token of the narrower instruction set that comes with this one.
    pub fn avx2(self) -> Avx2 {
        Avx2::of_avx512(self)
    }
}

/// The lowest `n <= 16` bits.
#[inline(always)]
fn first_lanes(n: usize) -> u32 {
    (1u32 << n) - 1
}

/// Bits of the nearest numbers whose lower halves are zero, ties to even; a NaN is made quiet.
///
/// # Safety
/// The CPU has AVX-512 F.
#[inline(always)]
unsafe fn round16(v: __m512) -> __m512i {
    // SAFETY: the caller promises the instructions.
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let half = _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff));
        let is_nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
        let rounded = _mm512_add_epi32(bits, half);
        let quiet = _mm512_set1_epi32(0x0040_0000);
        let chosen = _mm512_mask_or_epi32(rounded, is_nan, bits, quiet);
        _mm512_and_si512(chosen, _mm512_set1_epi32(0xffff_0000_u32 as i32))
    }
}

impl Simd for Avx512 {
    type F32 = __m512;
    type Half = Avx512Narrow;
    const LANES: usize = 16;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn half(self) -> Avx512Narrow {
        Avx512Narrow(())
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F32 {
        assert!(16 <= x.len());
        // SAFETY: checked above; loadu needs no alignment.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: Self::F32, y: &mut [f32]) {
        assert!(16 <= y.len());
        // SAFETY: checked above; storeu needs no alignment.
        unsafe { _mm512_storeu_ps(y.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> Self::F32 {
        let mask = first_lanes(x.len().min(16)) as __mmask16;
        // SAFETY: the mask admits only lanes inside `x`; lanes masked out are not read.
        unsafe { _mm512_maskz_loadu_ps(mask, x.as_ptr()) }
    }

    #[inline(always)]
    fn store_partial(self, v: Self::F32, y: &mut [f32]) {
        let mask = first_lanes(y.len().min(16)) as __mmask16;
        // SAFETY: the mask admits only lanes inside `y`; lanes masked out are not written.
        unsafe { _mm512_mask_storeu_ps(y.as_mut_ptr(), mask, v) }
    }

    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> Self::F32 {
        assert!(16 <= x.len());
        // SAFETY: checked above: sixteen bytes are readable.
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(x.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn store_u8(self, v: Self::F32, y: &mut [u8]) {
        assert!(16 <= y.len());
        // SAFETY: the token proves the instructions; checked above: sixteen bytes are writable.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
            _mm_storeu_si128(y.as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> Self::F32 {
        // SAFETY: the caller promises 16 readable floats.
        unsafe { _mm512_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the caller promises 16 writable floats.
        unsafe { _mm512_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn stream_ptr(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the caller promises 16 writable floats, aligned to 64 bytes.
        unsafe { _mm512_stream_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn splat_pair(self, p: *const f32) -> Self::F32 {
        // SAFETY: the caller promises 2 readable floats.
        unsafe {
            let pair = _mm_castsi128_pd(_mm_loadl_epi64(p.cast()));
            _mm512_castpd_ps(_mm512_broadcastsd_pd(pair))
        }
    }

    #[inline(always)]
    unsafe fn load_pairs(self, p: *const f32, q: *const f32) -> Self::F32 {
        // SAFETY: the caller promises 8 readable floats at both.
        unsafe {
            let of_p = _mm512_castps256_ps512(_mm256_loadu_ps(p));
            let of_q = _mm512_castps256_ps512(_mm256_loadu_ps(q));
            // Lane 16 + i is lane i of the second operand.
            let in_turn = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            _mm512_permutex2var_ps(of_p, in_turn, of_q)
        }
    }

    #[inline(always)]
    unsafe fn store_pair_sums(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the token proves the instructions; the caller promises 8 writable floats.
        unsafe {
            let sums = _mm512_add_ps(v, _mm512_permute_ps::<0b10_11_00_01>(v));
            let even = _mm512_castps512_ps256(_mm512_maskz_compress_ps(0x5555, sums));
            _mm256_storeu_ps(p, even);
        }
    }

    #[inline(always)]
    unsafe fn store_pairs(self, v: Self::F32, p: *mut f32, q: *mut f32) {
        // SAFETY: the token proves the instructions; the caller promises 8 writable floats at both.
        unsafe {
            _mm256_storeu_ps(p, _mm512_castps512_ps256(_mm512_maskz_compress_ps(0x5555, v)));
            _mm256_storeu_ps(q, _mm512_castps512_ps256(_mm512_maskz_compress_ps(0xaaaa, v)));
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F32 {
        // SAFETY: the caller promises 16 readable numbers of two bytes, the upper halves of floats.
        unsafe {
            let x = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(x))
        }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, v: Self::F32, p: *mut bf16) {
        // SAFETY: the caller promises 16 writable numbers of two bytes.
        unsafe {
            let upper = _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(round16(v)));
            _mm256_storeu_si256(p.cast(), upper);
        }
    }

    #[inline(always)]
    fn round_bf16(self, v: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_castsi512_ps(round16(v)) }
    }

    #[inline(always)]
    fn fence(self) {
        // SAFETY: a fence touches no memory.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    fn prefetch_far(self, p: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions. `maxps` is `a > b ? a : b`.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions. `minps` is `a < b ? a : b`.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm512_sqrt_ps(a) }
    }

    #[inline(always)]
    fn select_gt(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions. An ordered compare is false for NaN.
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x) }
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        // SAFETY: the token proves the instructions.
        unsafe {
            let high = _mm512_extractf32x8_ps::<1>(a);
            sum8(_mm256_add_ps(_mm512_castps512_ps256(a), high))
        }
    }
}

impl Simd for Avx512Narrow {
    type F32 = __m256;
    type Half = Avx512Narrow;
    const LANES: usize = 8;
    const REGISTERS: usize = 32;

    #[inline(always)]
    fn half(self) -> Avx512Narrow {
        self
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F32 {
        assert!(8 <= x.len());
        // SAFETY: checked above; loadu needs no alignment.
        unsafe { _mm256_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, v: Self::F32, y: &mut [f32]) {
        assert!(8 <= y.len());
        // SAFETY: checked above; storeu needs no alignment.
        unsafe { _mm256_storeu_ps(y.as_mut_ptr(), v) }
    }

    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> Self::F32 {
        let mask = first_lanes(x.len().min(8)) as __mmask8;
        // SAFETY: the mask admits only lanes inside `x`; lanes masked out are not read.
        unsafe { _mm256_maskz_loadu_ps(mask, x.as_ptr()) }
    }

    #[inline(always)]
    fn store_partial(self, v: Self::F32, y: &mut [f32]) {
        let mask = first_lanes(y.len().min(8)) as __mmask8;
        // SAFETY: the mask admits only lanes inside `y`; lanes masked out are not written.
        unsafe { _mm256_mask_storeu_ps(y.as_mut_ptr(), mask, v) }
    }

    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> Self::F32 {
        assert!(8 <= x.len());
        // SAFETY: checked above: eight bytes are readable.
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(x.as_ptr().cast()))) }
    }

    #[inline(always)]
    fn store_u8(self, v: Self::F32, y: &mut [u8]) {
        assert!(8 <= y.len());
        // SAFETY: the token proves the instructions; checked above: eight bytes are writable.
        unsafe {
            let bytes = _mm256_cvtepi32_epi8(_mm256_cvtps_epi32(v));
            _mm_storel_epi64(y.as_mut_ptr().cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> Self::F32 {
        // SAFETY: the caller promises 8 readable floats.
        unsafe { _mm256_loadu_ps(p) }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the caller promises 8 writable floats.
        unsafe { _mm256_storeu_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn stream_ptr(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the caller promises 8 writable floats, aligned to 32 bytes.
        unsafe { _mm256_stream_ps(p, v) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F32 {
        // SAFETY: the caller promises 8 readable numbers; AVX-512 VL comes with AVX2.
        unsafe { widen8(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, v: Self::F32, p: *mut bf16) {
        // SAFETY: the caller promises 8 writable numbers; the token proves the instructions.
        unsafe {
            let upper = _mm256_cvtepi32_epi16(_mm256_srli_epi32::<16>(round8(v)));
            _mm_storeu_si128(p.cast(), upper);
        }
    }

    #[inline(always)]
    fn round_bf16(self, v: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_castsi256_ps(round8(v)) }
    }

    #[inline(always)]
    fn fence(self) {
        // SAFETY: a fence touches no memory.
        unsafe { _mm_sfence() }
    }

    #[inline(always)]
    fn prefetch(self, p: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(p.cast()) }
    }

    #[inline(always)]
    fn prefetch_far(self, p: *const f32) {
        // SAFETY: a prefetch of any address is harmless.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
    }

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_add_ps(a, b) }
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_sub_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_mul_ps(a, b) }
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_div_ps(a, b) }
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions. `maxps` is `a > b ? a : b`.
        unsafe { _mm256_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions. `minps` is `a < b ? a : b`.
        unsafe { _mm256_min_ps(a, b) }
    }

    #[inline(always)]
    fn sqrt(self, a: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions.
        unsafe { _mm256_sqrt_ps(a) }
    }

    #[inline(always)]
    fn select_gt(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        // SAFETY: the token proves the instructions. An ordered compare is false for NaN.
        unsafe { _mm256_mask_blend_ps(_mm256_cmp_ps_mask::<_CMP_GT_OQ>(a, b), y, x) }
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        // SAFETY: the token proves the instructions.
        unsafe { sum8(a) }
    }
}
