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
//! Errors against f64, largest over largest (measured, 64 to 512 channels): direct 4e-7 to 2e-6,
//! F(2x2) 4e-7 to 1.1e-6.

use resnet_simd::{Isa, Kernel, Simd};

use super::epilogue::{Column, Finish, Sums, finish};
use super::gather::{MAX_PADDED_CHANNELS, TABLE_LEN, TILE_OVERHANG, Table, zeros};
use super::tile::{PanelSums, Work, height_unit, run_tiles};
use super::winograd_transform::{
    Four, MAX_TRANSFORMED, Tiles, Transform, Two, output_square, transform_square,
};
use super::{ConvShape, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool};

/// Floats of a block's transformed inputs that leave room for weights in a 1 MiB cache.
const BLOCK_FLOATS: usize = 64 << 10;
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
    /// Tiles a row and a column of the target, and in a block.
    across: usize,
    down: usize,
    block_tiles: usize,
    pub(super) blocks: usize,
    /// Whether taps are read backwards: the input gradient's.
    flipped: bool,
}

impl WinogradPass {
    /// The forward convolution in these tiles. The caller has checked [`fits`].
    pub(super) fn forward(shape: &ConvShape, layout: PackedLayout, tiles: Tiles, isa: Isa) -> Self {
        let (source, target) = ([shape.ih, shape.iw, shape.cin], [shape.oh, shape.ow]);
        Self::new(shape.n, (source, target), shape.pad, (layout, tiles, false), isa)
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
        let in_cache = BLOCK_FLOATS / (tiles.products() * source[2]) / unit;
        let blocks = all.div_ceil(in_cache.clamp(1, 4) * unit);
        // Blocks of equal size, in whole register tiles where there are several.
        let even = all.div_ceil(blocks);
        let block_tiles = if blocks == 1 { even } else { even.next_multiple_of(unit) };
        let blocks = all.div_ceil(block_tiles);
        WinogradPass {
            tiles,
            layout,
            images,
            source,
            target,
            pad,
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

    /// Floats of the transformed weights.
    pub(super) fn weights_len(&self) -> usize {
        self.layout.len() / 9 * self.tiles.products()
    }

    /// Floats between the transformed inputs of two tiles: not a power of two, so that the rows of a
    /// register tile do not share a cache set.
    pub(super) fn row_stride(&self) -> usize {
        self.source[2] + 16
    }

    /// Floats between the transformed inputs of two products, for the same reason.
    fn input_stride(&self) -> usize {
        self.block_tiles * self.row_stride() + 16
    }

    fn product_stride(&self) -> usize {
        (self.block_tiles + TILE_OVERHANG) * MAX_WIDTH
    }

    /// Floats of scratch that one thread needs.
    pub(super) fn scratch_len(&self) -> usize {
        let outputs = self.tiles.outputs() * self.tiles.outputs() * self.block_tiles * MAX_WIDTH;
        self.tiles.products() * (self.input_stride() + self.product_stride()) + outputs
    }

    /// Transforms packed weights: `u` is `[panel][product][cin][width]`.
    pub(super) fn transform_weights(&self, isa: Isa, pool: &ThreadPool, w: &[f32], u: &mut [f32]) {
        assert_eq!((w.len(), u.len()), (self.layout.len(), self.weights_len()));
        let u = DisjointMut::new(u);
        pool.run(self.layout.panels(), &|index| {
            let panel = self.layout.panel(index);
            let start = panel.start / 9 * self.tiles.products();
            let len = self.layout.cin * panel.width;
            // SAFETY: panels have ranges of their own.
            let u = unsafe { u.slice(start..start + len * self.tiles.products()) };
            let w = &w[panel.start..panel.start + 9 * len];
            isa.run(TransformWeights { pass: self, w, u, len });
        });
    }

    /// Runs the product. `partials` is where the sums of each block go, `[block][2][channels]`.
    ///
    /// # Safety
    /// `source` is valid for the source's floats, `u` for [`WinogradPass::weights_len`], what
    /// `finish` holds for the target's, and `partials`, if sums are taken, for `blocks * 2 *
    /// channels`; nobody else uses the target and the partials meanwhile.
    pub(super) unsafe fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        (source, u): (*const f32, *const f32),
        finish: Finish,
        partials: *mut f32,
        scratch: &mut [f32],
    ) {
        assert!(self.scratch_len() * pool.threads() <= scratch.len(), "scratch");
        let panels = self.layout.panels();
        // Few blocks are shared out by panels too; each part transforms the block's inputs anew.
        let parts = pool.threads().div_ceil(self.blocks).min(panels);
        let shared =
            Shared { pass: self, source, u, finish, partials, scratch: DisjointMut::new(scratch) };
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

    /// `Bᵀ x B` of one tile for all channels: product `p` goes to `to + p * stride`.
    ///
    /// # Safety
    /// `source` is valid for the source's floats, each of the places for as many as channels.
    #[inline(always)]
    pub(super) unsafe fn transform_input<T: Transform, S: Simd>(
        &self,
        s: S,
        source: *const f32,
        place: Place,
        (to, stride): (*mut f32, usize),
    ) {
        let [h, w, c] = self.source;
        let mut pixels = [zeros(); MAX_TRANSFORMED];
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
        // SAFETY: each pointer is valid for `c` floats: a pixel of the source, or zeros, of which
        // there are at least as many as channels (checked by `fits`); the caller vouches for the
        // places of the stores.
        unsafe {
            for channel in (0..full).step_by(S::LANES) {
                let load = |at: usize| s.load_ptr(pixels[at].add(channel));
                let to = to.add(channel);
                transform_square::<T, S>(s, load, |p, v| s.store_ptr(v, to.add(p * stride)));
            }
            if full < c {
                let rest = c - full;
                let slice = |at: usize| std::slice::from_raw_parts(pixels[at].add(full), rest);
                let to = to.add(full);
                transform_square::<T, S>(
                    s,
                    |at| s.load_partial(slice(at)),
                    |p, v| {
                        s.store_partial(
                            v,
                            std::slice::from_raw_parts_mut(to.add(p * stride), rest),
                        );
                    },
                );
            }
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
    /// Floats of a tap: `cin * width`, a multiple of eight.
    len: usize,
}

impl Kernel for TransformWeights<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.pass.tiles {
            Tiles::Two => self.transform::<Two, S::Half>(s.half()),
            Tiles::Four => self.transform::<Four, S::Half>(s.half()),
        }
    }
}

impl TransformWeights<'_> {
    /// By vectors of eight or fewer: every panel is whole ones of those.
    #[inline(always)]
    fn transform<T: Transform, S: Simd>(self, s: S) {
        let TransformWeights { pass, w, u, len } = self;
        let tap = |index: usize| if pass.flipped { 8 - index } else { index };
        for i in (0..len).step_by(S::LANES) {
            let mut columns = [[s.splat(0.0); 3]; 6];
            for x in 0..3 {
                let g = std::array::from_fn(|y| s.load(&w[tap(3 * y + x) * len + i..]));
                let transformed = T::weight(s, &g);
                for (row, &value) in columns.iter_mut().zip(&transformed) {
                    row[x] = value;
                }
            }
            for (y, row) in columns[..T::IN].iter().enumerate() {
                for (x, &value) in T::weight(s, row)[..T::IN].iter().enumerate() {
                    s.store(value, &mut u[(y * T::IN + x) * len + i..]);
                }
            }
        }
    }
}

/// What the tasks of a run share.
struct Shared<'a> {
    pass: &'a WinogradPass,
    source: *const f32,
    u: *const f32,
    finish: Finish,
    partials: *mut f32,
    scratch: DisjointMut<'a, f32>,
}

// SAFETY: tasks read the source and weights, and write the target and partials only at the pixels
// of their block and the channels of their panels, which no other task has.
unsafe impl Sync for Shared<'_> {}

/// One block of tiles, some panels.
struct Block<'a> {
    shared: &'a Shared<'a>,
    thread: usize,
    block: usize,
    panels: std::ops::Range<usize>,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.shared.pass.tiles {
            Tiles::Two => self.run_tiles::<Two, S>(s),
            Tiles::Four => self.run_tiles::<Four, S>(s),
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

impl Block<'_> {
    #[inline(always)]
    fn run_tiles<T: Transform, S: Simd>(&self, s: S) {
        let pass = self.shared.pass;
        let len = pass.scratch_len();
        // SAFETY: no two tasks run at once on the same thread.
        let scratch =
            unsafe { self.shared.scratch.slice(self.thread * len..(self.thread + 1) * len) };
        let (inputs, rest) = scratch.split_at_mut(pass.tiles.products() * pass.input_stride());
        let (products, outputs) = rest.split_at_mut(pass.tiles.products() * pass.product_stride());
        let first = self.block * pass.block_tiles;
        let count = pass.block_tiles.min(pass.all_tiles() - first);
        for tile in 0..count {
            let (place, stride) = (pass.place(first + tile), pass.input_stride());
            let row = tile * pass.row_stride();
            assert!(row + pass.source[2] <= stride);
            // SAFETY: the caller of `run` vouches for the source; `inputs` has `stride` floats for
            // each product, of which the row is a part, as asserted.
            unsafe {
                let to = inputs.as_mut_ptr().add(row);
                pass.transform_input::<T, S>(s, self.shared.source, place, (to, stride));
            }
        }
        let mut table = Table::new();
        // SAFETY: each row of the table is `cin` floats inside `inputs`.
        unsafe {
            let (start, stride) = (inputs.as_ptr(), pass.input_stride());
            table.fill_matrix(start, (pass.tiles.products(), stride), (count, pass.row_stride()));
        }
        for index in self.panels.clone() {
            self.panel::<T, S>(s, (first, count), index, &table, products, outputs);
        }
        if self.shared.finish.stream {
            s.fence();
        }
    }

    /// Multiplies, transforms back and finishes one panel of the block.
    #[inline(always)]
    fn panel<T: Transform, S: Simd>(
        &self,
        s: S,
        (first, count): (usize, usize),
        index: usize,
        table: &Table,
        products: &mut [f32],
        outputs: &mut [f32],
    ) {
        let pass = self.shared.pass;
        let (panel, cin) = (pass.layout.panel(index), pass.source[2]);
        let weights = self.shared.u.wrapping_add(panel.start / 9 * pass.tiles.products());
        let mut sums = PanelSums([[0.0; 32]; 2]);
        for product in 0..T::IN * T::IN {
            let work = Work {
                table,
                rows: 0..count,
                ahead: 0,
                taps: &super::gather::ONE_TAP,
                first_tap: product,
                depth: cin,
                offset: 0,
                weights: weights.wrapping_add(product * cin * panel.width),
                width: panel.width,
                channel: panel.first,
                channels: panel.channels,
                finish: &self.shared.finish,
                raw: products[product * pass.product_stride()..].as_mut_ptr(),
            };
            // SAFETY: the table's rows are valid for `cin` floats, the weights for `cin * width`,
            // and each product has room for the block's rows and a tile's overhang.
            unsafe { run_tiles(s, &work, &mut sums) };
        }
        let mut targets = [0; MAX_TARGETS];
        for part in (0..count).step_by(TILES_A_FINISH) {
            let tiles = part..count.min(part + TILES_A_FINISH);
            let rows = self.transform_back::<T, S>(
                s,
                (first, tiles, panel.width),
                products,
                outputs,
                &mut targets,
            );
            self.finish_rows(s, &targets[..rows], panel, outputs, &mut sums);
        }
        if matches!(self.shared.finish.sums, Sums::None) {
            return;
        }
        let channels = pass.layout.cout;
        for (which, sums) in sums.0.iter().enumerate() {
            // SAFETY: the caller of `run` gives room for each block's two rows of channels; no
            // other task has this block and panel.
            unsafe {
                let row = self.shared.partials.add((self.block * 2 + which) * channels);
                row.add(panel.first).copy_from_nonoverlapping(sums.as_ptr(), panel.channels);
            }
        }
    }

    /// `Aᵀ p A` of some tiles: pixels that lie in the target, row after row of `width` floats, and
    /// where in the target each goes. Returns how many.
    #[inline(always)]
    fn transform_back<T: Transform, S: Simd>(
        &self,
        s: S,
        (first, tiles, width): (usize, std::ops::Range<usize>, usize),
        products: &[f32],
        outputs: &mut [f32],
        targets: &mut [usize; MAX_TARGETS],
    ) -> usize {
        let pass = self.shared.pass;
        let ([h, w], channels, stride) = (pass.target, pass.layout.cout, pass.product_stride());
        let half = s.half();
        let half_lanes = <S::Half as Simd>::LANES;
        let full = width / S::LANES * S::LANES;
        let mut rows = 0;
        for tile in tiles {
            let place = pass.place(first + tile);
            let (tall, wide) = (T::OUT.min(h - place.y), T::OUT.min(w - place.x));
            for y in 0..tall {
                for x in 0..wide {
                    let pixel = (place.image * h + place.y + y) * w + place.x + x;
                    targets[rows + y * wide + x] = pixel * channels;
                }
            }
            let inside = (tall, wide);
            let to = &mut outputs[rows * width..(rows + tall * wide) * width];
            for j in (0..full).step_by(S::LANES) {
                output_square::<T, S>(
                    s,
                    &products[tile * width + j..],
                    stride,
                    inside,
                    (&mut to[j..], width),
                );
            }
            for j in (full..width).step_by(half_lanes) {
                output_square::<T, S::Half>(
                    half,
                    &products[tile * width + j..],
                    stride,
                    inside,
                    (&mut to[j..], width),
                );
            }
            rows += tall * wide;
        }
        rows
    }

    #[inline(always)]
    fn finish_rows<S: Simd>(
        &self,
        s: S,
        targets: &[usize],
        panel: super::layout::Panel,
        outputs: &[f32],
        sums: &mut PanelSums,
    ) {
        let [first, second] = sums.0.each_mut().map(|sums| sums.as_mut_ptr());
        assert!(targets.len() * panel.width <= outputs.len());
        let half_lanes = <S::Half as Simd>::LANES;
        let full = panel.width / S::LANES * S::LANES;
        // SAFETY: `outputs` has a row of `width` floats for each target; targets lie inside the
        // target tensor, whose pointers the caller of `run` vouches for; a panel's sums have room
        // for its width.
        unsafe {
            let column = |at: usize, lanes: usize| Column {
                sums: outputs.as_ptr().add(at),
                stride: panel.width,
                targets,
                channel: panel.first + at,
                valid: panel.channels.saturating_sub(at).min(lanes),
                first: first.add(at),
                second: second.add(at),
            };
            for j in (0..full).step_by(S::LANES) {
                finish(s, &self.shared.finish, &column(j, S::LANES));
            }
            for j in (full..panel.width).step_by(half_lanes) {
                finish(s.half(), &self.shared.finish, &column(j, half_lanes));
            }
        }
    }
}

/// Tiles that are transformed back before they are finished: their outputs stay in the first cache.
const TILES_A_FINISH: usize = 4;
/// Output pixels of those.
const MAX_TARGETS: usize = TILES_A_FINISH * 16;
