//! SGD with momentum, and what gradient clipping needs; over flat slices of any layout.

use std::sync::atomic::{AtomicBool, Ordering};

use resnet_simd::{Isa, Kernel, Simd};

use super::lane::{load, store};
use super::map::PART;
use crate::threads::{DisjointMut, ThreadPool};

/// One SGD step's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Learning rate of this parameter.
    pub lr: f32,
    /// Weight of the velocity so far.
    pub momentum: f32,
    /// Weight decay, added to the gradient.
    pub weight_decay: f32,
    /// Factor on the gradient before all else: clipping's, or 1.
    pub factor: f32,
    /// Nesterov's momentum.
    pub nesterov: bool,
}

impl Sgd {
    /// The new weight and velocity. Every product and sum is rounded.
    fn scalar(&self, w: f32, dw: f32, v: f32) -> (f32, f32) {
        let g = dw * self.factor + self.weight_decay * w;
        let v = self.momentum * v + g;
        let step = if self.nesterov { g + self.momentum * v } else { v };
        (w - self.lr * step, v)
    }
}

/// One step, in PyTorch's semantics of `SGD` without dampening, from velocity 0 at first:
///
/// ```text
/// g = factor * dw + weight_decay * w
/// v = momentum * v + g
/// w -= lr * (g + momentum * v if nesterov else v)
/// ```
///
/// # Panics
/// If the lengths differ.
pub fn sgd(isa: Isa, pool: &ThreadPool, sgd: Sgd, w: &mut [f32], dw: &[f32], velocity: &mut [f32]) {
    assert_eq!((dw.len(), velocity.len()), (w.len(), w.len()));
    pool.run_part_pairs((w, PART), (velocity, PART), |part, w, v| {
        let dw = &dw[part * PART..][..w.len()];
        match isa {
            Isa::Portable => sgd_scalar(sgd, w, dw, v),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(Update { sgd, w, dw, v }),
        }
    });
}

/// The twin, and the portable version.
fn sgd_scalar(sgd: Sgd, w: &mut [f32], dw: &[f32], velocity: &mut [f32]) {
    for ((w, &dw), v) in w.iter_mut().zip(dw).zip(velocity) {
        (*w, *v) = sgd.scalar(*w, dw, *v);
    }
}

struct Update<'a> {
    sgd: Sgd,
    w: &'a mut [f32],
    dw: &'a [f32],
    v: &'a mut [f32],
}

impl Kernel for Update<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Update { sgd, w, dw, v } = self;
        let rest = w.len() % S::LANES;
        let full = w.len() - rest;
        let mut i = 0;
        while i < full {
            update(s, sgd, (w, dw, v), (i, S::LANES));
            i += S::LANES;
        }
        update(s, sgd, (w, dw, v), (full, rest));
    }
}

#[inline(always)]
fn update<S: Simd>(
    s: S,
    sgd: Sgd,
    (w, dw, velocity): (&mut [f32], &[f32], &mut [f32]),
    (i, n): (usize, usize),
) {
    let (old, v) = (load(s, w, i, n), load(s, velocity, i, n));
    let momentum = s.splat(sgd.momentum);
    let decay = s.mul(s.splat(sgd.weight_decay), old);
    let g = s.add(s.mul(load(s, dw, i, n), s.splat(sgd.factor)), decay);
    let v = s.add(s.mul(momentum, v), g);
    let step = if sgd.nesterov { s.add(g, s.mul(momentum, v)) } else { v };
    store(s, v, velocity, i, n);
    store(s, s.sub(old, s.mul(s.splat(sgd.lr), step)), w, i, n);
}

/// Tasks that one sum is cut into, at most; their sums are added in their order.
const MAX_TASKS: usize = 64;

/// Sum of the squares of `x`: 4096 at a time in `f32`, these in `f64`.
pub fn sum_of_squares(isa: Isa, pool: &ThreadPool, x: &[f32]) -> f64 {
    let task_len = PART.max(x.len().div_ceil(MAX_TASKS));
    let mut sums = [0.0_f64; MAX_TASKS];
    let tasks = x.len().div_ceil(task_len);
    let parts = DisjointMut::new(&mut sums);
    pool.run(tasks, &|task| {
        let x = &x[task * task_len..x.len().min((task + 1) * task_len)];
        // SAFETY: tasks are distinct, and so are their places.
        let sum = unsafe { parts.slice(task..task + 1) };
        sum[0] = x.chunks(CHUNK).map(|x| f64::from(isa.run(Squares(x)))).sum();
    });
    sums[..tasks].iter().sum()
}

/// Squares that are added in `f32`, on as many lanes as a vector has.
const CHUNK: usize = 4096;

struct Squares<'a>(&'a [f32]);

impl Kernel for Squares<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let x = self.0;
        let mut sums = [s.splat(0.0); 4];
        let mut chunks = x.chunks_exact(4 * S::LANES);
        for x in chunks.by_ref() {
            for (k, sum) in sums.iter_mut().enumerate() {
                let x = s.load(&x[k * S::LANES..]);
                *sum = s.mul_add(x, x, *sum);
            }
        }
        for (x, sum) in chunks.remainder().chunks(S::LANES).zip(&mut sums) {
            let x = s.load_partial(x);
            *sum = s.mul_add(x, x, *sum);
        }
        let [a, b, c, d] = sums;
        s.sum(s.add(s.add(a, b), s.add(c, d)))
    }
}

/// What all gradients are multiplied by so that their norm is at most `max_norm`:
/// `min(1, max_norm / (norm + 1e-6))`, as PyTorch's `clip_grad_norm_`. NaN stays NaN.
pub fn clip_factor(max_norm: f64, norm: f64) -> f64 {
    let factor = max_norm / (norm + 1e-6);
    if factor > 1.0 { 1.0 } else { factor }
}

/// Whether no element is infinite or NaN.
pub fn all_finite(isa: Isa, pool: &ThreadPool, x: &[f32]) -> bool {
    let found = AtomicBool::new(false);
    pool.run(x.len().div_ceil(PART), &|task| {
        let x = &x[task * PART..x.len().min((task + 1) * PART)];
        // One NaN or infinity makes the sum of the zeros NaN.
        if isa.run(Zeros(x)) != 0.0 {
            found.store(true, Ordering::Relaxed);
        }
    });
    !found.into_inner()
}

/// The sum of `x * 0`.
struct Zeros<'a>(&'a [f32]);

impl Kernel for Zeros<'_> {
    type Output = f32;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> f32 {
        let zero = s.splat(0.0);
        let mut sum = zero;
        let mut chunks = self.0.chunks_exact(S::LANES);
        for x in chunks.by_ref() {
            sum = s.add(sum, s.mul(s.load(x), zero));
        }
        s.sum(s.add(sum, s.mul(s.load_partial(chunks.remainder()), zero)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{assert_same, for_machines, guarded, random, special};

    const STEP: Sgd =
        Sgd { lr: 0.1, momentum: 0.9, weight_decay: 5e-4, factor: 0.7, nesterov: false };

    #[test]
    fn every_machine_gives_the_bits_of_the_twin() {
        for len in (0..=49).chain([PART + 5, 3 * PART - 1]) {
            let (w, dw, v) = (special(1, len), special(2, len), special(3, len));
            for nesterov in [false, true] {
                let step = Sgd { nesterov, ..STEP };
                let (mut w_expected, mut v_expected) = (w.clone(), v.clone());
                sgd_scalar(step, &mut w_expected, &dw, &mut v_expected);
                for_machines(|isa, pool| {
                    let mut v_found = vec![];
                    let w_found = guarded(&w, 3.0, |w| {
                        v_found = guarded(&v, 3.0, |v| sgd(isa, pool, step, w, &dw, v));
                    });
                    assert_same(&w_found, &w_expected);
                    assert_same(&v_found, &v_expected);
                });
            }
        }
    }

    #[test]
    fn three_steps_are_those_of_pytorch() {
        // w = 1, gradients 1, -2, 0.5; SGD(lr=0.1, momentum=0.9, weight_decay=0.01), by hand.
        let run = |nesterov| {
            let step = Sgd { weight_decay: 0.01, factor: 1.0, nesterov, ..STEP };
            let (mut w, mut v) = (1.0_f64, 0.0_f64);
            let (mut found_w, mut found_v) = ([1.0_f32], [0.0_f32]);
            for dw in [1.0_f64, -2.0, 0.5] {
                let g = dw + 0.01 * w;
                v = 0.9 * v + g;
                w -= 0.1 * if nesterov { g + 0.9 * v } else { v };
                sgd_scalar(step, &mut found_w, &[dw as f32], &mut found_v);
            }
            (f64::from(found_w[0]) - w).abs().max((f64::from(found_v[0]) - v).abs())
        };
        assert!(run(false) < 5e-7 && run(true) < 5e-7);
    }

    #[test]
    fn squares_are_those_of_f64_and_the_same_bits_for_any_number_of_threads() {
        for len in (0..=70).chain([4095, 4097, PART * MAX_TASKS + 17]) {
            let x = random(1, len);
            let expected: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
            for isa in Isa::available() {
                let mut first = None;
                for_machines(|other, pool| {
                    if other == isa {
                        let sum = sum_of_squares(isa, pool, &x);
                        // 4096 squares on at least 32 lanes: 128 additions in f32 each.
                        assert!((sum - expected).abs() <= 2e-6 * expected);
                        assert_eq!(sum.to_bits(), first.get_or_insert(sum).to_bits());
                    }
                });
            }
        }
    }

    #[test]
    fn clipping_shortens_long_gradients_only() {
        assert_eq!(clip_factor(1.0, 0.5), 1.0);
        assert!((clip_factor(1.0, 4.0) - 0.25).abs() < 1e-6);
        assert!(clip_factor(1.0, f64::NAN).is_nan() && clip_factor(1.0, f64::INFINITY) == 0.0);
    }

    #[test]
    fn one_bad_number_anywhere_is_found() {
        for_machines(|isa, pool| {
            let mut x = vec![f32::MAX; 2 * PART + 3];
            assert!(all_finite(isa, pool, &x) && all_finite(isa, pool, &[]));
            for (at, bad) in [(0, f32::NAN), (PART + 1, f32::INFINITY), (2 * PART + 2, f32::NAN)] {
                x[at] = bad;
                assert!(!all_finite(isa, pool, &x));
                x[at] = 0.0;
            }
        });
    }
}
