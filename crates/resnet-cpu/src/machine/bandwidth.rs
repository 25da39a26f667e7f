//! How fast memory is read and written, as the kernels do it: plain loads and stores of vectors.
//!
//! ```text
//! read    Σ a[i]              copy    y[i] = a[i]              triad    y[i] = a[i] + 0.5 · b[i]
//! ```
//!
//! Bytes are those of the arrays, each counted once; a store that first fetches its line moves more.
//! Source: McCalpin 1995, "Memory bandwidth and machine balance in current high performance
//! computers" (STREAM), whose copy and triad these are.

use std::hint::black_box;

use resnet_simd::{AlignedVec, Isa, Kernel, Simd};

use super::Machine;
use super::peak::best_seconds;
use crate::threads::ThreadPool;

/// Floats that a task takes.
const PART: usize = 1 << 18;
/// Bytes of an array: twice the last cache, within these.
const ARRAY_BYTES: (usize, usize) = (32 << 20, 128 << 20);
/// Sums of a read that do not wait for each other.
const SUMS: usize = 8;

/// Bytes a second between memory and some threads, in GB/s.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bandwidth {
    /// Threads that took part.
    pub threads: usize,
    /// Reads alone.
    pub read: f64,
    /// As many reads as writes.
    pub copy: f64,
    /// Two reads to a write.
    pub triad: f64,
}

impl Bandwidth {
    /// The most that was reached.
    pub fn best(&self) -> f64 {
        self.read.max(self.copy).max(self.triad)
    }
}

/// Measures memory with so many threads; takes about half a second, most of it to fill the arrays.
pub fn bandwidth(isa: Isa, threads: usize) -> Bandwidth {
    let pool = ThreadPool::new(threads);
    let last_cache = Machine::detect().last_cache_bytes();
    let bytes = (2 * last_cache).clamp(ARRAY_BYTES.0, ARRAY_BYTES.1);
    let len = (bytes / size_of::<f32>()).next_multiple_of(PART);
    let mut arrays = [(); 3].map(|()| AlignedVec::<f32>::zeroed(len));
    for array in &mut arrays {
        // Pages that nobody has written are all the same one, which stays in the first cache.
        pool.run_parts(array, PART, |_, part| part.fill(1.0));
    }
    let [a, b, mut y] = arrays;
    let rate =
        |arrays: usize, seconds: f64| (arrays * len * size_of::<f32>()) as f64 / seconds * 1e-9;
    let read = best_seconds(|| {
        pool.run(len / PART, &|part| {
            black_box(isa.run(Read { a: &a[part * PART..][..PART] }));
        });
    });
    let copy = best_seconds(|| {
        pool.run_parts(&mut y, PART, |part, y| {
            isa.run(Copy { a: &a[part * PART..][..PART], y });
        });
    });
    let triad = best_seconds(|| {
        pool.run_parts(&mut y, PART, |part, y| {
            isa.run(Triad { a: &a[part * PART..][..PART], b: &b[part * PART..][..PART], y });
        });
    });
    Bandwidth { threads, read: rate(1, read), copy: rate(2, copy), triad: rate(3, triad) }
}

struct Read<'a> {
    a: &'a [f32],
}

impl Kernel for Read<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let mut sums = [s.splat(0.0); SUMS];
        for a in self.a.chunks_exact(SUMS * S::LANES) {
            for (sum, a) in sums.iter_mut().zip(a.chunks_exact(S::LANES)) {
                *sum = s.add(*sum, s.load(a));
            }
        }
        s.sum(sums.into_iter().fold(s.splat(0.0), |total, sum| s.add(total, sum)))
    }
}

struct Copy<'a> {
    a: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Copy<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        for (y, a) in self.y.chunks_exact_mut(S::LANES).zip(self.a.chunks_exact(S::LANES)) {
            s.store(s.load(a), y);
        }
    }
}

struct Triad<'a> {
    a: &'a [f32],
    b: &'a [f32],
    y: &'a mut [f32],
}

impl Kernel for Triad<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let half = s.splat(0.5);
        let sources = self.a.chunks_exact(S::LANES).zip(self.b.chunks_exact(S::LANES));
        for (y, (a, b)) in self.y.chunks_exact_mut(S::LANES).zip(sources) {
            s.store(s.mul_add(half, s.load(b), s.load(a)), y);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_has_a_speed_in_each_direction() {
        let found = bandwidth(Isa::detect(), 2);
        assert!(0.0 < found.read && 0.0 < found.copy && 0.0 < found.triad, "{found:?}");
        assert!(found.triad <= found.best());
    }
}
