//! The inner product of the weight gradient: a tile of inputs times a panel, sums in registers.
//!
//! A tile is 12 inputs of one tap times a panel of outputs (AVX-512: 24 sums, 2 vectors of `dy`, 1
//! broadcast). With 16 lanes, eight outputs would fill half a vector: two inputs share one there, the
//! even input in even lanes, the odd one in odd lanes.

use resnet_simd::Simd;

use super::Ahead;

/// Inputs of most tiles.
pub(super) const INPUTS: usize = 12;
/// Pixels of a tile between two requests for what the next block reads: many requests at once would
/// keep the tile's own loads waiting.
pub(super) const ASK_EVERY: usize = 8;

/// `dw[ci][j] += Σ_pixel rows[pixel][offset + ci] · dy[pixel][j]` for all inputs of `dw`.
///
/// # Safety
/// Each pointer is valid for `offset + dw.len() / width` floats, and `dy` holds `width` floats for each.
#[inline(always)]
pub(in crate::kernel::conv) unsafe fn accumulate<S: Simd>(
    s: S,
    width: usize,
    rows: &[*const f32],
    (offset, dy): (usize, *const f32),
    dw: &mut [f32],
    ahead: &mut Ahead,
) {
    // SAFETY: passed on. Each tile shape's width is the panel's.
    unsafe {
        match (S::LANES, width) {
            (16, 32) => inputs_12::<S, 2>(s, rows, (offset, dy), dw, ahead),
            (16, 24) => paired_inputs::<S, 1>(s, rows, (offset, dy), dw, ahead),
            (16, 16) => inputs_12::<S, 1>(s, rows, (offset, dy), dw, ahead),
            (16, 8) => paired_inputs::<S, 0>(s, rows, (offset, dy), dw, ahead),
            (8, 16) => inputs_6::<S, 2>(s, rows, (offset, dy), dw, ahead),
            (8, 8) => inputs_12::<S, 1>(s, rows, (offset, dy), dw, ahead),
            (lanes, width) => unreachable!("no tile of width {width} for {lanes} lanes"),
        }
    }
}

#[inline(always)]
unsafe fn inputs_12<S: Simd, const NV: usize>(
    s: S,
    rows: &[*const f32],
    (offset, dy): (usize, *const f32),
    dw: &mut [f32],
    ahead: &mut Ahead,
) {
    let (mut ci, inputs) = (0, dw.len() / width::<S, NV, 0>());
    while ci < inputs {
        let left = inputs - ci;
        // Twelves, but eights where those leave no small rest: 16 = 8 + 8, 64 = 4·12 + 8 + 8.
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match left {
                8 | 9 | 16 => tile::<S, 8, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                12.. => tile::<S, 12, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                7 | 10 | 11 => tile::<S, 7, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                4..=6 => tile::<S, 4, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                2..=3 => tile::<S, 2, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                _ => tile::<S, 1, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
            }
        }
    }
}

#[inline(always)]
unsafe fn inputs_6<S: Simd, const NV: usize>(
    s: S,
    rows: &[*const f32],
    (offset, dy): (usize, *const f32),
    dw: &mut [f32],
    ahead: &mut Ahead,
) {
    let (mut ci, inputs) = (0, dw.len() / width::<S, NV, 0>());
    while ci < inputs {
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match inputs - ci {
                4 | 8 => tile::<S, 4, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                6.. => tile::<S, 6, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                2.. => tile::<S, 2, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
                _ => tile::<S, 1, NV, 0>(s, rows, offset, dy, dw, ci, ahead),
            }
        }
    }
}

/// Panels whose last eight outputs are summed up in pairs of inputs, after `NV` whole vectors.
#[inline(always)]
unsafe fn paired_inputs<S: Simd, const NV: usize>(
    s: S,
    rows: &[*const f32],
    (offset, dy): (usize, *const f32),
    dw: &mut [f32],
    ahead: &mut Ahead,
) {
    let (mut ci, inputs) = (0, dw.len() / width::<S, NV, 1>());
    let h = s.half();
    while ci < inputs {
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match inputs - ci {
                8 | 9 | 16 | 17 => tile::<S, 8, NV, 1>(s, rows, offset, dy, dw, ci, ahead),
                12.. => tile::<S, 12, NV, 1>(s, rows, offset, dy, dw, ci, ahead),
                4.. => tile::<S, 4, NV, 1>(s, rows, offset, dy, dw, ci, ahead),
                2.. => tile::<S, 2, NV, 1>(s, rows, offset, dy, dw, ci, ahead),
                // The last of an odd number has no other: half vectors, in the same places.
                _ if NV == 0 => tile::<S::Half, 1, 1, 0>(h, rows, offset, dy, dw, ci, ahead),
                _ => tile::<S::Half, 1, 3, 0>(h, rows, offset, dy, dw, ci, ahead),
            }
        }
    }
}

/// Floats of a row of sums.
const fn width<S: Simd, const NV: usize, const NP: usize>() -> usize {
    NV * S::LANES + NP * S::LANES / 2
}

/// `M` inputs from `ci` on; returns `M`. The outputs are `NV` vectors, and `NP` half ones for which two
/// inputs share a vector (`M` is even then).
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const NV: usize, const NP: usize>(
    s: S,
    rows: &[*const f32],
    offset: usize,
    dy: *const f32,
    dw: &mut [f32],
    ci: usize,
    ahead: &mut Ahead,
) -> usize {
    let width = width::<S, NV, NP>();
    let dw = dw[ci * width..(ci + M) * width].as_mut_ptr();
    let at = offset + ci;
    // SAFETY: `dw` has M rows of the width, just sliced; each pointer is valid for `at + M` floats
    // and `dy` for a row of the width for each pointer, as the caller promises.
    unsafe {
        let whole = |m: usize, j: usize| dw.add(m * width + j * S::LANES);
        let half = |m: usize, j: usize| dw.add(m * width + NV * S::LANES + j * S::LANES / 2);
        // In loops: a closure in a closure that makes as many vectors as this is not inlined, and then not
        // compiled for the instruction set.
        let mut sums = [[s.splat(0.0); NV]; M];
        for (m, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                *sum = s.load_ptr(whole(m, j));
            }
        }
        // Of inputs 2i and 2i + 1; the upper half is not used.
        let mut pairs = [[s.splat(0.0); NP]; M];
        for (i, pairs) in pairs[..M / 2].iter_mut().enumerate() {
            *pairs = std::array::from_fn(|j| s.load_pairs(half(2 * i, j), half(2 * i + 1, j)));
        }
        let mut dy = dy;
        for rows in rows.chunks(ASK_EVERY) {
            ahead.ask(s);
            for row in rows {
                let x = row.add(at);
                let dy_row: [S::F32; NV] =
                    std::array::from_fn(|j| s.load_ptr(dy.add(j * S::LANES)));
                for (m, sums) in sums.iter_mut().enumerate() {
                    let x = s.splat(*x.add(m));
                    for (sum, &dy) in sums.iter_mut().zip(&dy_row) {
                        *sum = s.mul_add(x, dy, *sum);
                    }
                }
                let twice: [S::F32; NP] = std::array::from_fn(|j| {
                    let dy = dy.add(NV * S::LANES + j * S::LANES / 2);
                    s.load_pairs(dy, dy)
                });
                for (i, pairs) in pairs[..M / 2].iter_mut().enumerate() {
                    for (sum, &dy) in pairs.iter_mut().zip(&twice) {
                        *sum = s.mul_add(s.splat_pair(x.add(2 * i)), dy, *sum);
                    }
                }
                dy = dy.add(width);
            }
        }
        for (m, sums) in sums.iter().enumerate() {
            for (j, &sum) in sums.iter().enumerate() {
                s.store_ptr(sum, whole(m, j));
            }
        }
        for (i, pairs) in pairs[..M / 2].iter().enumerate() {
            for (j, &pair) in pairs.iter().enumerate() {
                s.store_pairs(pair, half(2 * i, j), half(2 * i + 1, j));
            }
        }
    }
    M
}
