//! Copies of a block's source: with zeros around it, with its rows apart, and of bf16 as f32.

use std::mem::MaybeUninit;
use std::ops::Range;

use resnet_simd::{Element, Simd, Stored};

use super::{Gather, Picture, Tap};
use crate::kernel::blocks::Blocks;

/// Floats between the rows of a copy, beyond their own: rows a power of two apart share a cache set,
/// and a tile of 14 such rows does not fit its eight ways.
const ROW_GAP: usize = 16;

/// Whether a block's source is copied to scratch before it is multiplied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SourceCopy {
    /// Read where it is.
    None,
    /// Whole picture rows, with zeros around them.
    Band(Band),
    /// Each pixel of a block, [`ROW_GAP`] apart; of one tap only.
    Rows,
}

/// A copy of the picture rows that the taps of some grid rows meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Band {
    /// The first and the last row that the taps of grid row 0 meet.
    pub(super) rows: (isize, isize),
    /// Columns of the copy, and how many of them are zeros to the picture's left.
    width: usize,
    left: usize,
    /// Floats from pixel to pixel.
    pitch: usize,
}

impl Band {
    /// Rows of the copy for so many grid rows, `step` apart.
    pub(super) fn height(&self, grid_rows: usize, step: usize) -> usize {
        (grid_rows - 1) * step + (self.rows.1 - self.rows.0) as usize + 1
    }
}

impl Gather {
    /// The same for a source that is stored so: all but f32 is copied.
    pub(in crate::kernel::conv) fn of_stored(mut self, stored: Stored) -> Gather {
        match (stored, self.copy) {
            (Stored::F32, _) | (Stored::Bf16, SourceCopy::Band(_) | SourceCopy::Rows) => self,
            (Stored::Bf16, SourceCopy::None) if self.taps.len() == 1 => {
                self.copy = SourceCopy::Rows;
                self
            }
            (Stored::Bf16, SourceCopy::None) => {
                let pitch = self.source.c + ROW_GAP;
                self.with_band_copy(1, pitch)
            }
        }
    }

    /// The same with each pixel copied to a row of its own, where that can be: one tap, not copied
    /// already.
    pub(in crate::kernel::conv) fn with_row_copy(mut self) -> Gather {
        if self.taps.len() == 1 && self.copy == SourceCopy::None && self.depth == self.source.c {
            self.copy = SourceCopy::Rows;
        }
        self
    }

    /// The same with the source copied band by band, where a tap reads a run of so many pixels that
    /// lie `pitch` floats apart.
    pub(super) fn with_band_copy(mut self, run: usize, pitch: usize) -> Gather {
        let ends = |shift: fn(&Tap) -> isize| {
            let shifts = || self.taps.iter().map(shift);
            (shifts().min().unwrap_or(0), shifts().max().unwrap_or(0))
        };
        let (rows, columns) = (ends(|tap| tap.dy), ends(|tap| tap.dx));
        let left = (-columns.0).max(0) as usize;
        let last = (self.width - 1) * self.step + run - 1;
        let width = left + self.source.w.max((last as isize + columns.1 + 1).max(0) as usize);
        self.copy = SourceCopy::Band(Band { rows, width, left, pitch });
        self
    }

    /// Floats of scratch that `fill` needs for such blocks.
    pub(in crate::kernel::conv) fn scratch_len(&self, blocks: &Blocks) -> usize {
        match self.copy {
            SourceCopy::None => 0,
            SourceCopy::Band(band) => {
                let rows = band.height(blocks.longest() / self.width, self.step);
                // A line beyond the end, for tiles that read past a run's last float.
                rows * band.width * band.pitch + 16
            }
            SourceCopy::Rows => blocks.longest() * self.copied_pitch(),
        }
    }

    /// Floats from row to row, where each pixel is copied to a row of its own.
    pub(super) fn copied_pitch(&self) -> usize {
        self.source.c + ROW_GAP
    }

    /// Pointers into the copied band: from column `b` of its grid row `a`.
    pub(super) fn run_in_copy(
        &self,
        scratch: &[f32],
        (a, b): (usize, usize),
        tap: &Tap,
        band: Band,
        out: &mut [MaybeUninit<*const f32>],
    ) {
        let row = a * self.step + (tap.dy - band.rows.0) as usize;
        let column = (b * self.step + band.left).wrapping_add_signed(tap.dx);
        let start = (row * band.width + column) * band.pitch;
        let step = self.step * band.pitch;
        assert!(start + (out.len() - 1) * step + self.depth <= scratch.len());
        for (i, out) in out.iter_mut().enumerate() {
            out.write(scratch.as_ptr().wrapping_add(start + i * step));
        }
    }

    /// Copies the source rows under the grid points `range` of one image into `scratch`, padded.
    ///
    /// # Safety
    /// `source` is the source tensor.
    #[inline(always)]
    pub(super) unsafe fn copy_band<S: Simd, E: Element>(
        &self,
        s: S,
        source: *const E,
        band: Band,
        range: Range<usize>,
        scratch: &mut [f32],
    ) {
        let Picture { h, w, c } = self.source;
        let (image, first) =
            (range.start / (self.height * self.width), range.start / self.width % self.height);
        let rows = band.height(range.len() / self.width, self.step);
        let (start, end) = (band.left * band.pitch, (band.left + w) * band.pitch);
        for (row, copy) in scratch.chunks_exact_mut(band.width * band.pitch).take(rows).enumerate()
        {
            let y = (first * self.step + row).wrapping_add_signed(band.rows.0);
            if h <= y {
                copy.fill(0.0);
                continue;
            }
            copy[..start].fill(0.0);
            copy[end..].fill(0.0);
            // SAFETY: row `y` of `image` lies inside the source, as just checked.
            let from =
                unsafe { std::slice::from_raw_parts(source.add((image * h + y) * w * c), w * c) };
            let copy = &mut copy[start..end];
            if band.pitch == c {
                E::widen(s, from, copy);
                continue;
            }
            for (from, to) in from.chunks_exact(c).zip(copy.chunks_exact_mut(band.pitch)) {
                E::widen(s, from, &mut to[..c]);
            }
        }
    }
}

/// Copies each row of `len` elements to `scratch` and points to the copy instead.
///
/// # Safety
/// Every pointer is written, and valid for `len` elements.
#[inline(always)]
pub(super) unsafe fn copy_rows<S: Simd, E: Element>(
    s: S,
    pointers: &mut [MaybeUninit<*const f32>],
    len: usize,
    scratch: &mut [f32],
) {
    for (pointer, copy) in pointers.iter_mut().zip(scratch.chunks_exact_mut(len + ROW_GAP)) {
        // SAFETY: as the caller promises.
        let row = unsafe { std::slice::from_raw_parts(pointer.assume_init().cast::<E>(), len) };
        E::widen(s, row, &mut copy[..len]);
        pointer.write(copy.as_ptr());
    }
}
