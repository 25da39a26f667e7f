//! Winograd's products of one picture of 7x7 or 8x8, with weights that are transformed in registers.
//!
//! Four tiles use a transformed weight four times. Writing all of a panel's to a cache and reading them
//! back takes longer than that, and making them anew does not: all sums of a row of products are held in
//! registers while the input channels go by, and each channel's nine taps become the row's six weights
//! there, by the operations of [`ThreeTaps::weight`] and in its order, so that the bits are those of weights
//! transformed before. A few channels at a time go through all rows, for which their taps are read once
//! from beyond the first cache.

use std::ops::Range;

use resnet_simd::Simd;

use super::winograd::InputStrides;
use super::winograd_transform::{Four, ThreeTaps, Transform};

/// Tiles.
pub(super) const FEW_TILES: usize = 4;
/// Products along a side of a tile.
const SIDE: usize = Four::IN;
/// Vectors of inputs that are multiplied at a time: a row of products of all tiles.
const ROW: usize = SIDE * FEW_TILES;
/// Channels whose taps, for a vector of outputs, and inputs stay in the first cache, 18 KiB each.
const CHANNELS: usize = 32;

/// Where the transformed inputs of few tiles are: `[row of products][vector of channels][column][tile][lane]`, so
/// that all that meet at a channel are at known distances.
pub(super) fn few_strides(lanes: usize, channels: usize) -> InputStrides {
    let (column, vector) = (FEW_TILES * lanes, ROW * lanes);
    InputStrides { row: channels.div_ceil(lanes) * vector, column, tile: lanes, vector }
}

/// Packed weights of a panel: `[tap][channel][width]`.
#[derive(Clone, Copy)]
pub(super) struct Taps {
    pub(super) start: *const f32,
    pub(super) channels: usize,
    pub(super) width: usize,
    /// Whether they are read backwards: the input gradient's.
    pub(super) flipped: bool,
    /// Whether another panel follows, and is multiplied next.
    pub(super) goes_on: bool,
}

impl Taps {
    /// Where one of the taps goes on at a channel, or the next panel's starts where there are no more channels.
    fn coming(&self, tap: usize, channel: usize) -> *const f32 {
        let len = self.channels * self.width;
        match (tap < 9, channel < self.channels) {
            (true, true) => self.start.wrapping_add(tap * len + channel * self.width),
            (true, false) if self.goes_on => self.start.wrapping_add((9 + tap) * len),
            // None: the tap is asked for again.
            _ => self.start,
        }
    }
}

/// Where sums go, `[product][tile][width]`, and floats from one product to the next.
#[derive(Clone, Copy)]
pub(super) struct To {
    pub(super) start: *mut f32,
    pub(super) stride: usize,
}

/// All products of a panel, whole vectors wide.
///
/// # Safety
/// `x` lies as [`few_strides`] says for the channels, `taps` are valid, and `to` has room for each product's sums.
#[inline(always)]
pub(super) unsafe fn multiply_few<S: Simd>(s: S, x: *const f32, taps: Taps, to: To) {
    let (strides, vectors) = (few_strides(S::LANES, taps.channels), taps.width / S::LANES);
    for first in (0..taps.channels).step_by(CHANNELS) {
        let channels = first..taps.channels.min(first + CHANNELS);
        let x = x.wrapping_add(first / S::LANES * strides.vector);
        for vector in 0..vectors {
            let at = vector * S::LANES;
            let taps = Taps { start: taps.start.wrapping_add(at), ..taps };
            let to = To { start: to.start.wrapping_add(at), ..to };
            // SAFETY: passed on; the vector is one of the panel's.
            unsafe {
                let of = |row: usize| Row {
                    coming: taps.coming(vector * SIDE + row, channels.end),
                    x: x.wrapping_add(row * strides.row),
                    taps: &taps,
                    channels: channels.clone(),
                    to: To { start: to.start.wrapping_add(row * SIDE * to.stride), ..to },
                };
                row_of_products::<S, 0>(s, of(0));
                row_of_products::<S, 1>(s, of(1));
                row_of_products::<S, 2>(s, of(2));
                row_of_products::<S, 3>(s, of(3));
                row_of_products::<S, 4>(s, of(4));
                row_of_products::<S, 5>(s, of(5));
            }
        }
    }
}

/// What some channels add to a row of products.
struct Row<'a> {
    x: *const f32,
    taps: &'a Taps,
    channels: Range<usize>,
    /// Weights of as many channels that are multiplied next, of one tap: asked for meanwhile. Those of a channel
    /// are one or two cache lines, of which the second comes with the first.
    coming: *const f32,
    to: To,
}

/// Row `Y`, in parts whose sums fit the registers: 24 of 32, or 12 of 16.
///
/// # Safety
/// As [`multiply_few`], for this row.
#[inline(always)]
unsafe fn row_of_products<S: Simd, const Y: usize>(s: S, row: Row<'_>) {
    // SAFETY: passed on.
    unsafe {
        if parts(S::LANES) == 1 {
            sum::<S, Y, 0, SIDE>(s, &row);
        } else {
            sum::<S, Y, 0, 3>(s, &row);
            sum::<S, Y, 3, 3>(s, &row);
        }
    }
}

/// Parts of a row of products: vectors of 16 lanes come with 32 registers, others with 16.
const fn parts(lanes: usize) -> usize {
    if lanes == 16 { 1 } else { 2 }
}

/// `P` products of row `Y` from column `X` on, for a vector of outputs and all tiles.
///
/// # Safety
/// As [`multiply_few`], for these products.
#[inline(always)]
unsafe fn sum<S: Simd, const Y: usize, const X: usize, const P: usize>(s: S, row: &Row<'_>) {
    let (mut x, mut coming, taps) = (row.x, row.coming, row.taps);
    let Range { start, end } = row.channels.clone();
    let tap_stride = taps.channels * taps.width;
    let tap = |index: usize| if taps.flipped { 8 - index } else { index } * tap_stride;
    let taps_at: [usize; 9] = std::array::from_fn(tap);
    let mut w = taps.start.wrapping_add(start * taps.width);
    let mut sums = [[s.splat(0.0); FEW_TILES]; P];
    let to = |p: usize, tile: usize| {
        row.to.start.wrapping_add((X + p) * row.to.stride + tile * taps.width)
    };
    // SAFETY: vectors of channels, columns and tiles lie as `few_strides` says, weights as `Taps`; each product
    // has room for its tiles' sums.
    unsafe {
        if 0 < start {
            for (p, sums) in sums.iter_mut().enumerate() {
                for (tile, sum) in sums.iter_mut().enumerate() {
                    *sum = s.load_ptr(to(p, tile));
                }
            }
        }
        for channel in (start..end).step_by(S::LANES) {
            for lane in 0..S::LANES.min(end - channel) {
                s.prefetch_far(coming);
                coming = coming.wrapping_add(taps.width);
                let mut columns = [s.splat(0.0); 3];
                for (x, column) in columns.iter_mut().enumerate() {
                    let g = std::array::from_fn(|y| s.load_ptr(w.add(taps_at[3 * y + x])));
                    *column = Four::weight(s, &g)[Y];
                }
                let u = Four::weight(s, &columns);
                for (p, sums) in sums.iter_mut().enumerate() {
                    for (tile, sum) in sums.iter_mut().enumerate() {
                        let x = *x.add(((X + p) * FEW_TILES + tile) * S::LANES + lane);
                        *sum = s.mul_add(s.splat(x), u[X + p], *sum);
                    }
                }
                w = w.wrapping_add(taps.width);
            }
            x = x.wrapping_add(ROW * S::LANES);
        }
        for (p, sums) in sums.iter().enumerate() {
            for (tile, &sum) in sums.iter().enumerate() {
                s.store_ptr(sum, to(p, tile));
            }
        }
    }
}
