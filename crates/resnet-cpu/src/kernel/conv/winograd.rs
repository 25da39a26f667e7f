//! Winograd's minimal filtering: 3x3 convolutions of stride 1 in 2.25 or 4 times fewer products.
//!
//! Source: Lavin and Gray 2015, arXiv:1509.09308, sections 4 and 5. For tiles of `m x m` outputs
//! (F(2x2,3x3): `m = 2`, F(4x4,3x3): `m = 4`), `a = m + 2` and the matrices below:
//!
//! ```text
//! U = G w Gᵀ (a x a, once for all tiles)    V = Bᵀ x B (a x a, for each tile and input channel)
//! y = Aᵀ (Σ_ci U ⊙ V) A (m x m, for each tile and output channel)
//! ```
//!
//! The sum over channels is `a²` matrix products of tiles times channels, done with the same
//! register tiles as direct convolution. A task takes a block of tiles: it transforms their inputs
//! for all channels into scratch that stays in the second-level cache, then for each panel of
//! outputs multiplies, transforms back and finishes, so that nothing larger than a block is written.
//!
//! A 7x7 of stride 2 of a few channels goes the same way as a 4x4 of stride 1: see `winograd_fold`.
//!
//! Errors against f64, largest over largest (measured, 64 to 512 channels): direct 4e-7 to 2e-6,
//! F(2x2) 4e-7 to 1.1e-6.

use std::ops::Range;

use resnet_simd::{Element, Isa, Kernel, Simd};

use super::epilogue::Finish;
use super::gather::{MAX_PADDED_CHANNELS, zeros};
use super::layout::Panel;
use super::tile::height_unit;
use super::winograd_block::{Block, Shared};
use super::winograd_few::{FEW_TILES, few_strides};
use super::winograd_fold::Fold;
use super::winograd_fold_block::{MAX_GROUP, SUMS_LEN};
use super::winograd_transform::{
    Four, MAX_TRANSFORMED, ThreeTaps, Tiles, Transform, Two, transform_square,
};
use super::{ConvShape, PackedLayout};
use crate::kernel::blocks::{TABLE_LEN, TILE_OVERHANG};
use crate::threads::{DisjointMut, ThreadPool};

/// Floats of a block's transformed inputs that leave room for weights in a 1 MiB cache.
const BLOCK_FLOATS: usize = 64 << 10;
/// The same where all tiles are one block: each weight is then read once, whatever the inputs cost.
const ONLY_BLOCK_FLOATS: usize = 1280 << 10;
/// Tiles of such a block, at most.
const ONLY_BLOCK_TILES: usize = 64;
/// More tiles than this are two blocks if transformed weights take few bytes: to read them twice is cheaper then
/// than to transform them in the run.
const LONE_TILES: usize = 32;
/// So few.
const FEW_TRANSFORMED_BYTES: usize = 4 << 20;
/// Input channels whose weights are transformed at a time where that is done in the run: their
/// transformed ones stay in the second-level cache until they are multiplied with.
pub(super) const FRESH_DEPTH: usize = 64;
/// Floats from one product's to the next: not a power of two, as packed taps are, or all would share
/// cache sets.
pub(super) const FRESH_STRIDE: usize = FRESH_DEPTH * MAX_WIDTH + 48;
/// The widest panel.
const MAX_WIDTH: usize = 32;

/// A product over Winograd tiles, planned: the forward convolution, or the input gradient.
#[derive(Clone, Debug)]
pub(super) struct WinogradPass {
    pub(super) tiles: Tiles,
    /// Layout of the weights before their transform.
    pub(super) layout: PackedLayout,
    images: usize,
    pub(super) source: [usize; 3],
    pub(super) target: [usize; 2],
    pad: usize,
    /// Whether the source is read folded: `source` and `pad` are then those of the folded picture.
    pub(super) fold: Option<Fold>,
    /// Tiles a row and a column of the target, and in a block.
    across: usize,
    down: usize,
    block_tiles: usize,
    pub(super) blocks: usize,
    /// Whether taps are read backwards: the input gradient's.
    pub(super) flipped: bool,
}

impl WinogradPass {
    /// The forward convolution in these tiles. The caller has checked [`Tiles::fit`].
    pub(super) fn forward(shape: &ConvShape, layout: PackedLayout, tiles: Tiles, isa: Isa) -> Self {
        let fold = (tiles == Tiles::Three).then(|| Fold::new(shape));
        let (source, pad) = match fold {
            Some(fold) => (fold.folded(), fold.pad),
            None => ([shape.ih, shape.iw, shape.cin], shape.pad),
        };
        let target = [shape.oh, shape.ow];
        let pass = Self::new(shape.n, (source, target), pad, (layout, tiles, false), isa);
        WinogradPass { fold, ..pass }
    }

    /// The input gradient in these tiles.
    pub(super) fn backward(
        shape: &ConvShape,
        layout: PackedLayout,
        tiles: Tiles,
        isa: Isa,
    ) -> Self {
        let (source, target) = ([shape.oh, shape.ow, shape.cout], [shape.ih, shape.iw]);
        Self::new(shape.n, (source, target), 2 - shape.pad, (layout, tiles, true), isa)
    }

    fn new(
        images: usize,
        (source, target): ([usize; 3], [usize; 2]),
        pad: usize,
        (layout, tiles, flipped): (PackedLayout, Tiles, bool),
        isa: Isa,
    ) -> WinogradPass {
        let (down, across) =
            (target[0].div_ceil(tiles.outputs()), target[1].div_ceil(tiles.outputs()));
        let (unit, all) = (height_unit(isa.lanes()), images * down * across);
        let of_tile = tiles.products() * source[2];
        let transformed_bytes = 4 * of_tile * layout.groups * layout.cout;
        let blocks = if ONLY_BLOCK_TILES < all || ONLY_BLOCK_FLOATS < all * of_tile {
            let in_cache = (BLOCK_FLOATS / of_tile / unit).clamp(1, 4) * unit;
            all.div_ceil(in_cache)
        } else if LONE_TILES < all && transformed_bytes <= FEW_TRANSFORMED_BYTES {
            2
        } else {
            1
        };
        // Blocks of equal size, in whole register tiles where there are several.
        let block_tiles = match blocks {
            1 => all,
            blocks => all.div_ceil(blocks).next_multiple_of(unit),
        };
        let blocks = all.div_ceil(block_tiles);
        WinogradPass {
            tiles,
            layout,
            images,
            source,
            target,
            pad,
            fold: None,
            across,
            down,
            block_tiles,
            blocks,
            flipped,
        }
    }

    /// Tiles of a block.
    pub(super) fn block_tiles(&self) -> usize {
        self.block_tiles
    }

    /// The same in blocks of another size, if the table of pointers holds those.
    pub(super) fn with_block_tiles(&self, block_tiles: usize) -> Option<WinogradPass> {
        let fits = self.tiles.products() * (block_tiles + TILE_OVERHANG) <= TABLE_LEN;
        let blocks = self.all_tiles().div_ceil(block_tiles.max(1));
        (fits && 0 < block_tiles && blocks != self.blocks).then(|| WinogradPass {
            block_tiles,
            blocks,
            ..self.clone()
        })
    }

    /// Whether [`WinogradPass::run`] takes packed weights and transforms them itself, panel by panel:
    /// one block multiplies with each of them once, and the transformed ones are up to four times as
    /// many bytes. The arithmetic is the same, so that the batch does not show in the bits.
    pub(super) fn transforms_in_run(&self) -> bool {
        self.blocks == 1 && self.fold.is_none()
    }

    /// Floats of the weights that [`WinogradPass::run`] takes.
    pub(super) fn weights_len(&self) -> usize {
        if self.transforms_in_run() { self.layout.len() } else { self.transformed_len() }
    }

    /// Floats of all transformed weights.
    pub(super) fn transformed_len(&self) -> usize {
        self.transformed_from(self.layout.len())
    }

    /// Where a panel's transformed weights start: those of all products.
    pub(super) fn transformed_start(&self, panel: &Panel) -> usize {
        self.transformed_from(panel.start)
    }

    /// Floats of transformed weights for so many of packed ones.
    fn transformed_from(&self, packed: usize) -> usize {
        packed / (self.layout.taps * self.layout.cin) * self.tiles.products() * self.source[2]
    }

    /// Floats between the transformed inputs of two tiles: whole cache lines, and not a power of two, so
    /// that the rows of a register tile do not share a cache set.
    pub(super) fn row_stride(&self) -> usize {
        self.source[2].next_multiple_of(16) + 16
    }

    /// Floats between the transformed inputs of two products, for the same reason.
    pub(super) fn input_stride(&self) -> usize {
        let tiles = match self.fold {
            Some(_) => self.block_tiles.next_multiple_of(MAX_GROUP),
            None => self.block_tiles,
        };
        tiles * self.row_stride() + 16
    }

    pub(super) fn product_stride(&self) -> usize {
        (self.block_tiles + TILE_OVERHANG) * MAX_WIDTH
    }

    /// Floats of scratch that one thread needs.
    pub(super) fn scratch_len(&self) -> usize {
        let outputs = self.tiles.outputs() * self.tiles.outputs() * self.block_tiles * MAX_WIDTH;
        let inputs = self.tiles.products() * self.input_stride();
        inputs + self.products_len() + outputs + self.fresh_len()
    }

    /// Of these, what the products take.
    pub(super) fn products_len(&self) -> usize {
        match self.fold {
            Some(_) => SUMS_LEN,
            None => self.tiles.products() * self.product_stride(),
        }
    }

    /// Of these, what the transformed weights of a panel's slice take.
    pub(super) fn fresh_len(&self) -> usize {
        if self.transforms_in_run() { self.tiles.products() * FRESH_STRIDE } else { 0 }
    }

    /// Transforms packed weights: `u` is `[panel][product][cin][width]`.
    pub(super) fn transform_weights(&self, isa: Isa, pool: &ThreadPool, w: &[f32], u: &mut [f32]) {
        assert_eq!((w.len(), u.len()), (self.layout.len(), self.transformed_len()));
        let u = DisjointMut::new(u);
        pool.run(self.layout.panels(), &|index| {
            let panel = self.layout.panel(index);
            let (start, len) = (self.transformed_start(&panel), self.source[2] * panel.width);
            // SAFETY: panels have ranges of their own.
            let u = unsafe { u.slice(start..start + len * self.tiles.products()) };
            let w = &w[panel.start..][..self.layout.taps * self.layout.cin * panel.width];
            isa.run(TransformWeights { pass: self, w, u, width: panel.width });
        });
    }

    /// Runs the product. `partials` is where the sums of each block go, `[block][2][channels]`.
    ///
    /// # Safety
    /// `source` is the source, stored as the target is, `w` valid for [`WinogradPass::weights_len`], what
    /// `finish` holds for the target's, and `partials`, if sums are taken, for `blocks * 2 *
    /// channels`; nobody else uses the target and the partials meanwhile.
    pub(super) unsafe fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        (source, w): (*const (), *const f32),
        finish: Finish,
        partials: *mut f32,
        scratch: &mut [f32],
    ) {
        assert!(self.scratch_len() * pool.threads() <= scratch.len(), "scratch");
        let panels = self.layout.panels();
        // Few blocks are shared out by panels too; each part transforms the block's inputs anew.
        let parts = pool.threads().div_ceil(self.blocks).min(panels);
        let shared =
            Shared { pass: self, source, w, finish, partials, scratch: DisjointMut::new(scratch) };
        pool.run_with_thread(self.blocks * parts, &|thread, task| {
            let (block, part) = (task / parts, task % parts);
            let panels = part * panels / parts..(part + 1) * panels / parts;
            isa.run(Block { shared: &shared, thread, block, panels });
        });
    }
}

impl WinogradPass {
    pub(super) fn place(&self, tile: usize) -> Place {
        let (per_image, m) = (self.down * self.across, self.tiles.outputs());
        let (image, at) = (tile / per_image, tile % per_image);
        Place { image, y: at / self.across * m, x: at % self.across * m }
    }

    /// Tiles of all images.
    pub(super) fn all_tiles(&self) -> usize {
        self.images * self.down * self.across
    }

    /// Where the transformed inputs of a block go: `[product][tile][channel]`, or what few tiles want.
    pub(super) fn input_strides(&self, lanes: usize) -> InputStrides {
        if self.is_few(lanes) {
            return few_strides(lanes, self.source[2]);
        }
        let column = self.input_stride();
        let (row, tile) = (self.tiles.inputs() * column, self.row_stride());
        InputStrides { row, column, tile, vector: lanes }
    }

    /// Whether the tiles are those that [`super::winograd_few`] multiplies, and all panels whole vectors.
    pub(super) fn is_few(&self, lanes: usize) -> bool {
        let is_whole = |index| self.layout.panel(index).width.is_multiple_of(lanes);
        let alone = self.transforms_in_run() && self.block_tiles == FEW_TILES;
        alone && self.tiles == Tiles::Four && (0..self.layout.panels()).all(is_whole)
    }

    /// `Bᵀ x B` of one tile for all channels, to `to` by these strides.
    ///
    /// # Safety
    /// `source` is the source, each of the places valid for as many floats as channels.
    #[inline(always)]
    pub(super) unsafe fn transform_input<T: Transform, S: Simd, E: Element>(
        &self,
        s: S,
        source: *const E,
        place: Place,
        (to, strides): (*mut f32, InputStrides),
    ) {
        let [h, w, c] = self.source;
        let mut pixels = [zeros().cast::<E>(); MAX_TRANSFORMED];
        for row in 0..T::IN {
            for column in 0..T::IN {
                let (y, x) = (
                    (place.y + row).wrapping_sub(self.pad),
                    (place.x + column).wrapping_sub(self.pad),
                );
                if y < h && x < w {
                    let at = ((place.image * h + y) * w + x) * c;
                    pixels[row * T::IN + column] = source.wrapping_add(at);
                }
            }
        }
        let full = c / S::LANES * S::LANES;
        // SAFETY: each pointer is valid for `c` elements: a pixel of the source, or zeros, of which
        // there are at least as many as channels (checked by `fits`); the caller vouches for the
        // places of the stores.
        unsafe {
            let to = |vector: usize| (to.add(vector * strides.vector), strides);
            for vector in 0..full / S::LANES {
                let channel = vector * S::LANES;
                let channels = channel..channel + S::LANES;
                transform_channels::<T, S, E>(s, &pixels, channels, to(vector));
            }
            let last = full / S::LANES;
            match c - full {
                0 => {}
                rest if rest <= <S::Half as Simd>::LANES => {
                    transform_channels::<T, S::Half, E>(s.half(), &pixels, full..c, to(last));
                }
                _ => transform_channels::<T, S, E>(s, &pixels, full..c, to(last)),
            }
        }
    }
}

/// Floats from one transformed input to the next.
#[derive(Clone, Copy)]
pub(super) struct InputStrides {
    /// From a row of products to the next.
    pub(super) row: usize,
    /// From a product of a row to the next.
    pub(super) column: usize,
    /// From a tile to the next.
    pub(super) tile: usize,
    /// From a vector of channels to the next.
    pub(super) vector: usize,
}

/// `Bᵀ x B` of one tile for a vector of channels, or fewer.
///
/// # Safety
/// As [`WinogradPass::transform_input`].
#[inline(always)]
unsafe fn transform_channels<T: Transform, S: Simd, E: Element>(
    s: S,
    pixels: &[*const E; MAX_TRANSFORMED],
    channels: Range<usize>,
    (to, strides): (*mut f32, InputStrides),
) {
    // SAFETY: passed on.
    unsafe {
        let from = |at: usize| pixels[at].add(channels.start);
        let to = |p: usize| to.add(p / T::IN * strides.row + p % T::IN * strides.column);
        let len = channels.len();
        if len == S::LANES {
            let load = |at: usize| E::load_ptr(s, from(at));
            transform_square::<T, S>(s, load, |p, v| s.store_ptr(v, to(p)));
        } else {
            let load = |at: usize| E::load_partial(s, std::slice::from_raw_parts(from(at), len));
            transform_square::<T, S>(s, load, |p, v| {
                s.store_partial(v, std::slice::from_raw_parts_mut(to(p), len));
            });
        }
    }
}

/// Whether a convolution can be done in Winograd tiles at all.
pub(super) fn fits(shape: &ConvShape) -> bool {
    (shape.kh, shape.kw, shape.stride, shape.dilation, shape.groups) == (3, 3, 1, 1, 1)
        && shape.pad <= 2
        && shape.cin.max(shape.cout) <= MAX_PADDED_CHANNELS
}

/// One panel of weights.
struct TransformWeights<'a> {
    pass: &'a WinogradPass,
    w: &'a [f32],
    u: &'a mut [f32],
    /// The panel's, a multiple of eight.
    width: usize,
}

impl Kernel for TransformWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let TransformWeights { pass, w, u, width } = self;
        // By vectors of eight or fewer: every panel is whole ones of those.
        let s = s.half();
        if let Some(fold) = pass.fold {
            return fold.transform_weights(s, width, w, u);
        }
        let len = pass.layout.cin * width;
        transform_taps(s, pass, len, (w, len), (u, len));
    }
}

/// `G w Gᵀ` for `len` places of a panel, whole vectors: `w` has nine taps and `u` a row for each
/// product, each so many floats apart.
#[inline(always)]
pub(super) fn transform_taps<S: Simd>(
    s: S,
    pass: &WinogradPass,
    len: usize,
    w: (&[f32], usize),
    u: (&mut [f32], usize),
) {
    match pass.tiles {
        Tiles::Two => transform_taps_to::<Two, S>(s, pass.flipped, len, w, u),
        Tiles::Four => transform_taps_to::<Four, S>(s, pass.flipped, len, w, u),
        Tiles::Three => unreachable!("folded weights are transformed by `Fold`"),
    }
}

/// [`transform_taps`] for some tiles.
#[inline(always)]
fn transform_taps_to<T: ThreeTaps, S: Simd>(
    s: S,
    flipped: bool,
    len: usize,
    (w, tap_stride): (&[f32], usize),
    (u, stride): (&mut [f32], usize),
) {
    let tap = |index: usize| if flipped { 8 - index } else { index };
    for i in (0..len).step_by(S::LANES) {
        let mut columns = [[s.splat(0.0); 3]; 6];
        for x in 0..3 {
            let g = std::array::from_fn(|y| s.load(&w[tap(3 * y + x) * tap_stride + i..]));
            for (row, &value) in columns.iter_mut().zip(&T::weight(s, &g)) {
                row[x] = value;
            }
        }
        for (y, row) in columns[..T::IN].iter().enumerate() {
            for (x, &value) in T::weight(s, row)[..T::IN].iter().enumerate() {
                s.store(value, &mut u[(y * T::IN + x) * stride + i..]);
            }
        }
    }
}

/// A tile's place: image, and its first output row and column.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) image: usize,
    pub(super) y: usize,
    pub(super) x: usize,
}
