//! Sizes, channel means and deviations, and histograms of the pictures of a part.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::decode::decode;
use crate::error::DataError;
use crate::picture::ImageRef;
use crate::readable::{in_parts, pool};
use crate::source::{Encoded, Source};

/// Sums over all pictures of a source. They are whole numbers, so their order does not matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Pictures that can be used.
    pub images: u64,
    /// Those that cannot.
    pub broken: u64,
    /// Bytes of all as stored.
    pub bytes: u64,
    /// How many pictures have each size, (columns, rows).
    pub sizes: BTreeMap<(usize, usize), u64>,
    /// How many pixels have each value, for red, green and blue.
    pub histogram: [[u64; 256]; 3],
}

impl Default for Statistics {
    fn default() -> Statistics {
        let histogram = [[0; 256]; 3];
        Statistics { images: 0, broken: 0, bytes: 0, sizes: BTreeMap::new(), histogram }
    }
}

impl Statistics {
    /// Measures every picture of a source on `threads` threads. `on_sample` is called after each.
    pub fn of(source: &dyn Source, threads: usize, on_sample: &(dyn Fn() + Sync)) -> Statistics {
        let measure = |mut sums: Statistics, index| {
            match sums.add(source, index) {
                Ok(()) => sums.images += 1,
                Err(_) => sums.broken += 1,
            }
            on_sample();
            sums
        };
        let mut all = Statistics::default();
        pool(threads).install(|| {
            in_parts(source, 0..source.len(), |part| {
                let sums = part.into_par_iter().fold(Statistics::default, measure);
                let sums = sums.reduce(Statistics::default, Statistics::merged);
                all = std::mem::take(&mut all).merged(sums);
            });
        });
        all
    }

    fn add(&mut self, source: &dyn Source, index: usize) -> Result<(), DataError> {
        match source.read(index)? {
            Encoded::Pixels(picture) => self.add_picture(picture, picture.pixels.len()),
            Encoded::File(bytes) => {
                let image = decode(&source.name(index), &bytes)?;
                self.add_picture(image.view(), bytes.len());
            }
        }
        Ok(())
    }

    fn add_picture(&mut self, picture: ImageRef<'_>, bytes: usize) {
        self.bytes += bytes as u64;
        *self.sizes.entry((picture.width, picture.height)).or_default() += 1;
        let [red, green, blue] = &mut self.histogram;
        for &[r, g, b] in picture.pixels.as_chunks::<3>().0 {
            red[usize::from(r)] += 1;
            green[usize::from(g)] += 1;
            blue[usize::from(b)] += 1;
        }
    }

    fn merged(mut self, other: Statistics) -> Statistics {
        self.images += other.images;
        self.broken += other.broken;
        self.bytes += other.bytes;
        for (size, count) in other.sizes {
            *self.sizes.entry(size).or_default() += count;
        }
        for (own, other) in
            self.histogram.as_flattened_mut().iter_mut().zip(other.histogram.as_flattened())
        {
            *own += other;
        }
        self
    }

    /// Mean and standard deviation of each channel over all pixels, of values in 0..1: what `data.mean`
    /// and `data.std` of a recipe are. Zeros without a picture.
    pub fn mean_and_std(&self) -> ([f64; 3], [f64; 3]) {
        let (mut means, mut deviations) = ([0.0; 3], [0.0; 3]);
        for (channel, counts) in self.histogram.iter().enumerate() {
            let count: u64 = counts.iter().sum();
            if count == 0 {
                continue;
            }
            let values =
                || counts.iter().zip(0u32..).map(|(&n, value)| (n as f64, f64::from(value)));
            let mean = values().map(|(n, value)| n * value).sum::<f64>() / count as f64;
            let square = values().map(|(n, value)| n * (value - mean).powi(2)).sum::<f64>();
            means[channel] = mean / 255.0;
            deviations[channel] = (square / count as f64).sqrt() / 255.0;
        }
        (means, deviations)
    }

    /// The lowest, middle and highest of columns (0) or rows (1); zeros without a picture.
    pub fn extent(&self, side: Side) -> [usize; 3] {
        let mut counts: BTreeMap<usize, u64> = BTreeMap::new();
        for (&(columns, rows), &count) in &self.sizes {
            let size = match side {
                Side::Columns => columns,
                Side::Rows => rows,
            };
            *counts.entry(size).or_default() += count;
        }
        let middle = self.images.div_ceil(2);
        let mut seen = 0;
        let median = counts.iter().find(|&(_, &count)| {
            seen += count;
            middle <= seen
        });
        let size = |entry: Option<(&usize, &u64)>| entry.map_or(0, |(&size, _)| size);
        [size(counts.first_key_value()), size(median), size(counts.last_key_value())]
    }
}

/// A side of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Pixels in a row.
    Columns,
    /// Rows.
    Rows,
}
