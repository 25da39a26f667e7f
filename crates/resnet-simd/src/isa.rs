//! Which instruction set to use: detection, the name a user may force, and the switch itself.

use std::fmt;

#[cfg(target_arch = "x86_64")]
use crate::{Avx2, Avx512, Vnni};
use crate::{Dot, Portable, Simd};

/// An instruction set that this CPU has. Found once, at the edge, and passed down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// The target's baseline.
    Portable,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    /// AVX-512 F, BW, DQ, VL.
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// Work that is written once for all instruction sets.
///
/// `run` and everything it calls in its loops must be `#[inline(always)]`: the instructions are
/// switched on for the function that [`Isa::run`] inlines it into, and nowhere else.
pub trait Kernel {
    /// What the work returns.
    type Output;

    /// Does the work with the vectors of `S`.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Work on bytes that is written once for all instruction sets; as [`Kernel`].
pub trait DotKernel {
    /// What the work returns.
    type Output;

    /// Does the work with the vectors of `D`, of at most the lanes that [`Isa::run_dot`] was given.
    fn run<D: Dot>(self, d: D) -> Self::Output;
}

/// A name that is no instruction set of this CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownIsa {
    /// What was asked for.
    pub name: String,
    /// Whether the name is known and only this CPU lacks it.
    pub known: bool,
}

impl fmt::Display for UnknownIsa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        if self.known {
            return write!(f, "this cpu does not have the instruction set {name:?}");
        }
        write!(f, "unknown instruction set {name:?}, expected portable, avx2 or avx512")
    }
}

impl std::error::Error for UnknownIsa {}

impl Isa {
    /// The widest instruction set of this CPU.
    pub fn detect() -> Isa {
        Isa::available().pop().unwrap_or(Isa::Portable)
    }

    /// All instruction sets of this CPU, the narrowest first.
    pub fn available() -> Vec<Isa> {
        let mut all = vec![Isa::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(Isa::Avx2));
            all.extend(Avx512::detect().map(Isa::Avx512));
        }
        all
    }

    /// The instruction set of that name (`portable`, `avx2`, `avx512`): what `RESNET_ISA` holds.
    /// The caller reads the environment.
    ///
    /// # Errors
    /// [`UnknownIsa`] if there is no such name, or the CPU lacks it.
    pub fn parse(name: &str) -> Result<Isa, UnknownIsa> {
        let found = Isa::available().into_iter().find(|isa| isa.name() == name);
        let known = ["portable", "avx2", "avx512"].contains(&name);
        found.ok_or_else(|| UnknownIsa { name: name.to_owned(), known })
    }

    /// The name that [`Isa::parse`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => "avx512",
        }
    }

    /// Floats in a vector.
    pub fn lanes(self) -> usize {
        match self {
            Isa::Portable => Portable::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => Avx2::LANES,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(_) => Avx512::LANES,
        }
    }

    /// Sums in the widest vector of dot products. AVX-512 without VNNI takes AVX2's, since the wide
    /// form of those is not worth a kernel of its own.
    pub fn dot_lanes(self) -> usize {
        match self {
            Isa::Portable => <Portable as Dot>::SUMS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) => <Avx2 as Dot>::SUMS,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(s) => Vnni::detect(s).map_or(<Avx2 as Dot>::SUMS, |_| Vnni::SUMS),
        }
    }

    /// Runs `kernel` with this instruction set's dot products switched on, in vectors of at most
    /// `lanes` lanes.
    #[inline]
    pub fn run_dot<K: DotKernel>(self, lanes: usize, kernel: K) -> K::Output {
        match self {
            Isa::Portable => kernel.run(Portable),
            // SAFETY: the token exists only if the CPU has the features that `run_avx2` enables.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(s) => unsafe { run_dot_avx2(s, kernel) },
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(s) => match Vnni::detect(s) {
                // SAFETY: the token exists only if the CPU has the features that `run_vnni` enables.
                Some(s) => unsafe { run_vnni(s, lanes, kernel) },
                // SAFETY: `Avx512` proves AVX2 and FMA too.
                None => unsafe { run_dot_avx2(s.avx2(), kernel) },
            },
        }
    }

    /// Runs `kernel` with this instruction set switched on.
    #[inline]
    pub fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Isa::Portable => kernel.run(Portable),
            // SAFETY: the token exists only if the CPU has the features that `run_avx2` enables.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(s) => unsafe { run_avx2(s, kernel) },
            // SAFETY: the token exists only if the CPU has the features that `run_avx512` enables.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(s) => unsafe { run_avx512(s, kernel) },
        }
    }
}

/// The same list as `Avx2::detect` checks.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2<K: Kernel>(s: Avx2, kernel: K) -> K::Output {
    kernel.run(s)
}

/// The same list as `Avx512::detect` checks.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
fn run_avx512<K: Kernel>(s: Avx512, kernel: K) -> K::Output {
    kernel.run(s)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_dot_avx2<K: DotKernel>(s: Avx2, kernel: K) -> K::Output {
    kernel.run(s)
}

/// The same list as `Avx512::detect` and `Vnni::detect` check.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx2,fma")]
fn run_vnni<K: DotKernel>(s: Vnni, lanes: usize, kernel: K) -> K::Output {
    if lanes < <Vnni as Dot>::SUMS { kernel.run(s.narrow()) } else { kernel.run(s) }
}
