//! How a product's output pixels are cut into blocks, and how many of them a block's table of pointers
//! holds: the same for floats and for bytes.

use std::ops::Range;

/// Pointers of a block: taps times rows. 32 KiB of stack.
pub(super) const TABLE_LEN: usize = 4096;
/// Pixels of a block, at most.
pub(super) const MAX_ROWS: usize = 1024;
/// Rows that a tile may read beyond the block's last.
pub(super) const TILE_OVERHANG: usize = 13;
/// The most taps: one tile of them fills the table.
pub(super) const MAX_TAPS: usize = TABLE_LEN / (14 + TILE_OVERHANG);

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

    /// About equal blocks of at most `wanted` pixels where that is a multiple of `unit`, which all blocks
    /// but the last are.
    pub(super) fn even(pixels: usize, wanted: usize, unit: usize) -> Blocks {
        let rows = pixels.div_ceil(pixels.div_ceil(wanted)).next_multiple_of(unit);
        Blocks::new(rows, pixels, 1)
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
