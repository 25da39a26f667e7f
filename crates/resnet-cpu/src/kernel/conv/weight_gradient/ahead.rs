//! What a block of the weight gradient asks for while it is computed: what the next one reads.

use std::ops::Range;

use resnet_simd::Simd;

/// Bytes of a cache line.
const LINE: usize = 64;

/// What the next block will read, asked for bit by bit while this one is computed.
#[derive(Default)]
pub(in crate::kernel::conv) struct Ahead {
    /// Columns of rows of `x`, and of what `dy` is or is made of.
    pub(super) regions: [Region; 3],
}

impl Ahead {
    #[inline(always)]
    pub(super) fn ask<S: Simd>(&mut self, s: S) {
        for region in &mut self.regions {
            for _ in 0..region.at_once {
                if region.rows == 0 {
                    break;
                }
                s.prefetch_far(std::ptr::without_provenance(region.row + region.line * LINE));
                region.line += 1;
                if region.line == region.lines {
                    (region.line, region.row) = (0, region.row + region.stride);
                    region.rows -= 1;
                }
            }
        }
    }
}

/// Rows of cache lines.
#[derive(Default)]
pub(super) struct Region {
    /// Address of the next row's first line.
    row: usize,
    /// Bytes from row to row.
    stride: usize,
    /// Rows left.
    rows: usize,
    /// Lines of a row, and which of them is next.
    lines: usize,
    line: usize,
    /// Lines at every request.
    at_once: usize,
}

impl Region {
    /// `columns` of the rows `range`, each `len` elements of `size` bytes, over so many requests.
    pub(super) fn new(
        (start, size): (*const (), usize),
        len: usize,
        range: &Range<usize>,
        columns: &Range<usize>,
        requests: usize,
    ) -> Region {
        let row = start.addr() + size * (range.start * len + columns.start);
        let lines = (size * columns.len()).div_ceil(LINE);
        let at_once = (range.len() * lines).div_ceil(requests);
        Region { row, stride: size * len, rows: range.len(), lines, line: 0, at_once }
    }
}
