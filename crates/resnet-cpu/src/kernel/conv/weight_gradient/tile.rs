//! The inner product of the weight gradient: a tile of inputs times panels, sums in registers.
//!
//! With 16 lanes a tile is 6 inputs of one tap times two panels of outputs (24 sums, 4 vectors of `dy`, 1
//! broadcast), or 12 inputs times a panel alone: the same sums, but ten loads a pixel instead of
//! fourteen. Eight outputs would fill half a vector: two inputs share one there, the even input in even
//! lanes, the odd one in odd lanes.

use resnet_simd::Simd;

use super::Ahead;
#[cfg(doc)]
use crate::kernel::conv::PackedLayout;

/// Inputs of most tiles times panels.
pub(super) const INPUTS: usize = 12;
/// Pixels of a tile between two requests for what the next block reads: many requests at once would
/// keep the tile's own loads waiting.
pub(super) const ASK_EVERY: usize = 8;

/// The pixels' rows of `x`, one after the other.
pub(in crate::kernel::conv) trait Rows: Copy {
    /// How many.
    fn count(&self) -> usize;

    /// The next one.
    ///
    /// # Safety
    /// No more than there are.
    unsafe fn next(&mut self) -> *const f32;
}

/// Rows anywhere.
impl Rows for &[*const f32] {
    #[inline(always)]
    fn count(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    unsafe fn next(&mut self) -> *const f32 {
        // SAFETY: there is a row left, as the caller says.
        let (row, rest) = unsafe { (*self.get_unchecked(0), self.get_unchecked(1..)) };
        *self = rest;
        row
    }
}

/// Rows that are equally far apart: a tile walks along them by adding, and needs no pointers.
#[derive(Clone, Copy)]
pub(in crate::kernel::conv) struct EvenRows {
    /// The next row.
    pub(in crate::kernel::conv) next: *const f32,
    /// Floats from row to row.
    pub(in crate::kernel::conv) pitch: usize,
    pub(in crate::kernel::conv) count: usize,
}

impl EvenRows {
    /// The rows that these point to.
    pub(super) fn new(pointers: &[*const f32], pitch: usize) -> EvenRows {
        EvenRows { next: pointers[0], pitch, count: pointers.len() }
    }
}

impl Rows for EvenRows {
    #[inline(always)]
    fn count(&self) -> usize {
        self.count
    }

    #[inline(always)]
    unsafe fn next(&mut self) -> *const f32 {
        let row = self.next;
        self.next = row.wrapping_add(self.pitch);
        row
    }
}

/// What tiles multiply: channels of the rows of `x` from `offset` on, and a panel of `dy`, or two.
#[derive(Clone, Copy)]
pub(in crate::kernel::conv) struct Operands<R> {
    pub(in crate::kernel::conv) rows: R,
    pub(in crate::kernel::conv) offset: usize,
    /// `[row][width]`.
    pub(in crate::kernel::conv) dy: *const f32,
    /// Floats from there to the other panel's.
    pub(in crate::kernel::conv) apart: usize,
}

impl<R> Operands<R> {
    /// The same with the rows given otherwise.
    pub(super) fn with_rows<T>(self, rows: T) -> Operands<T> {
        Operands { rows, offset: self.offset, dy: self.dy, apart: self.apart }
    }
}

/// `dw[ci][j] += Σ_row x[row][offset + ci] · dy[row][j]` for all inputs of a panel's `dw`, and of the other
/// one's where two [go together](PackedLayout::together): they come one after the other, so wide.
///
/// # Safety
/// The rows are valid for `offset + dw.len() / width` floats, and `dy` holds `width` floats for each; both of
/// two `dw` are as long.
#[inline(always)]
pub(in crate::kernel::conv) unsafe fn accumulate<'a, S: Simd, R: Rows>(
    s: S,
    operands: Operands<R>,
    (width, mut dw): (usize, impl Iterator<Item = &'a mut [f32]>),
    ahead: &mut Ahead,
) {
    // SAFETY: passed on. Each tile shape's width is the panel's.
    unsafe {
        match (S::LANES, width, [dw.next(), dw.next()]) {
            (_, _, [None, _]) => {}
            (16, 32, [Some(dw), Some(other)]) => {
                inputs_6::<S, R, 2, 2>(s, operands, &mut [dw, other], ahead);
            }
            (16, 32, [Some(dw), _]) => inputs_12::<S, R, 2>(s, operands, &mut [dw], ahead),
            (16, 24, [Some(dw), _]) => paired_inputs::<S, R, 1>(s, operands, &mut [dw], ahead),
            (16, 16, [Some(dw), _]) => inputs_12::<S, R, 1>(s, operands, &mut [dw], ahead),
            (16, 8, [Some(dw), _]) => paired_inputs::<S, R, 0>(s, operands, &mut [dw], ahead),
            (8, 16, [Some(dw), _]) => inputs_6::<S, R, 1, 2>(s, operands, &mut [dw], ahead),
            (8, 8, [Some(dw), _]) => inputs_12::<S, R, 1>(s, operands, &mut [dw], ahead),
            (lanes, width, _) => unreachable!("no tile of width {width} for {lanes} lanes"),
        }
    }
}

#[inline(always)]
unsafe fn inputs_12<S: Simd, R: Rows, const NV: usize>(
    s: S,
    operands: Operands<R>,
    dw: &mut [&mut [f32]; 1],
    ahead: &mut Ahead,
) {
    let (mut ci, inputs) = (0, dw[0].len() / width::<S, NV, 0>());
    while ci < inputs {
        let left = inputs - ci;
        // Twelves, but eights where those leave no small rest: 16 = 8 + 8, 64 = 4·12 + 8 + 8.
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match left {
                8 | 9 | 16 => tile::<S, R, 8, 1, NV, 0>(s, operands, dw, ci, ahead),
                12.. => tile::<S, R, 12, 1, NV, 0>(s, operands, dw, ci, ahead),
                7 | 10 | 11 => tile::<S, R, 7, 1, NV, 0>(s, operands, dw, ci, ahead),
                4..=6 => tile::<S, R, 4, 1, NV, 0>(s, operands, dw, ci, ahead),
                2..=3 => tile::<S, R, 2, 1, NV, 0>(s, operands, dw, ci, ahead),
                _ => tile::<S, R, 1, 1, NV, 0>(s, operands, dw, ci, ahead),
            }
        }
    }
}

#[inline(always)]
unsafe fn inputs_6<S: Simd, R: Rows, const P: usize, const NV: usize>(
    s: S,
    operands: Operands<R>,
    dw: &mut [&mut [f32]; P],
    ahead: &mut Ahead,
) {
    let (mut ci, inputs) = (0, dw[0].len() / width::<S, NV, 0>());
    while ci < inputs {
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match inputs - ci {
                4 | 8 => tile::<S, R, 4, P, NV, 0>(s, operands, dw, ci, ahead),
                6.. => tile::<S, R, 6, P, NV, 0>(s, operands, dw, ci, ahead),
                2.. => tile::<S, R, 2, P, NV, 0>(s, operands, dw, ci, ahead),
                _ => tile::<S, R, 1, P, NV, 0>(s, operands, dw, ci, ahead),
            }
        }
    }
}

/// Panels whose last eight outputs are summed up in pairs of inputs, after `NV` whole vectors.
#[inline(always)]
unsafe fn paired_inputs<S: Simd, R: Rows, const NV: usize>(
    s: S,
    operands: Operands<R>,
    dw: &mut [&mut [f32]; 1],
    ahead: &mut Ahead,
) {
    let (mut ci, inputs) = (0, dw[0].len() / width::<S, NV, 1>());
    let h = s.half();
    while ci < inputs {
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match inputs - ci {
                8 | 9 | 16 | 17 => tile::<S, R, 8, 1, NV, 1>(s, operands, dw, ci, ahead),
                12.. => tile::<S, R, 12, 1, NV, 1>(s, operands, dw, ci, ahead),
                4.. => tile::<S, R, 4, 1, NV, 1>(s, operands, dw, ci, ahead),
                2.. => tile::<S, R, 2, 1, NV, 1>(s, operands, dw, ci, ahead),
                // The last of an odd number has no other: half vectors, in the same places.
                _ if NV == 0 => tile::<S::Half, R, 1, 1, 1, 0>(h, operands, dw, ci, ahead),
                _ => tile::<S::Half, R, 1, 1, 3, 0>(h, operands, dw, ci, ahead),
            }
        }
    }
}

/// Floats of a row of sums.
const fn width<S: Simd, const NV: usize, const NP: usize>() -> usize {
    NV * S::LANES + NP * S::LANES / 2
}

/// `M` inputs from `ci` on; returns `M`. The outputs of each of `P` panels are `NV` vectors, and `NP` half
/// ones for which two inputs share a vector (`M` is even then).
#[inline(always)]
unsafe fn tile<
    S: Simd,
    R: Rows,
    const M: usize,
    const P: usize,
    const NV: usize,
    const NP: usize,
>(
    s: S,
    Operands { mut rows, offset, dy, apart }: Operands<R>,
    dw: &mut [&mut [f32]; P],
    ci: usize,
    ahead: &mut Ahead,
) -> usize {
    let width = width::<S, NV, NP>();
    let dw = dw.each_mut().map(|dw| dw[ci * width..(ci + M) * width].as_mut_ptr());
    // SAFETY: each of `dw` has M rows of the width, just sliced; each row of a run is valid for
    // `offset + ci + M` floats and each of `dy` for a row of the width for each of those, as the
    // caller promises.
    unsafe {
        let whole = |p: usize, m: usize, j: usize| dw[p].add(m * width + j * S::LANES);
        let half =
            |p: usize, m: usize, j: usize| dw[p].add(m * width + NV * S::LANES + j * S::LANES / 2);
        // In loops: a closure in a closure that makes as many vectors as this is not inlined, and then not
        // compiled for the instruction set.
        let mut sums = [[[s.splat(0.0); NV]; P]; M];
        // Of inputs 2i and 2i + 1; the upper half is not used.
        let mut pairs = [[[s.splat(0.0); NP]; P]; M];
        for p in 0..P {
            for (m, sums) in sums.iter_mut().enumerate() {
                for (j, sum) in sums[p].iter_mut().enumerate() {
                    *sum = s.load_ptr(whole(p, m, j));
                }
            }
            for (i, pairs) in pairs[..M / 2].iter_mut().enumerate() {
                for (j, pair) in pairs[p].iter_mut().enumerate() {
                    *pair = s.load_pairs(half(p, 2 * i, j), half(p, 2 * i + 1, j));
                }
            }
        }
        let mut dy: [*const f32; P] = std::array::from_fn(|p| dy.wrapping_add(p * apart));
        let mut left = rows.count();
        while 0 < left {
            ahead.ask(s);
            let now = left.min(ASK_EVERY);
            left -= now;
            for _ in 0..now {
                let x = rows.next().add(offset + ci);
                let mut row = [[s.splat(0.0); NV]; P];
                let mut twice = [[s.splat(0.0); NP]; P];
                for p in 0..P {
                    for (j, row) in row[p].iter_mut().enumerate() {
                        *row = s.load_ptr(dy[p].add(j * S::LANES));
                    }
                    for (j, twice) in twice[p].iter_mut().enumerate() {
                        let dy = dy[p].add(NV * S::LANES + j * S::LANES / 2);
                        *twice = s.load_pairs(dy, dy);
                    }
                    dy[p] = dy[p].add(width);
                }
                for (m, sums) in sums.iter_mut().enumerate() {
                    let x = s.splat(*x.add(m));
                    for (sum, &dy) in sums.as_flattened_mut().iter_mut().zip(row.as_flattened()) {
                        *sum = s.mul_add(x, dy, *sum);
                    }
                }
                for (i, pairs) in pairs[..M / 2].iter_mut().enumerate() {
                    let x = x.add(2 * i);
                    for (sum, &dy) in pairs.as_flattened_mut().iter_mut().zip(twice.as_flattened())
                    {
                        *sum = s.mul_add(s.splat_pair(x), dy, *sum);
                    }
                }
            }
        }
        for p in 0..P {
            for (m, sums) in sums.iter().enumerate() {
                for (j, &sum) in sums[p].iter().enumerate() {
                    s.store_ptr(sum, whole(p, m, j));
                }
            }
            for (i, pairs) in pairs[..M / 2].iter().enumerate() {
                for (j, &pair) in pairs[p].iter().enumerate() {
                    s.store_pairs(pair, half(p, 2 * i, j), half(p, 2 * i + 1, j));
                }
            }
        }
    }
    M
}
