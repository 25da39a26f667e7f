//! One task of a Winograd pass: a block of tiles times some panels of output channels.

use std::ops::Range;

use resnet_simd::{Element, Kernel, Simd, Singles, Stored, bf16};

use super::epilogue::{Column, Finish, Sums, finish};
use super::gather::Table;
use super::layout::Panel;
use super::tile::{PanelSums, Work, run_tiles};
use super::winograd::{FRESH_DEPTH, FRESH_STRIDE, WinogradPass, transform_taps};
use super::winograd_few::{Taps, To, multiply_few};
use super::winograd_transform::{Four, Tiles, Transform, Two, output_square};
use crate::kernel::prefetch::Soon;
use crate::threads::DisjointMut;

/// What the tasks of a run share.
pub(super) struct Shared<'a> {
    pub(super) pass: &'a WinogradPass,
    /// Stored as the target is.
    pub(super) source: *const (),
    /// Packed weights, or transformed ones, as [`WinogradPass::transforms_in_run`] says.
    pub(super) w: *const f32,
    pub(super) finish: Finish,
    pub(super) partials: *mut f32,
    pub(super) scratch: DisjointMut<'a, f32>,
}

// SAFETY: tasks read the source and weights, and write the target and partials only at the pixels
// of their block and the channels of their panels, which no other task has.
unsafe impl Sync for Shared<'_> {}

/// One block of tiles, some panels.
pub(super) struct Block<'a> {
    pub(super) shared: &'a Shared<'a>,
    pub(super) thread: usize,
    pub(super) block: usize,
    pub(super) panels: Range<usize>,
}

impl Kernel for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let pass = self.shared.pass;
        let len = pass.scratch_len();
        // SAFETY: no two tasks run at once on the same thread.
        let scratch =
            unsafe { self.shared.scratch.slice(self.thread * len..(self.thread + 1) * len) };
        let (inputs, rest) = scratch.split_at_mut(pass.tiles.products() * pass.input_stride());
        let (products, rest) = rest.split_at_mut(pass.products_len());
        let (fresh, outputs) = rest.split_at_mut(pass.fresh_len());
        let first = self.block * pass.block_tiles();
        let count = pass.block_tiles().min(pass.all_tiles() - first);
        self.transform_inputs(s, first..first + count, inputs);
        if pass.fold.is_some() {
            self.run_folded(s, (first, count), inputs, (products, outputs));
        } else {
            self.run_panels(s, (first, count), inputs, products, (fresh, outputs));
        }
        if self.shared.finish.stream {
            s.fence();
        }
    }
}

impl Block<'_> {
    /// All panels of the block's tiles, whose transformed `inputs` are given.
    #[inline(always)]
    fn run_panels<S: Simd>(
        &self,
        s: S,
        (first, count): (usize, usize),
        inputs: &[f32],
        products: &mut [f32],
        (fresh, outputs): (&mut [f32], &mut [f32]),
    ) {
        let pass = self.shared.pass;
        let is_few = pass.is_few(S::LANES);
        let mut table = Table::new();
        if !is_few {
            // SAFETY: each row of the table is `cin` floats inside `inputs`.
            unsafe {
                let (start, stride) = (inputs.as_ptr(), pass.input_stride());
                let products = (pass.tiles.products(), stride);
                table.fill_matrix(start, products, (count, pass.row_stride()));
            }
        }
        for index in self.panels.clone() {
            let panel = pass.layout.panel(index);
            match is_few {
                true => self.multiply_few(s, inputs, index, products),
                false => self.multiply(s, (&table, count), &panel, fresh, products),
            }
            let mut sums = PanelSums::ZERO;
            let (tiles, to) = ((first, count), (&mut *outputs, &mut sums));
            match pass.tiles {
                Tiles::Two => self.finish_tiles::<Two, S>(s, tiles, panel, products, to),
                Tiles::Three => unreachable!("folded tiles are finished by `run_folded`"),
                Tiles::Four => self.finish_tiles::<Four, S>(s, tiles, panel, products, to),
            }
            if !matches!(self.shared.finish.sums, Sums::None) {
                self.store_sums(&panel, &sums);
            }
        }
    }

    #[inline(always)]
    fn transform_inputs<S: Simd>(&self, s: S, tiles: Range<usize>, inputs: &mut [f32]) {
        match self.shared.finish.stored {
            Stored::F32 => self.transform_inputs_as::<S, f32>(s, tiles, inputs),
            Stored::Bf16 => self.transform_inputs_as::<S, bf16>(s, tiles, inputs),
        }
    }

    #[inline(always)]
    fn transform_inputs_as<S: Simd, E: Element>(
        &self,
        s: S,
        tiles: Range<usize>,
        inputs: &mut [f32],
    ) {
        let source: *const E = self.shared.source.cast();
        let pass = self.shared.pass;
        let strides = pass.input_strides(S::LANES);
        assert!(pass.tiles.inputs() * strides.row <= inputs.len());
        assert!(tiles.len() * strides.tile <= strides.column);
        for (index, tile) in tiles.enumerate() {
            let place = pass.place(tile);
            // SAFETY: the caller of `run` vouches for the source; `inputs` has room for all rows of products, and
            // a column for all tiles, as asserted.
            unsafe {
                let to = (inputs.as_mut_ptr().add(index * strides.tile), strides);
                match (pass.tiles, &pass.fold) {
                    (_, Some(fold)) => fold.transform_input(s.half(), source, place, to),
                    (Tiles::Two, None) => pass.transform_input::<Two, S, E>(s, source, place, to),
                    // The points are the same.
                    (Tiles::Three | Tiles::Four, None) => {
                        pass.transform_input::<Four, S, E>(s, source, place, to);
                    }
                }
            }
        }
    }

    /// All products of a panel, slice after slice of the input channels where weights are transformed
    /// here; the sums go on from slice to slice, in the same order as those of a whole. Sums in pairs
    /// end with a slice, so that panels which have such take slices in any case.
    #[inline(always)]
    fn multiply<S: Simd>(
        &self,
        s: S,
        (table, count): (&Table, usize),
        panel: &Panel,
        fresh: &mut [f32],
        products: &mut [f32],
    ) {
        let (pass, cin) = (self.shared.pass, self.shared.pass.source[2]);
        let in_run = pass.transforms_in_run();
        let mut sums = PanelSums::ZERO;
        let pairs = !panel.width.is_multiple_of(S::LANES);
        let slice = if in_run || pairs { FRESH_DEPTH } else { cin };
        for offset in (0..cin).step_by(slice) {
            let depth = slice.min(cin - offset);
            let (weights, stride) = if in_run {
                self.transform_weights(s, panel, offset..offset + depth, fresh);
                (fresh.as_ptr(), FRESH_STRIDE)
            } else {
                let start = pass.transformed_start(panel) + offset * panel.width;
                (self.shared.w.wrapping_add(start), cin * panel.width)
            };
            for product in 0..pass.tiles.products() {
                let work = Work {
                    table,
                    rows: 0..count,
                    taps: &super::gather::STILL_TAPS[..1],
                    first_tap: product,
                    depth,
                    offset,
                    weights: weights.wrapping_add(product * stride),
                    apart: 0,
                    coming: self.coming(panel, offset + depth, (product, count)),
                    width: panel.width,
                    channel: panel.first,
                    channels: panel.channels,
                    finish: &self.shared.finish,
                    raw: products[product * pass.product_stride()..].as_mut_ptr(),
                    accumulate: 0 < offset,
                };
                // SAFETY: the table's rows are valid for `cin` floats, the weights for the depth times
                // `width`, and each product has room for the block's rows and a tile's overhang.
                unsafe { run_tiles::<Singles<S>, true>(Singles(s), &work, &mut sums) };
            }
        }
    }

    /// All products of a panel for few tiles.
    #[inline(always)]
    fn multiply_few<S: Simd>(&self, s: S, inputs: &[f32], index: usize, products: &mut [f32]) {
        let pass = self.shared.pass;
        let panel = pass.layout.panel(index);
        let (channels, width, stride) = (pass.source[2], panel.width, pass.product_stride());
        let start = self.shared.w.wrapping_add(panel.start);
        let goes_on = index + 1 < self.panels.end;
        let taps = Taps { start, channels, width, flipped: pass.flipped, goes_on };
        assert!(pass.tiles.products() * stride <= products.len());
        // SAFETY: `inputs` was filled by the strides of few tiles; the caller of `run` gives packed weights, of which a
        // panel has nine taps; each product has room for the block's tiles.
        unsafe {
            multiply_few(s, inputs.as_ptr(), taps, To { start: products.as_mut_ptr(), stride })
        };
    }

    /// The packed weights that are transformed next, from an input channel of a panel on: what one of
    /// the products asks for, which share out the taps.
    fn coming(&self, panel: &Panel, channel: usize, (product, count): (usize, usize)) -> Soon {
        let pass = self.shared.pass;
        let products_a_tap = pass.tiles.products() / 9;
        let (tap, part) = (product / products_a_tap, product % products_a_tap);
        if 9 <= tap || !pass.transforms_in_run() || count < ENOUGH_TILES {
            return Soon::NOTHING;
        }
        let (row, len) = (pass.source[2] * panel.width, FRESH_DEPTH * panel.width / products_a_tap);
        let start = panel.start + tap * row + channel * panel.width + part * len;
        // The next panel's first where this one's end.
        let next_panel = if channel == pass.source[2] { 8 * row } else { 0 };
        Soon::new(self.shared.w.wrapping_add(start + next_panel), len)
    }

    /// The weights of some input channels of a panel, a row of [`FRESH_STRIDE`] floats a product.
    #[inline(always)]
    fn transform_weights<S: Simd>(
        &self,
        s: S,
        panel: &Panel,
        channels: Range<usize>,
        fresh: &mut [f32],
    ) {
        let pass = self.shared.pass;
        let (tap, len) = (pass.source[2] * panel.width, channels.len() * panel.width);
        // SAFETY: the caller of `run` gives packed weights, of which a panel has nine taps.
        let w =
            unsafe { std::slice::from_raw_parts(self.shared.w.wrapping_add(panel.start), 9 * tap) };
        let (w, u) = ((&w[channels.start * panel.width..], tap), (fresh, FRESH_STRIDE));
        if panel.width.is_multiple_of(S::LANES) {
            transform_taps(s, pass, len, w, u);
        } else {
            transform_taps(s.half(), pass, len, w, u);
        }
    }

    /// Transforms a panel's products back and finishes them, a few tiles at a time.
    #[inline(always)]
    fn finish_tiles<T: Transform, S: Simd>(
        &self,
        s: S,
        (first, count): (usize, usize),
        panel: Panel,
        products: &[f32],
        (outputs, sums): (&mut [f32], &mut PanelSums),
    ) {
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
            self.finish_rows(s, &targets[..rows], panel, outputs, sums);
        }
    }

    pub(super) fn store_sums(&self, panel: &Panel, sums: &PanelSums) {
        let channels = self.shared.pass.layout.cout;
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
        (first, tiles, width): (usize, Range<usize>, usize),
        products: &[f32],
        outputs: &mut [f32],
        targets: &mut [usize; MAX_TARGETS],
    ) -> usize {
        let pass = self.shared.pass;
        let stride = pass.product_stride();
        let half = s.half();
        let half_lanes = <S::Half as Simd>::LANES;
        let full = width / S::LANES * S::LANES;
        let mut rows = 0;
        for tile in tiles {
            let inside = self.targets_of::<T>(first + tile, &mut targets[rows..]);
            let (tall, wide) = inside;
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

    /// Where the outputs of a tile go that lie in the target, row after row; returns how many rows and
    /// columns those are.
    #[inline(always)]
    pub(super) fn targets_of<T: Transform>(
        &self,
        tile: usize,
        targets: &mut [usize],
    ) -> (usize, usize) {
        let pass = self.shared.pass;
        let ([h, w], place) = (pass.target, pass.place(tile));
        let (tall, wide) = (T::OUT.min(h - place.y), T::OUT.min(w - place.x));
        for y in 0..tall {
            let row = (place.image * h + place.y + y) * w + place.x;
            for x in 0..wide {
                targets[y * wide + x] = (row + x) * pass.layout.cout;
            }
        }
        (tall, wide)
    }

    #[inline(always)]
    pub(super) fn finish_rows<S: Simd>(
        &self,
        s: S,
        targets: &[usize],
        panel: Panel,
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

/// Tiles whose products take long enough for the next weights to come meanwhile.
const ENOUGH_TILES: usize = 8;
/// Tiles that are transformed back before they are finished: their outputs stay in the first cache.
pub(super) const TILES_A_FINISH: usize = 4;
/// Output pixels of those.
pub(super) const MAX_TARGETS: usize = TILES_A_FINISH * 16;
