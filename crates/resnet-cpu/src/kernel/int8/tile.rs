//! The inner product on bytes: a tile of pixels times a panel, whole reduction in registers.
//!
//! Heights follow from the registers. AVX-512 has 32: 6 pixels x 4 vectors, two panels at a time, = 24
//! sums, 4 weights, 1 broadcast; of a panel alone 14 x 2 = 28 sums, which take more loads (see the tiles of
//! floats). AVX2 has 16, and needs three for a product: 4 x 2 = 8 sums.

use std::ops::Range;

use resnet_simd::{Dot, Simd};

use super::gather::Table;
use super::layout::Int8Layout;
use super::plan::Int8Output;
use crate::kernel::prefetch::{Soon, TileOf};

/// How far ahead of the multiplication weights are fetched, in bytes.
const PREFETCH: usize = 2048;
/// The widest panel.
const MAX_WIDTH: usize = 32;

/// Where results go, as the tasks share it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Finish {
    /// Bytes, or floats, as `output` says.
    pub(super) target: *mut u8,
    pub(super) output: Int8Output,
    /// Null: none.
    pub(super) residual: *const u8,
    pub(super) factor: f32,
    /// Channels of the target.
    pub(super) channels: usize,
}

/// Tiles of one block and panel, or two that are multiplied together.
#[derive(Clone)]
pub(super) struct Work<'a> {
    pub(super) table: &'a Table,
    /// The output pixel of the table's row 0.
    pub(super) first_pixel: usize,
    /// Which of the table's rows.
    pub(super) rows: Range<usize>,
    pub(super) taps: usize,
    /// Words that a tap multiplies, and the byte where they start in each row.
    pub(super) words: usize,
    pub(super) offset: usize,
    /// The panel's numbers.
    pub(super) packed: *const u8,
    /// Bytes from there to those of the other panel, where two are multiplied together.
    pub(super) apart: Option<usize>,
    /// What is read next, numbers of a panel or rows: asked for meanwhile.
    pub(super) coming: Soon,
    pub(super) width: usize,
    /// The panel's first channel, and how many count.
    pub(super) channel: usize,
    pub(super) channels: usize,
    pub(super) finish: &'a Finish,
}

impl Work<'_> {
    /// What `M` of the table's rows from `row` on read at a tap with pointers of its own.
    #[inline(always)]
    fn rows_of<const M: usize>(&self, tap: usize, row: usize) -> [*const u8; M] {
        // A tile reads no further than the table repeats its last row.
        *self.table.tap(tap)[row..].first_chunk().expect("a tile inside the table")
    }
}

/// The unit that block sizes are a multiple of: all full tiles fit it.
pub(super) fn height_unit(layout: &Int8Layout, lanes: usize) -> usize {
    if lanes == 16 && !layout.goes_together() { 14 } else { 12 }
}

/// All tiles of a block and panel.
///
/// # Safety
/// The table's pointers, and what lies its step between taps behind them, are valid for
/// `offset + 4 * words` bytes (what lies behind a run is multiplied by 0), `packed` for a panel, and the
/// target and residual for the pixels and channels.
#[inline(always)]
pub(super) unsafe fn run_tiles<D: Dot>(d: D, work: &Work<'_>) {
    let Range { start: mut row, end: rows } = work.rows;
    debug_assert_eq!(work.width, 2 * D::SUMS);
    while row < rows {
        // SAFETY: passed on; a tile overhangs the rows by 13 at most.
        unsafe {
            row += match (<D::Floats as Simd>::REGISTERS, work.apart.is_some(), rows - row) {
                (_, true, 5..) => tile::<D, 6, 2>(d, work, row),
                (_, true, 3..=4) => tile::<D, 4, 2>(d, work, row),
                (_, true, 2) => tile::<D, 2, 2>(d, work, row),
                (_, true, _) => tile::<D, 1, 2>(d, work, row),
                (32, false, 11..) => tile::<D, 14, 1>(d, work, row),
                (32, false, 5..=10) => tile::<D, 7, 1>(d, work, row),
                (_, false, 3..) => tile::<D, 4, 1>(d, work, row),
                (_, false, 2) => tile::<D, 2, 1>(d, work, row),
                (_, false, _) => tile::<D, 1, 1>(d, work, row),
            }
        }
    }
}

/// One tile of up to `M` pixels from `row` on, of `P` panels; returns `M`.
#[inline(always)]
unsafe fn tile<D: Dot, const M: usize, const P: usize>(d: D, work: &Work<'_>, row: usize) -> usize {
    // SAFETY: passed on.
    unsafe {
        let sums = multiply::<D, M, P>(d, work, row);
        let rows = M.min(work.rows.end - row);
        for (p, sums) in sums.iter().enumerate() {
            let packed = work.packed.wrapping_add(p * work.apart.unwrap_or(0));
            let panel = Work { packed, channel: work.channel + p * work.width, ..work.clone() };
            finish(d, &panel, row, sums, rows);
        }
    }
    M
}

/// The sums of one tile, offsets included.
#[inline(always)]
unsafe fn multiply<D: Dot, const M: usize, const P: usize>(
    d: D,
    work: &Work<'_>,
    row: usize,
) -> [[[D::I32; 2]; M]; P] {
    let apart = work.apart.unwrap_or(0);
    // SAFETY: pointers and the panels are valid as the caller promises; a step from tap to tap leads to
    // what the next one reads.
    unsafe {
        let mut sums: [[[D::I32; 2]; M]; P] = std::array::from_fn(|p| {
            let offsets = work.packed.add(p * apart).cast::<i32>();
            [[d.load_sums(offsets), d.load_sums(offsets.add(D::SUMS))]; M]
        });
        let mut w = work.packed.add(8 * work.width).cast::<i8>();
        let tile = TileOf { before: row - work.rows.start, rows: M, all: work.rows.len() };
        let mut requests = work.coming.requests(tile, (4, work.taps * work.words));
        let mut rows: [*const u8; M] = work.rows_of(0, row);
        let mut start = work.offset;
        for tap in 1..=work.taps {
            let end = start + 4 * work.words;
            let mut at = start;
            while at + 16 <= end {
                for u in 0..4 {
                    step(d, &mut sums, &rows, at + 4 * u, (w.add(u * 8 * D::SUMS), apart));
                }
                requests.make(d.floats());
                w = w.add(4 * 8 * D::SUMS);
                at += 16;
            }
            while at < end {
                step(d, &mut sums, &rows, at, (w, apart));
                w = w.add(8 * D::SUMS);
                at += 4;
            }
            match work.table.tap_step {
                Some(step) => start += step,
                None if tap < work.taps => rows = work.rows_of(tap, row),
                None => {}
            }
        }
        sums
    }
}

/// The word at byte `at` of each row times one row of weights of each panel.
#[inline(always)]
unsafe fn step<D: Dot, const M: usize, const P: usize>(
    d: D,
    sums: &mut [[[D::I32; 2]; M]; P],
    rows: &[*const u8; M],
    at: usize,
    (w, apart): (*const i8, usize),
) {
    // SAFETY: the word lies in each of the `M` rows, and `w` points to a row of weights, as the caller
    // says.
    unsafe {
        let weights: [[_; 2]; P] = std::array::from_fn(|p| {
            let w = w.add(p * apart);
            [d.load_weights(w), d.load_weights(w.add(4 * D::SUMS))]
        });
        if P == 1 {
            for line in 0..(8 * D::SUMS).div_ceil(64) {
                d.floats().prefetch(w.wrapping_add(PREFETCH + 64 * line).cast());
            }
        }
        for (m, row) in rows.iter().enumerate() {
            let x = d.splat4(row.add(at));
            for (sums, weights) in sums.iter_mut().zip(&weights) {
                sums[m][0] = d.dot(sums[m][0], x, weights[0]);
                sums[m][1] = d.dot(sums[m][1], x, weights[1]);
            }
        }
    }
}

/// Scales the sums, adds the residual, and writes the first `rows` of them.
#[inline(always)]
unsafe fn finish<D: Dot, const M: usize>(
    d: D,
    work: &Work<'_>,
    row: usize,
    sums: &[[D::I32; 2]; M],
    rows: usize,
) {
    let f = work.finish;
    let whole = work.width <= work.channels && rows == M;
    // SAFETY: passed on; whole pairs are moved only where all of a panel's channels count.
    unsafe {
        match (f.output, f.residual.is_null()) {
            (Int8Output::Bytes, true) if whole => whole_tile::<D, M, false>(d, work, row, sums),
            (Int8Output::Bytes, false) if whole => whole_tile::<D, M, true>(d, work, row, sums),
            // A copy, since only arrays whose places are known stay in registers.
            (Int8Output::Bytes | Int8Output::Floats, _) => {
                let sums = *sums;
                rests(d, work, row, &sums[..rows]);
            }
        }
    }
}

/// What a tile's epilogue multiplies its sums by.
#[inline(always)]
unsafe fn multipliers<D: Dot>(d: D, work: &Work<'_>) -> [<D::Floats as Simd>::F32; 2] {
    // SAFETY: multipliers lie behind the panel's offsets.
    unsafe {
        let first = work.packed.add(4 * work.width).cast::<f32>();
        [d.floats().load_ptr(first), d.floats().load_ptr(first.add(D::SUMS))]
    }
}

/// [`finish`] for bytes, where all of the panel's channels and all rows count.
///
/// Two rows at a time: their four vectors become bytes together.
#[inline(always)]
unsafe fn whole_tile<D: Dot, const M: usize, const ADD: bool>(
    d: D,
    work: &Work<'_>,
    row: usize,
    sums: &[[D::I32; 2]; M],
) {
    let (s, f) = (d.floats(), work.finish);
    let at = (work.first_pixel + row) * f.channels + work.channel;
    // SAFETY: the target and the residual are valid for the panel's channels of each pixel.
    unsafe {
        let multipliers = multipliers(d, work);
        let factor = s.splat(f.factor);
        let (mut target, mut residual) = (f.target.add(at), f.residual.wrapping_add(at));
        for two in 0..M.div_ceil(2) {
            // An odd last row twice.
            let (m, next) = if 2 * two + 1 < M { (2 * two + 1, f.channels) } else { (M - 1, 0) };
            let mut pairs = [[s.splat(0.0); 2]; 2];
            for (pair, sums) in pairs.iter_mut().zip([&sums[2 * two], &sums[m]]) {
                *pair = [
                    s.mul(d.to_f32(sums[0]), multipliers[0]),
                    s.mul(d.to_f32(sums[1]), multipliers[1]),
                ];
            }
            if ADD {
                for pair in &mut pairs {
                    let [first, second] = d.load_scaled(residual, factor);
                    *pair = [s.add(pair[0], first), s.add(pair[1], second)];
                    residual = residual.wrapping_add(next);
                }
            }
            d.store_pairs(pairs, [target, target.wrapping_add(next)]);
            target = target.wrapping_add(2 * next);
        }
    }
}

/// [`finish`] for the last rows or channels, and for real numbers.
#[inline(always)]
unsafe fn rests<D: Dot>(d: D, work: &Work<'_>, row: usize, sums: &[[D::I32; 2]]) {
    let (s, f) = (d.floats(), work.finish);
    let valid = work.channels.min(work.width);
    let mut at = (work.first_pixel + row) * f.channels + work.channel;
    // SAFETY: the target and the residual are valid for `valid` channels of each pixel.
    unsafe {
        let multipliers = multipliers(d, work);
        let factor = s.splat(f.factor);
        for sums in sums {
            let mut pair = [
                s.mul(d.to_f32(sums[0]), multipliers[0]),
                s.mul(d.to_f32(sums[1]), multipliers[1]),
            ];
            if !f.residual.is_null() {
                let mut bytes = [0; MAX_WIDTH];
                f.residual.add(at).copy_to_nonoverlapping(bytes.as_mut_ptr(), valid);
                let [first, second] = d.load_scaled(bytes.as_ptr(), factor);
                pair = [s.add(pair[0], first), s.add(pair[1], second)];
            }
            match f.output {
                Int8Output::Bytes => {
                    let mut bytes = [0; MAX_WIDTH];
                    d.store_pairs([pair; 2], [bytes.as_mut_ptr(); 2]);
                    f.target.add(at).copy_from_nonoverlapping(bytes.as_ptr(), valid);
                }
                Int8Output::Floats => store_floats(d, pair, valid, f.target.cast::<f32>().add(at)),
            }
            at += f.channels;
        }
    }
}

/// Writes the first `valid` channels of a pair as floats.
#[inline(always)]
unsafe fn store_floats<D: Dot>(
    d: D,
    pair: [<D::Floats as Simd>::F32; 2],
    valid: usize,
    target: *mut f32,
) {
    let mut columns = [0.0; MAX_WIDTH];
    d.floats().store(pair[0], &mut columns);
    d.floats().store(pair[1], &mut columns[D::SUMS..]);
    for channel in 0..valid {
        // SAFETY: the caller promises `valid` writable floats.
        unsafe { target.add(channel).write(columns[resnet_simd::pair_column(D::SUMS, channel)]) };
    }
}
