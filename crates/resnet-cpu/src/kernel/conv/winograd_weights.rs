//! The weight gradient in Winograd tiles: 2.25 or 4 times fewer products than direct.
//!
//! ```text
//! dw = Gᵀ [ Σ over tiles (Bᵀ x B) ⊙ (A dy Aᵀ) ] G
//! ```
//!
//! with the forward pass's matrices (see `winograd_transform`): the transpose of that algorithm by
//! its weights. Blocks of tiles are taken one after the other: both operands are transformed into
//! scratch for all channels, then multiplied, each product a matrix of inputs by outputs summed over
//! the block's tiles. Who does so depends on the geometry:
//!
//! - Where a copy of the sums fits into a cache, the tiles are cut into chunks with sums of their own,
//!   and a chunk is one thread's: what it transforms never leaves its cache. The chunks are added in
//!   order at the end.
//! - Otherwise all threads transform a block, then share out its products. A sum has one owner at a
//!   time and one order, that of the tiles.
//!
//! At last the sums are transformed back.

use std::ops::Range;

use resnet_simd::{Element, Isa, Kernel, Simd, Stored, bf16};

use super::gather::zeros;
use super::layout::Panel;
use super::plan::own_cache_bytes;
use super::weight_gradient::{Ahead, EvenRows, Operands, accumulate};
use super::winograd::{InputStrides, WinogradPass};
use super::winograd_transform::{
    Four, MAX_TRANSFORMED, ThreeTaps, Tiles, Two, output_gradient_square, weight_gradient_square,
};
use super::{ConvShape, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool, part};

/// Why no weight gradient has [`Tiles::Three`].
const FORWARD_ONLY: &str = "`Tiles::fit` admits them forward only";
/// Bytes of the sums of a chunk, at most: larger ones are not copied for each.
const MAX_CHUNK_BYTES: usize = 640 << 10;
/// Tiles of a chunk, at least: adding its sums to the others' costs as much as a dozen.
const MIN_CHUNK_TILES: usize = 256;
/// Chunks, at most.
const MAX_CHUNKS: usize = 32;
/// Tiles of a block: sums are loaded and stored once a block.
const MIN_BLOCK_TILES: usize = 16;
const MAX_BLOCK_TILES: usize = 256;
/// Tiles of one task of such a block's transforms.
const TASK_TILES: usize = 4;
/// Tasks of the transform back for each thread, where there are so many inputs.
const TASKS_PER_THREAD: usize = 4;
/// Floats between the transforms of two products, beyond their own: a power of two apart, the
/// stores of one tile would share a cache set.
const PRODUCT_GAP: usize = 16;

/// The weight gradient over Winograd tiles, planned.
#[derive(Clone, Debug)]
pub(super) struct WinogradWeights {
    /// The forward pass in these tiles, whose places and input transform these are.
    forward: WinogradPass,
    block_tiles: usize,
    split: Split,
}

/// Whose the blocks are.
#[derive(Clone, Copy, Debug)]
enum Split {
    /// So many chunks of blocks, each one thread's.
    Chunks(usize),
    /// Each block is all threads'.
    Shared,
}

impl WinogradWeights {
    /// The caller has checked [`super::winograd::fits`].
    pub(super) fn new(
        shape: &ConvShape,
        layout: PackedLayout,
        tiles: Tiles,
        isa: Isa,
    ) -> WinogradWeights {
        let forward = WinogradPass::forward(shape, layout, tiles, isa);
        let all = forward.all_tiles();
        let (split, alone, most) = if 4 * forward.transformed_len() <= MAX_CHUNK_BYTES {
            // A power of two divides evenly among most numbers of threads.
            let chunks = 1 << (all / MIN_CHUNK_TILES).clamp(1, MAX_CHUNKS).ilog2();
            let bytes = 4 * tiles.products() * (forward.row_stride() + layout.cout);
            let in_cache = own_cache_bytes() / 2 / bytes;
            let most = in_cache.clamp(MIN_BLOCK_TILES, MAX_BLOCK_TILES);
            (Split::Chunks(chunks), all.div_ceil(chunks), most)
        } else {
            (Split::Shared, all, MAX_BLOCK_TILES)
        };
        WinogradWeights { forward, block_tiles: alone.div_ceil(alone.div_ceil(most)), split }
    }

    /// The same with `numerator / denominator` times the tiles a block, if that differs.
    pub(super) fn scaled(&self, (numerator, denominator): (usize, usize)) -> Option<Self> {
        let most = (2 * MAX_BLOCK_TILES).min(self.forward.all_tiles());
        let block_tiles = (self.block_tiles * numerator / denominator).clamp(1, most);
        (block_tiles != self.block_tiles).then(|| WinogradWeights { block_tiles, ..self.clone() })
    }

    /// Which tiles.
    pub(super) fn tiles(&self) -> Tiles {
        self.forward.tiles
    }

    fn layout(&self) -> &PackedLayout {
        &self.forward.layout
    }

    fn products(&self) -> usize {
        self.forward.tiles.products()
    }

    /// Chunks with sums of their own.
    fn chunks(&self) -> usize {
        match self.split {
            Split::Chunks(chunks) => chunks,
            Split::Shared => 1,
        }
    }

    /// Floats of a block's transformed inputs of one product: `[tile][row stride]`.
    fn input_stride(&self) -> usize {
        self.block_tiles * self.forward.row_stride() + PRODUCT_GAP
    }

    /// Floats of a block's transformed output gradients of one product: `[panel][tile][width]`.
    fn output_stride(&self) -> usize {
        self.block_tiles * self.layout().len() / (9 * self.layout().cin) + PRODUCT_GAP
    }

    /// Floats of both for all products.
    fn block_len(&self) -> usize {
        self.products() * (self.input_stride() + self.output_stride())
    }

    /// Floats of scratch on so many threads.
    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        let blocks = match self.split {
            Split::Chunks(_) => threads,
            Split::Shared => 1,
        };
        blocks * self.block_len() + self.chunks() * self.forward.transformed_len()
    }

    /// `dw`, packed, from `x` and `dy`.
    ///
    /// # Safety
    /// `x` and `dy` are the whole tensors, of elements stored so, and do not change meanwhile.
    pub(super) unsafe fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        (x, dy, stored): (*const (), *const (), Stored),
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        let sums_len = self.chunks() * self.forward.transformed_len();
        let (sums, blocks) = scratch.split_at_mut(sums_len);
        let gradient = Gradient { weights: self, x, dy, stored, sums: DisjointMut::new(sums) };
        match self.split {
            Split::Chunks(chunks) => {
                let blocks = DisjointMut::new(blocks);
                pool.run_with_thread(chunks, &|thread, chunk| {
                    let len = self.block_len();
                    // SAFETY: no two tasks run at once on the same thread.
                    let block = unsafe { blocks.slice(thread * len..(thread + 1) * len) };
                    isa.run(SumChunk { gradient: &gradient, chunk, block });
                });
            }
            Split::Shared => self.run_shared(isa, pool, &gradient, blocks),
        }
        let (sums, dw) = (&*sums, DisjointMut::new(dw));
        let panels = self.layout().panels();
        let parts = (TASKS_PER_THREAD * pool.threads()).div_ceil(panels).min(self.layout().cin);
        pool.run(panels * parts, &|task| {
            let panel = self.layout().panel(task / parts);
            let inputs = part(task % parts, parts, self.layout().cin);
            isa.run(TransformBack { weights: self, sums, dw, panel, inputs });
        });
    }

    fn run_shared(&self, isa: Isa, pool: &ThreadPool, gradient: &Gradient<'_>, block: &mut [f32]) {
        let (all, panels, products) =
            (self.forward.all_tiles(), self.layout().panels(), self.products());
        // Products first, so that a thread's panels share the transformed inputs in its cache.
        let parts = (4 * pool.threads()).div_ceil(products).min(panels);
        for first in (0..all).step_by(self.block_tiles) {
            let count = self.block_tiles.min(all - first);
            let block = Block::new(self, block);
            pool.run(count.div_ceil(TASK_TILES), &|task| {
                let rows = task * TASK_TILES..((task + 1) * TASK_TILES).min(count);
                isa.run(TransformRows { gradient, block, first, rows });
            });
            pool.run(products * parts, &|task| {
                let (product, panels) = (task / parts, part(task % parts, parts, panels));
                let starts = first == 0;
                isa.run(Multiply { gradient, block, chunk: 0, count, starts, product, panels });
            });
        }
    }

    /// Where a panel's sums of one product start, within a chunk's: `[panel][product][cin][width]`.
    fn sums_start(&self, panel: &Panel, product: usize) -> usize {
        panel.start / 9 * self.products() + product * self.layout().cin * panel.width
    }
}

/// The operands, as the tasks share them.
struct Gradient<'a> {
    weights: &'a WinogradWeights,
    x: *const (),
    dy: *const (),
    /// How both are stored.
    stored: Stored,
    /// `[chunk][panel][product][cin][width]`.
    sums: DisjointMut<'a, f32>,
}

// SAFETY: tasks read `x` and `dy`, which the caller of `run` lends for its time.
unsafe impl Sync for Gradient<'_> {}

/// Scratch for the transforms of a block.
#[derive(Clone, Copy)]
struct Block {
    /// `[product][tile][row stride]`.
    inputs: *mut f32,
    /// `[product][panel][tile][width]`.
    outputs: *mut f32,
}

// SAFETY: tasks on one block either write the rows of their own tiles, or only read.
unsafe impl Sync for Block {}

impl Block {
    fn new(weights: &WinogradWeights, scratch: &mut [f32]) -> Block {
        let scratch = &mut scratch[..weights.block_len()];
        let (inputs, outputs) = scratch.split_at_mut(weights.products() * weights.input_stride());
        Block { inputs: inputs.as_mut_ptr(), outputs: outputs.as_mut_ptr() }
    }
}

/// All sums of one chunk, block by block, on one thread.
struct SumChunk<'a> {
    gradient: &'a Gradient<'a>,
    chunk: usize,
    block: &'a mut [f32],
}

impl Kernel for SumChunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let SumChunk { gradient, chunk, block } = self;
        let weights = gradient.weights;
        let block = Block::new(weights, block);
        let tiles = part(chunk, weights.chunks(), weights.forward.all_tiles());
        for first in tiles.clone().step_by(weights.block_tiles) {
            let count = weights.block_tiles.min(tiles.end - first);
            TransformRows { gradient, block, first, rows: 0..count }.run(s);
            let starts = first == tiles.start;
            for product in 0..weights.products() {
                let panels = 0..weights.layout().panels();
                Multiply { gradient, block, chunk, count, starts, product, panels }.run(s);
            }
        }
    }
}

/// Transforms some tiles of a block, which begins with tile `first`.
struct TransformRows<'a> {
    gradient: &'a Gradient<'a>,
    block: Block,
    first: usize,
    rows: Range<usize>,
}

impl Kernel for TransformRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match (self.gradient.weights.tiles(), self.gradient.stored) {
            (Tiles::Two, Stored::F32) => self.transform::<Two, S, f32>(s),
            (Tiles::Four, Stored::F32) => self.transform::<Four, S, f32>(s),
            (Tiles::Two, Stored::Bf16) => self.transform::<Two, S, bf16>(s),
            (Tiles::Four, Stored::Bf16) => self.transform::<Four, S, bf16>(s),
            (Tiles::Three, _) => unreachable!("{FORWARD_ONLY}"),
        }
    }
}

impl TransformRows<'_> {
    #[inline(always)]
    fn transform<T: ThreeTaps, S: Simd, E: Element>(&self, s: S) {
        let weights = self.gradient.weights;
        let pass = &weights.forward;
        assert!(self.rows.end <= weights.block_tiles);
        for row in self.rows.clone() {
            let place = pass.place(self.first + row);
            // SAFETY: `x` is the whole tensor, as the caller of `run` says; this row of each
            // product lies inside `inputs`, and this task alone writes it.
            unsafe {
                let (column, tile) = (weights.input_stride(), pass.row_stride());
                let strides = InputStrides { row: T::IN * column, column, tile, vector: S::LANES };
                let to = (self.block.inputs.add(row * tile), strides);
                pass.transform_input::<T, S, E>(s, self.gradient.x.cast(), place, to);
            }
            self.transform_output::<T, S, E>(s, row);
        }
    }

    /// `A dy Aᵀ` of one tile. Pixels and channels outside are zero.
    #[inline(always)]
    fn transform_output<T: ThreeTaps, S: Simd, E: Element>(&self, s: S, row: usize) {
        let (weights, layout) = (self.gradient.weights, self.gradient.weights.layout());
        let (place, [h, w]) = (weights.forward.place(self.first + row), weights.forward.target);
        let dy: *const E = self.gradient.dy.cast();
        let mut pixels = [zeros().cast::<E>(); MAX_TRANSFORMED];
        for y in 0..T::OUT.min(h - place.y) {
            for x in 0..T::OUT.min(w - place.x) {
                let pixel = (place.image * h + place.y + y) * w + place.x + x;
                pixels[y * T::OUT + x] = dy.wrapping_add(pixel * layout.cout);
            }
        }
        let half = s.half();
        for panel in (0..layout.panels()).map(|index| layout.panel(index)) {
            let at = panel.start / (9 * layout.cin) * weights.block_tiles + row * panel.width;
            let full = panel.width / S::LANES * S::LANES;
            // SAFETY: each pointer is valid for `cout` elements: a pixel of `dy`, or zeros, of which
            // there are at least as many (checked by `fits`). The panel's row of this tile lies
            // inside `outputs` for each product, and this task alone writes it.
            unsafe {
                let to = self.block.outputs.add(at);
                for j in (0..full).step_by(S::LANES) {
                    self.transform_column::<T, S, E>(s, &pixels, &panel, j, to);
                }
                for j in (full..panel.width).step_by(<S::Half as Simd>::LANES) {
                    self.transform_column::<T, S::Half, E>(half, &pixels, &panel, j, to);
                }
            }
        }
    }

    /// One vector of channels, from column `j` of the panel on.
    ///
    /// # Safety
    /// `pixels` are valid for all channels of `dy`, `to` for the panel's row of each product.
    #[inline(always)]
    unsafe fn transform_column<T: ThreeTaps, S: Simd, E: Element>(
        &self,
        s: S,
        pixels: &[*const E; MAX_TRANSFORMED],
        panel: &Panel,
        j: usize,
        to: *mut f32,
    ) {
        let stride = self.gradient.weights.output_stride();
        let valid = panel.channels.saturating_sub(j).min(S::LANES);
        // SAFETY: passed on; no more than the valid channels are read.
        unsafe {
            let from = |at: usize| pixels[at].add(panel.first + j);
            let store = |p: usize, v| s.store_ptr(v, to.add(p * stride + j));
            if valid == S::LANES {
                output_gradient_square::<T, S>(s, |at| E::load_ptr(s, from(at)), store);
            } else {
                let load = |at| E::load_partial(s, std::slice::from_raw_parts(from(at), valid));
                output_gradient_square::<T, S>(s, load, store);
            }
        }
    }
}

/// Adds one product of a block, some panels of it, to the sums of a chunk.
struct Multiply<'a> {
    gradient: &'a Gradient<'a>,
    block: Block,
    chunk: usize,
    /// Tiles of the block.
    count: usize,
    /// Whether it is the chunk's first.
    starts: bool,
    product: usize,
    panels: Range<usize>,
}

impl Kernel for Multiply<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (weights, count) = (self.gradient.weights, self.count);
        let layout = weights.layout();
        let pitch = weights.forward.row_stride();
        // SAFETY: inside `inputs`.
        let start = unsafe { self.block.inputs.add(self.product * weights.input_stride()) };
        let rows = EvenRows { next: start, pitch, count };
        let chunk = self.chunk * weights.forward.transformed_len();
        for together in layout.together(self.panels.clone()) {
            let sums = |index: usize| {
                let panel = layout.panel(index);
                let start = chunk + weights.sums_start(&panel, self.product);
                let len = layout.cin * panel.width;
                // SAFETY: a task is alone with its chunk, product and panels.
                let sums = unsafe { self.gradient.sums.slice(start..start + len) };
                if self.starts {
                    sums.fill(0.0);
                }
                sums
            };
            let panel = layout.panel(together.start);
            let first = panel.start / (9 * layout.cin) * weights.block_tiles;
            // SAFETY: the panel's rows of this product lie inside `outputs`, one for each of `inputs`, which
            // has `cin` floats.
            unsafe {
                let dy = self.block.outputs.add(self.product * weights.output_stride() + first);
                let apart = layout.full * weights.block_tiles;
                let operands = Operands { rows, offset: 0, dy: dy.cast_const(), apart };
                accumulate(s, operands, (panel.width, together.map(sums)), &mut Ahead::default());
            }
        }
    }
}

/// The sums of some inputs of a panel, chunk after chunk, transformed back: `dw = Gᵀ u G`.
struct TransformBack<'a> {
    weights: &'a WinogradWeights,
    /// Of all chunks.
    sums: &'a [f32],
    dw: DisjointMut<'a, f32>,
    panel: Panel,
    inputs: Range<usize>,
}

impl Kernel for TransformBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.weights.tiles() {
            Tiles::Two => self.transform::<Two, S::Half>(s.half()),
            Tiles::Four => self.transform::<Four, S::Half>(s.half()),
            Tiles::Three => unreachable!("{FORWARD_ONLY}"),
        }
    }
}

impl TransformBack<'_> {
    /// By vectors of eight or fewer: every panel is whole ones of those.
    #[inline(always)]
    fn transform<T: ThreeTaps, S: Simd>(self, s: S) {
        let TransformBack { weights, sums, dw, panel, inputs } = self;
        let sums = &sums[weights.sums_start(&panel, 0)..];
        let (len, chunk) = (weights.layout().cin * panel.width, weights.forward.transformed_len());
        for i in (inputs.start * panel.width..inputs.end * panel.width).step_by(S::LANES) {
            let load = |product: usize| {
                let of = |at: usize| s.load(&sums[at * chunk + product * len + i..]);
                (1..weights.chunks()).fold(of(0), |sum, at| s.add(sum, of(at)))
            };
            weight_gradient_square::<T, S>(s, load, |tap, v| {
                let at = panel.start + tap * len + i;
                // SAFETY: a task is alone with its inputs of its panel.
                s.store(v, unsafe { dw.slice(at..at + S::LANES) });
            });
        }
    }
}
