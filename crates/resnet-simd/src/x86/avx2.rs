//! AVX2 with fused multiply-add: eight lanes, sixteen registers.

use std::arch::x86_64::*;

use half::bf16;

use crate::Simd;

/// Proof that the CPU has AVX2 and FMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Avx2(());

impl Avx2 {
    /// The token, if the CPU has the instructions.
    pub fn detect() -> Option<Avx2> {
        // The same list as `isa::run_avx2` enables.
        let has = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        has.then_some(Avx2(()))
    }

    /// The token of a CPU that is known to have the instructions.
    pub(super) fn of_avx512(_: super::avx512::Avx512) -> Avx2 {
        Avx2(())
    }
}

/// The sum of eight lanes, halves first.
///
/// # Safety
/// The CPU has AVX.
#[inline(always)]
pub(crate) unsafe fn sum8(a: __m256) -> f32 {
    // SAFETY: the caller promises AVX; SSE is part of x86-64.
    unsafe {
        let b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
        let c = _mm_add_ps(b, _mm_movehl_ps(b, b));
        _mm_cvtss_f32(_mm_add_ss(c, _mm_shuffle_ps::<1>(c, c)))
    }
}

/// A mask for `maskload`: the first `n` of eight lanes.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
unsafe fn first_lanes(n: usize) -> __m256i {
    // SAFETY: the caller promises AVX2.
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), lane)
    }
}

/// Eight numbers of bf16 as f32: their bits are the upper halves.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn widen8(x: __m128i) -> __m256 {
    // SAFETY: the caller promises the instructions.
    unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(x))) }
}

/// Bits of the nearest numbers whose lower halves are zero, ties to even; a NaN is made quiet.
///
/// # Safety
/// The CPU has AVX2.
#[inline(always)]
pub(super) unsafe fn round8(v: __m256) -> __m256i {
    // SAFETY: the caller promises the instructions.
    unsafe {
        let bits = _mm256_castps_si256(v);
        let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
        let half = _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff));
        let rounded = _mm256_add_epi32(bits, half);
        let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
        let is_nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
        let chosen = _mm256_blendv_epi8(rounded, quiet, is_nan);
        _mm256_and_si256(chosen, _mm256_set1_epi32(0xffff_0000_u32 as i32))
    }
}

impl Simd for Avx2 {
    type F32 = __m256;
    type Half = Avx2;
    const LANES: usize = 8;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn half(self) -> Avx2 {
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
        // SAFETY: the mask admits only lanes inside `x`; lanes masked out are not read.
        unsafe { _mm256_maskload_ps(x.as_ptr(), first_lanes(x.len().min(8))) }
    }

    #[inline(always)]
    fn store_partial(self, v: Self::F32, y: &mut [f32]) {
        // SAFETY: the mask admits only lanes inside `y`; lanes masked out are not written.
        unsafe { _mm256_maskstore_ps(y.as_mut_ptr(), first_lanes(y.len().min(8)), v) }
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
            let v = _mm256_cvtps_epi32(v);
            let words =
                _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256::<1>(v));
            _mm_storel_epi64(y.as_mut_ptr().cast(), _mm_packus_epi16(words, words));
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
        // SAFETY: the caller promises 8 readable numbers of two bytes.
        unsafe { widen8(_mm_loadu_si128(p.cast())) }
    }

    #[inline(always)]
    unsafe fn store_bf16(self, v: Self::F32, p: *mut bf16) {
        // SAFETY: the caller promises 8 writable numbers of two bytes.
        unsafe {
            let upper = _mm256_srli_epi32::<16>(round8(v));
            // Halves of four, then both beside each other.
            let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(upper, upper));
            _mm_storeu_si128(p.cast(), _mm256_castsi256_si128(packed));
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
        unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_GT_OQ>(a, b)) }
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        // SAFETY: the token proves the instructions.
        unsafe { sum8(a) }
    }
}
