//! Tests of batch norm's gradients.

use super::*;
use crate::kernel::testing::{
    assert_same, check_map, expected_sums, for_machines, guarded, odd_rows, random, special,
};

/// Calls `f` with each kind of mask.
fn for_masks(rows: Rows, f: impl Fn(Mask<'_>)) {
    let y = special(11, rows.len());
    let (scale, shift) = (random(12, rows.channels), random(13, rows.channels));
    f(Mask::Open);
    f(Mask::Output(&y));
    f(Mask::Affine(Affine { scale: &scale, shift: &shift }));
}

#[test]
fn sums_equal_the_twin_for_every_mask() {
    for rows in odd_rows() {
        let (dy, z, mean) =
            (random(1, rows.len()), random(2, rows.len()), random(3, rows.channels));
        let input = Centred { z: &z, mean: &mean };
        for_masks(rows, |mask| {
            let twin = GradTerms { dy: &dy, mask, input };
            let expected = expected_sums(rows, |i, j| twin.scalar(i, j));
            for_machines(|isa, pool| {
                let start = vec![0.0; rows.partials_len(2)];
                let found = guarded(&start, 5.0, |partials| {
                    grad_sums(isa, pool, rows, (&dy, mask), input, partials);
                });
                assert_eq!(found, expected);
            });
        });
    }
}

#[test]
fn masking_sums_equal_the_twin_and_leave_the_masked_gradient() {
    for rows in odd_rows() {
        let dy = random(1, rows.len());
        let [za, zb] = [2, 3].map(|seed| random(seed, rows.len()));
        let [ma, mb] = [4, 5].map(|seed| random(seed, rows.channels));
        let inputs = [Centred { z: &za, mean: &ma }, Centred { z: &zb, mean: &mb }];
        for_masks(rows, |mask| {
            let mut g = dy.clone();
            let twin = MaskTerms { mask, input: inputs[0] };
            let sums = expected_sums(rows, |i, j| {
                let (new, terms) = twin.scalar(dy[i], i, j);
                g[i] = new;
                terms
            });
            let twin = PairTerms { mask, inputs };
            let pair = expected_sums(rows, |i, j| twin.scalar(dy[i], i, j).1);
            for_machines(|isa, pool| {
                let mut partials = vec![f32::NAN; rows.partials_len(2)];
                let found = guarded(&dy, 5.0, |dy| {
                    grad_mask_sums(isa, pool, rows, (dy, mask), inputs[0], &mut partials);
                });
                assert_same(&found, &g);
                assert_eq!(partials, sums);
                let mut partials = vec![f32::NAN; rows.partials_len(3)];
                let found = guarded(&dy, 5.0, |dy| {
                    grad_mask_sums_pair(isa, pool, rows, (dy, mask), inputs, &mut partials);
                });
                assert_same(&found, &g);
                assert_eq!(partials, pair);
            });
        });
    }
}

#[test]
fn applying_equals_the_twin_from_elsewhere_and_in_place() {
    for rows in odd_rows() {
        let (dy, z) = (special(1, rows.len()), special(2, rows.len()));
        let [mean, a, b, c] = [3, 4, 5, 6].map(|seed| random(seed, rows.channels));
        let (input, by) = (Centred { z: &z, mean: &mean }, Coefficients { a: &a, b: &b, c: &c });
        for_masks(rows, |mask| {
            for (source, start) in [(Source::From(&dy), &z), (Source::InPlace, &dy)] {
                let twin = GradApply { dy: source, mask, input, by };
                check_map(
                    rows.channels,
                    start,
                    |old, i, j| twin.scalar(old, i, j),
                    |isa, pool, dz| grad_apply(isa, pool, (source, mask), input, by, dz),
                );
            }
        });
    }
}

/// Σ dy·y over random dy, as f64, for the batch norm of one channel of `z`.
fn objective(z: &[f64], dy: &[f32], gamma: f64, beta: f64) -> f64 {
    let m = z.len() as f64;
    let mean = z.iter().sum::<f64>() / m;
    let var = z.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / m;
    let rstd = 1.0 / (var + 1e-5).sqrt();
    z.iter().zip(dy).map(|(z, &dy)| f64::from(dy) * (gamma * (z - mean) * rstd + beta)).sum()
}

#[test]
fn gradients_are_those_of_central_differences() {
    let rows = Rows { rows: 30, channels: 1, chunk_rows: 7 };
    let (z, dy) = (random(1, 30), random(2, 30));
    let (gamma, beta) = (1.3_f32, -0.4_f32);
    let wide: Vec<f64> = z.iter().map(|&x| f64::from(x)).collect();
    let mean = wide.iter().sum::<f64>() / 30.0;
    let var = wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 30.0;
    let (mean, rstd) = ([mean as f32], [(1.0 / (var + 1e-5).sqrt()) as f32]);

    let pool = ThreadPool::new(1);
    let input = Centred { z: &z, mean: &mean };
    let mut partials = vec![0.0; rows.partials_len(2)];
    grad_sums(Isa::Portable, &pool, rows, (&dy, Mask::Open), input, &mut partials);
    let [mut dgamma, mut dbeta, mut a, mut b, mut c] = [[0.0_f32]; 5];
    let out = Gradients { dgamma: &mut dgamma, dbeta: &mut dbeta, a: &mut a, b: &mut b, c: &mut c };
    grad_finish(rows.rows, (&partials, Sums::Only), (&[gamma], &rstd), out);
    let mut dz = dy.clone();
    let by = Coefficients { a: &a, b: &b, c: &c };
    grad_apply(Isa::Portable, &pool, (Source::InPlace, Mask::Open), input, by, &mut dz);

    // f32 arithmetic on values near 1; the differences themselves are good to 1e-9.
    const TOLERANCE: f64 = 1e-5;
    let (gamma, beta, step) = (f64::from(gamma), f64::from(beta), 1e-5);
    let close = |found: f32, expected: f64| (f64::from(found) - expected).abs() < TOLERANCE;
    let slope = |up: f64, down: f64| (up - down) / (2.0 * step);
    let at = |gamma, beta| objective(&wide, &dy, gamma, beta);
    assert!(close(dgamma[0], slope(at(gamma + step, beta), at(gamma - step, beta))));
    assert!(close(dbeta[0], slope(at(gamma, beta + step), at(gamma, beta - step))));
    for i in 0..30 {
        let moved = |by: f64| {
            let mut z = wide.clone();
            z[i] += by;
            objective(&z, &dy, gamma, beta)
        };
        assert!(close(dz[i], slope(moved(step), moved(-step))));
    }
}

#[test]
fn a_frozen_norm_passes_the_scaled_gradient() {
    let partials = [1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0];
    let [mut dgamma, mut dbeta, mut a, mut b, mut c] = [[9.0_f32; 2]; 5];
    let out = Gradients { dgamma: &mut dgamma, dbeta: &mut dbeta, a: &mut a, b: &mut b, c: &mut c };
    grad_finish_frozen((&partials, Sums::Only), (&[2.0, 3.0], &[0.5, 0.25]), out);
    assert_eq!((dbeta, dgamma), ([11.0, 22.0], [16.5, 11.0]));
    assert_eq!((a, b, c), ([1.0, 0.75], [0.0; 2], [0.0; 2]));
}

#[test]
fn sums_of_a_pair_are_picked_by_their_place() {
    let rows = Rows { rows: 1, channels: 1, chunk_rows: 1 };
    let pick = |which| {
        let [mut dgamma, mut dbeta, mut a, mut b, mut c] = [[0.0_f32]; 5];
        let out =
            Gradients { dgamma: &mut dgamma, dbeta: &mut dbeta, a: &mut a, b: &mut b, c: &mut c };
        grad_finish(rows.rows, (&[5.0, 6.0, 7.0], which), (&[1.0], &[1.0]), out);
        (dbeta[0], dgamma[0])
    };
    assert_eq!((pick(Sums::First), pick(Sums::Second)), ((5.0, 6.0), (5.0, 7.0)));
}
