//! Dot products of bytes: the vector trait that int8 kernels are written over.

use crate::Simd;

/// Vectors of sums of 32 bits, to which products of four unsigned and four signed bytes are added.
///
/// Like [`Simd`], a value proves that the CPU has the instructions, and methods are to be called below
/// [`Isa::run_dot`](crate::Isa::run_dot). All instruction sets give the same bits.
///
/// Results become bytes in *pairs* of vectors, `2 * SUMS` channels whose order in the two vectors is
/// that of [`pair_column`]: instructions that narrow work within 128 bits, and weights can be stored
/// in any order, so nothing is ever sorted.
pub trait Dot: Copy + Send + Sync + 'static {
    /// The vectors of floats that belong to the sums.
    type Floats: Simd;
    /// `SUMS` sums.
    type I32: Copy;
    /// `4 * SUMS` bytes, four for each sum.
    type Bytes: Copy;
    /// Sums in a vector.
    const SUMS: usize;

    /// The token of the floats.
    fn floats(self) -> Self::Floats;

    /// The `SUMS` sums at `p`.
    ///
    /// # Safety
    /// `p..p + SUMS` is readable; no alignment needed.
    unsafe fn load_sums(self, p: *const i32) -> Self::I32;

    /// The four bytes at `p`, for every sum.
    ///
    /// # Safety
    /// `p..p + 4` is readable; no alignment needed.
    unsafe fn splat4(self, p: *const u8) -> Self::Bytes;

    /// The `4 * SUMS` bytes at `p`.
    ///
    /// # Safety
    /// `p..p + 4 * SUMS` is readable; no alignment needed.
    unsafe fn load_weights(self, p: *const i8) -> Self::Bytes;

    /// To each sum the products of its four unsigned bytes with its four signed ones.
    ///
    /// Exact where `|a * w| + |b * v| <= 32767` for the two pairs of neighbouring bytes, which weights
    /// of at most 64 in magnitude keep; instruction sets that add pairs in 16 bits saturate beyond.
    fn dot(self, sum: Self::I32, bytes: Self::Bytes, weights: Self::Bytes) -> Self::I32;

    /// The sums as floats, rounded to nearest.
    fn to_f32(self, sum: Self::I32) -> <Self::Floats as Simd>::F32;

    /// The `2 * SUMS` bytes at `p` times `factor`, each rounded once, in the order of a pair.
    ///
    /// # Safety
    /// `p..p + 2 * SUMS` is readable; no alignment needed.
    unsafe fn load_scaled(
        self,
        p: *const u8,
        factor: <Self::Floats as Simd>::F32,
    ) -> [<Self::Floats as Simd>::F32; 2];

    /// Writes two pairs as `2 * SUMS` bytes each in the order of channels, the second one last: rounded
    /// to the nearest, ties to even, and clamped. Magnitudes are below `2^31`.
    ///
    /// # Safety
    /// `2 * SUMS` bytes from both pointers on are writable and nobody else uses them; no alignment
    /// needed, and they may be the same.
    unsafe fn store_pairs(self, pairs: [[<Self::Floats as Simd>::F32; 2]; 2], to: [*mut u8; 2]);
}

/// The place, in two vectors of `lanes` lanes one after the other, of channel `channel < 2 * lanes`.
///
/// Vectors are parts of 128 bits, a part holds four channels. Sixteen channels are two parts of either
/// vector: copied to each 128 bits of a register, their bytes are where a shuffle within the part finds
/// them.
pub const fn pair_column(lanes: usize, channel: usize) -> usize {
    let (four, parts) = (channel / 4, lanes / 4);
    let part = four % 2 * (parts / 2) + four / 4;
    four / 2 % 2 * lanes + part * 4 + channel % 4
}
