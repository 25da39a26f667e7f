//! The weight gradient in Winograd tiles: 2.25 or 4 times fewer products than direct.
//!
//! ```text
//! dw = Gᵀ [ Σ over tiles (Bᵀ x B) ⊙ (A dy Aᵀ) ] G
//! ```
//!
//! with the forward pass's matrices (see `winograd_transform`): the transpose of that algorithm by
//! its weights. Blocks of tiles are taken one after the other. Of each, all threads transform both
//! operands for all channels; then they share out the products, each a matrix of inputs by outputs
//! summed over the block's tiles. A sum has one owner at a time and one order, that of the tiles, so
//! no thread has sums of its own. At last the sums are transformed back.

use resnet_simd::{Isa, Kernel, Simd};

use super::gather::{Table, zeros};
use super::layout::Panel;
use super::weight_gradient::{Ahead, accumulate};
use super::winograd::WinogradPass;
use super::winograd_transform::{
    Four, MAX_TRANSFORMED, Tiles, Transform, Two, output_gradient_square, weight_gradient_square,
};
use super::{ConvShape, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool};

/// Tiles of a block: sums are loaded and stored once a block.
const BLOCK_TILES: usize = 256;
/// Tiles of one task of the transforms.
const TASK_TILES: usize = 4;
/// Floats between the transforms of two products, beyond their own: a power of two apart, the
/// stores of one tile would share a cache set.
const PRODUCT_GAP: usize = 16;

/// The weight gradient over Winograd tiles, planned.
#[derive(Clone, Debug)]
pub(super) struct WinogradWeights {
    /// The forward pass in these tiles, whose places and input transform these are.
    forward: WinogradPass,
    block_tiles: usize,
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
        WinogradWeights { forward, block_tiles: all.div_ceil(all.div_ceil(BLOCK_TILES)) }
    }

    /// The same with `numerator / denominator` times the tiles a block, if that differs.
    pub(super) fn scaled(&self, (numerator, denominator): (usize, usize)) -> Option<Self> {
        let all = self.forward.all_tiles();
        let most = (2 * BLOCK_TILES).min(all);
        let block_tiles = (self.block_tiles * numerator / denominator).clamp(1, most);
        (block_tiles != self.block_tiles)
            .then(|| WinogradWeights { forward: self.forward.clone(), block_tiles })
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

    /// Floats of a block's transformed inputs of one product: `[tile][row stride]`.
    fn input_stride(&self) -> usize {
        self.block_tiles * self.forward.row_stride() + PRODUCT_GAP
    }

    /// Floats of a block's transformed output gradients of one product: `[panel][tile][width]`.
    fn output_stride(&self) -> usize {
        self.block_tiles * self.layout().len() / (9 * self.layout().cin) + PRODUCT_GAP
    }

    /// Floats of scratch.
    pub(super) fn scratch_len(&self) -> usize {
        self.products() * (self.input_stride() + self.output_stride())
            + self.forward.transformed_len()
    }

    /// `dw`, packed, from `x` and `dy`, whose lengths the caller has checked.
    pub(super) fn run(
        &self,
        isa: Isa,
        pool: &ThreadPool,
        (x, dy): (&[f32], &[f32]),
        dw: &mut [f32],
        scratch: &mut [f32],
    ) {
        let products = self.products();
        let (inputs, rest) = scratch.split_at_mut(products * self.input_stride());
        let (outputs, rest) = rest.split_at_mut(products * self.output_stride());
        let sums = &mut rest[..self.forward.transformed_len()];
        let (all, panels) = (self.forward.all_tiles(), self.layout().panels());
        // Products first, so that a thread's panels share the transformed inputs in its cache.
        let parts = (4 * pool.threads()).div_ceil(products).min(panels);
        for first in (0..all).step_by(self.block_tiles) {
            let count = self.block_tiles.min(all - first);
            let transformed = Transformed {
                weights: self,
                x,
                dy,
                inputs: inputs.as_mut_ptr(),
                outputs: outputs.as_mut_ptr(),
            };
            pool.run(count.div_ceil(TASK_TILES), &|task| {
                let tiles = task * TASK_TILES..((task + 1) * TASK_TILES).min(count);
                isa.run(TransformTiles { to: &transformed, first, tiles });
            });
            let shared = Products {
                weights: self,
                count,
                starts: first == 0,
                inputs,
                outputs,
                sums: DisjointMut::new(sums),
            };
            pool.run(products * parts, &|task| {
                let (product, part) = (task / parts, task % parts);
                let panels = part * panels / parts..(part + 1) * panels / parts;
                isa.run(Product { shared: &shared, product, panels });
            });
        }
        let (sums, dw) = (&*sums, DisjointMut::new(dw));
        pool.run(panels, &|index| {
            let panel = self.layout().panel(index);
            let len = 9 * self.layout().cin * panel.width;
            // SAFETY: panels have ranges of their own.
            let dw = unsafe { dw.slice(panel.start..panel.start + len) };
            let sums = &sums[panel.start / 9 * products..][..len / 9 * products];
            isa.run(TransformBack { tiles: self.tiles(), sums, dw });
        });
    }
}

/// Where the transforms of a block come from and go to.
struct Transformed<'a> {
    weights: &'a WinogradWeights,
    x: &'a [f32],
    dy: &'a [f32],
    /// `[product][tile][row stride]`.
    inputs: *mut f32,
    /// `[product][panel][tile][width]`.
    outputs: *mut f32,
}

// SAFETY: tasks only write the places of their own tiles, and read none of them.
unsafe impl Sync for Transformed<'_> {}

/// Transforms some tiles of a block, which begins with tile `first`.
struct TransformTiles<'a> {
    to: &'a Transformed<'a>,
    first: usize,
    tiles: std::ops::Range<usize>,
}

impl Kernel for TransformTiles<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.to.weights.tiles() {
            Tiles::Two => self.transform::<Two, S>(s),
            Tiles::Four => self.transform::<Four, S>(s),
        }
    }
}

impl TransformTiles<'_> {
    #[inline(always)]
    fn transform<T: Transform, S: Simd>(&self, s: S) {
        let weights = self.to.weights;
        let pass = &weights.forward;
        for tile in self.tiles.clone() {
            assert!(tile < weights.block_tiles);
            let place = pass.place(self.first + tile);
            // SAFETY: `x` has the shape's length, as the caller of `run` checked; row `tile` of each
            // product lies inside `inputs`, and this task alone writes it.
            unsafe {
                let to = (self.to.inputs.add(tile * pass.row_stride()), weights.input_stride());
                pass.transform_input::<T, S>(s, self.to.x.as_ptr(), place, to);
            }
            self.transform_output::<T, S>(s, tile);
        }
    }

    /// `A dy Aᵀ` of one tile. Pixels and channels outside are zero.
    #[inline(always)]
    fn transform_output<T: Transform, S: Simd>(&self, s: S, tile: usize) {
        let (weights, layout) = (self.to.weights, self.to.weights.layout());
        let (place, [h, w]) = (weights.forward.place(self.first + tile), weights.forward.target);
        let mut pixels = [zeros(); MAX_TRANSFORMED];
        for y in 0..T::OUT.min(h - place.y) {
            for x in 0..T::OUT.min(w - place.x) {
                let pixel = (place.image * h + place.y + y) * w + place.x + x;
                pixels[y * T::OUT + x] = self.to.dy[pixel * layout.cout..].as_ptr();
            }
        }
        let half = s.half();
        for panel in (0..layout.panels()).map(|index| layout.panel(index)) {
            let at = panel.start / (9 * layout.cin) * weights.block_tiles + tile * panel.width;
            let full = panel.width / S::LANES * S::LANES;
            // SAFETY: each pointer is valid for `cout` floats: a pixel of `dy`, or zeros, of which
            // there are at least as many (checked by `fits`). The panel's row of this tile lies
            // inside `outputs` for each product, and this task alone writes it.
            unsafe {
                let to = self.to.outputs.add(at);
                for j in (0..full).step_by(S::LANES) {
                    self.transform_column::<T, S>(s, &pixels, &panel, j, to);
                }
                for j in (full..panel.width).step_by(<S::Half as Simd>::LANES) {
                    self.transform_column::<T, S::Half>(half, &pixels, &panel, j, to);
                }
            }
        }
    }

    /// One vector of channels, from column `j` of the panel on.
    ///
    /// # Safety
    /// `pixels` are valid for all channels of `dy`, `to` for the panel's row of each product.
    #[inline(always)]
    unsafe fn transform_column<T: Transform, S: Simd>(
        &self,
        s: S,
        pixels: &[*const f32; MAX_TRANSFORMED],
        panel: &Panel,
        j: usize,
        to: *mut f32,
    ) {
        let stride = self.to.weights.output_stride();
        let valid = panel.channels.saturating_sub(j).min(S::LANES);
        // SAFETY: passed on; no more than the valid channels are read.
        unsafe {
            let from = |at: usize| pixels[at].add(panel.first + j);
            let store = |p: usize, v| s.store_ptr(v, to.add(p * stride + j));
            if valid == S::LANES {
                output_gradient_square::<T, S>(s, |at| s.load_ptr(from(at)), store);
            } else {
                let load = |at| s.load_partial(std::slice::from_raw_parts(from(at), valid));
                output_gradient_square::<T, S>(s, load, store);
            }
        }
    }
}

/// What the tasks of the products share.
struct Products<'a> {
    weights: &'a WinogradWeights,
    /// Tiles of the block.
    count: usize,
    /// Whether it is the first block.
    starts: bool,
    inputs: &'a [f32],
    outputs: &'a [f32],
    /// `[panel][product][cin][width]`.
    sums: DisjointMut<'a, f32>,
}

/// One product of a block, some panels.
struct Product<'a> {
    shared: &'a Products<'a>,
    product: usize,
    panels: std::ops::Range<usize>,
}

impl Kernel for Product<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Products { weights, count, starts, inputs, outputs, .. } = *self.shared;
        let (layout, product) = (weights.layout(), self.product);
        let inputs = &inputs[product * weights.input_stride()..][..weights.input_stride()];
        let outputs = &outputs[product * weights.output_stride()..][..weights.output_stride()];
        let mut table = Table::new();
        // SAFETY: each row of the table is `cin` floats inside `inputs`.
        unsafe {
            table.fill_matrix(inputs.as_ptr(), (1, 0), (count, weights.forward.row_stride()));
        }
        let rows = &table.tap(0)[..count];
        for panel in self.panels.clone().map(|index| layout.panel(index)) {
            let len = layout.cin * panel.width;
            let start = panel.start / 9 * weights.products() + product * len;
            // SAFETY: a task is alone with its product and panels.
            let sums = unsafe { self.shared.sums.slice(start..start + len) };
            if starts {
                sums.fill(0.0);
            }
            let first = panel.start / (9 * layout.cin) * weights.block_tiles;
            let dy = &outputs[first..][..count * panel.width];
            // SAFETY: the table's rows are valid for `cin` floats, `dy` has a row for each.
            unsafe {
                accumulate(s, panel.width, rows, (0, dy.as_ptr()), sums, &mut Ahead::default());
            }
        }
    }
}

/// The sums of one panel, transformed back: `dw = Gᵀ u G`.
struct TransformBack<'a> {
    tiles: Tiles,
    /// `[product][cin][width]`.
    sums: &'a [f32],
    dw: &'a mut [f32],
}

impl Kernel for TransformBack<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        match self.tiles {
            Tiles::Two => self.transform::<Two, S::Half>(s.half()),
            Tiles::Four => self.transform::<Four, S::Half>(s.half()),
        }
    }
}

impl TransformBack<'_> {
    /// By vectors of eight or fewer: every panel is whole ones of those.
    #[inline(always)]
    fn transform<T: Transform, S: Simd>(self, s: S) {
        let TransformBack { sums, dw, .. } = self;
        let len = dw.len() / 9;
        for i in (0..len).step_by(S::LANES) {
            let load = |product: usize| s.load(&sums[product * len + i..]);
            weight_gradient_square::<T, S>(s, load, |tap, v| s.store(v, &mut dw[tap * len + i..]));
        }
    }
}
