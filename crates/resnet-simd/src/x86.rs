//! The instruction sets of x86-64.
//!
//! Every `unsafe` call of an intrinsic below rests on one fact: a token's only constructor has
//! checked the CPU, and [`Isa::run`](crate::Isa::run) has switched the same features on for the code
//! that these methods are inlined into.

pub(crate) mod avx2;
pub(crate) mod avx512;
pub(crate) mod bf16_pairs;
mod dot_avx2;
pub(crate) mod vnni;

pub(crate) use bf16_pairs::is_amd;
