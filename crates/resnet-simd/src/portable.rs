//! Vectors as arrays of eight floats, in plain Rust: the meaning of [`Simd`], and the fallback.

use half::bf16;

use crate::Simd;

/// Plain Rust. Runs everywhere; the compiler vectorises it for the target's baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Portable;

const LANES: usize = 8;

#[inline(always)]
fn zip(a: [f32; LANES], b: [f32; LANES], f: impl Fn(f32, f32) -> f32) -> [f32; LANES] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

impl Simd for Portable {
    type F32 = [f32; LANES];
    type Half = Portable;
    const LANES: usize = LANES;
    const REGISTERS: usize = 16;

    #[inline(always)]
    fn half(self) -> Portable {
        self
    }

    #[inline(always)]
    fn splat(self, x: f32) -> Self::F32 {
        [x; LANES]
    }

    #[inline(always)]
    fn load(self, x: &[f32]) -> Self::F32 {
        *x.first_chunk().expect("a full vector to load")
    }

    #[inline(always)]
    fn store(self, v: Self::F32, y: &mut [f32]) {
        *y.first_chunk_mut().expect("room for a full vector") = v;
    }

    #[inline(always)]
    fn load_partial(self, x: &[f32]) -> Self::F32 {
        std::array::from_fn(|i| x.get(i).copied().unwrap_or(0.0))
    }

    #[inline(always)]
    fn store_partial(self, v: Self::F32, y: &mut [f32]) {
        for (y, v) in y.iter_mut().zip(v) {
            *y = v;
        }
    }

    #[inline(always)]
    fn load_u8(self, x: &[u8]) -> Self::F32 {
        x.first_chunk::<LANES>().expect("a full vector to load").map(f32::from)
    }

    #[inline(always)]
    fn store_u8(self, v: Self::F32, y: &mut [u8]) {
        *y.first_chunk_mut().expect("room for a full vector") = v.map(|v| v as u8);
    }

    #[inline(always)]
    unsafe fn load_ptr(self, p: *const f32) -> Self::F32 {
        // SAFETY: the caller promises LANES readable floats; read_unaligned needs no alignment.
        unsafe { p.cast::<Self::F32>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store_ptr(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the caller promises LANES writable floats; write_unaligned needs no alignment.
        unsafe { p.cast::<Self::F32>().write_unaligned(v) }
    }

    #[inline(always)]
    unsafe fn stream_ptr(self, v: Self::F32, p: *mut f32) {
        // SAFETY: the caller promises more than store_ptr asks.
        unsafe { self.store_ptr(v, p) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, p: *const bf16) -> Self::F32 {
        // SAFETY: the caller promises LANES readable numbers; read_unaligned needs no alignment.
        unsafe { p.cast::<[bf16; LANES]>().read_unaligned() }.map(bf16::to_f32)
    }

    #[inline(always)]
    unsafe fn store_bf16(self, v: Self::F32, p: *mut bf16) {
        // SAFETY: the caller promises LANES writable numbers; write_unaligned needs no alignment.
        unsafe { p.cast::<[bf16; LANES]>().write_unaligned(v.map(bf16::from_f32)) }
    }

    #[inline(always)]
    fn round_bf16(self, v: Self::F32) -> Self::F32 {
        v.map(|v| bf16::from_f32(v).to_f32())
    }

    #[inline(always)]
    fn fence(self) {}

    #[inline(always)]
    fn prefetch(self, _p: *const f32) {}

    #[inline(always)]
    fn prefetch_far(self, _p: *const f32) {}

    #[inline(always)]
    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn mul_add(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    #[inline(always)]
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32 {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn sqrt(self, a: Self::F32) -> Self::F32 {
        a.map(f32::sqrt)
    }

    #[inline(always)]
    fn select_gt(self, a: Self::F32, b: Self::F32, x: Self::F32, y: Self::F32) -> Self::F32 {
        std::array::from_fn(|i| if a[i] > b[i] { x[i] } else { y[i] })
    }

    #[inline(always)]
    fn sum(self, a: Self::F32) -> f32 {
        let b = [a[0] + a[4], a[1] + a[5], a[2] + a[6], a[3] + a[7]];
        (b[0] + b[2]) + (b[1] + b[3])
    }
}
