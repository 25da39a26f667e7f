//! Winograd's tiles for 7x7 convolutions of stride 2 of pictures with few channels: the stem.
//!
//! Two rows and columns of the picture are one of the folded picture, which has four times the channels:
//! `(row of the two, column of the two, channel)`. A 7x7 of stride 2 is a 4x4 of stride 1 of that, with
//! zeros in the first or the last row and column of its 8x8 weights. F(3x3,4x4) then takes `36 * 4` products
//! for nine outputs where direct takes `49 * 9`: three times fewer.
//!
//! Nothing is folded in memory: a row of two pixels lies together in the picture, and is a vector of
//! eight or fewer.

use std::mem::MaybeUninit;

use resnet_simd::{Element, Simd};

use super::ConvShape;
use super::gather::zeros;
use super::winograd::{InputStrides, Place};
use super::winograd_transform::{MAX_TRANSFORMED, Three, Transform, transform_square};

/// Rows and columns of a fold.
const STEP: usize = 2;
/// Taps along a side of the picture's kernel, and of the folded picture's.
const TAPS: usize = 7;
const FOLDED_TAPS: usize = 4;
/// Elements of two pixels, at most: a vector of eight.
const MAX_PAIR: usize = 8;
/// Pixels to the right of a tile that are asked for meanwhile: a few tiles are begun in it.
const AHEAD: usize = 36;
/// Inputs along a side of a tile.
const SIDE: usize = Three::IN;

/// A picture read two rows and columns at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fold {
    /// Height, width and channels of the picture.
    picture: [usize; 3],
    /// Elements of all pictures.
    len: usize,
    /// Rows of zeros above the folded picture, and columns to its left.
    pub(super) pad: usize,
    /// Rows of zeros above the kernel, and columns to its left: 1 where the padding is odd.
    shift: usize,
}

impl Fold {
    /// Whether a convolution is one that folds.
    pub(super) fn fits(shape: &ConvShape) -> bool {
        (shape.kh, shape.kw, shape.stride, shape.dilation, shape.groups) == (TAPS, TAPS, STEP, 1, 1)
            && STEP * shape.cin <= MAX_PAIR
    }

    /// The fold of a convolution that fits.
    pub(super) fn new(shape: &ConvShape) -> Fold {
        Fold {
            picture: [shape.ih, shape.iw, shape.cin],
            len: shape.input_len(),
            pad: shape.pad.div_ceil(STEP),
            shift: shape.pad % STEP,
        }
    }

    /// Height, width and channels of the folded picture.
    pub(super) fn folded(&self) -> [usize; 3] {
        let [h, w, c] = self.picture;
        [h.div_ceil(STEP), w.div_ceil(STEP), STEP * STEP * c]
    }

    /// `Bᵀ x B` of one tile of the folded picture, to `to` by these strides, which has room for eight floats
    /// from the second half of the channels on.
    ///
    /// # Safety
    /// `source` is the source, each of the places valid for so many floats.
    #[inline(always)]
    pub(super) unsafe fn transform_input<S: Simd, E: Element>(
        &self,
        s: S,
        source: *const E,
        place: Place,
        (to, strides): (*mut f32, InputStrides),
    ) {
        debug_assert_eq!(S::LANES, MAX_PAIR);
        let pair = STEP * self.picture[2];
        for half in 0..STEP {
            let mut edges = MaybeUninit::uninit();
            let pairs = match self.inside(place) {
                Some(first) => {
                    let first = source.wrapping_add(first);
                    self.prefetch_ahead(s, first, half);
                    self.pairs_inside(first, half)
                }
                // SAFETY: passed on.
                None => unsafe { self.pairs_at_edge(source, place, half, &mut edges) },
            };
            // SAFETY: each pointer is valid for eight elements, of the source, an edge or zeros; what lies
            // behind a pair goes where the second half is written next, or where nothing is read.
            unsafe {
                let to = to.add(half * pair);
                let to = |p: usize| to.add(p / SIDE * strides.row + p % SIDE * strides.column);
                let load = |at: usize| E::load_ptr(s, pairs[at]);
                transform_square::<Three, S>(s, load, |p, v| s.store_ptr(v, to(p)));
            }
        }
    }

    /// Where a tile starts in the source, if the vectors of all its pairs lie inside.
    #[inline(always)]
    fn inside(&self, place: Place) -> Option<usize> {
        let [h, w, c] = self.picture;
        let pad = STEP * self.pad;
        let y = (STEP * place.y).checked_sub(pad).filter(|y| y + STEP * SIDE <= h)?;
        let x = (STEP * place.x).checked_sub(pad).filter(|x| x + STEP * SIDE <= w)?;
        let first = ((place.image * h + y) * w + x) * c;
        let last = first + ((STEP * SIDE - 1) * w + STEP * (SIDE - 1)) * c;
        (last + MAX_PAIR <= self.len).then_some(first)
    }

    /// Asks for what tiles to the right of one that starts at `first` will read of its rows: a dozen short runs,
    /// which no processor foresees.
    #[inline(always)]
    fn prefetch_ahead<S: Simd, E>(&self, s: S, first: *const E, half: usize) {
        let [_, w, c] = self.picture;
        for row in 0..SIDE {
            s.prefetch(first.wrapping_add(((STEP * row + half) * w + AHEAD) * c).cast());
        }
    }

    /// The pairs of such a tile, in the first or second row of each fold.
    #[inline(always)]
    fn pairs_inside<E>(&self, first: *const E, half: usize) -> [*const E; MAX_TRANSFORMED] {
        let [_, w, c] = self.picture;
        let mut pairs = [first; MAX_TRANSFORMED];
        for row in 0..SIDE {
            for column in 0..SIDE {
                let at = ((STEP * row + half) * w + STEP * column) * c;
                pairs[row * SIDE + column] = first.wrapping_add(at);
            }
        }
        pairs
    }

    /// The pairs of a tile that reaches over an edge, where those that do are copied to.
    ///
    /// # Safety
    /// `source` is the source.
    #[inline(never)]
    unsafe fn pairs_at_edge<E: Element>(
        &self,
        source: *const E,
        place: Place,
        half: usize,
        edges: &mut MaybeUninit<[[E; MAX_PAIR]; MAX_TRANSFORMED]>,
    ) -> [*const E; MAX_TRANSFORMED] {
        let [h, w, c] = self.picture;
        let pad = STEP * self.pad;
        let edges = edges.write([[E::default(); MAX_PAIR]; MAX_TRANSFORMED]);
        let mut pairs = [zeros().cast::<E>(); MAX_TRANSFORMED];
        for (p, pair) in pairs.iter_mut().enumerate() {
            let y = (STEP * (place.y + p / SIDE) + half).wrapping_sub(pad);
            let x = (STEP * (place.x + p % SIDE)).wrapping_sub(pad);
            if h <= y || w <= x {
                continue;
            }
            let at = ((place.image * h + y) * w + x) * c;
            *pair = source.wrapping_add(at);
            if w < x + STEP || self.len < at + MAX_PAIR {
                let columns = STEP.min(w - x);
                // SAFETY: these pixels of a row lie inside the source.
                unsafe { pair.copy_to_nonoverlapping(edges[p].as_mut_ptr(), columns * c) };
                *pair = edges[p].as_ptr();
            }
        }
        pairs
    }

    /// `G w Gᵀ` of one panel, `width` channels wide: `w` is packed as the picture's kernel is, `[tap][cin][width]`,
    /// and `u` is `[product][folded channel][width]`.
    #[inline(always)]
    pub(super) fn transform_weights<S: Simd>(&self, s: S, width: usize, w: &[f32], u: &mut [f32]) {
        let c = self.picture[2];
        let channels = STEP * STEP * c;
        for channel in 0..channels {
            let (of_row, of_column, ci) = (channel / (STEP * c), channel / c % STEP, channel % c);
            // Where a folded tap lies in the kernel.
            let tap = |folded: usize, of: usize| (STEP * folded + of).wrapping_sub(self.shift);
            for j in (0..width).step_by(S::LANES) {
                let load = |y: usize, x: usize| {
                    let (y, x) = (tap(y, of_row), tap(x, of_column));
                    let inside = y < TAPS && x < TAPS;
                    let at = if inside { ((y * TAPS + x) * c + ci) * width + j } else { 0 };
                    if inside { s.load(&w[at..]) } else { s.splat(0.0) }
                };
                let mut columns = [[s.splat(0.0); FOLDED_TAPS]; Three::IN];
                for x in 0..FOLDED_TAPS {
                    let g = [load(0, x), load(1, x), load(2, x), load(3, x)];
                    for (row, &value) in columns.iter_mut().zip(&Three::weight(s, &g)) {
                        row[x] = value;
                    }
                }
                for (y, row) in columns.iter().enumerate() {
                    for (x, &value) in Three::weight(s, row).iter().enumerate() {
                        let product = y * Three::IN + x;
                        s.store(value, &mut u[(product * channels + channel) * width + j..]);
                    }
                }
            }
        }
    }
}
