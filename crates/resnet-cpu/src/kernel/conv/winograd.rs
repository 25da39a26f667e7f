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
//! F(2x2) 4e-7 to 1.1e-6, F(4x4) 4e-6 to 9e-6. Training's forward pass and
//! weight gradient take F(2x2) only; its input gradient and inference both.

use resnet_simd::{Isa, Kernel, Simd};

use super::epilogue::{Column, Finish, Sums, finish};
use super::gather::{MAX_PADDED_CHANNELS, TABLE_LEN, TILE_OVERHANG, Table, zeros};
use super::tile::{PanelSums, Work, height_unit, run_tiles};
use super::{ConvShape, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool};

/// Floats of a block's transformed inputs that leave room for weights in a 1 MiB cache.
const BLOCK_FLOATS: usize = 64 << 10;
/// The widest panel.
const MAX_WIDTH: usize = 32;
/// Elements of the largest transformed tile.
const MAX_TRANSFORMED: usize = 36;

/// Which tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tiles {
    /// F(2x2,3x3).
    Two,
    /// F(4x4,3x3).
    Four,
}

impl Tiles {
    /// Outputs along a side.
    fn outputs(self) -> usize {
        match self {
            Tiles::Two => 2,
            Tiles::Four => 4,
        }
    }

    /// Inputs along a side.
    fn inputs(self) -> usize {
        self.outputs() + 2
    }

    /// Products of a tile for each pair of channels.
    pub(super) fn products(self) -> usize {
        self.inputs() * self.inputs()
    }
}

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

    /// `Bᵀ x B` of one tile for all channels: product `p` goes to
    /// `inputs[p * stride + tile * row_stride]`.
    #[inline(always)]
    ///
    /// # Safety
    /// `source` is valid for the source's floats.
    pub(super) unsafe fn transform_input<T: Transform, S: Simd>(
        &self,
        s: S,
        source: *const f32,
        (place, tile): (Place, usize),
        (inputs, stride): (&mut [f32], usize),
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
        let row = tile * self.row_stride();
        assert!(T::IN * T::IN * stride <= inputs.len() && row + c <= stride);
        let full = c / S::LANES * S::LANES;
        // SAFETY: each pointer is valid for `c` floats: a pixel of the source, or zeros, of which
        // there are at least as many as channels (checked by `fits`); the stores stay inside
        // `inputs`, as asserted above.
        unsafe {
            for channel in (0..full).step_by(S::LANES) {
                let load = |at: usize| s.load_ptr(pixels[at].add(channel));
                let to = inputs.as_mut_ptr().add(row + channel);
                transform_square::<T, S>(s, load, |p, v| s.store_ptr(v, to.add(p * stride)));
            }
            if full < c {
                let rest = c - full;
                let slice = |at: usize| std::slice::from_raw_parts(pixels[at].add(full), rest);
                let to = inputs.as_mut_ptr().add(row + full);
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

/// The one-dimensional transforms, on vectors; arrays are as long as the larger tiles need.
pub(super) trait Transform {
    const OUT: usize;
    const IN: usize;
    /// `Bᵀ d`.
    fn input<S: Simd>(s: S, d: &[S::F32; 6]) -> [S::F32; 6];
    /// `G g`.
    fn weight<S: Simd>(s: S, g: &[S::F32; 3]) -> [S::F32; 6];
    /// `Aᵀ p`.
    fn output<S: Simd>(s: S, p: &[S::F32; 6]) -> [S::F32; 4];
}

/// F(2,3), Lavin and Gray, equation 8: points 0, 1, −1.
pub(super) struct Two;

impl Transform for Two {
    const OUT: usize = 2;
    const IN: usize = 4;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: &[S::F32; 6]) -> [S::F32; 6] {
        let zero = s.splat(0.0);
        [s.sub(d[0], d[2]), s.add(d[1], d[2]), s.sub(d[2], d[1]), s.sub(d[1], d[3]), zero, zero]
    }

    #[inline(always)]
    fn weight<S: Simd>(s: S, g: &[S::F32; 3]) -> [S::F32; 6] {
        let (half, zero) = (s.splat(0.5), s.splat(0.0));
        let ends = s.add(g[0], g[2]);
        let plus = s.mul(half, s.add(ends, g[1]));
        let minus = s.mul(half, s.sub(ends, g[1]));
        [g[0], plus, minus, g[2], zero, zero]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, p: &[S::F32; 6]) -> [S::F32; 4] {
        let zero = s.splat(0.0);
        let first = s.add(s.add(p[0], p[1]), p[2]);
        [first, s.sub(s.sub(p[1], p[2]), p[3]), zero, zero]
    }
}

/// F(4,3), Lavin and Gray, section 5.2: points 0, 1, −1, 2, −2.
struct Four;

impl Transform for Four {
    const OUT: usize = 4;
    const IN: usize = 6;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: &[S::F32; 6]) -> [S::F32; 6] {
        let (two, four, minus_five) = (s.splat(2.0), s.splat(4.0), s.splat(-5.0));
        let minus_four = s.splat(-4.0);
        // 4 d0 − 5 d2 + d4 and 4 d1 − 5 d3 + d5.
        let first = s.mul_add(four, d[0], s.mul_add(minus_five, d[2], d[4]));
        let last = s.mul_add(four, d[1], s.mul_add(minus_five, d[3], d[5]));
        let (even, odd) = (s.mul_add(minus_four, d[2], d[4]), s.mul_add(minus_four, d[1], d[3]));
        let (even_2, odd_2) = (s.sub(d[4], d[2]), s.mul(two, s.sub(d[3], d[1])));
        [
            first,
            s.add(even, odd),
            s.sub(even, odd),
            s.add(even_2, odd_2),
            s.sub(even_2, odd_2),
            last,
        ]
    }

    #[inline(always)]
    fn weight<S: Simd>(s: S, g: &[S::F32; 3]) -> [S::F32; 6] {
        let (quarter, sixth) = (s.splat(0.25), s.splat(-1.0 / 6.0));
        let (a, b, c) = (s.splat(1.0 / 24.0), s.splat(1.0 / 12.0), s.splat(1.0 / 6.0));
        let ends = s.add(g[0], g[2]);
        let (plus, minus) = (s.mul(sixth, s.add(ends, g[1])), s.mul(sixth, s.sub(ends, g[1])));
        let (even, odd) = (s.mul_add(a, g[0], s.mul(c, g[2])), s.mul(b, g[1]));
        [s.mul(quarter, g[0]), plus, minus, s.add(even, odd), s.sub(even, odd), g[2]]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, p: &[S::F32; 6]) -> [S::F32; 4] {
        let (two, four, eight) = (s.splat(2.0), s.splat(4.0), s.splat(8.0));
        let (sum, difference) = (s.add(p[1], p[2]), s.sub(p[1], p[2]));
        let (sum_2, difference_2) = (s.add(p[3], p[4]), s.sub(p[3], p[4]));
        [
            s.add(s.add(p[0], sum), sum_2),
            s.mul_add(two, difference_2, difference),
            s.mul_add(four, sum_2, sum),
            s.add(s.mul_add(eight, difference_2, difference), p[5]),
        ]
    }
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
            // SAFETY: the caller of `run` vouches for the source.
            unsafe {
                let source = self.shared.source;
                pass.transform_input::<T, S>(s, source, (place, tile), (inputs, stride));
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

/// A two-dimensional transform of the input: columns, then rows.
#[inline(always)]
fn transform_square<T: Transform, S: Simd>(
    s: S,
    load: impl Fn(usize) -> S::F32,
    store: impl Fn(usize, S::F32),
) {
    let zero = s.splat(0.0);
    let mut rows = [[zero; 6]; 6];
    for column in 0..T::IN {
        let mut d = [zero; 6];
        for (row, d) in d[..T::IN].iter_mut().enumerate() {
            *d = load(row * T::IN + column);
        }
        for (row, &value) in rows.iter_mut().zip(&T::input(s, &d)) {
            row[column] = value;
        }
    }
    for (y, row) in rows[..T::IN].iter().enumerate() {
        for (x, &value) in T::input(s, row)[..T::IN].iter().enumerate() {
            store(y * T::IN + x, value);
        }
    }
}

/// The outputs of one tile for a vector of channels; product `p` is at `products[p * stride]`, the
/// outputs inside the picture go to rows of `to.0`, `to.1` floats apart.
#[inline(always)]
fn output_square<T: Transform, S: Simd>(
    s: S,
    products: &[f32],
    stride: usize,
    (tall, wide): (usize, usize),
    (to, width): (&mut [f32], usize),
) {
    let zero = s.splat(0.0);
    let mut rows = [[zero; 6]; 4];
    for column in 0..T::IN {
        let mut p = [zero; 6];
        for (row, p) in p[..T::IN].iter_mut().enumerate() {
            *p = s.load(&products[(row * T::IN + column) * stride..]);
        }
        for (row, &value) in rows.iter_mut().zip(&T::output(s, &p)) {
            row[column] = value;
        }
    }
    for (y, row) in rows[..tall].iter().enumerate() {
        for (x, &value) in T::output(s, row)[..wide].iter().enumerate() {
            s.store(value, &mut to[(y * wide + x) * width..]);
        }
    }
}
