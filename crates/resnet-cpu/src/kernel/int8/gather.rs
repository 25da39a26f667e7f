//! Where a tile reads and writes: for each output pixel and tap a pointer to the bytes it multiplies.
//!
//! A tap is one place of the kernel, or a whole row of it where a padded copy of the picture makes that
//! one run of bytes: for few channels, which would leave the runs short. The rows of such a copy are
//! equally far apart, so that the pointers of the first tap serve for all.

use std::mem::MaybeUninit;
use std::ops::Range;

use crate::kernel::blocks::{Blocks, MAX_ROWS, TABLE_LEN, TILE_OVERHANG};
use crate::kernel::conv::ConvShape;

/// Up to this many bytes a row of the kernel, the padded copy costs less than short runs do; where each
/// of its rows is met by several of the kernel's, up to the second number.
const MAX_COPIED_RUN: usize = 64;
const MAX_REUSED_RUN: usize = 192;
/// Bytes of a tap's run from which on requests for the next ones cost less than they bring.
const MIN_RUN_ASKED: usize = 256;
/// Bytes that may be read beyond a run: the rest of its last word.
pub(super) const SLACK: usize = 64;

/// A product's pixels and taps.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    shape: ConvShape,
    /// Whether picture rows are copied, padded, before they are read.
    pub(super) copies: bool,
    /// Whether a row of the kernel is one tap.
    pub(super) rows_as_taps: bool,
}

/// The pointers of one block. Lives on the stack of a task.
pub(super) struct Table {
    pointers: [MaybeUninit<*const u8>; TABLE_LEN],
    rows: usize,
    /// Taps with pointers of their own.
    taps: usize,
    /// Bytes from what a tap reads to what the next one does, where that is the same for all pixels.
    pub(super) tap_step: Option<usize>,
}

impl Table {
    pub(super) fn new() -> Table {
        Table { pointers: [MaybeUninit::uninit(); TABLE_LEN], rows: 0, taps: 0, tap_step: None }
    }

    /// The pointers of one tap: one for each pixel, then the last again `TILE_OVERHANG` times.
    #[inline(always)]
    pub(super) fn tap(&self, tap: usize) -> &[*const u8] {
        let stride = self.rows + TILE_OVERHANG;
        let row = &self.pointers[tap * stride..][..if tap < self.taps { stride } else { 0 }];
        // SAFETY: `Gather::fill` has written `taps * stride` pointers.
        unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), row.len()) }
    }
}

impl Gather {
    pub(super) fn new(shape: &ConvShape) -> Gather {
        let run = shape.kw * shape.cin;
        let reused = 2 * shape.stride < shape.kh;
        let longest = if reused { MAX_REUSED_RUN } else { MAX_COPIED_RUN };
        let short = 1 < shape.kh * shape.kw && run <= longest;
        // A row of other channels ends within a word; behind the last one nothing may be read.
        let copies = short || !shape.cin.is_multiple_of(4);
        let rows_as_taps = copies && shape.dilation == 1 && shape.groups == 1;
        Gather { shape: *shape, copies, rows_as_taps }
    }

    /// Output pixels.
    pub(super) fn pixels(&self) -> usize {
        self.shape.n * self.shape.oh * self.shape.ow
    }

    /// Whether neighbouring pixels together read all of a stretch of the source, at one go or in runs that are
    /// long enough for asking ahead to pay.
    pub(super) fn reads_long_stretches(&self) -> bool {
        let s = &self.shape;
        s.stride * s.stride <= s.kh * s.kw && (self.copies || MIN_RUN_ASKED <= s.cin)
    }

    /// The source's bytes, by their numbers, that these pixels read and those before them do not; about so
    /// where the pixels are no whole rows of the grid.
    pub(super) fn newly_read(&self, pixels: Range<usize>) -> Range<usize> {
        let s = &self.shape;
        // Rows below a pixel's own that its last tap meets.
        let below = ((s.kh - 1) * s.dilation + 1).saturating_sub(s.pad + s.stride);
        let byte = |pixel: usize| {
            let (image, at) = (pixel / (s.oh * s.ow), pixel % (s.oh * s.ow));
            let y = image * s.ih + at / s.ow * s.stride + below;
            (y * s.iw + at % s.ow * s.stride) * s.cin
        };
        byte(pixels.start)..byte(pixels.end)
    }

    /// Taps with pointers of their own.
    fn pointed_taps(&self) -> usize {
        if self.rows_as_taps { 1 } else { self.shape.kh * self.shape.kw }
    }

    /// Cuts the pixels into blocks of about `wanted` pixels, a multiple of `unit` where it can be.
    pub(super) fn blocks(&self, wanted: usize, unit: usize) -> Blocks {
        let ConvShape { n, oh, ow, .. } = self.shape;
        let fits = (TABLE_LEN / self.pointed_taps() - TILE_OVERHANG).min(MAX_ROWS);
        if self.copies {
            let grid_rows = (wanted.min(fits) / ow).max(1);
            if ow <= fits {
                return Blocks::new(grid_rows * ow, oh * ow, n);
            }
            // Parts of a row: each copies what it needs.
            return Blocks::new(fits / unit * unit, ow, n * oh);
        }
        Blocks::even(self.pixels(), wanted.min(fits / unit * unit), unit)
    }

    /// Bytes of a thread's scratch.
    pub(super) fn scratch_len(&self, blocks: &Blocks) -> usize {
        if !self.copies {
            return 0;
        }
        let s = &self.shape;
        let grid_rows = blocks.longest().div_ceil(s.ow);
        let len = self.copied_rows(grid_rows) * self.copied_width() * s.cin + SLACK;
        len.next_multiple_of(64)
    }

    fn copied_rows(&self, grid_rows: usize) -> usize {
        (grid_rows - 1) * self.shape.stride + (self.shape.kh - 1) * self.shape.dilation + 1
    }

    /// Pixels of a copied row: the picture's and the padding on both sides.
    fn copied_width(&self) -> usize {
        self.shape.iw + 2 * self.shape.pad
    }

    /// Fills the table for the pixels `range`.
    ///
    /// # Safety
    /// `source` is valid for the input of the shape, `padding` for the pixels before a row, one at least,
    /// and [`SLACK`]; both live as long as the pointers are read.
    ///
    /// # Panics
    /// If `scratch` is shorter than [`Gather::scratch_len`].
    pub(super) unsafe fn fill(
        &self,
        source: *const u8,
        padding: &[u8],
        range: Range<usize>,
        scratch: &mut [u8],
        table: &mut Table,
    ) {
        let s = &self.shape;
        let stride = range.len() + TILE_OVERHANG;
        (table.rows, table.taps) = (range.len(), self.pointed_taps());
        table.tap_step = self.rows_as_taps.then(|| self.copied_width() * s.cin);
        assert!(table.taps * stride <= TABLE_LEN, "a block fits the table");
        let per_image = s.oh * s.ow;
        let first_row = range.start % per_image / s.ow;
        if self.copies {
            let image = range.start / per_image;
            let grid_rows = (range.end - 1) % per_image / s.ow - first_row + 1;
            // SAFETY: passed on.
            unsafe { self.copy(source, padding, image, first_row..first_row + grid_rows, scratch) };
        }
        let mut pixel = range.start;
        while pixel < range.end {
            let (image, oy, ox) = (pixel / per_image, pixel % per_image / s.ow, pixel % s.ow);
            let run = (s.ow - ox).min(range.end - pixel);
            for tap in 0..table.taps {
                let (ky, kx) = (tap / s.kw, tap % s.kw);
                let out = &mut table.pointers[tap * stride + pixel - range.start..][..run];
                if self.copies {
                    let row = (oy - first_row) * s.stride + ky * s.dilation;
                    let at = row * self.copied_width() + ox * s.stride + kx * s.dilation;
                    let start = scratch.as_ptr().wrapping_add(at * s.cin);
                    for (i, out) in out.iter_mut().enumerate() {
                        out.write(start.wrapping_add(i * s.stride * s.cin));
                    }
                } else {
                    self.run_in_source(source, padding, (image, oy, ox), (ky, kx), out);
                }
            }
            pixel += run;
        }
        for tap in 0..table.taps {
            let last = table.pointers[tap * stride + table.rows - 1];
            table.pointers[tap * stride + table.rows..(tap + 1) * stride].fill(last);
        }
    }

    /// Pointers to the source pixels that the outputs from `(image, oy, ox)` on meet at a tap.
    #[inline(always)]
    fn run_in_source(
        &self,
        source: *const u8,
        padding: &[u8],
        (image, oy, ox): (usize, usize, usize),
        (ky, kx): (usize, usize),
        out: &mut [MaybeUninit<*const u8>],
    ) {
        let s = &self.shape;
        let outside = MaybeUninit::new(padding.as_ptr());
        let y = (oy * s.stride + ky * s.dilation) as isize - s.pad as isize;
        if y < 0 || s.ih as isize <= y {
            out.fill(outside);
            return;
        }
        // Inside are the columns x + i·stride with 0 <= x < w.
        let x = (ox * s.stride + kx * s.dilation) as isize - s.pad as isize;
        let columns = |distance: isize| (distance.max(0) as usize).div_ceil(s.stride);
        let low = columns(-x).min(out.len());
        let high = columns(s.iw as isize - x).clamp(low, out.len());
        out[..low].fill(outside);
        out[high..].fill(outside);
        let pixel = (image * s.ih + y as usize) as isize * s.iw as isize + x;
        let start = source.wrapping_offset(pixel * s.cin as isize);
        for (i, out) in out[low..high].iter_mut().enumerate() {
            out.write(start.wrapping_add((low + i) * s.stride * s.cin));
        }
    }

    /// Copies the source rows under grid rows `band` of `image` into `scratch`, padded.
    unsafe fn copy(
        &self,
        source: *const u8,
        padding: &[u8],
        image: usize,
        band: Range<usize>,
        scratch: &mut [u8],
    ) {
        let s = &self.shape;
        let (row_bytes, pad) = (self.copied_width() * s.cin, s.pad);
        let rows = self.copied_rows(band.len());
        assert!(rows * row_bytes + SLACK <= scratch.len(), "scratch");
        for (row, copy) in scratch.chunks_exact_mut(row_bytes).take(rows).enumerate() {
            let y = (band.start * s.stride + row).wrapping_sub(pad);
            if s.ih <= y {
                repeat(&padding[..s.cin], copy);
                continue;
            }
            copy[..pad * s.cin].copy_from_slice(&padding[..pad * s.cin]);
            copy[(pad + s.iw) * s.cin..].copy_from_slice(&padding[..pad * s.cin]);
            // SAFETY: row `y` of `image` lies inside the source, as just checked.
            let from = unsafe {
                let start = source.add((image * s.ih + y) * s.iw * s.cin);
                std::slice::from_raw_parts(start, s.iw * s.cin)
            };
            copy[pad * s.cin..(pad + s.iw) * s.cin].copy_from_slice(from);
        }
    }
}

/// Fills `row` with a pixel again and again.
pub(super) fn repeat(pixel: &[u8], row: &mut [u8]) {
    let mut filled = pixel.len().min(row.len());
    row[..filled].copy_from_slice(&pixel[..filled]);
    while filled < row.len() {
        let more = filled.min(row.len() - filled);
        row.copy_within(..more, filled);
        filled += more;
    }
}
