//! CPU features as tokens, vector types and aligned buffers.
//!
//! A kernel is written once over [`Simd`] and run by [`Isa::run`], which is the only place where
//! instruction sets beyond the target's baseline are switched on. The tokens ([`Portable`], `Avx2`,
//! `Avx512`) are zero-size proofs: whoever holds one may use its instructions.

mod aligned;
mod dot;
mod element;
mod isa;
mod portable;
mod portable_dot;
mod simd;
mod words;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use aligned::AlignedVec;
pub use dot::{Dot, pair_column};
pub use element::{Element, Stored};
pub use half::bf16;
pub use isa::{DotKernel, Isa, Kernel, UnknownIsa};
pub use portable::Portable;
pub use simd::Simd;
pub use words::{PortablePairs, Singles, Words, WordsKernel};
#[cfg(target_arch = "x86_64")]
pub use x86::{
    avx2::Avx2, avx512::Avx512, avx512::Avx512Narrow, bf16_pairs::Bf16Pairs, vnni::Vnni,
    vnni::VnniNarrow,
};
