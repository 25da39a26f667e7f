//! What the machine can do: measured peak of multiply-adds, and what the process has used.

use std::hint::black_box;
use std::time::Instant;

use resnet_simd::{Isa, Kernel, Simd};

use crate::threads::ThreadPool;

/// Independent sums: more than latency times width of any core so far, and within 16 registers.
const SUMS: usize = 12;
/// Rounds of multiply-adds in a task: some milliseconds.
const ROUNDS: usize = 1 << 20;
/// Tasks a thread in one sample.
const TASKS: usize = 4;
/// Samples, of which the best counts: anything else on the machine only makes them slower.
const SAMPLES: usize = 5;

/// Multiply-adds that the cores do while nothing waits for memory, in GFLOP/s (2 for each).
///
/// Takes some tenths of a second. Portable arithmetic rounds product and sum apart; it still
/// counts 2.
pub fn fma_peak(isa: Isa, threads: usize) -> f64 {
    let pool = ThreadPool::new(threads);
    let tasks = TASKS * threads;
    let flops = 2.0 * (tasks * ROUNDS * SUMS * isa.lanes()) as f64;
    let sample = |_| {
        let start = Instant::now();
        pool.run(tasks, &|_| {
            black_box(isa.run(Chains));
        });
        flops / start.elapsed().as_secs_f64() * 1e-9
    };
    (0..SAMPLES).map(sample).fold(0.0, f64::max)
}

/// `SUMS` chains of multiply-adds in registers.
struct Chains;

impl Kernel for Chains {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let (a, b) = (s.splat(black_box(0.999_999)), s.splat(black_box(1e-6)));
        let mut sums = [s.splat(1.0); SUMS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.mul_add(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(s.splat(0.0), |total, sum| s.add(total, sum));
        s.sum(total)
    }
}

/// Largest resident size of this process so far, in bytes, where the system tells (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
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
}
