//! The vector trait that kernels are written over: only what they use, no width in its name.

use half::bf16;

/// Lanes of the widest vectors.
const MAX_LANES: usize = 16;

/// Vectors of `f32` of one instruction set. A value of the implementing type proves that the CPU
/// has the instructions; all methods are `#[inline(always)]` and must be called below
/// [`Isa::run`](crate::Isa::run), which switches the instructions on.
///
/// NaN, infinities, signed zeros and denormals behave the same on every instruction set, with one
/// exception: [`mul_add`](Simd::mul_add) rounds twice on [`Portable`](crate::Portable).
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `LANES` floats.
    type F32: Copy;
    /// Vectors of half the width where the CPU runs them at a lower cost, else `Self`.
    type Half: Simd;
    /// Floats in a vector.
    const LANES: usize;
    /// Vector registers of the instruction set; tile shapes follow from it.
    const REGISTERS: usize;

    /// The token of the half-width vectors.
    fn half(self) -> Self::Half;

    /// All lanes `x`.
    fn splat(self, x: f32) -> Self::F32;

    /// The first `LANES` floats of `x`. Panics if `x` is shorter.
    fn load(self, x: &[f32]) -> Self::F32;

    /// Writes the first `LANES` floats of `y`. Panics if `y` is shorter.
    fn store(self, v: Self::F32, y: &mut [f32]);

    /// The first `min(x.len(), LANES)` floats of `x`, other lanes 0.
    fn load_partial(self, x: &[f32]) -> Self::F32;

    /// Writes the first `min(y.len(), LANES)` floats of `y`.
    fn store_partial(self, v: Self::F32, y: &mut [f32]);

    /// The first `LANES` bytes of `x` as floats. Panics if `x` is shorter.
    fn load_u8(self, x: &[u8]) -> Self::F32;

    /// Writes the lanes, whole numbers in `0..=255`, to the first `LANES` bytes of `y`. Panics if `y`
    /// is shorter; other numbers give any byte.
    fn store_u8(self, v: Self::F32, y: &mut [u8]);

    /// The `LANES` floats at `p`.
    ///
    /// # Safety
    /// `p..p + LANES` is readable; no alignment needed.
    unsafe fn load_ptr(self, p: *const f32) -> Self::F32;

    /// Writes `LANES` floats at `p`.
    ///
    /// # Safety
    /// `p..p + LANES` is writable and nobody else uses it; no alignment needed.
    unsafe fn store_ptr(self, v: Self::F32, p: *mut f32);

    /// Writes `LANES` floats at `p` around the caches, where the instruction set can.
    ///
    /// # Safety
    /// As [`store_ptr`](Simd::store_ptr), and `p` is aligned to the vector's size.
    unsafe fn stream_ptr(self, v: Self::F32, p: *mut f32);

    /// The `LANES` numbers at `p`.
    ///
    /// # Safety
    /// `p..p + LANES` is readable; no alignment needed.
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F32;

    /// Writes `LANES` numbers at `p`, rounded to the nearest, ties to even.
    ///
    /// # Safety
    /// `p..p + LANES` is writable and nobody else uses it; no alignment needed.
    unsafe fn store_bf16(self, v: Self::F32, p: *mut bf16);

    /// What [`store_bf16`](Simd::store_bf16) keeps.
    fn round_bf16(self, v: Self::F32) -> Self::F32;

    /// Orders streamed writes before all that follow: others may read them then.
    fn fence(self);

    /// The floats at `p` and `p + 1` in turn in all lanes: `p0 p1 p0 p1 ...`.
    ///
    /// # Safety
    /// `p..p + 2` is readable; no alignment needed.
    #[inline(always)]
    unsafe fn splat_pair(self, p: *const f32) -> Self::F32 {
        // SAFETY: the caller promises two readable floats.
        let pair = unsafe { [*p, *p.add(1)] };
        let lanes: [f32; MAX_LANES] = std::array::from_fn(|i| pair[i % 2]);
        self.load(&lanes)
    }

    /// `LANES / 2` floats from `p` and as many from `q`, in turn: `p0 q0 p1 q1 ...`.
    ///
    /// # Safety
    /// `p..p + LANES / 2` and `q..q + LANES / 2` are readable; no alignment needed.
    #[inline(always)]
    unsafe fn load_pairs(self, p: *const f32, q: *const f32) -> Self::F32 {
        let lanes: [f32; MAX_LANES] = std::array::from_fn(|i| match i / 2 {
            // SAFETY: the caller promises `LANES / 2` readable floats at both.
            at if at < Self::LANES / 2 => unsafe { *[p, q][i % 2].add(at) },
            _ => 0.0,
        });
        self.load(&lanes)
    }

    /// Writes the sums of neighbouring lanes, `v0 + v1`, `v2 + v3`, ..., as `LANES / 2` floats at `p`.
    ///
    /// # Safety
    /// `p..p + LANES / 2` is writable and nobody else uses it; no alignment needed.
    #[inline(always)]
    unsafe fn store_pair_sums(self, v: Self::F32, p: *mut f32) {
        let mut lanes = [0.0; MAX_LANES];
        self.store(v, &mut lanes);
        for (at, pair) in lanes.chunks_exact(2).take(Self::LANES / 2).enumerate() {
            // SAFETY: the caller promises `LANES / 2` writable floats.
            unsafe { *p.add(at) = pair[0] + pair[1] };
        }
    }

    /// Writes every other lane from the first on as `LANES / 2` floats at `p`, the others at `q`: what
    /// [`load_pairs`](Simd::load_pairs) reads.
    ///
    /// # Safety
    /// `p..p + LANES / 2` and `q..q + LANES / 2` are writable and nobody else uses them; no alignment
    /// needed.
    #[inline(always)]
    unsafe fn store_pairs(self, v: Self::F32, p: *mut f32, q: *mut f32) {
        let mut lanes = [0.0; MAX_LANES];
        self.store(v, &mut lanes);
        for (at, pair) in lanes.chunks_exact(2).take(Self::LANES / 2).enumerate() {
            // SAFETY: the caller promises `LANES / 2` writable floats at both.
            unsafe { (*p.add(at), *q.add(at)) = (pair[0], pair[1]) };
        }
    }

    /// Asks for the cache line at `p`; any address will do.
    fn prefetch(self, p: *const f32);

    /// Asks for the cache line at `p`, but not into the first-level cache: for what is needed later.
    fn prefetch_far(self, p: *const f32);

    /// `a + b`.
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a - b`.
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a * b`.
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a / b`.
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a * b + c`, rounded once (twice on `Portable`, where one rounding would be a library call).
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// `if a > b { a } else { b }`: a NaN on either side gives `b`, and so do zeros of both signs.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `if a < b { a } else { b }`: a NaN on either side gives `b`, and so do zeros of both signs.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// Square root, rounded to nearest.
    fn sqrt(self, a: Self::F32) -> Self::F32;

    /// Lane by lane `if a > b { x } else { y }`; a NaN in `a` or `b` chooses `y`.
    fn select_gt(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32;

    /// The sum of the lanes: halves are added until one lane is left, on every instruction set.
    fn sum(self, a: Self::F32) -> f32;
}
