//! Products of two bf16 a word by AVX-512 BF16.

use std::arch::x86_64::*;
use std::mem::transmute;
use std::sync::OnceLock;

use super::avx512::Avx512;
use crate::Words;

/// Proof that the CPU has AVX-512 BF16 beside what [`Avx512`] proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bf16Pairs(Avx512);

impl Bf16Pairs {
    /// The token, if the CPU has the instructions.
    pub fn detect(avx512: Avx512) -> Option<Bf16Pairs> {
        // The same as `words::run_bf16_pairs` enables.
        is_x86_feature_detected!("avx512bf16").then_some(Bf16Pairs(avx512))
    }
}

/// Whether the processor says that AMD made it.
pub(crate) fn is_amd() -> bool {
    static AMD: OnceLock<bool> = OnceLock::new();
    *AMD.get_or_init(|| {
        let vendor = __cpuid(0);
        [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
    })
}

impl Words for Bf16Pairs {
    type Floats = Avx512;

    #[inline(always)]
    fn floats(self) -> Avx512 {
        self.0
    }

    #[inline(always)]
    fn multiply_add(self, x: __m512, w: __m512, sum: __m512) -> __m512 {
        // SAFETY: the token proves the instructions; both types are 512 bits without a meaning.
        unsafe {
            let x = transmute::<__m512, __m512bh>(x);
            let w = transmute::<__m512, __m512bh>(w);
            _mm512_dpbf16_ps(sum, x, w)
        }
    }
}
