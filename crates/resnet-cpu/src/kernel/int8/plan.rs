//! What is known of a convolution on bytes before it runs.

use resnet_simd::{AlignedVec, Isa};

use super::gather::{Gather, SLACK, repeat};
use super::layout::Int8Layout;
use super::tile;
use crate::kernel::blocks::{Blocks, MAX_TAPS};
use crate::kernel::conv::{ConvShape, UnsupportedConv};
use crate::kernel::prefetch::Coming;

/// Source bytes of a block, which stay in the second-level cache beside a panel of weights.
const BLOCK_BYTES: usize = 128 << 10;
/// Weights that stay in the second-level cache beside a few tiles: rows then go in the outer loop.
const ROWS_FIRST_BYTES: usize = 256 << 10;
/// Tiles of rows that are multiplied with all panels at a time.
const ROWS_FIRST_TILES: usize = 2;
/// Tiles of a block: enough that building its pointers does not show.
const TILES_PER_BLOCK: usize = 14;
/// The same where its source is copied: rows that two blocks meet are copied twice.
const TILES_PER_COPY: usize = 32;
/// Tasks for each thread, at least, where there is work for so many: more even out what threads lose,
/// and read (and copy) the source more often.
const TASKS_PER_THREAD: usize = 4;

/// What becomes of the sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Int8Output {
    /// Bytes again.
    Bytes,
    /// Real numbers: sums times multipliers.
    Floats,
}

/// A convolution on bytes, planned for an instruction set.
#[derive(Clone, Debug)]
pub struct Int8Plan {
    pub(super) shape: ConvShape,
    pub(super) isa: Isa,
    pub(super) layout: Int8Layout,
    pub(super) gather: Gather,
    pub(super) blocks: Blocks,
    /// Rows that all panels of a task are multiplied with before the next ones.
    pub(super) rows: usize,
    /// What is asked for while a block is multiplied.
    pub(super) coming: Coming,
    /// The pixels before a row of the picture, one at least, and what may be read behind them.
    pub(super) padding: AlignedVec<u8>,
    /// What a byte of the residual counts in the result, if there is one.
    pub(super) residual: Option<f32>,
    pub(super) output: Int8Output,
}

impl Int8Plan {
    /// Plans the convolution `shape` for `isa`; `padding` is a pixel outside the picture.
    ///
    /// # Errors
    /// [`UnsupportedConv`] for geometries that no residual network has.
    ///
    /// # Panics
    /// If the padding has not the input's channels.
    pub fn new(
        shape: &ConvShape,
        isa: Isa,
        padding: &[u8],
        residual: Option<f32>,
        output: Int8Output,
    ) -> Result<Int8Plan, UnsupportedConv> {
        let ConvShape { groups, cin, cout, .. } = *shape;
        assert_eq!(padding.len(), cin, "padding");
        if groups == 0 || !cin.is_multiple_of(groups) || !cout.is_multiple_of(groups) {
            return Err(UnsupportedConv::Groups { groups, cin, cout });
        }
        let taps = shape.kh * shape.kw;
        if MAX_TAPS < taps {
            return Err(UnsupportedConv::Taps { taps });
        }
        let gather = Gather::new(shape);
        let layout = Int8Layout::new(shape, isa, gather.rows_as_taps);
        let unit = tile::height_unit(&layout, isa.dot_lanes());
        let in_cache = BLOCK_BYTES / (shape.stride * shape.stride * cin) / unit;
        let most = if gather.copies { TILES_PER_COPY } else { TILES_PER_BLOCK };
        let blocks = gather.blocks(in_cache.clamp(2, most) * unit, unit);
        let rows_first = layout.taps() == 1 && layout.len() <= ROWS_FIRST_BYTES;
        let rows = if rows_first { ROWS_FIRST_TILES * unit } else { blocks.longest() };
        let pixels = shape.pad.max(1) * cin;
        let mut row = AlignedVec::zeroed((pixels + SLACK).next_multiple_of(64));
        repeat(padding, &mut row[..pixels]);
        Ok(Int8Plan {
            shape: *shape,
            isa,
            layout,
            blocks,
            rows,
            coming: Coming::of(gather.pixels(), gather.reads_long_stretches()),
            gather,
            padding: row,
            residual,
            output,
        })
    }

    /// Parts that the panels are cut into for so many threads; no sum depends on it.
    pub(super) fn parts(&self, threads: usize) -> usize {
        (TASKS_PER_THREAD * threads).div_ceil(self.blocks.count).min(self.layout.shares())
    }

    /// The geometry.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// The layout of the packed numbers.
    pub fn layout(&self) -> &Int8Layout {
        &self.layout
    }

    /// What becomes of the sums.
    pub fn output(&self) -> Int8Output {
        self.output
    }

    /// Whether it adds a residual.
    pub fn adds(&self) -> bool {
        self.residual.is_some()
    }

    /// Bytes of scratch that so many threads need.
    pub fn scratch_len(&self, threads: usize) -> usize {
        threads * self.gather.scratch_len(&self.blocks)
    }
}
