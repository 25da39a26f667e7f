//! The optimiser: SGD in PyTorch's semantics, and clipping by the norm of all gradients.
//!
//! Slices may be in any layout, as long as all of a parameter's agree: the update is elementwise.

use resnet_core::op::Sgd;

use crate::threads::ThreadPool;

/// Elements of a task: some microseconds of memory traffic.
const PART: usize = 1 << 14;

/// The numbers of one update; see [`sgd`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Learning rate of this step, for all groups.
    pub lr: f32,
    /// Momentum of this step.
    pub momentum: f32,
    /// What gradients are multiplied by, from [`clip_factor`]; 1 without clipping.
    pub factor: f32,
}

/// One step of SGD, in place.
///
/// `g = dw * factor + weight_decay * w; v = momentum * v + g; w -= lr * rate * (g + momentum * v if
/// nesterov else v)`: PyTorch's `SGD` without dampening, whose first step (`v = g`) is this from
/// `v = 0`. Products and sums are rounded one by one, so that all instruction sets agree.
///
/// # Panics
/// If the lengths differ.
pub fn sgd(
    pool: &ThreadPool,
    group: &Sgd,
    hyper: Hyper,
    (w, velocity): (&mut [f32], &mut [f32]),
    dw: &[f32],
) {
    assert_eq!((w.len(), velocity.len()), (dw.len(), dw.len()));
    let lr = hyper.lr * group.rate as f32;
    let decay = group.weight_decay as f32;
    pool.run_part_pairs((w, PART), (velocity, PART), |part, w, velocity| {
        let dw = &dw[part * PART..][..w.len()];
        for ((w, v), &dw) in w.iter_mut().zip(velocity).zip(dw) {
            let g = dw * hyper.factor + decay * *w;
            *v = hyper.momentum * *v + g;
            *w -= lr * if group.nesterov { g + hyper.momentum * *v } else { *v };
        }
    });
}

/// Sum of squares: f64, over fixed parts, added in order. Up to `sums.len()` parts at a time.
///
/// # Panics
/// If `sums` is empty.
pub fn sum_of_squares(pool: &ThreadPool, x: &[f32], sums: &mut [f64]) -> f64 {
    let capacity = sums.len();
    x.chunks(PART * capacity).fold(0.0, |total, x| {
        let parts = x.len().div_ceil(PART);
        pool.run_parts(&mut sums[..parts], 1, |part, sum| {
            let x = &x[part * PART..x.len().min((part + 1) * PART)];
            sum[0] = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
        });
        sums[..parts].iter().fold(total, |total, sum| total + sum)
    })
}

/// What gradients of this norm are multiplied by: `min(1, max_norm / (norm + 1e-6))`, as PyTorch's
/// `clip_grad_norm_`.
pub fn clip_factor(max_norm: f64, norm: f64) -> f32 {
    (max_norm / (norm + 1e-6)).min(1.0) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_steps_are_those_computed_by_hand() {
        let pool = ThreadPool::new(1);
        let group = Sgd { weight_decay: 0.5, rate: 1.0, nesterov: false };
        let hyper = Hyper { lr: 0.25, momentum: 0.5, factor: 1.0 };
        let (mut w, mut v) = ([1.0_f32], [0.0_f32]);
        // g = 1 + 0.5; v = 1.5; w = 1 - 0.375.
        sgd(&pool, &group, hyper, (&mut w, &mut v), &[1.0]);
        assert_eq!((w, v), ([0.625], [1.5]));
        // g = 1 + 0.3125; v = 0.75 + 1.3125; w = 0.625 - 0.515625.
        sgd(&pool, &group, hyper, (&mut w, &mut v), &[1.0]);
        assert_eq!((w, v), ([0.109_375], [2.0625]));
        let nesterov = Sgd { nesterov: true, weight_decay: 0.0, ..group };
        // g = 1; v = 1.03125 + 1; w -= 0.25 * (1 + 1.015625).
        sgd(&pool, &nesterov, hyper, (&mut w, &mut v), &[1.0]);
        assert_eq!((w, v), ([0.109_375 - 0.503_906_25], [2.031_25]));
    }

    #[test]
    fn sums_of_squares_are_the_same_bits_for_any_number_of_threads() {
        let x: Vec<f32> = (0..100_000).map(|i| (i as f32 * 0.37).sin()).collect();
        let sum = |threads| sum_of_squares(&ThreadPool::new(threads), &x, &mut [0.0; 4]);
        let expected = sum(1);
        assert!([2, 3, 7].into_iter().all(|threads| sum(threads) == expected));
        let naive: f64 = x.iter().map(|&x| f64::from(x).powi(2)).sum();
        assert!((expected - naive).abs() < 1e-9 * naive);
    }
}
