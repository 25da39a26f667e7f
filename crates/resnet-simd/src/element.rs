//! What tensors are stored as. Arithmetic is in f32 whatever that is.

use half::bf16;

use crate::Simd;

/// Lanes of the widest vectors.
const MAX_LANES: usize = 16;

/// The types of [`Element`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// `f32`.
    F32,
    /// [`bf16`].
    Bf16,
}

impl Stored {
    /// Bytes of an element.
    pub fn size(self) -> usize {
        match self {
            Stored::F32 => 4,
            Stored::Bf16 => 2,
        }
    }
}

/// What the elements of a tensor are stored as, read and written as vectors of f32.
///
/// [`bf16`] is the upper half of an f32: reading is exact, writing rounds to the nearest, ties to
/// even, on every instruction set alike; NaN stays NaN.
///
/// Kernels whose code would be large twice take their operands' type as a value, [`Stored`].
pub trait Element: Copy + Default + PartialEq + std::fmt::Debug + Send + Sync + 'static {
    /// This type as a value.
    const STORED: Stored;

    /// The value.
    fn to_f32(self) -> f32;

    /// The nearest that can be stored.
    fn from_f32(x: f32) -> Self;

    /// The `LANES` elements at `p`.
    ///
    /// # Safety
    /// `p..p + LANES` is readable; no alignment needed.
    unsafe fn load_ptr<S: Simd>(s: S, p: *const Self) -> S::F32;

    /// Writes `LANES` elements at `p`.
    ///
    /// # Safety
    /// `p..p + LANES` is writable and nobody else uses it; no alignment needed.
    unsafe fn store_ptr<S: Simd>(s: S, v: S::F32, p: *mut Self);

    /// The first `min(x.len(), LANES)` elements of `x`, other lanes 0.
    fn load_partial<S: Simd>(s: S, x: &[Self]) -> S::F32;

    /// Writes the first `min(y.len(), LANES)` elements of `y`.
    fn store_partial<S: Simd>(s: S, v: S::F32, y: &mut [Self]);

    /// What reading gives back of `v` once it is written.
    fn round<S: Simd>(s: S, v: S::F32) -> S::F32;

    /// Copies `x` to `y` of the same length as f32.
    ///
    /// # Panics
    /// If the lengths differ.
    fn widen<S: Simd>(s: S, x: &[Self], y: &mut [f32]);

    /// The first `LANES` elements of `x`. Panics if `x` is shorter.
    #[inline(always)]
    fn load<S: Simd>(s: S, x: &[Self]) -> S::F32 {
        assert!(S::LANES <= x.len());
        // SAFETY: checked above.
        unsafe { Self::load_ptr(s, x.as_ptr()) }
    }

    /// Writes the first `LANES` elements of `y`. Panics if `y` is shorter.
    #[inline(always)]
    fn store<S: Simd>(s: S, v: S::F32, y: &mut [Self]) {
        assert!(S::LANES <= y.len());
        // SAFETY: checked above.
        unsafe { Self::store_ptr(s, v, y.as_mut_ptr()) }
    }
}

impl Element for f32 {
    const STORED: Stored = Stored::F32;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }

    #[inline(always)]
    unsafe fn load_ptr<S: Simd>(s: S, p: *const f32) -> S::F32 {
        // SAFETY: passed on.
        unsafe { s.load_ptr(p) }
    }

    #[inline(always)]
    unsafe fn store_ptr<S: Simd>(s: S, v: S::F32, p: *mut f32) {
        // SAFETY: passed on.
        unsafe { s.store_ptr(v, p) }
    }

    #[inline(always)]
    fn load_partial<S: Simd>(s: S, x: &[f32]) -> S::F32 {
        s.load_partial(x)
    }

    #[inline(always)]
    fn store_partial<S: Simd>(s: S, v: S::F32, y: &mut [f32]) {
        s.store_partial(v, y);
    }

    #[inline(always)]
    fn round<S: Simd>(_s: S, v: S::F32) -> S::F32 {
        v
    }

    #[inline(always)]
    fn widen<S: Simd>(_s: S, x: &[f32], y: &mut [f32]) {
        y.copy_from_slice(x);
    }
}

impl Element for bf16 {
    const STORED: Stored = Stored::Bf16;

    #[inline(always)]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }

    #[inline(always)]
    fn from_f32(x: f32) -> bf16 {
        bf16::from_f32(x)
    }

    #[inline(always)]
    unsafe fn load_ptr<S: Simd>(s: S, p: *const bf16) -> S::F32 {
        // SAFETY: passed on.
        unsafe { s.load_bf16(p) }
    }

    #[inline(always)]
    unsafe fn store_ptr<S: Simd>(s: S, v: S::F32, p: *mut bf16) {
        // SAFETY: passed on.
        unsafe { s.store_bf16(v, p) }
    }

    #[inline(always)]
    fn load_partial<S: Simd>(s: S, x: &[bf16]) -> S::F32 {
        if S::LANES <= x.len() {
            return Self::load(s, x);
        }
        let mut lanes = [bf16::ZERO; MAX_LANES];
        lanes[..x.len()].copy_from_slice(x);
        Self::load(s, &lanes)
    }

    #[inline(always)]
    fn store_partial<S: Simd>(s: S, v: S::F32, y: &mut [bf16]) {
        if S::LANES <= y.len() {
            return Self::store(s, v, y);
        }
        let mut lanes = [bf16::ZERO; MAX_LANES];
        Self::store(s, v, &mut lanes);
        y.copy_from_slice(&lanes[..y.len()]);
    }

    #[inline(always)]
    fn round<S: Simd>(s: S, v: S::F32) -> S::F32 {
        s.round_bf16(v)
    }

    #[inline(always)]
    fn widen<S: Simd>(s: S, x: &[bf16], y: &mut [f32]) {
        assert_eq!(x.len(), y.len());
        let mut xs = x.chunks_exact(S::LANES);
        let mut ys = y.chunks_exact_mut(S::LANES);
        for (x, y) in xs.by_ref().zip(ys.by_ref()) {
            s.store(Self::load(s, x), y);
        }
        for (x, y) in xs.remainder().iter().zip(ys.into_remainder()) {
            *y = x.to_f32();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Isa, Kernel};

    /// Every upper half, with lower halves around the tie, and what is special.
    fn numbers() -> Vec<f32> {
        let lower = [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff];
        let bits = (0..=u16::MAX).flat_map(|upper| lower.map(|l| u32::from(upper) << 16 | l));
        bits.map(f32::from_bits).collect()
    }

    struct RoundTrip<'a> {
        x: &'a [f32],
        stored: &'a mut [bf16],
        back: &'a mut [f32],
        rounded: &'a mut [f32],
    }

    impl Kernel for RoundTrip<'_> {
        type Output = ();

        #[inline(always)]
        fn run<S: Simd>(self, s: S) {
            let parts = self.x.chunks(S::LANES).zip(self.stored.chunks_mut(S::LANES));
            for ((x, stored), rounded) in parts.zip(self.rounded.chunks_mut(S::LANES)) {
                let v = s.load_partial(x);
                s.store_partial(bf16::round(s, v), rounded);
                if stored.len() == S::LANES {
                    bf16::store(s, v, stored);
                } else {
                    bf16::store_partial(s, v, stored);
                }
            }
            bf16::widen(s, self.stored, self.back);
            for (stored, back) in self.stored.chunks(S::LANES).zip(self.back.chunks(S::LANES)) {
                let mut again = [0.0; MAX_LANES];
                s.store(bf16::load_partial(s, stored), &mut again);
                let same = again.iter().zip(back).all(|(a, b)| a.to_bits() == b.to_bits());
                assert!(same, "reading in parts differs");
            }
        }
    }

    #[test]
    fn every_number_is_stored_as_its_twin_says() {
        // An odd number at the end, so that parts of vectors are met.
        let x = [numbers(), vec![1.5; 5]].concat();
        for isa in Isa::available() {
            let (mut stored, mut back) = (vec![bf16::ZERO; x.len()], vec![0.0; x.len()]);
            let mut rounded = vec![0.0; x.len()];
            isa.run(RoundTrip {
                x: &x,
                stored: &mut stored,
                back: &mut back,
                rounded: &mut rounded,
            });
            for (i, &x) in x.iter().enumerate() {
                let expected = bf16::from_f32(x);
                assert_eq!(stored[i].to_bits(), expected.to_bits(), "{x:e} on {}", isa.name());
                assert_eq!(back[i].to_bits(), expected.to_f32().to_bits());
                assert_eq!(rounded[i].to_bits(), back[i].to_bits());
            }
        }
    }
}
