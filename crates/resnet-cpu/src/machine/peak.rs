//! Multiply-adds that the cores do while nothing waits for memory, by what numbers are stored as.
//!
//! The best of many short samples of independent chains in registers; operations count 2 for each
//! multiply-add, in units of 1e9 a second.

use std::hint::black_box;
use std::time::Instant;

use resnet_simd::{Dot, DotKernel, Isa, Simd, Stored, Words, WordsKernel};

use crate::threads::ThreadPool;

/// Independent sums: more than latency times width of any core so far, and within 16 registers.
const SUMS: usize = 12;
/// Rounds of multiply-adds in a sample: some tenths of a millisecond.
const ROUNDS: usize = 1 << 16;
/// Seconds of samples, of which the best counts: anything else on the machine only makes them
/// slower, and one that short finds a gap between the others' turns.
const SAMPLE_SECONDS: f64 = 0.1;

/// In f32. Portable arithmetic rounds product and sum apart; it still counts 2.
pub fn fma_peak(isa: Isa, threads: usize) -> f64 {
    peak(threads, isa.lanes(), || isa.run_words(Stored::F32, Chains))
}

/// Of pairs of bf16, where the instruction set has such products.
pub fn bf16_peak(isa: Isa, threads: usize) -> Option<f64> {
    let chains = || isa.run_words(Stored::Bf16, Chains);
    isa.has_bf16_pairs().then(|| peak(threads, 2 * isa.lanes(), chains))
}

/// Of bytes, four products a sum.
pub fn int8_peak(isa: Isa, threads: usize) -> f64 {
    let lanes = isa.dot_lanes();
    peak(threads, 4 * lanes, || isa.run_dot(lanes, Chains))
}

/// `chains` on so many threads: `SUMS` vectors of `products` each, `ROUNDS` times.
fn peak(threads: usize, products: usize, chains: impl Fn() -> f32 + Sync) -> f64 {
    let pool = ThreadPool::new(threads);
    let operations = 2.0 * (threads * ROUNDS * SUMS * products) as f64;
    let seconds = best_seconds(|| {
        pool.run(threads, &|_| {
            black_box(chains());
        });
    });
    1e-9 * operations / seconds
}

/// The shortest of many runs, after one that does not count.
pub(super) fn best_seconds(mut run: impl FnMut()) -> f64 {
    run();
    let (start, mut best) = (Instant::now(), f64::INFINITY);
    while best == f64::INFINITY || start.elapsed().as_secs_f64() < SAMPLE_SECONDS {
        let sample = Instant::now();
        run();
        best = best.min(sample.elapsed().as_secs_f64());
    }
    best
}

/// `SUMS` chains of multiply-adds in registers.
struct Chains;

/// A little less than one, as an f32 and, after a zero, as the second of two bf16.
const SHRINK: f32 = 0.996_093_75;

impl WordsKernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<W: Words>(self, words: W) -> f32 {
        let s = words.floats();
        let (a, b) = (s.splat(black_box(SHRINK)), s.splat(black_box(1e-6)));
        let mut sums = [s.splat(1.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = words.multiply_add(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(s.splat(0.0), |total, sum| s.add(total, sum));
        s.sum(total)
    }
}

impl DotKernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<D: Dot>(self, d: D) -> f32 {
        let s = d.floats();
        let weights = black_box([1_i8; 2 * 64]);
        // SAFETY: as many weights as two of the widest vectors have.
        let w =
            unsafe { [d.load_weights(weights.as_ptr()), d.load_weights(weights.as_ptr().add(64))] };
        // SAFETY: as many sums as the widest vector has.
        let mut sums = [unsafe { [d.load_sums([0; 16].as_ptr()); 2] }; SUMS / 2];
        let bytes = [[1_u8; 4]; SUMS / 2];
        for _ in 0..ROUNDS {
            // Read anew, or instructions that multiply and add apart would multiply only once.
            for (bytes, sums) in black_box(&bytes).iter().zip(&mut sums) {
                // SAFETY: four bytes.
                let x = unsafe { d.splat4(bytes.as_ptr()) };
                for (sum, &w) in sums.iter_mut().zip(&w) {
                    *sum = d.dot(*sum, x, w);
                }
            }
        }
        let sums = sums.as_flattened();
        let total = sums.iter().fold(s.splat(0.0), |total, &sum| s.add(total, d.to_f32(sum)));
        s.sum(total)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wider_vectors_are_not_slower() {
        let peaks: Vec<f64> = Isa::available().into_iter().map(|isa| fma_peak(isa, 1)).collect();
        // Half, since other programs may run.
        assert!(peaks.windows(2).all(|pair| 0.5 * pair[0] < pair[1]), "{peaks:?}");
    }

    #[test]
    fn a_gain_by_pairs_is_one_that_can_be_measured() {
        for isa in Isa::available().into_iter().filter(|isa| isa.gains_by_bf16_pairs()) {
            let (pairs, floats) = (bf16_peak(isa, 1).unwrap(), fma_peak(isa, 1));
            // Twice as many, but other programs may run.
            assert!(1.2 * floats < pairs, "{pairs} beside {floats} on {}", isa.name());
        }
    }
}
