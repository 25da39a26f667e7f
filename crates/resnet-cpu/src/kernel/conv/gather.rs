//! Where a product reads and writes: for each output pixel and tap the row of inputs, as a pointer.
//!
//! Forward convolution and each residue class of the input gradient are the same thing, a [`Gather`]:
//! a grid of target pixels, and taps that shift the grid over the source. A picture of few channels
//! is first copied with its padding, band by band; a row of the kernel is then one contiguous run.

use std::mem::MaybeUninit;
use std::ops::Range;

use super::ConvShape;
use crate::kernel::blocks::{Blocks, MAX_ROWS, TABLE_LEN, TILE_OVERHANG};

/// The most channels that padding has zeros for.
pub(super) const MAX_PADDED_CHANNELS: usize = 16_384;

/// What pointers into the padding point to.
static ZEROS: [f32; MAX_PADDED_CHANNELS] = [0.0; MAX_PADDED_CHANNELS];

/// Zeros for as many channels as padding has.
pub(super) fn zeros() -> *const f32 {
    ZEROS.as_ptr()
}

/// The taps of a plain matrix product.
pub(super) static ONE_TAP: [Tap; 1] = [Tap { dy: 0, dx: 0, index: 0 }];

/// Up to this many floats a row of the kernel, the padded copy costs less than short runs do.
const MAX_COPIED_RUN: usize = 32;
/// Floats between the rows of a copy, beyond their own: rows a power of two apart share a cache set,
/// and a tile of 14 such rows does not fit its eight ways.
const ROW_GAP: usize = 16;

/// A shift of the grid over the source.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    dy: isize,
    dx: isize,
    /// Which tap of the packed weights.
    pub(super) index: usize,
}

/// Height, width and channels of a picture.
#[derive(Clone, Copy, Debug)]
struct Picture {
    h: usize,
    w: usize,
    c: usize,
}

/// A product's pixels and taps; see the module's doc.
#[derive(Clone, Debug)]
pub(super) struct Gather {
    images: usize,
    /// Target pixels: rows and columns of the grid.
    pub(super) height: usize,
    pub(super) width: usize,
    /// Source pixels from one grid point to the next.
    step: usize,
    source: Picture,
    pub(super) taps: Vec<Tap>,
    target: Picture,
    /// Target pixels from one grid point to the next, and where the first one is.
    target_step: usize,
    target_at: (usize, usize),
    /// Contiguous floats that each tap multiplies.
    pub(super) depth: usize,
    copy: SourceCopy,
}

/// Whether a block's source is copied to scratch before it is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SourceCopy {
    /// Read where it is.
    None,
    /// Whole picture rows, with so many zeros around them.
    Band { pad: usize },
    /// Each pixel of a block, [`ROW_GAP`] apart; of one tap only.
    Rows,
}

/// The pointers of one block. Lives on the stack of a task.
pub(super) struct Table {
    pointers: [MaybeUninit<*const f32>; TABLE_LEN],
    targets: [MaybeUninit<usize>; MAX_ROWS],
    rows: usize,
    taps: usize,
}

impl Table {
    pub(super) fn new() -> Table {
        Table {
            pointers: [MaybeUninit::uninit(); TABLE_LEN],
            targets: [MaybeUninit::uninit(); MAX_ROWS],
            rows: 0,
            taps: 0,
        }
    }

    /// For each pixel of the block, where the target's channel 0 is.
    pub(super) fn targets(&self) -> &[usize] {
        // SAFETY: `Gather::fill` has written `rows` targets; 0 of them before.
        unsafe { std::slice::from_raw_parts(self.targets.as_ptr().cast(), self.rows) }
    }

    /// The pointers of one tap: one for each pixel, then the last again `TILE_OVERHANG` times.
    pub(super) fn tap(&self, tap: usize) -> &[*const f32] {
        let stride = self.stride();
        let row = &self.pointers[tap * stride..][..if tap < self.taps { stride } else { 0 }];
        // SAFETY: `Gather::fill` has written `taps * stride` pointers.
        unsafe { std::slice::from_raw_parts(row.as_ptr().cast(), row.len()) }
    }

    /// Makes tap `t` point to the rows of matrix `t`: matrices are `matrices.1` floats apart, rows
    /// `rows.1`. Targets are all 0.
    ///
    /// # Safety
    /// `start` is valid for all rows of all matrices as long as the pointers are read.
    pub(super) unsafe fn fill_matrix(
        &mut self,
        start: *const f32,
        matrices: (usize, usize),
        rows: (usize, usize),
    ) {
        (self.rows, self.taps) = (rows.0, matrices.0);
        let stride = self.stride();
        assert!(0 < rows.0 && rows.0 <= MAX_ROWS && self.taps * stride <= TABLE_LEN);
        self.targets[..rows.0].fill(MaybeUninit::new(0));
        for tap in 0..self.taps {
            for (row, pointer) in self.pointers[tap * stride..][..stride].iter_mut().enumerate() {
                let row = row.min(rows.0 - 1);
                pointer.write(start.wrapping_add(tap * matrices.1 + row * rows.1));
            }
        }
    }

    /// Pointers from one tap to the next.
    pub(super) fn stride(&self) -> usize {
        self.rows + TILE_OVERHANG
    }
}

impl Gather {
    /// The forward convolution: targets are output pixels, the source is `x`.
    ///
    /// `depth`: channels of a merged group.
    pub(super) fn forward(shape: &ConvShape, depth: usize) -> Gather {
        let run = shape.kw * shape.cin;
        let copied =
            shape.kw > 1 && shape.groups == 1 && shape.dilation == 1 && run <= MAX_COPIED_RUN;
        let tap = |index: usize| Tap {
            dy: shape.input_at(0, index / shape.kw),
            dx: shape.input_at(0, index % shape.kw),
            index,
        };
        let row = |index| Tap { dy: index as isize, dx: 0, index };
        Gather {
            images: shape.n,
            height: shape.oh,
            width: shape.ow,
            step: shape.stride,
            source: Picture { h: shape.ih, w: shape.iw, c: shape.cin },
            taps: if copied {
                (0..shape.kh).map(row).collect()
            } else {
                (0..shape.kh * shape.kw).map(tap).collect()
            },
            target: Picture { h: shape.oh, w: shape.ow, c: shape.cout },
            target_step: 1,
            target_at: (0, 0),
            depth: if copied { run } else { depth },
            copy: if copied { SourceCopy::Band { pad: shape.pad } } else { SourceCopy::None },
        }
    }

    /// The input gradient: one gather for each residue class of the stride, together every input
    /// pixel once. The source is `dy`.
    ///
    /// `depth`: output channels of a merged group.
    pub(super) fn input_gradient(shape: &ConvShape, depth: usize) -> Vec<Gather> {
        let stride = shape.stride;
        let class = |index: usize| {
            let (cy, cx) = (index / stride, index % stride);
            let shift = |class: usize, k: usize| {
                let at = (class + shape.pad) as isize - (k * shape.dilation) as isize;
                (at % stride as isize == 0).then_some(at / stride as isize)
            };
            let tap = |index: usize| {
                let (dy, dx) = (shift(cy, index / shape.kw)?, shift(cx, index % shape.kw)?);
                Some(Tap { dy, dx, index })
            };
            Gather {
                images: shape.n,
                height: (shape.ih.saturating_sub(cy)).div_ceil(stride),
                width: (shape.iw.saturating_sub(cx)).div_ceil(stride),
                step: 1,
                source: Picture { h: shape.oh, w: shape.ow, c: shape.cout },
                taps: (0..shape.kh * shape.kw).filter_map(tap).collect(),
                target: Picture { h: shape.ih, w: shape.iw, c: shape.cin },
                target_step: stride,
                target_at: (cy, cx),
                depth,
                copy: SourceCopy::None,
            }
        };
        (0..stride * stride).map(class).filter(|gather| 0 < gather.pixels()).collect()
    }

    /// The same with each pixel copied to a row of its own, where that can be: one tap, not copied
    /// already.
    pub(super) fn with_row_copy(mut self) -> Gather {
        if self.taps.len() == 1 && self.copy == SourceCopy::None && self.depth == self.source.c {
            self.copy = SourceCopy::Rows;
        }
        self
    }

    /// Whether a block's pixels follow each other in the source without a gap.
    pub(super) fn is_contiguous(&self) -> bool {
        self.taps.len() == 1
            && self.step == 1
            && (self.height, self.width) == (self.source.h, self.source.w)
    }

    /// Target pixels.
    pub(super) fn pixels(&self) -> usize {
        self.images * self.height * self.width
    }

    /// Channels of the source.
    pub(super) fn source_channels(&self) -> usize {
        self.source.c
    }

    /// Cuts the pixels into blocks of about `wanted` rows, a multiple of `unit` where possible; of
    /// whole grid rows of one image if the source is copied.
    pub(super) fn blocks(&self, wanted: usize, unit: usize) -> Blocks {
        let most = (TABLE_LEN / self.taps.len().max(1) - TILE_OVERHANG).min(MAX_ROWS);
        if matches!(self.copy, SourceCopy::Band { .. }) {
            let band = (wanted.min(most) / self.width).clamp(1, self.height);
            let even = self.height.div_ceil(self.height.div_ceil(band));
            return Blocks::new(even * self.width, self.height * self.width, self.images);
        }
        let pixels = self.pixels();
        let wanted = wanted.min(most / unit * unit).max(unit);
        let rows = pixels.div_ceil(pixels.div_ceil(wanted)).next_multiple_of(unit);
        Blocks::new(rows, pixels, 1)
    }

    /// Floats of scratch that `fill` needs for such blocks.
    pub(super) fn scratch_len(&self, blocks: &Blocks) -> usize {
        match self.copy {
            SourceCopy::None => 0,
            SourceCopy::Band { pad } => {
                let rows = (blocks.longest() / self.width - 1) * self.step + self.taps.len();
                // A line beyond the end, for tiles that read past a run's last float.
                rows * (self.source.w + 2 * pad) * self.source.c + 16
            }
            SourceCopy::Rows => blocks.longest() * (self.depth + ROW_GAP),
        }
    }

    /// Writes the pointers and targets of the pixels `range` into `table`.
    ///
    /// # Safety
    /// `source` is the source tensor, which lives and does not change as long as the table's pointers
    /// are read. `scratch` has `scratch_len` floats and outlives them too.
    pub(super) unsafe fn fill(
        &self,
        source: *const f32,
        range: Range<usize>,
        scratch: &mut [f32],
        table: &mut Table,
    ) {
        let plane = self.height * self.width;
        let (mut image, mut a, mut b) =
            (range.start / plane, range.start / self.width % self.height, range.start % self.width);
        let first = a;
        if let SourceCopy::Band { pad } = self.copy {
            // SAFETY: as the caller promises.
            unsafe {
                self.copy_band(
                    source,
                    image,
                    first..(range.end - 1) / self.width % self.height + 1,
                    pad,
                    scratch,
                )
            };
        }
        (table.rows, table.taps) = (range.len(), self.taps.len());
        let stride = table.stride();
        assert!(table.rows <= MAX_ROWS && self.taps.len() * stride <= TABLE_LEN);
        let mut row = 0;
        while row < table.rows {
            let run = (self.width - b).min(table.rows - row);
            let t = &self.target;
            let ty = image * t.h + a * self.target_step + self.target_at.0;
            let tx = ty * t.w + b * self.target_step + self.target_at.1;
            for (i, target) in table.targets[row..row + run].iter_mut().enumerate() {
                target.write((tx + i * self.target_step) * t.c);
            }
            for (tap, shift) in self.taps.iter().enumerate() {
                let out = &mut table.pointers[tap * stride + row..][..run];
                if let SourceCopy::Band { pad } = self.copy {
                    self.run_in_copy(scratch, a - first, b, tap, pad, out);
                } else {
                    // SAFETY: as the caller promises; (image, a, b) is a point of the grid.
                    unsafe { self.run_in_source(source, image, a, b, shift, out) };
                }
            }
            row += run;
            (a, b) = (a + 1, 0);
            if a == self.height {
                (image, a) = (image + 1, 0);
            }
        }
        if self.copy == SourceCopy::Rows {
            // SAFETY: the one tap's pointers were just written, each to `depth` floats.
            unsafe { copy_rows(&mut table.pointers[..table.rows], self.depth, scratch) };
        }
        for tap in 0..self.taps.len() {
            let last = table.pointers[tap * stride + table.rows - 1];
            table.pointers[tap * stride + table.rows..(tap + 1) * stride].fill(last);
        }
    }

    /// Pointers into the copied band: from column `b` of its grid row `a`.
    fn run_in_copy(
        &self,
        scratch: &[f32],
        a: usize,
        b: usize,
        tap: usize,
        pad: usize,
        out: &mut [MaybeUninit<*const f32>],
    ) {
        let width = self.source.w + 2 * pad;
        let start = ((a * self.step + tap) * width + b * self.step) * self.source.c;
        let step = self.step * self.source.c;
        assert!(start + (out.len() - 1) * step + self.depth <= scratch.len());
        for (i, out) in out.iter_mut().enumerate() {
            out.write(scratch.as_ptr().wrapping_add(start + i * step));
        }
    }

    /// Pointers to the source pixels that the grid points (a, b), (a, b + 1), … of `image` meet at
    /// `shift`, or to zeros.
    #[inline(always)]
    unsafe fn run_in_source(
        &self,
        source: *const f32,
        image: usize,
        a: usize,
        b: usize,
        shift: &Tap,
        out: &mut [MaybeUninit<*const f32>],
    ) {
        let zeros = MaybeUninit::new(ZEROS.as_ptr());
        let y = (a * self.step) as isize + shift.dy;
        if y < 0 || self.source.h as isize <= y {
            out.fill(zeros);
            return;
        }
        // Inside are the columns x = (b + i)·step + dx with 0 <= x < w.
        let x = (b * self.step) as isize + shift.dx;
        let columns = |distance: isize| (distance.max(0) as usize).div_ceil(self.step);
        let low = columns(-x).min(out.len());
        let high = columns(self.source.w as isize - x).clamp(low, out.len());
        out[..low].fill(zeros);
        out[high..].fill(zeros);
        let pixel = ((image * self.source.h) as isize + y) * self.source.w as isize + x;
        for (i, out) in out[low..high].iter_mut().enumerate() {
            let pixel = pixel + ((low + i) * self.step) as isize;
            // SAFETY: row and column lie inside the source, as just arranged.
            out.write(unsafe { source.offset(pixel * self.source.c as isize) });
        }
    }

    /// Copies the source rows under grid rows `band` of `image` into `scratch`, padded.
    unsafe fn copy_band(
        &self,
        source: *const f32,
        image: usize,
        band: Range<usize>,
        pad: usize,
        scratch: &mut [f32],
    ) {
        let Picture { h, w, c } = self.source;
        let width = w + 2 * pad;
        let rows = (band.len() - 1) * self.step + self.taps.len();
        for (row, copy) in scratch.chunks_exact_mut(width * c).take(rows).enumerate() {
            let y = (band.start * self.step + row).wrapping_sub(pad);
            if h <= y {
                copy.fill(0.0);
                continue;
            }
            copy[..pad * c].fill(0.0);
            copy[(pad + w) * c..].fill(0.0);
            // SAFETY: row `y` of `image` lies inside the source, as just checked.
            let from =
                unsafe { std::slice::from_raw_parts(source.add((image * h + y) * w * c), w * c) };
            copy[pad * c..(pad + w) * c].copy_from_slice(from);
        }
    }
}

/// Copies each row of `depth` floats to `scratch` and points to the copy instead.
///
/// # Safety
/// Every pointer is written, and valid for `depth` floats.
unsafe fn copy_rows(pointers: &mut [MaybeUninit<*const f32>], depth: usize, scratch: &mut [f32]) {
    for (pointer, copy) in pointers.iter_mut().zip(scratch.chunks_exact_mut(depth + ROW_GAP)) {
        // SAFETY: as the caller promises.
        copy[..depth]
            .copy_from_slice(unsafe { std::slice::from_raw_parts(pointer.assume_init(), depth) });
        pointer.write(copy.as_ptr());
    }
}
