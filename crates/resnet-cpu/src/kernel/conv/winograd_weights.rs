//! The weight gradient in Winograd tiles F(3x3,2x2): 2.25 times fewer products than direct.
//!
//! ```text
//! dw = Gᵀ [ Σ over tiles (Bᵀ x B) ⊙ (A dy Aᵀ) ] G
//! ```
//!
//! with the matrices of F(2x2,3x3) (see `winograd`): the transpose of that algorithm by its weights.
//! A task transforms a block of tiles of `x` and, panel by panel, of `dy`, and adds the sixteen
//! products to a gradient in the transformed domain; chunks of tiles, cut by geometry, have one each.
//! They are added in order and transformed back once.

use std::ops::Range;

use resnet_simd::{Isa, Kernel, Simd};

use super::gather::Table;
use super::layout::Panel;
use super::weight_gradient::{Ahead, accumulate};
use super::winograd::{Tiles, Two, WinogradPass};
use super::{ConvShape, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool};

/// Products of a tile for each pair of channels.
const PRODUCTS: usize = 16;
/// Floats of a block's transformed inputs: larger blocks touch the sums less often.
const BLOCK_FLOATS: usize = 256 << 10;
/// Tiles of a block, at most: the table of pointers holds sixteen rows of so many.
const MAX_BLOCK_TILES: usize = 224;
/// Tiles of a chunk, at least, and chunks, at most: each has a gradient of its own.
const MIN_CHUNK_TILES: usize = 512;
const MAX_CHUNKS: usize = 16;
/// The widest panel.
const MAX_WIDTH: usize = 32;

/// The weight gradient over Winograd tiles, planned.
#[derive(Clone, Debug)]
pub(super) struct WinogradWeights {
    /// The forward pass, whose tiles and input transform these are.
    forward: WinogradPass,
    block_tiles: usize,
    chunks: usize,
}

impl WinogradWeights {
    /// The caller has checked [`super::winograd::fits`].
    pub(super) fn new(shape: &ConvShape, layout: PackedLayout, isa: Isa) -> WinogradWeights {
        let forward = WinogradPass::forward(shape, layout, Tiles::Two, isa);
        let all = forward.all_tiles();
        let block_tiles = (BLOCK_FLOATS / (PRODUCTS * shape.cin)).clamp(14, MAX_BLOCK_TILES);
        let chunks = (all / MIN_CHUNK_TILES).clamp(1, MAX_CHUNKS);
        WinogradWeights { forward, block_tiles: block_tiles.min(all), chunks }
    }

    /// The same with `numerator / denominator` times the tiles a block, and likewise of chunks, if
    /// that differs.
    pub(super) fn scaled(
        &self,
        blocks: (usize, usize),
        chunks: (usize, usize),
    ) -> Option<WinogradWeights> {
        let all = self.forward.all_tiles();
        let block_tiles =
            (self.block_tiles * blocks.0 / blocks.1).clamp(1, MAX_BLOCK_TILES.min(all));
        let chunks = (self.chunks * chunks.0 / chunks.1).clamp(1, all);
        ((block_tiles, chunks) != (self.block_tiles, self.chunks)).then(|| WinogradWeights {
            forward: self.forward.clone(),
            block_tiles,
            chunks,
        })
    }

    fn layout(&self) -> &PackedLayout {
        &self.forward.layout
    }

    /// Floats of a gradient in the transformed domain.
    fn transformed_len(&self) -> usize {
        self.forward.weights_len()
    }

    fn input_stride(&self) -> usize {
        self.block_tiles * self.forward.row_stride() + 16
    }

    /// Floats of one thread's own scratch: a block of `x`, and one panel of the same of `dy`.
    fn thread_len(&self) -> usize {
        PRODUCTS * (self.input_stride() + self.block_tiles * MAX_WIDTH)
    }

    /// Floats of scratch on so many threads.
    pub(super) fn scratch_len(&self, threads: usize) -> usize {
        threads * self.thread_len() + self.chunks * self.transformed_len()
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
        let (own, rest) = scratch.split_at_mut(pool.threads() * self.thread_len());
        let sums = &mut rest[..self.chunks * self.transformed_len()];
        let panels = self.layout().panels();
        // Few chunks are shared out by panels too; each part transforms the inputs anew.
        let parts = (2 * pool.threads()).div_ceil(self.chunks).min(panels);
        let shared = Shared {
            weights: self,
            x,
            dy,
            sums: DisjointMut::new(sums),
            scratch: DisjointMut::new(own),
        };
        pool.run_with_thread(self.chunks * parts, &|thread, task| {
            let (chunk, part) = (task / parts, task % parts);
            let panels = part * panels / parts..(part + 1) * panels / parts;
            isa.run(Chunk { shared: &shared, thread, chunk, panels });
        });
        let (sums, dw) = (&*sums, DisjointMut::new(dw));
        pool.run(panels, &|index| {
            let panel = self.layout().panel(index);
            let len = 9 * self.layout().cin * panel.width;
            // SAFETY: panels have ranges of their own.
            let dw = unsafe { dw.slice(panel.start..panel.start + len) };
            isa.run(Reduce { weights: self, sums, start: panel.start / 9 * PRODUCTS, dw });
        });
    }
}

/// What the tasks of a run share.
struct Shared<'a> {
    weights: &'a WinogradWeights,
    x: &'a [f32],
    dy: &'a [f32],
    /// `[chunk][panel][product][cin][width]`.
    sums: DisjointMut<'a, f32>,
    scratch: DisjointMut<'a, f32>,
}

/// One chunk of tiles, some panels.
struct Chunk<'a> {
    shared: &'a Shared<'a>,
    thread: usize,
    chunk: usize,
    panels: Range<usize>,
}

impl Kernel for Chunk<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let weights = self.shared.weights;
        let (pass, len) = (&weights.forward, weights.thread_len());
        // SAFETY: no two tasks run at once on the same thread.
        let scratch =
            unsafe { self.shared.scratch.slice(self.thread * len..(self.thread + 1) * len) };
        let (inputs, outputs) = scratch.split_at_mut(PRODUCTS * weights.input_stride());
        let all = pass.all_tiles();
        let tiles = self.chunk * all / weights.chunks..(self.chunk + 1) * all / weights.chunks;
        let mut table = Table::new();
        for first in tiles.clone().step_by(weights.block_tiles) {
            let count = weights.block_tiles.min(tiles.end - first);
            for tile in 0..count {
                let (place, stride) = (pass.place(first + tile), weights.input_stride());
                // SAFETY: `x` has the length of the shape, as the caller of `run` checked.
                unsafe {
                    let x = self.shared.x.as_ptr();
                    pass.transform_input::<Two, S>(s, x, (place, tile), (inputs, stride));
                }
            }
            // SAFETY: each row of the table is `cin` floats inside `inputs`.
            unsafe {
                let matrices = (PRODUCTS, weights.input_stride());
                table.fill_matrix(inputs.as_ptr(), matrices, (count, pass.row_stride()));
            }
            for index in self.panels.clone() {
                let panel = weights.layout().panel(index);
                for tile in 0..count {
                    self.transform_output(s, first + tile, tile, &panel, outputs);
                }
                self.multiply(s, (&panel, count), &table, outputs, first == tiles.start);
            }
        }
    }
}

impl Chunk<'_> {
    /// `A dy Aᵀ` of one tile for a panel's channels: product `p` goes to
    /// `outputs[p][tile][width]`. Pixels and channels outside are zero.
    #[inline(always)]
    fn transform_output<S: Simd>(
        &self,
        s: S,
        tile: usize,
        at: usize,
        panel: &Panel,
        outputs: &mut [f32],
    ) {
        let pass = &self.shared.weights.forward;
        let (place, [h, w], cout) = (pass.place(tile), pass.target, pass.layout.cout);
        let stride = self.shared.weights.block_tiles * MAX_WIDTH;
        let half = s.half();
        let full = panel.width / S::LANES * S::LANES;
        let pixel = |y: usize, x: usize, j: usize| {
            let (y, x) = (place.y + y, place.x + x);
            if h <= y || w <= x || panel.channels <= j {
                return &[][..];
            }
            let pixel = ((place.image * h + y) * w + x) * cout + panel.first;
            &self.shared.dy[pixel + j..pixel + panel.channels]
        };
        for j in (0..full).step_by(S::LANES) {
            let dy = |y: usize, x: usize| s.load_partial(pixel(y, x, j));
            let to = &mut outputs[at * panel.width + j..];
            spread(s, dy, |p, v| s.store(v, &mut to[p * stride..]));
        }
        for j in (full..panel.width).step_by(<S::Half as Simd>::LANES) {
            let dy = |y: usize, x: usize| half.load_partial(pixel(y, x, j));
            let to = &mut outputs[at * panel.width + j..];
            spread(half, dy, |p, v| half.store(v, &mut to[p * stride..]));
        }
    }

    /// Adds the block's products to the chunk's sums of one panel, or starts them.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        s: S,
        (panel, count): (&Panel, usize),
        table: &Table,
        outputs: &[f32],
        starts: bool,
    ) {
        let weights = self.shared.weights;
        let len = weights.layout().cin * panel.width;
        let start = self.chunk * weights.transformed_len() + panel.start / 9 * PRODUCTS;
        // SAFETY: a task is alone with its chunk and panels.
        let sums = unsafe { self.shared.sums.slice(start..start + PRODUCTS * len) };
        if starts {
            sums.fill(0.0);
        }
        for (product, sums) in sums.chunks_exact_mut(len).enumerate() {
            let rows = &table.tap(product)[..count];
            let dy = &outputs[product * weights.block_tiles * MAX_WIDTH..][..count * panel.width];
            // SAFETY: the table's rows are valid for `cin` floats, `dy` has a row for each.
            unsafe {
                accumulate(s, panel.width, rows, (0, dy.as_ptr()), sums, &mut Ahead::default());
            }
        }
    }
}

/// `A d Aᵀ` of a 2x2 tile, `A = [1 0; 1 1; 1 −1; 0 −1]`.
#[inline(always)]
fn spread<S: Simd>(
    s: S,
    dy: impl Fn(usize, usize) -> S::F32,
    mut store: impl FnMut(usize, S::F32),
) {
    let zero = s.splat(0.0);
    let line = |a: S::F32, b: S::F32| [a, s.add(a, b), s.sub(a, b), s.sub(zero, b)];
    let (left, right) = (line(dy(0, 0), dy(1, 0)), line(dy(0, 1), dy(1, 1)));
    for y in 0..4 {
        for (x, value) in line(left[y], right[y]).into_iter().enumerate() {
            store(4 * y + x, value);
        }
    }
}

/// The sums of one panel over all chunks, transformed back: `dw = Gᵀ u G`.
struct Reduce<'a> {
    weights: &'a WinogradWeights,
    sums: &'a [f32],
    start: usize,
    dw: &'a mut [f32],
}

impl Kernel for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        self.transform(s.half());
    }
}

impl Reduce<'_> {
    /// By vectors of eight or fewer: every panel is whole ones of those.
    #[inline(always)]
    fn transform<S: Simd>(self, s: S) {
        let len = self.dw.len() / 9;
        let half = s.splat(0.5);
        // Gᵀ = [1 ½ ½ 0; 0 ½ −½ 0; 0 ½ ½ 1].
        let line = |u: [S::F32; 4]| {
            let (sum, difference) = (s.add(u[1], u[2]), s.sub(u[1], u[2]));
            let middle = s.mul(half, sum);
            [s.add(u[0], middle), s.mul(half, difference), s.add(middle, u[3])]
        };
        for i in (0..len).step_by(S::LANES) {
            let sum = |product: usize| {
                let at = self.start + product * len + i;
                let chunks = 1..self.weights.chunks;
                let load = |chunk: usize| {
                    s.load(&self.sums[chunk * self.weights.transformed_len() + at..])
                };
                chunks.fold(load(0), |sum, chunk| s.add(sum, load(chunk)))
            };
            let columns: [[S::F32; 3]; 4] =
                std::array::from_fn(|x| line(std::array::from_fn(|y| sum(4 * y + x))));
            let rows: [[S::F32; 3]; 3] =
                std::array::from_fn(|y| line(std::array::from_fn(|x| columns[x][y])));
            for (y, row) in rows.into_iter().enumerate() {
                for (x, value) in row.into_iter().enumerate() {
                    s.store(value, &mut self.dw[(3 * y + x) * len + i..]);
                }
            }
        }
    }
}
