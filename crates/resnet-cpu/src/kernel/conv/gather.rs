//! Where a product reads and writes: for each output pixel and tap the row of inputs, as a pointer.
//!
//! Forward convolution and each residue class of the input gradient are the same thing, a [`Gather`]:
//! a grid of target pixels, and taps that shift the grid over the source. A picture of few channels
//! is first copied with its padding, band by band; a row of the kernel is then one contiguous run.
//! What is stored in bf16 is copied as f32, band by band or pixel by pixel, or read where it is as
//! words of two channels.

mod copy;
#[cfg(test)]
mod tests;

use std::mem::MaybeUninit;
use std::ops::Range;

use resnet_simd::{Simd, Stored, bf16};

use self::copy::{SourceCopy, copy_rows};
use super::ConvShape;
use crate::kernel::blocks::{Blocks, MAX_ROWS, MAX_TAPS, TABLE_LEN, TILE_OVERHANG};

/// The most channels that padding has zeros for.
pub(super) const MAX_PADDED_CHANNELS: usize = 16_384;

/// What pointers into the padding point to.
static ZEROS: [f32; MAX_PADDED_CHANNELS] = [0.0; MAX_PADDED_CHANNELS];

/// Zeros for as many channels as padding has.
pub(super) fn zeros() -> *const f32 {
    ZEROS.as_ptr()
}

/// Taps that do not shift: of a plain matrix product the first, of one whose rows lie in several matrices
/// one for each of these.
pub(super) static STILL_TAPS: [Tap; MAX_TAPS] = {
    let mut taps = [Tap { dy: 0, dx: 0, index: 0 }; MAX_TAPS];
    let mut index = 0;
    while index < MAX_TAPS {
        taps[index].index = index;
        index += 1;
    }
    taps
};

/// Up to this many floats a row of the kernel, the padded copy costs less than short runs do.
const MAX_COPIED_RUN: usize = 32;
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

    /// Lets the rows' targets be those of neighbouring pixels, of so many channels, from `first` on.
    pub(super) fn target_pixels(&mut self, first: usize, channels: usize) {
        for (row, target) in self.targets[..self.rows].iter_mut().enumerate() {
            target.write((first + row) * channels);
        }
    }

    /// Lets each tap's last pointer stand for what a tile reads beyond it.
    fn repeat_last(&mut self) {
        let stride = self.stride();
        for tap in 0..self.taps {
            let last = self.pointers[tap * stride + self.rows - 1];
            self.pointers[tap * stride + self.rows..(tap + 1) * stride].fill(last);
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
        let row = |index| Tap { dy: shape.input_at(0, index), dx: shape.input_at(0, 0), index };
        let gather = Gather {
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
            copy: SourceCopy::None,
        };
        // A run's pixels follow each other.
        if copied { gather.with_band_copy(shape.kw, shape.cin) } else { gather }
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

    /// The same over a source of bf16 that is read as it is, two channels a word; none where channels
    /// do not come in pairs, or are copied with their padding.
    pub(super) fn in_pairs(&self) -> Option<Gather> {
        let even = self.source.c.is_multiple_of(2) && self.depth.is_multiple_of(2);
        (even && self.copy == SourceCopy::None).then(|| Gather {
            source: Picture { c: self.source.c / 2, ..self.source },
            depth: self.depth / 2,
            ..self.clone()
        })
    }

    /// Whether each target pixel reads the source's of the same number, and that alone.
    pub(super) fn is_pointwise(&self) -> bool {
        self.taps.len() == 1
            && self.step == 1
            && (self.height, self.width) == (self.source.h, self.source.w)
            && !matches!(self.copy, SourceCopy::Band(_))
    }

    /// Whether a block's pixels follow each other in the source without a gap, where they are read.
    pub(super) fn is_contiguous(&self) -> bool {
        self.is_pointwise() && self.copy == SourceCopy::None
    }

    /// Whether neighbouring pixels together read all of a stretch of the source, where it is.
    pub(super) fn reads_all(&self) -> bool {
        self.step * self.step <= self.taps.len() && !matches!(self.copy, SourceCopy::Band(_))
    }

    /// Whether a block's rows are copied before the first is multiplied.
    pub(super) fn copies_rows(&self) -> bool {
        self.copy == SourceCopy::Rows
    }

    /// The source's elements, by their numbers, that these pixels read and those before them do not; about
    /// so where the pixels are no whole rows of the grid.
    pub(super) fn newly_read(&self, pixels: Range<usize>) -> Range<usize> {
        let (plane, source) = (self.height * self.width, self.source);
        let below = self.taps.iter().map(|tap| tap.dy + 1 - self.step as isize).max().unwrap_or(0);
        let element = |pixel: usize| {
            let (image, at) = (pixel / plane, pixel % plane);
            let y = image * source.h + at / self.width * self.step + below.max(0) as usize;
            (y * source.w + at % self.width * self.step) * source.c
        };
        element(pixels.start)..element(pixels.end)
    }

    /// Floats from row to row, where those of a block are all equally far apart.
    pub(super) fn even_pitch(&self) -> Option<usize> {
        if self.copies_rows() {
            return Some(self.copied_pitch());
        }
        self.is_contiguous().then_some(self.source.c)
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
        if matches!(self.copy, SourceCopy::Band(_)) {
            let band = (wanted.min(most) / self.width).clamp(1, self.height);
            let even = self.height.div_ceil(self.height.div_ceil(band));
            return Blocks::new(even * self.width, self.height * self.width, self.images);
        }
        Blocks::even(self.pixels(), wanted.min(most / unit * unit).max(unit), unit)
    }

    /// Copies the source of the pixels `range` where that is planned, and writes their pointers and
    /// targets into `table`.
    ///
    /// # Safety
    /// `source` is the source tensor, of elements stored so, which lives and does not change as long as
    /// the table's pointers are read. `scratch` has `scratch_len` floats and outlives them too.
    #[inline(always)]
    pub(super) unsafe fn fill<S: Simd>(
        &self,
        s: S,
        (source, stored): (*const (), Stored),
        range: Range<usize>,
        scratch: &mut [f32],
        table: &mut Table,
    ) {
        assert!(stored == Stored::F32 || self.copy != SourceCopy::None, "planned for f32");
        // SAFETY: as the caller promises; what `point` leaves for `Rows` points into the source.
        unsafe {
            self.point((source, stored.size()), range.clone(), scratch, table);
            let pointers = &mut table.pointers[..table.rows];
            match (self.copy, stored) {
                (SourceCopy::None, _) => {}
                (SourceCopy::Band(band), Stored::F32) => {
                    self.copy_band::<S, f32>(s, source.cast(), band, range, scratch);
                }
                (SourceCopy::Band(band), Stored::Bf16) => {
                    self.copy_band::<S, bf16>(s, source.cast(), band, range, scratch);
                }
                (SourceCopy::Rows, Stored::F32) => {
                    copy_rows::<S, f32>(s, pointers, self.source.c, scratch);
                }
                (SourceCopy::Rows, Stored::Bf16) => {
                    copy_rows::<S, bf16>(s, pointers, self.source.c, scratch);
                }
            }
        }
        table.repeat_last();
    }

    /// Where the pixels `range` are read, in the source (of elements of `size` bytes) or in its copy in
    /// `scratch`, and where they are written.
    ///
    /// # Safety
    /// As [`Gather::fill`].
    unsafe fn point(
        &self,
        (source, size): (*const (), usize),
        range: Range<usize>,
        scratch: &[f32],
        table: &mut Table,
    ) {
        let plane = self.height * self.width;
        let (mut image, mut a, mut b) =
            (range.start / plane, range.start / self.width % self.height, range.start % self.width);
        let first = a;
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
                if let SourceCopy::Band(band) = self.copy {
                    self.run_in_copy(scratch, (a - first, b), shift, band, out);
                } else {
                    // SAFETY: as the caller promises; (image, a, b) is a point of the grid.
                    unsafe { self.run_in_source((source, size), [image, a, b], shift, out) };
                }
            }
            row += run;
            (a, b) = (a + 1, 0);
            if a == self.height {
                (image, a) = (image + 1, 0);
            }
        }
    }

    /// Pointers to the source pixels that the grid points (a, b), (a, b + 1), … of `image` meet at
    /// `shift`, or to zeros.
    #[inline(always)]
    unsafe fn run_in_source(
        &self,
        (source, size): (*const (), usize),
        [image, a, b]: [usize; 3],
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
            let at = unsafe { source.byte_offset(pixel * (self.source.c * size) as isize) };
            out.write(at.cast());
        }
    }
}
