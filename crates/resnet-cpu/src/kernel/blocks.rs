//! How a product's output pixels are cut into blocks, how many of them a block's table of pointers holds,
//! and what comes after them: the same for floats and for bytes.

use std::ops::Range;

/// Pointers of a block: taps times rows. 32 KiB of stack.
pub(super) const TABLE_LEN: usize = 4096;
/// Pixels of a block, at most.
pub(super) const MAX_ROWS: usize = 1024;
/// Rows that a tile may read beyond the block's last.
pub(super) const TILE_OVERHANG: usize = 13;
/// The most taps: one tile of them fills the table.
pub(super) const MAX_TAPS: usize = TABLE_LEN / (14 + TILE_OVERHANG);

/// Pixels that multiply with each weight so seldom that its coming from memory shows.
const FEW_PIXELS: usize = 256;

/// What comes from far at a product, and is asked for while a block is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// The next panel's weights.
    Weights,
    /// The source's next rows.
    Rows,
    /// Neither.
    Nothing,
}

impl Coming {
    /// What comes at a product of so many pixels, which read all of a stretch of the source or leave gaps.
    pub(super) fn of(pixels: usize, reads_all: bool) -> Coming {
        match reads_all {
            _ if pixels <= FEW_PIXELS => Coming::Weights,
            true => Coming::Rows,
            false => Coming::Nothing,
        }
    }
}

/// How pixels are cut into blocks: runs of so many rows; none crosses the pictures, or other stretches,
/// that the pixels come in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    rows: usize,
    per_image: usize,
    image_rows: usize,
    pub(super) count: usize,
}

impl Blocks {
    /// Blocks of `rows` pixels, the last of each of `images` stretches of `image_rows` pixels shorter.
    pub(super) fn new(rows: usize, image_rows: usize, images: usize) -> Blocks {
        let per_image = image_rows.div_ceil(rows);
        Blocks { rows, per_image, image_rows, count: images * per_image }
    }

    /// Pixels of the longest block.
    pub(super) fn longest(&self) -> usize {
        self.rows.min(self.image_rows)
    }

    /// The pixels of block `index`.
    pub(super) fn range(&self, index: usize) -> Range<usize> {
        let image = index / self.per_image * self.image_rows;
        let start = index % self.per_image * self.rows;
        image + start..image + (start + self.rows).min(self.image_rows)
    }
}
