//! The inner product: a tile of pixels times a panel of channels, whole reduction in registers.
//!
//! Heights follow from the registers. AVX-512 has 32: 6 pixels x 4 vectors, two panels at a time, = 24
//! sums, 4 weights, 1 broadcast; of a panel alone 14 x 2 = 28 sums, which take 16 loads instead of 10 and
//! more pointers than there are registers for; 9 pixels x (1 vector and 1 in pairs), as the compiler keeps
//! the broadcasts of pairs in registers of their own. AVX2 has 16: 6 x 2 = 12 sums, 2 weights, 1
//! broadcast, or 12 x 1. Rests take lower tiles; a tile that is higher than the rest computes its last
//! pixel again and writes it once.
//!
//! With 16 lanes, eight channels would fill half a vector. They share one with themselves: even lanes
//! sum up even inputs, odd lanes odd ones (two neighbours of a row are one broadcast of 64 bits), and
//! the two are added at the end.
//!
//! All of this is the same whether a word of a row is an f32 or two bf16: the reduction runs over words.

use std::ops::Range;

use resnet_simd::{Simd, Words};

use super::PackedLayout;
use super::epilogue::{Ahead, Column, Finish, finish};
use super::gather::{Table, Tap, zeros};
use crate::kernel::prefetch::{Soon, TileOf};

/// The widest tile in floats: 14 pixels of 32 channels.
const MAX_TILE: usize = 14 * 32;
/// How far ahead of the multiplication weights are fetched, in floats: cold ones come from memory.
const PREFETCH: usize = 512;

/// Steps of the reduction between two requests for what comes next.
const STRETCH: usize = 16;

/// Tiles of one block and panel.
#[derive(Clone)]
pub(super) struct Work<'a> {
    pub(super) table: &'a Table,
    /// Which of the table's rows.
    pub(super) rows: Range<usize>,
    pub(super) taps: &'a [Tap],
    /// The table's place of the first of them.
    pub(super) first_tap: usize,
    /// Words a tap multiplies, and where they start in each row.
    pub(super) depth: usize,
    pub(super) offset: usize,
    /// The panel's weights, `[tap][depth][width]`: words of what the rows' words are.
    pub(super) weights: *const f32,
    /// Words from there to those of the other panel, where two are multiplied together.
    pub(super) apart: usize,
    /// What is read next, weights or rows: asked for meanwhile.
    pub(super) coming: Soon,
    pub(super) width: usize,
    /// The panel's first channel, and how many count.
    pub(super) channel: usize,
    pub(super) channels: usize,
    pub(super) finish: &'a Finish,
    /// Where raw sums go as they are, `[row][width]`, a tile's overhang included.
    pub(super) raw: *mut f32,
    /// Whether the sums go on from what `raw` holds.
    pub(super) accumulate: bool,
}

/// Two running sums for each channel of a panel, or of two that are multiplied together.
#[repr(align(64))]
pub(super) struct PanelSums(pub(super) [[f32; 64]; 2]);

impl PanelSums {
    pub(super) const ZERO: PanelSums = PanelSums([[0.0; 64]; 2]);
}

#[repr(align(64))]
struct Buffer([std::mem::MaybeUninit<f32>; MAX_TILE]);

/// Rows of a layout's full tiles: what its blocks are a multiple of.
pub(super) fn height(layout: &PackedLayout, lanes: usize) -> usize {
    if layout.goes_together() { 6 } else { height_unit(lanes) }
}

/// The unit that block sizes are a multiple of: all full tiles of single panels of so many lanes fit it.
pub(super) fn height_unit(lanes: usize) -> usize {
    if lanes == 16 { 14 } else { 12 }
}

/// All tiles of a block and panel, in order; their sums go to `work.raw` or to `work.finish`.
///
/// # Safety
/// The table's pointers are valid for `offset + depth` floats, `weights` for all taps, and `finish`
/// as [`finish`] says for the table's targets and the panel's channels; or, where raw sums are asked
/// for, `raw` for all rows and the overhang of a tile.
#[inline(always)]
pub(super) unsafe fn run_tiles<W: Words, const RAW: bool>(
    words: W,
    work: &Work<'_>,
    sums: &mut PanelSums,
) {
    // SAFETY: passed on. Each tile shape's width is the panel's.
    unsafe {
        match (<W::Floats as Simd>::LANES, work.width) {
            (16, 64) => tiles_6::<W, 4, RAW>(words, work, sums),
            (16, 32) => tiles_14::<W, 2, 0, RAW>(words, work, sums),
            (16, 24) => tiles_9::<W, RAW>(words, work, sums),
            (16, 16) => tiles_14::<W, 1, 0, RAW>(words, work, sums),
            (16, 8) => tiles_14::<W, 0, 1, RAW>(words, work, sums),
            (8, 16) => tiles_6::<W, 2, RAW>(words, work, sums),
            (8, 8) => tiles_12::<W, RAW>(words, work, sums),
            (lanes, width) => unreachable!("no tile of width {width} for {lanes} lanes"),
        }
    }
}

#[inline(always)]
unsafe fn tiles_14<W: Words, const NV: usize, const NP: usize, const RAW: bool>(
    words: W,
    work: &Work<'_>,
    sums: &mut PanelSums,
) {
    let Range { start: mut row, end: rows } = work.rows;
    while row < rows {
        // SAFETY: passed on; a tile overhangs the rows by 13 at most.
        unsafe {
            row += match rows - row {
                // Two of eight, not fourteen and two: a low tile waits for its own sums.
                8 | 16 => tile::<W, 8, NV, NP, RAW>(words, work, row, sums),
                11.. => tile::<W, 14, NV, NP, RAW>(words, work, row, sums),
                5..=10 => tile::<W, 7, NV, NP, RAW>(words, work, row, sums),
                3..=4 => tile::<W, 4, NV, NP, RAW>(words, work, row, sums),
                2 => tile::<W, 2, NV, NP, RAW>(words, work, row, sums),
                _ => tile::<W, 1, NV, NP, RAW>(words, work, row, sums),
            }
        }
    }
}

#[inline(always)]
unsafe fn tiles_9<W: Words, const RAW: bool>(words: W, work: &Work<'_>, sums: &mut PanelSums) {
    let Range { start: mut row, end: rows } = work.rows;
    while row < rows {
        // SAFETY: passed on; a tile overhangs the rows by 13 at most.
        unsafe {
            row += match rows - row {
                7 | 14 => tile::<W, 7, 1, 1, RAW>(words, work, row, sums),
                8.. => tile::<W, 9, 1, 1, RAW>(words, work, row, sums),
                4..=6 => tile::<W, 6, 1, 1, RAW>(words, work, row, sums),
                2..=3 => tile::<W, 3, 1, 1, RAW>(words, work, row, sums),
                _ => tile::<W, 1, 1, 1, RAW>(words, work, row, sums),
            }
        }
    }
}

#[inline(always)]
unsafe fn tiles_12<W: Words, const RAW: bool>(words: W, work: &Work<'_>, sums: &mut PanelSums) {
    let Range { start: mut row, end: rows } = work.rows;
    while row < rows {
        // SAFETY: passed on; a tile overhangs the rows by 13 at most.
        unsafe {
            row += match rows - row {
                10.. => tile::<W, 12, 1, 0, RAW>(words, work, row, sums),
                5..=9 => tile::<W, 6, 1, 0, RAW>(words, work, row, sums),
                3..=4 => tile::<W, 4, 1, 0, RAW>(words, work, row, sums),
                _ => tile::<W, 1, 1, 0, RAW>(words, work, row, sums),
            }
        }
    }
}

#[inline(always)]
unsafe fn tiles_6<W: Words, const NV: usize, const RAW: bool>(
    words: W,
    work: &Work<'_>,
    sums: &mut PanelSums,
) {
    let Range { start: mut row, end: rows } = work.rows;
    while row < rows {
        // SAFETY: passed on; a tile overhangs the rows by 13 at most.
        unsafe {
            row += match rows - row {
                5.. => tile::<W, 6, NV, 0, RAW>(words, work, row, sums),
                3..=4 => tile::<W, 4, NV, 0, RAW>(words, work, row, sums),
                2 => tile::<W, 2, NV, 0, RAW>(words, work, row, sums),
                _ => tile::<W, 1, NV, 0, RAW>(words, work, row, sums),
            }
        }
    }
}

/// One tile of up to `M` pixels from `row` on; returns `M`.
#[inline(always)]
unsafe fn tile<W: Words, const M: usize, const NV: usize, const NP: usize, const RAW: bool>(
    words: W,
    work: &Work<'_>,
    row: usize,
    sums: &mut PanelSums,
) -> usize {
    if RAW {
        let nothing = Ahead::new(work.finish, &[], 0..0, 1);
        // SAFETY: passed on; `raw` has room for the rows and a tile's overhang.
        unsafe {
            let raw = work.raw.add(row * work.width);
            multiply::<W, M, NV, NP, RAW>(words, work, row, nothing, raw);
        }
        return M;
    }
    let (s, lanes) = (words.floats(), <W::Floats as Simd>::LANES);
    let mut buffer = Buffer([std::mem::MaybeUninit::uninit(); MAX_TILE]);
    let buffer = buffer.0.as_mut_ptr().cast::<f32>();
    let targets = work.table.targets();
    let targets = &targets[row..work.rows.end.min(row + M)];
    let [first, second] = sums.0.each_mut().map(|sums| sums.as_mut_ptr());
    let channels = work.channel..work.channel + work.channels.min(work.width);
    let stretches = work.taps.len() * work.depth.div_ceil(STRETCH);
    let ahead = Ahead::new(work.finish, targets, channels, stretches);
    // SAFETY: the buffer holds M * width <= MAX_TILE floats, all of which `multiply` writes; a
    // column's lanes count up to the panel's channels, the rest passed on.
    unsafe {
        multiply::<W, M, NV, NP, RAW>(words, work, row, ahead, buffer);
        let column = |at: usize, lanes: usize| Column {
            sums: buffer.add(at),
            stride: work.width,
            targets,
            channel: work.channel + at,
            valid: work.channels.saturating_sub(at).min(lanes),
            first: first.add(at),
            second: second.add(at),
        };
        for j in 0..NV {
            finish(s, work.finish, &column(j * lanes, lanes));
        }
        for j in 0..NP {
            let half = lanes / 2;
            finish(s.half(), work.finish, &column(NV * lanes + j * half, half));
        }
    }
    M
}

/// The sums of one tile, written to `buffer` as `[M][width]`: `NV` vectors of channels and `NP` of
/// half as many, which are summed up in pairs. Meanwhile asks `ahead`.
#[inline(always)]
unsafe fn multiply<W: Words, const M: usize, const NV: usize, const NP: usize, const RAW: bool>(
    words: W,
    work: &Work<'_>,
    row: usize,
    mut ahead: Ahead<'_>,
    buffer: *mut f32,
) {
    let s = words.floats();
    let width = panel_width::<W::Floats, NV, NP>();
    let tile = TileOf { before: row - work.rows.start, rows: M, all: work.rows.len() };
    let mut requests = work.coming.requests(tile, (STRETCH, work.taps.len() * work.depth));
    let mut sums = Sums { whole: [[s.splat(0.0); NV]; M], pairs: [[s.splat(0.0); NP]; M] };
    if RAW && work.accumulate {
        // SAFETY: the caller's buffer holds M * width floats, those of the raw sums.
        unsafe { sums.load(s, buffer) };
    }
    for (at, tap) in work.taps.iter().enumerate() {
        let pointers = work.table.tap(work.first_tap + at);
        debug_assert!(row + M <= pointers.len());
        // SAFETY: `row + M` is at most TILE_OVERHANG beyond the rows, which the table holds; each
        // pointer is valid for `offset + depth` floats and the weights for `depth * width` a tap, as
        // the caller promises.
        unsafe {
            let rows: [*const f32; M] =
                std::array::from_fn(|m| (*pointers.get_unchecked(row + m)).add(work.offset));
            let mut w = work.weights.add(tap.index * work.depth * width);
            let mut k = 0;
            // Requests are made between stretches of steps: among them they would take registers from
            // the pointers to the rows.
            while k < work.depth / 4 * 4 {
                let end = (k + STRETCH).min(work.depth / 4 * 4);
                requests.make(s);
                ahead.ask(s);
                while k < end {
                    for u in [0, 2] {
                        sums.step(words, &rows, k + u, (w.add(u * width), work.apart));
                        sums.step(words, &rows, k + u + 1, (w.add((u + 1) * width), work.apart));
                        sums.step_pairs(words, &rows, k + u, w.add(u * width));
                    }
                    w = w.add(4 * width);
                    k += 4;
                }
            }
            while k < work.depth {
                sums.step(words, &rows, k, (w, work.apart));
                match (k % 2 == 0, k + 1 < work.depth) {
                    (true, true) => sums.step_pairs(words, &rows, k, w),
                    (true, false) => sums.step_last(words, &rows, k, w),
                    // The other of a pair that is done.
                    (false, _) => {}
                }
                w = w.add(width);
                k += 1;
            }
        }
    }
    // SAFETY: the caller's buffer holds M * width floats.
    unsafe { sums.store(s, buffer) };
}

/// Words of a row of one panel's weights: a panel is two vectors wide at most.
const fn panel_width<S: Simd, const NV: usize, const NP: usize>() -> usize {
    let (width, full) = (width::<S, NV, NP>(), 2 * S::LANES);
    if full < width { full } else { width }
}

/// Floats of a row of sums.
const fn width<S: Simd, const NV: usize, const NP: usize>() -> usize {
    NV * S::LANES + NP * S::LANES / 2
}

/// The sums of a tile, in registers.
struct Sums<S: Simd, const M: usize, const NV: usize, const NP: usize> {
    /// A channel a lane.
    whole: [[S::F32; NV]; M],
    /// A channel two lanes: of even inputs and of odd ones.
    pairs: [[S::F32; NP]; M],
}

impl<S: Simd, const M: usize, const NV: usize, const NP: usize> Sums<S, M, NV, NP> {
    /// One multiply-add of all whole sums: float `k` of each row times a row of weights.
    #[inline(always)]
    unsafe fn step<W: Words<Floats = S>>(
        &mut self,
        words: W,
        rows: &[*const f32; M],
        k: usize,
        (w, apart): (*const f32, usize),
    ) {
        let s = words.floats();
        let panel = panel_width::<S, NV, NP>();
        // SAFETY: `k` is less than the depth, and `w` points to a row of weights, as the caller says.
        unsafe {
            let weights: [S::F32; NV] = std::array::from_fn(|j| {
                let j = j * S::LANES;
                s.load_ptr(w.add(j / panel * apart + j % panel))
            });
            // The panels of a wide tile are few enough to come from a cache, and read every six rows.
            let lines = if panel < width::<S, NV, NP>() { 0 } else { panel.div_ceil(16) };
            for line in 0..lines {
                s.prefetch(w.wrapping_add(PREFETCH + 16 * line));
            }
            for (row, sums) in rows.iter().zip(&mut self.whole) {
                let x = *row.add(k);
                for (sum, &w) in sums.iter_mut().zip(&weights) {
                    *sum = words.multiply_add(s.splat(x), w, *sum);
                }
            }
        }
    }

    /// One multiply-add of all sums in pairs: floats `k` and `k + 1` of each row times two rows of
    /// weights.
    #[inline(always)]
    unsafe fn step_pairs<W: Words<Floats = S>>(
        &mut self,
        words: W,
        rows: &[*const f32; M],
        k: usize,
        w: *const f32,
    ) {
        let s = words.floats();
        // SAFETY: `k + 1` is less than the depth, and `w` points to two rows of weights, as the caller
        // says.
        unsafe {
            let w: [S::F32; NP] = std::array::from_fn(|j| {
                let w = w.add(NV * S::LANES + j * S::LANES / 2);
                s.load_pairs(w, w.add(width::<S, NV, NP>()))
            });
            for (row, sums) in rows.iter().zip(&mut self.pairs) {
                for (sum, &w) in sums.iter_mut().zip(&w) {
                    *sum = words.multiply_add(s.splat_pair(row.add(k)), w, *sum);
                }
            }
        }
    }

    /// The same where there is no float `k + 1`.
    #[inline(always)]
    unsafe fn step_last<W: Words<Floats = S>>(
        &mut self,
        words: W,
        rows: &[*const f32; M],
        k: usize,
        w: *const f32,
    ) {
        let s = words.floats();
        // SAFETY: `k` is less than the depth, and `w` points to a row of weights, as the caller says;
        // zeros are as many as half a vector has lanes.
        unsafe {
            let w: [S::F32; NP] = std::array::from_fn(|j| {
                s.load_pairs(w.add(NV * S::LANES + j * S::LANES / 2), zeros())
            });
            for (row, sums) in rows.iter().zip(&mut self.pairs) {
                for (sum, &w) in sums.iter_mut().zip(&w) {
                    *sum = words.multiply_add(s.splat_pair([*row.add(k), 0.0].as_ptr()), w, *sum);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn load(&mut self, s: S, from: *const f32) {
        // SAFETY: `from` holds M * width floats, as the caller says; zeros are as many as half a
        // vector has lanes.
        unsafe {
            for m in 0..M {
                let row = from.add(m * width::<S, NV, NP>());
                for j in 0..NV {
                    self.whole[m][j] = s.load_ptr(row.add(j * S::LANES));
                }
                for j in 0..NP {
                    let row = row.add(NV * S::LANES + j * S::LANES / 2);
                    self.pairs[m][j] = s.load_pairs(row, zeros());
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store(&self, s: S, to: *mut f32) {
        // SAFETY: `to` holds M * width floats, as the caller says.
        unsafe {
            for m in 0..M {
                let row = to.add(m * width::<S, NV, NP>());
                for j in 0..NV {
                    s.store_ptr(self.whole[m][j], row.add(j * S::LANES));
                }
                for j in 0..NP {
                    let row = row.add(NV * S::LANES + j * S::LANES / 2);
                    s.store_pair_sums(self.pairs[m][j], row);
                }
            }
        }
    }
}
