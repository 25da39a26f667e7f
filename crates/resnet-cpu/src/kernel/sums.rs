//! Sums over the rows of a tensor, channel by channel, the same bits for any number of threads.
//!
//! Rows are cut into chunks that depend on nothing but the plan. A task adds the rows of one chunk in
//! `f32`, in their order, and writes them to `partials[chunk][term][channel]`; [`combine`] adds the
//! chunks in `f64`, in their order.

use resnet_simd::{Element, Isa, Kernel, Simd};

use super::lane::{self, At};
use crate::threads::ThreadPool;

/// The rows of an NHWC tensor, `n * h * w` of them, and the chunks that sums cut them into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// `n * h * w`.
    pub rows: usize,
    /// Floats in a row.
    pub channels: usize,
    /// Rows in a chunk; the last chunk may have fewer.
    pub chunk_rows: usize,
}

impl Rows {
    /// Floats in the tensor.
    pub fn len(&self) -> usize {
        self.rows * self.channels
    }

    /// Whether the tensor has no floats.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of chunks.
    pub fn chunks(&self) -> usize {
        self.rows.div_ceil(self.chunk_rows)
    }

    /// Floats in the partial sums of `terms` terms.
    pub fn partials_len(&self, terms: usize) -> usize {
        self.chunks() * terms * self.channels
    }
}

/// What `K` sums add up. Vectors and twin add in the same order and give the same bits.
pub(super) trait Terms<const K: usize>: Sync {
    /// The terms of element `i`, channel `j`. The definition.
    fn scalar(&self, i: usize, j: usize) -> [f32; K];

    /// The same for the lanes at `at`; lanes out of use may be anything.
    fn lanes<S: Simd>(&self, s: S, at: At) -> [S::F32; K];
}

/// Terms that also replace the element they come from.
pub(super) trait MapTerms<const K: usize>: Sync {
    /// The new element `i`, channel `j`, where the tensor holds `old`, and its terms.
    fn scalar(&self, old: f32, i: usize, j: usize) -> (f32, [f32; K]);

    /// The same for the lanes at `at`; lanes out of use may be anything.
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> (S::F32, [S::F32; K]);
}

/// Partial sums of `terms`: `partials` is `[chunks][K][channels]`.
///
/// # Panics
/// If `partials` has another length.
pub(super) fn sum_rows<const K: usize>(
    isa: Isa,
    pool: &ThreadPool,
    rows: Rows,
    partials: &mut [f32],
    terms: impl Terms<K>,
) {
    assert_eq!(partials.len(), rows.partials_len(K));
    pool.run_parts(partials, K * rows.channels, |chunk, sums| {
        let first = chunk * rows.chunk_rows;
        let count = rows.chunk_rows.min(rows.rows - first);
        let job = SumChunk { first, count, channels: rows.channels, sums, terms: &terms };
        match isa {
            Isa::Portable => job.run_scalar(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(job),
        }
    });
}

/// As [`sum_rows`], and replaces `y` by what `terms` makes of it.
pub(super) fn map_sum_rows<E: Element, const K: usize>(
    isa: Isa,
    pool: &ThreadPool,
    rows: Rows,
    y: &mut [E],
    partials: &mut [f32],
    terms: impl MapTerms<K>,
) {
    assert_eq!(y.len(), rows.len());
    assert_eq!(partials.len(), rows.partials_len(K));
    let y_part = rows.chunk_rows * rows.channels;
    pool.run_part_pairs((y, y_part), (partials, K * rows.channels), |chunk, y, sums| {
        let first = chunk * y_part;
        let job = MapSumChunk { first, channels: rows.channels, y, sums, terms: &terms };
        match isa {
            Isa::Portable => job.run_scalar(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(job),
        }
    });
}

/// Adds the chunks of some of the terms: `each(channel, sums)` gets the sums of the `K` terms in
/// `picks`, of a tensor whose partial sums have `terms` terms. The order is that of the chunks.
pub(super) fn combine<const K: usize>(
    c: usize,
    partials: &[f32],
    (terms, picks): (usize, [usize; K]),
    mut each: impl FnMut(usize, [f64; K]),
) {
    /// Channels added side by side: a cache line of partial sums.
    const BLOCK: usize = 16;
    assert!(partials.len().is_multiple_of(terms * c), "whole chunks of partial sums");
    for first in (0..c).step_by(BLOCK) {
        let width = BLOCK.min(c - first);
        let mut sums = [[0.0_f64; BLOCK]; K];
        for chunk in partials.chunks_exact(terms * c) {
            for (sums, pick) in sums.iter_mut().zip(picks) {
                let line = &chunk[pick * c + first..][..width];
                sums.iter_mut().zip(line).for_each(|(sum, &x)| *sum += f64::from(x));
            }
        }
        (0..width).for_each(|j| each(first + j, sums.map(|sum| sum[j])));
    }
}

/// Sums over the pixels of each picture: `sums` is `[n][channels]`, pictures have `pixels` rows.
///
/// Sixty-four pixels at a time are added in `f32`, these sums in `f64`, both in their order; a
/// picture's sums do not depend on the others.
///
/// # Panics
/// If `sums` does not consist of whole rows.
pub(super) fn sum_pictures(
    isa: Isa,
    pool: &ThreadPool,
    (pixels, channels): (usize, usize),
    sums: &mut [f32],
    factor: f64,
    terms: impl Terms<1>,
) {
    /// Channels in a task, so that one picture too is work for several threads.
    const BLOCK: usize = 64;
    pool.run_row_blocks(sums, (channels, BLOCK), |picture, first_channel, sums| {
        let first = picture * pixels;
        let job =
            SumPicture { first, pixels, channels, first_channel, sums, factor, terms: &terms };
        match isa {
            Isa::Portable => job.run_scalar(),
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(_) | Isa::Avx512(_) => isa.run(job),
        }
    });
}

/// Pixels of a picture that are added in `f32`.
const PICTURE_CHUNK: usize = 64;

struct SumPicture<'a, T> {
    /// The picture's first row in the tensor.
    first: usize,
    pixels: usize,
    channels: usize,
    first_channel: usize,
    sums: &'a mut [f32],
    factor: f64,
    terms: &'a T,
}

impl<T: Terms<1>> SumPicture<'_, T> {
    /// The rows of each chunk of pixels.
    fn chunks(&self) -> impl Iterator<Item = std::ops::Range<usize>> + use<T> {
        let (first, end) = (self.first, self.first + self.pixels);
        (first..end).step_by(PICTURE_CHUNK).map(move |row| row..end.min(row + PICTURE_CHUNK))
    }

    /// The twin, and the portable version.
    fn run_scalar(self) {
        for j in 0..self.sums.len() {
            let channel = self.first_channel + j;
            let term = |row: usize| self.terms.scalar(row * self.channels + channel, channel)[0];
            let chunk = |rows: std::ops::Range<usize>| {
                f64::from(rows.fold(0.0_f32, |sum, row| sum + term(row)))
            };
            let sum = self.chunks().fold(0.0, |sum, rows| sum + chunk(rows));
            self.sums[j] = (sum * self.factor) as f32;
        }
    }
}

impl<T: Terms<1>> Kernel for SumPicture<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        /// No vector is wider.
        const MAX_LANES: usize = 16;
        for (block, sums) in self.sums.chunks_mut(S::LANES).enumerate() {
            let j = self.first_channel + block * S::LANES;
            let n = sums.len();
            let mut wide = [0.0_f64; MAX_LANES];
            let mut row = self.first;
            let end = self.first + self.pixels;
            while row < end {
                let stop = end.min(row + PICTURE_CHUNK);
                let mut sum = s.splat(0.0);
                while row < stop {
                    let [term] = self.terms.lanes(s, At { i: row * self.channels + j, j, n });
                    sum = s.add(sum, term);
                    row += 1;
                }
                let mut lanes = [0.0_f32; MAX_LANES];
                s.store(sum, &mut lanes);
                wide.iter_mut().zip(lanes).for_each(|(wide, x)| *wide += f64::from(x));
            }
            sums.iter_mut().zip(wide).for_each(|(sum, wide)| *sum = (wide * self.factor) as f32);
        }
    }
}

struct SumChunk<'a, T, const K: usize> {
    /// The chunk's first row in the tensor.
    first: usize,
    count: usize,
    channels: usize,
    /// `[K][channels]`.
    sums: &'a mut [f32],
    terms: &'a T,
}

impl<const K: usize, T: Terms<K>> Kernel for SumChunk<'_, T, K> {
    type Output = ();

    /// Sums of up to four vectors of channels stay in registers while the rows pass. The order of a
    /// channel's sum is that of the rows, whatever the width.
    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let full = self.channels / S::LANES * S::LANES;
        let mut j = 0;
        while j + 4 * S::LANES <= full {
            self.block::<S, 4>(s, j, S::LANES);
            j += 4 * S::LANES;
        }
        while j < full {
            self.block::<S, 1>(s, j, S::LANES);
            j += S::LANES;
        }
        if full < self.channels {
            self.block::<S, 1>(s, full, self.channels - full);
        }
    }
}

impl<const K: usize, T: Terms<K>> SumChunk<'_, T, K> {
    /// The twin, and the portable version.
    fn run_scalar(self) {
        self.sums.fill(0.0);
        for row in self.first..self.first + self.count {
            for j in 0..self.channels {
                let terms = self.terms.scalar(row * self.channels + j, j);
                for (k, term) in terms.into_iter().enumerate() {
                    self.sums[k * self.channels + j] += term;
                }
            }
        }
    }

    /// The sums of `B` vectors of channels from channel `j`.
    #[inline(always)]
    fn block<S: Simd, const B: usize>(&mut self, s: S, j: usize, n: usize) {
        let mut sums = [[s.splat(0.0); K]; B];
        for row in self.first..self.first + self.count {
            let start = row * self.channels;
            for (b, sums) in sums.iter_mut().enumerate() {
                let j = j + b * S::LANES;
                let terms = self.terms.lanes(s, At { i: start + j, j, n });
                add_terms(s, sums, terms);
            }
        }
        for (b, sums) in sums.into_iter().enumerate() {
            for (k, sum) in sums.into_iter().enumerate() {
                lane::store(s, sum, self.sums, k * self.channels + j + b * S::LANES, n);
            }
        }
    }
}

struct MapSumChunk<'a, T, E, const K: usize> {
    /// Index of `y[0]` in the tensor.
    first: usize,
    channels: usize,
    y: &'a mut [E],
    /// `[K][channels]`.
    sums: &'a mut [f32],
    terms: &'a T,
}

impl<const K: usize, T: MapTerms<K>, E: Element> Kernel for MapSumChunk<'_, T, E, K> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, s: S) {
        let full = self.channels / S::LANES * S::LANES;
        let mut j = 0;
        while j + 4 * S::LANES <= full {
            self.block::<S, 4>(s, j, S::LANES);
            j += 4 * S::LANES;
        }
        while j < full {
            self.block::<S, 1>(s, j, S::LANES);
            j += S::LANES;
        }
        if full < self.channels {
            self.block::<S, 1>(s, full, self.channels - full);
        }
    }
}

impl<const K: usize, T: MapTerms<K>, E: Element> MapSumChunk<'_, T, E, K> {
    /// The twin, and the portable version.
    fn run_scalar(self) {
        self.sums.fill(0.0);
        for (i, y) in self.y.iter_mut().enumerate() {
            let j = i % self.channels;
            let (new, terms) = self.terms.scalar(y.to_f32(), self.first + i, j);
            *y = E::from_f32(new);
            for (k, term) in terms.into_iter().enumerate() {
                self.sums[k * self.channels + j] += term;
            }
        }
    }

    #[inline(always)]
    fn block<S: Simd, const B: usize>(&mut self, s: S, j: usize, n: usize) {
        let mut sums = [[s.splat(0.0); K]; B];
        for (row, y) in self.y.chunks_exact_mut(self.channels).enumerate() {
            let start = self.first + row * self.channels;
            for (b, sums) in sums.iter_mut().enumerate() {
                let j = j + b * S::LANES;
                let old = lane::load(s, y, j, n);
                let (new, terms) = self.terms.lanes(s, old, At { i: start + j, j, n });
                lane::store(s, new, y, j, n);
                add_terms(s, sums, terms);
            }
        }
        for (b, sums) in sums.into_iter().enumerate() {
            for (k, sum) in sums.into_iter().enumerate() {
                lane::store(s, sum, self.sums, k * self.channels + j + b * S::LANES, n);
            }
        }
    }
}

#[inline(always)]
fn add_terms<S: Simd, const K: usize>(s: S, sums: &mut [S::F32; K], terms: [S::F32; K]) {
    for (sum, term) in sums.iter_mut().zip(terms) {
        *sum = s.add(*sum, term);
    }
}
