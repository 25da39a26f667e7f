//! One task of a folded pass: a block of tiles times some panels.
//!
//! A folded picture has a dozen channels, so that a product's sum costs as much to write and to read back
//! as to make. Therefore half a row of products is held in registers, for some tiles and all of the
//! panel's vectors, and transformed back along the row there: three floats are written instead of six. Those
//! of a few tiles stay in the first cache until they are transformed back along the columns.

use resnet_simd::Simd;

use super::epilogue::Sums;
use super::tile::PanelSums;
use super::winograd::InputStrides;
use super::winograd_block::{Block, MAX_TARGETS, TILES_A_FINISH};
use super::winograd_transform::{Three, Transform};

/// Products along a side of a tile, outputs, and products of half a row.
const SIDE: usize = Three::IN;
const OUT: usize = Three::OUT;
const HALF: usize = SIDE / 2;
/// Sums of a tile and channel after their transform along the rows.
const OF_TILE: usize = SIDE * OUT;
/// Tiles that are multiplied with a panel before they are finished: more overflow the caches, fewer read the
/// weights more often.
const TILES: usize = 28;
/// Floats of scratch for their sums.
pub(super) const SUMS_LEN: usize = TILES * OF_TILE * 32;
/// Tiles of a register tile, at most: inputs are readable for a multiple.
pub(super) const MAX_GROUP: usize = 4;

/// Operands of one panel and the tiles of a part, for a vector or two of the panel.
#[derive(Clone, Copy)]
struct Part {
    /// Transformed inputs of the first tile, by these strides.
    x: *const f32,
    strides: InputStrides,
    depth: usize,
    /// Transformed weights of the vectors, `[product][depth][width]`.
    w: *const f32,
    width: usize,
    tiles: usize,
    /// Sums of the vectors, `[tile][row][output of the row][width]`.
    to: *mut f32,
}

impl Block<'_> {
    /// All panels of the block's tiles, whose transformed `inputs` are given.
    #[inline(always)]
    pub(super) fn run_folded<S: Simd>(
        &self,
        s: S,
        (first, count): (usize, usize),
        inputs: &[f32],
        (rows, outputs): (&mut [f32], &mut [f32]),
    ) {
        let pass = self.shared.pass;
        let strides = pass.input_strides(S::LANES);
        assert!(count.next_multiple_of(MAX_GROUP) * strides.tile <= strides.column);
        assert!(SIDE * strides.row <= inputs.len() && SUMS_LEN <= rows.len());
        for panel in self.panels.clone().map(|index| pass.layout.panel(index)) {
            let mut sums = PanelSums::ZERO;
            for part in (0..count).step_by(TILES) {
                let tiles = TILES.min(count - part);
                let mut part_of = |column: usize| Part {
                    x: inputs[part * strides.tile..].as_ptr(),
                    strides,
                    depth: pass.source[2],
                    w: self.shared.w.wrapping_add(pass.transformed_start(&panel) + column),
                    width: panel.width,
                    tiles,
                    to: rows[column..].as_mut_ptr(),
                };
                // SAFETY: inputs are there for all tiles of a group, sums for `TILES`, as asserted; the
                // caller of `run` gives transformed weights, of which a panel has `width` for each channel.
                unsafe {
                    if panel.width == 2 * S::LANES {
                        multiply::<S, 2>(s, part_of(0));
                    } else {
                        for column in (0..panel.width).step_by(<S::Half as Simd>::LANES) {
                            multiply::<S::Half, 1>(s.half(), part_of(column));
                        }
                    }
                }
                let mut targets = [0; MAX_TARGETS];
                for group in (0..tiles).step_by(TILES_A_FINISH) {
                    let mut found = 0;
                    for tile in group..tiles.min(group + TILES_A_FINISH) {
                        let inside =
                            self.targets_of::<Three>(first + part + tile, &mut targets[found..]);
                        // SAFETY: all sums of the tile were written; there is room for the outputs of
                        // `TILES_A_FINISH` tiles.
                        unsafe {
                            let rows = rows.as_ptr().add(tile * OF_TILE * panel.width);
                            let to = outputs.as_mut_ptr().add(found * panel.width);
                            transform_columns(s, rows, inside, (to, panel.width));
                        }
                        found += inside.0 * inside.1;
                    }
                    self.finish_rows(s, &targets[..found], panel, outputs, &mut sums);
                }
            }
            if !matches!(self.shared.finish.sums, Sums::None) {
                self.store_sums(&panel, &sums);
            }
        }
    }
}

/// The outputs of one tile that lie inside the target, row after row, from its sums.
///
/// # Safety
/// `rows` has [`OF_TILE`] rows of `width` floats, `to` room for as many as there are outputs inside.
#[inline(always)]
unsafe fn transform_columns<S: Simd>(
    s: S,
    rows: *const f32,
    inside: (usize, usize),
    (to, width): (*mut f32, usize),
) {
    let full = width / S::LANES * S::LANES;
    // SAFETY: passed on, for vectors inside the width.
    unsafe {
        for j in (0..full).step_by(S::LANES) {
            transform_column(s, rows.add(j), inside, (to.add(j), width));
        }
        for j in (full..width).step_by(<S::Half as Simd>::LANES) {
            transform_column(s.half(), rows.add(j), inside, (to.add(j), width));
        }
    }
}

/// [`transform_columns`] for a vector of channels.
#[inline(always)]
unsafe fn transform_column<S: Simd>(
    s: S,
    rows: *const f32,
    (tall, wide): (usize, usize),
    (to, width): (*mut f32, usize),
) {
    for x in 0..wide {
        let mut p = [s.splat(0.0); SIDE];
        // SAFETY: passed on; these are the tile's sums, and the outputs that lie inside.
        unsafe {
            for (y, p) in p.iter_mut().enumerate() {
                *p = s.load_ptr(rows.add((y * OUT + x) * width));
            }
            let outputs = Three::output(s, &p);
            for (y, &value) in outputs[..OUT].iter().enumerate() {
                if y < tall {
                    s.store_ptr(value, to.add((y * wide + x) * width));
                }
            }
        }
    }
}

/// All rows of products of a part, in register tiles as large as the registers allow.
///
/// # Safety
/// Inputs are readable for a multiple of [`MAX_GROUP`] tiles, weights for all products, and sums
/// writable for as many tiles.
#[inline(always)]
unsafe fn multiply<S: Simd, const NV: usize>(s: S, part: Part) {
    // SAFETY: passed on.
    unsafe {
        if S::REGISTERS == 32 {
            multiply_groups::<S, NV, MAX_GROUP>(s, part);
        } else {
            multiply_groups::<S, NV, { MAX_GROUP / 2 }>(s, part);
        }
    }
}

/// [`multiply`] in groups of `T` tiles.
#[inline(always)]
unsafe fn multiply_groups<S: Simd, const NV: usize, const T: usize>(s: S, part: Part) {
    for y in 0..SIDE {
        for group in (0..part.tiles).step_by(T) {
            // SAFETY: passed on.
            unsafe { half_row::<S, NV, T, false>(s, &part, (y, group)) };
        }
        for group in (0..part.tiles).step_by(T) {
            // SAFETY: passed on.
            unsafe { half_row::<S, NV, T, true>(s, &part, (y, group)) };
        }
    }
}

/// Half a row of products for `T` tiles, transformed back along the row: the first half's sums are
/// written, the second's added to them.
#[inline(always)]
unsafe fn half_row<S: Simd, const NV: usize, const T: usize, const SECOND: bool>(
    s: S,
    part: &Part,
    (y, group): (usize, usize),
) {
    let Part { strides, depth, width, .. } = *part;
    let product = if SECOND { HALF } else { 0 };
    let row = part.x.wrapping_add(y * strides.row + group * strides.tile);
    let (mut x, mut w) = ([row; HALF], [part.w; HALF]);
    for p in 0..HALF {
        x[p] = row.wrapping_add((product + p) * strides.column);
        w[p] = part.w.wrapping_add((y * SIDE + product + p) * depth * width);
    }
    let mut sums = [[[s.splat(0.0); HALF]; NV]; T];
    // SAFETY: `depth` channels of each tile and product, and a row of weights for each of them.
    unsafe {
        for channel in 0..depth {
            for (p, (x, w)) in x.iter().zip(&w).enumerate() {
                let mut weights = [s.splat(0.0); NV];
                for (v, weight) in weights.iter_mut().enumerate() {
                    *weight = s.load_ptr(w.add(channel * width + v * S::LANES));
                }
                for (tile, sums) in sums.iter_mut().enumerate() {
                    let x = s.splat(*x.add(tile * strides.tile + channel));
                    for (sums, &weight) in sums.iter_mut().zip(&weights) {
                        sums[p] = s.mul_add(x, weight, sums[p]);
                    }
                }
            }
        }
        for (tile, sums) in sums.iter().enumerate() {
            let to = part.to.add(((group + tile) * OF_TILE + y * OUT) * width);
            for (v, sums) in sums.iter().enumerate() {
                let to = |output: usize| to.add(output * width + v * S::LANES);
                let outputs = if SECOND {
                    let before = [s.load_ptr(to(0)), s.load_ptr(to(1)), s.load_ptr(to(2))];
                    Three::second_half(s, sums, &before)
                } else {
                    Three::first_half(s, sums)
                };
                for (output, &value) in outputs.iter().enumerate() {
                    s.store_ptr(value, to(output));
                }
            }
        }
    }
}
