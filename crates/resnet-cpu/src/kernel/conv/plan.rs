//! What is known of a convolution before it runs: layouts, gathers, and how the work is cut.
//!
//! The cut is a function of geometry and instruction set. Chunks of statistics and of the weight
//! gradient are sums of their own, so the number of threads must never show in them.

use std::sync::OnceLock;

use resnet_simd::{Isa, Stored};

use super::gather::{Gather, MAX_PADDED_CHANNELS};
use super::pairs::pack_pairs;
use super::winograd::WinogradPass;
use super::winograd_transform::Tiles;
use super::winograd_weights::WinogradWeights;
use super::{ConvShape, Direction, PackedLayout, tile};
use crate::kernel::blocks::{Blocks, MAX_TAPS};
use crate::kernel::prefetch::Coming;
use crate::machine::Machine;
use crate::threads::ThreadPool;

/// Source bytes of a block that leave room in a 1 MiB second-level cache for a panel of weights.
const BLOCK_BYTES: usize = 256 << 10;
/// Bytes after which lines share a set of the first data cache: a page, on all processors known.
const SET_PITCH: usize = 4096;
/// Ways of a set that a tile's rows leave for weights and sums.
const SPARE_WAYS: usize = 2;
/// Weights that stay in the second-level cache beside a few tiles: rows then go in the outer loop, so
/// that the pixels' other tensors are read in the order they have in memory.
const ROWS_FIRST_BYTES: usize = 256 << 10;
/// Rows of a block, about, at least, and that are multiplied with all panels at a time where rows go in the
/// outer loop.
const MIN_BLOCK_ROWS: usize = 28;
/// Tiles of a block: enough that building its pointers does not show.
const TILES_PER_BLOCK: usize = 8;
/// Source bytes and tiles of a block where panels are multiplied two at a time. Tiles are low then, and each
/// reads the panels' weights: more of them repay bringing those into the second-level cache.
const WIDE_BLOCK_BYTES: usize = 512 << 10;
const WIDE_TILES_PER_BLOCK: usize = 36;
/// Weights of two panels, at most, that stay in that cache beside a block; larger ones are multiplied alone.
const WIDE_WEIGHT_BYTES: usize = 512 << 10;
/// Pixels that are cut into enough blocks for many threads whatever their size; fewer into smaller ones.
const MANY_PIXELS: usize = 64 * 6 * WIDE_TILES_PER_BLOCK;
/// Tasks of a pass for each thread, at least, where there is work for so many: more even out what
/// threads lose, and read (and copy) the source more often.
const TASKS_PER_THREAD: usize = 4;
/// Pixels of a chunk of the weight gradient, at least: shorter ones cost more to reduce.
const MIN_CHUNK_PIXELS: usize = 1024;
/// Bytes of a block of the weight gradient and of the next one, and tiles, at most.
const WEIGHT_BLOCK_BYTES: usize = 768 << 10;
const MAX_WEIGHT_TILES: usize = 24;
/// Chunks of the weight gradient, at most.
const MAX_CHUNKS: usize = 32;

/// A convolution that the kernels do not do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnsupportedConv {
    /// The table of pointers is too small for so many taps.
    #[error("kernel of {taps} taps, at most {MAX_TAPS} are supported")]
    Taps {
        /// Taps of the kernel.
        taps: usize,
    },
    /// More channels than there are zeros for.
    #[error("{channels} channels with padding, at most {MAX_PADDED_CHANNELS} are supported")]
    Channels {
        /// Input or output channels.
        channels: usize,
    },
    /// Sizes that do not belong together.
    #[error("groups {groups} must divide cin {cin} and cout {cout}")]
    Groups {
        /// Groups asked for.
        groups: usize,
        /// Input channels.
        cin: usize,
        /// Output channels.
        cout: usize,
    },
}

/// A gather and its cut into tasks: blocks of pixels times parts of the panels.
#[derive(Clone, Debug)]
pub(super) struct Pass {
    pub(super) gather: Gather,
    /// What a word of the rows and of the weights is: an f32, or two bf16, for which weights are
    /// rounded ([`pack_pairs`]).
    pub(super) words: Stored,
    /// Of the weights, in words.
    pub(super) layout: PackedLayout,
    pub(super) blocks: Blocks,
    /// Tasks that the panels are shared out for, where blocks are fewer; see [`Pass::parts`].
    pub(super) tasks_per_thread: usize,
    /// Rows that all panels of a task are multiplied with before the next ones.
    pub(super) rows: usize,
    /// What is asked for while a block is multiplied.
    pub(super) coming: Coming,
}

impl Pass {
    /// Parts that the panels are cut into for so many threads; no sum depends on it.
    pub(super) fn parts(&self, threads: usize) -> usize {
        (self.tasks_per_thread * threads).div_ceil(self.blocks.count).min(self.layout.shares())
    }
}

/// The cut of the weight gradient: chunks of blocks of pixels.
#[derive(Clone, Debug)]
pub(super) struct WeightSplit {
    /// The forward pass's, never with copied rows: each is read once for many sums.
    pub(super) gather: Gather,
    pub(super) blocks: Blocks,
    pub(super) chunks: usize,
}

/// A convolution, planned for an instruction set.
#[derive(Clone, Debug)]
pub struct ConvPlan {
    pub(super) shape: ConvShape,
    pub(super) isa: Isa,
    /// How activations and their gradients are stored.
    pub(super) stored: Stored,
    pub(super) layout: PackedLayout,
    pub(super) forward: Pass,
    pub(super) backward: Vec<Pass>,
    /// The same two products in Winograd tiles, where the plan takes those.
    pub(super) winograd_forward: Option<WinogradPass>,
    pub(super) winograd_gradient: Option<WinogradPass>,
    pub(super) winograd_weights: Option<WinogradWeights>,
    pub(super) weights: WeightSplit,
    /// Whether both gradients have the same blocks, so that they can be computed together.
    pub(super) shares_blocks: bool,
}

impl ConvPlan {
    /// Plans the convolution `shape` for `isa`, in Winograd tiles if some are given and fit, of
    /// activations stored so.
    ///
    /// # Errors
    /// [`UnsupportedConv`] for geometries that no residual network has.
    pub fn new(
        shape: &ConvShape,
        isa: Isa,
        tiles: Option<Tiles>,
        stored: Stored,
    ) -> Result<ConvPlan, UnsupportedConv> {
        let ConvShape { groups, cin, cout, .. } = *shape;
        if groups == 0 || !cin.is_multiple_of(groups) || !cout.is_multiple_of(groups) {
            return Err(UnsupportedConv::Groups { groups, cin, cout });
        }
        let taps = shape.kh * shape.kw;
        if MAX_TAPS < taps {
            return Err(UnsupportedConv::Taps { taps });
        }
        if 1 < taps + shape.pad && MAX_PADDED_CHANNELS < cin.max(cout) {
            return Err(UnsupportedConv::Channels { channels: cin.max(cout) });
        }
        let layout = PackedLayout::new(shape, isa);
        let gather = Gather::forward(shape, layout.cin).of_stored(stored);
        let weights = split_weights(&gather, &layout, isa);
        let forward = plan_pass(gather, layout, isa, Stored::F32);
        let backward = Gather::input_gradient(shape, layout.cout).into_iter();
        let backward = backward
            .map(|gather| {
                plan_pass(gather.of_stored(stored), layout.transposed(), isa, Stored::F32)
            })
            .collect();
        let winograd_forward = tiles
            .filter(|tiles| tiles.fit(shape, Direction::Forward))
            .map(|tiles| WinogradPass::forward(shape, layout, tiles, isa));
        let mut plan = ConvPlan {
            shape: *shape,
            isa,
            stored,
            layout,
            forward,
            backward,
            winograd_forward,
            winograd_gradient: None,
            winograd_weights: None,
            weights,
            shares_blocks: false,
        };
        plan.share_blocks();
        Ok(plan.with_gradient_tiles(tiles).with_weight_tiles(tiles))
    }

    /// The same with other tiles for the input gradient, if they fit.
    #[must_use]
    pub fn with_gradient_tiles(mut self, tiles: Option<Tiles>) -> ConvPlan {
        let layout = self.layout.transposed();
        self.winograd_gradient = tiles
            .filter(|tiles| tiles.fit(&self.shape, Direction::InputGrad))
            .map(|tiles| WinogradPass::backward(&self.shape, layout, tiles, self.isa));
        self
    }

    /// The same with other tiles for the weight gradient, if they fit.
    #[must_use]
    pub fn with_weight_tiles(mut self, tiles: Option<Tiles>) -> ConvPlan {
        self.winograd_weights = tiles
            .filter(|tiles| tiles.fit(&self.shape, Direction::WeightGrad))
            .map(|tiles| WinogradWeights::new(&self.shape, self.layout, tiles, self.isa));
        self
    }

    /// The same with direct products of pairs of bf16, of weights rounded to bf16, where activations
    /// are stored so and come in pairs of channels. The weight gradient's pairs would be pixels: it
    /// stays as it is.
    ///
    /// Only where the instruction set [has such pairs](Isa::has_bf16_pairs).
    #[must_use]
    pub fn with_bf16_pairs(mut self) -> ConvPlan {
        if self.stored == Stored::F32 {
            return self;
        }
        let forward = Gather::forward(&self.shape, self.layout.cin);
        if let Some(pass) = pass_of_pairs(&forward, &self.layout, self.isa) {
            self.forward = pass;
        }
        let transposed = self.layout.transposed();
        let backward = Gather::input_gradient(&self.shape, self.layout.cout);
        let passes = backward.iter().map(|gather| pass_of_pairs(gather, &transposed, self.isa));
        if let Some(passes) = passes.collect() {
            self.backward = passes;
        }
        self
    }

    /// The geometry.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// The instruction set.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// How activations and their gradients are stored.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// The layout of the packed weights and of their gradient.
    pub fn layout(&self) -> &PackedLayout {
        &self.layout
    }

    /// The layout of the transposed weights that the input gradient takes.
    pub fn transposed_layout(&self) -> PackedLayout {
        self.layout.transposed()
    }

    /// Whether the forward pass takes weights that were transformed before.
    pub fn transforms_forward(&self) -> bool {
        !matches!(self.forward_form(), WeightForm::Packed)
    }

    /// Whether the input gradient takes weights that were transformed before.
    pub fn transforms_gradient(&self) -> bool {
        !matches!(self.gradient_form(), WeightForm::Packed)
    }

    /// Floats of the weights that the forward pass takes.
    pub fn forward_weights_len(&self) -> usize {
        self.winograd_forward.as_ref().map_or(self.forward.layout.len(), WinogradPass::weights_len)
    }

    /// Floats of the weights that the input gradient takes.
    pub fn gradient_weights_len(&self) -> usize {
        let layout = self.backward.first().map_or(self.transposed_layout(), |pass| pass.layout);
        self.winograd_gradient.as_ref().map_or(layout.len(), WinogradPass::weights_len)
    }

    /// Transforms packed weights for the forward pass, if it takes that.
    pub fn transform_forward(&self, pool: &ThreadPool, w: &[f32], u: &mut [f32]) {
        transform(&self.forward_form(), &self.layout, self.isa, pool, w, u);
    }

    /// Transforms transposed packed weights for the input gradient, if it takes that.
    pub fn transform_gradient(&self, pool: &ThreadPool, w: &[f32], u: &mut [f32]) {
        transform(&self.gradient_form(), &self.layout.transposed(), self.isa, pool, w, u);
    }

    fn forward_form(&self) -> WeightForm<'_> {
        weight_form(self.winograd_forward.as_ref(), Some(&self.forward))
    }

    fn gradient_form(&self) -> WeightForm<'_> {
        weight_form(self.winograd_gradient.as_ref(), self.backward.first())
    }

    /// Chunks of the forward statistics: `partials` has `[chunks][2][cout]`.
    pub fn forward_chunks(&self) -> usize {
        self.winograd_forward.as_ref().map_or(self.forward.blocks.count, |pass| pass.blocks)
    }

    /// Chunks of the input gradient's sums: `partials` has `[chunks][2][cin]`.
    pub fn gradient_chunks(&self) -> usize {
        let direct = || self.backward.iter().map(|pass| pass.blocks.count).sum();
        self.winograd_gradient.as_ref().map_or_else(direct, |pass| pass.blocks)
    }

    /// Floats of scratch that the forward pass needs on so many threads.
    pub fn forward_scratch_len(&self, threads: usize) -> usize {
        let direct = || self.forward.gather.scratch_len(&self.forward.blocks);
        threads * self.winograd_forward.as_ref().map_or_else(direct, WinogradPass::scratch_len)
    }

    /// Floats of scratch that the input gradient needs on so many threads.
    pub fn gradient_scratch_len(&self, threads: usize) -> usize {
        let of = |pass: &Pass| pass.gather.scratch_len(&pass.blocks);
        let direct = || self.backward.iter().map(of).max().unwrap_or(0);
        threads * self.winograd_gradient.as_ref().map_or_else(direct, WinogradPass::scratch_len)
    }

    /// Floats of scratch that the weight gradient needs on so many threads.
    pub fn weight_gradient_scratch_len(&self, threads: usize) -> usize {
        if let Some(winograd) = &self.winograd_weights {
            return winograd.scratch_len(threads);
        }
        let partials = if self.weights.chunks == 1 { 0 } else { self.weights.chunks };
        partials * self.layout.len() + threads * self.weight_thread_len(threads)
    }
}

/// What a product multiplies with.
enum WeightForm<'a> {
    /// Weights as they are packed.
    Packed,
    /// Pairs of bf16.
    Pairs,
    /// Weights at the points of Winograd's tiles.
    Transformed(&'a WinogradPass),
}

/// The form of the weights of a product in these tiles or, without, by this pass.
fn weight_form<'a>(winograd: Option<&'a WinogradPass>, direct: Option<&Pass>) -> WeightForm<'a> {
    match (winograd, direct.map(|pass| pass.words)) {
        (Some(pass), _) if pass.transforms_in_run() => WeightForm::Packed,
        (Some(pass), _) => WeightForm::Transformed(pass),
        (None, Some(Stored::Bf16)) => WeightForm::Pairs,
        (None, Some(Stored::F32) | None) => WeightForm::Packed,
    }
}

/// Brings packed weights into another form.
fn transform(
    form: &WeightForm<'_>,
    layout: &PackedLayout,
    isa: Isa,
    pool: &ThreadPool,
    w: &[f32],
    u: &mut [f32],
) {
    match form {
        WeightForm::Packed => {}
        WeightForm::Pairs => pack_pairs(layout, isa, pool, w, u),
        WeightForm::Transformed(pass) => pass.transform_weights(isa, pool, w, u),
    }
}

/// A pass over words of two bf16, where channels come in pairs.
fn pass_of_pairs(gather: &Gather, layout: &PackedLayout, isa: Isa) -> Option<Pass> {
    Some(plan_pass(gather.in_pairs()?, layout.in_pairs()?, isa, Stored::Bf16))
}

fn plan_pass(gather: Gather, layout: PackedLayout, isa: Isa, words: Stored) -> Pass {
    let layout =
        if 4 * 2 * layout.full_len() <= WIDE_WEIGHT_BYTES { layout } else { layout.alone() };
    let height = tile::height(&layout, isa.lanes());
    let (bytes, tiles) = match layout.goes_together() {
        false => (BLOCK_BYTES, TILES_PER_BLOCK),
        true if gather.pixels() < MANY_PIXELS => (WIDE_BLOCK_BYTES, WIDE_TILES_PER_BLOCK / 2),
        true => (WIDE_BLOCK_BYTES, WIDE_TILES_PER_BLOCK),
    };
    let in_cache = bytes / (4 * gather.source_channels());
    let wanted = (in_cache / height).clamp(MIN_BLOCK_ROWS.div_ceil(height), tiles) * height;
    let conflict = isa.lanes() == 16 && evict_each_other(height, 4 * gather.source_channels());
    let gather = if conflict { gather.with_row_copy() } else { gather };
    let blocks = gather.blocks(wanted, height);
    let rows_first = gather.taps.len() == 1 && 4 * layout.len() <= ROWS_FIRST_BYTES;
    let rows = if rows_first { MIN_BLOCK_ROWS / height * height } else { blocks.longest() };
    let coming = Coming::of(gather.pixels(), gather.reads_all());
    let tasks_per_thread = TASKS_PER_THREAD;
    Pass { gather, words, layout, blocks, tasks_per_thread, rows, coming }
}

/// Whether a tile's rows, so many bytes apart, share so few sets of the first data cache that they evict each
/// other.
fn evict_each_other(rows: usize, apart: usize) -> bool {
    // Each halving of the page that the distance is no multiple of doubles the sets.
    let sets = SET_PITCH >> apart.trailing_zeros().min(SET_PITCH.trailing_zeros());
    let ways = machine().cache_bytes[0] as usize / SET_PITCH;
    ways < rows.div_ceil(sets) + SPARE_WAYS
}

/// Bytes of the largest cache that a core has for itself.
pub(super) fn own_cache_bytes() -> usize {
    machine().own_cache_bytes()
}

fn machine() -> &'static Machine {
    static MACHINE: OnceLock<Machine> = OnceLock::new();
    MACHINE.get_or_init(Machine::detect)
}

fn split_weights(gather: &Gather, layout: &PackedLayout, isa: Isa) -> WeightSplit {
    let unit = tile::height_unit(isa.lanes());
    // `x` as it is, `dy` in panels, and both of the next block.
    let floats = 2 * gather.source_channels() + 3 * layout.groups * layout.cout;
    let in_cache = WEIGHT_BLOCK_BYTES / (4 * floats) / unit;
    let blocks = gather.blocks(in_cache.clamp(4, MAX_WEIGHT_TILES) * unit, unit);
    // A power of two divides evenly among most numbers of threads.
    let chunks = (gather.pixels() / MIN_CHUNK_PIXELS).clamp(1, MAX_CHUNKS).next_power_of_two();
    WeightSplit { gather: gather.clone(), blocks, chunks: chunks.min(blocks.count) }
}
