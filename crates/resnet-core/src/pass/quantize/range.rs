//! Ranges of activations: what their bytes stand for, from histograms over calibration pictures.

use serde::{Deserialize, Serialize};

use crate::op::Affine;

/// Bins of a histogram on each side of 0.
const BINS: usize = 2048;
/// Clipping points that the least squared error is searched among.
const CANDIDATES: usize = 96;
/// The narrowest range that is tried, as a share of the whole.
const NARROWEST: f64 = 0.2;

/// How a range is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RangeMethod {
    /// From the smallest to the largest value seen.
    Largest,
    /// All but so many of a hundred values at each end.
    Percentile(f64),
    /// Least squared error of rounding and clipping together.
    Mse,
}

/// How often values of each size were seen. The range grows by doubling, so that one pass over the
/// data is enough and its order does not matter to the bins.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    /// `BINS` for negative values, from the most negative on, then `BINS` for the others.
    counts: Vec<u64>,
    /// The end of the range: a power of two, or 0 before any value.
    limit: f64,
    low: f64,
    high: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { counts: vec![0; 2 * BINS], limit: 0.0, low: 0.0, high: 0.0 }
    }
}

impl Histogram {
    /// Counts values; what is not finite is left out.
    pub fn add(&mut self, values: &[f32]) {
        let finite = values.iter().filter(|v| v.is_finite());
        let (mut low, mut high) = (0.0_f32, 0.0_f32);
        for &v in finite.clone() {
            (low, high) = (low.min(v), high.max(v));
        }
        self.low = self.low.min(f64::from(low));
        self.high = self.high.max(f64::from(high));
        self.grow(f64::from(high.max(-low)));
        if self.limit == 0.0 {
            self.counts[BINS] += values.len() as u64;
            return;
        }
        let per_unit = (BINS as f64 / self.limit) as f32;
        for &v in finite {
            let bin = (v * per_unit).floor() as isize + BINS as isize;
            self.counts[bin.clamp(0, 2 * BINS as isize - 1) as usize] += 1;
        }
    }

    fn grow(&mut self, largest: f64) {
        if self.limit == 0.0 && 0.0 < largest {
            self.limit = 2.0_f64.powi(largest.log2().ceil() as i32);
        }
        while self.limit < largest {
            self.limit *= 2.0;
            let mut merged = vec![0; 2 * BINS];
            for (i, count) in self.counts.iter().enumerate() {
                merged[BINS / 2 + i / 2] += count;
            }
            self.counts = merged;
        }
    }

    /// What bytes should stand for.
    pub fn affine(&self, method: RangeMethod) -> Affine {
        let (low, high) = match method {
            RangeMethod::Largest => (self.low, self.high),
            RangeMethod::Percentile(percent) => self.percentile(percent),
            RangeMethod::Mse => self.least_error(),
        };
        affine_of(low, high)
    }

    /// Values at bin edges, beyond which lie at most the share that `percent` leaves.
    fn percentile(&self, percent: f64) -> (f64, f64) {
        let total: u64 = self.counts.iter().sum();
        let left = total as f64 * (1.0 - percent / 100.0);
        let width = self.limit / BINS as f64;
        let beyond = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            counts
                .take_while(|&&count| {
                    sum += count;
                    sum as f64 <= left
                })
                .count()
        };
        let above = beyond(&mut self.counts.iter().rev());
        let below = beyond(&mut self.counts.iter());
        let low = (below as f64 - BINS as f64) * width;
        let high = (BINS as f64 - above as f64) * width;
        (low.clamp(self.low, 0.0), high.clamp(0.0, self.high))
    }

    fn least_error(&self) -> (f64, f64) {
        let width = self.limit / BINS as f64;
        let share =
            |i: usize| NARROWEST + (1.0 - NARROWEST) * (CANDIDATES - i) as f64 / CANDIDATES as f64;
        let error = |share: f64| {
            let (low, high) = (share * self.low, share * self.high);
            let affine = affine_of(low, high);
            let step = f64::from(affine.scale);
            let each = self.counts.iter().enumerate().map(|(i, &count)| {
                let v = (i as f64 + 0.5 - BINS as f64) * width;
                let beyond = v - v.clamp(low, high);
                // A rounding error is uniform within a step.
                count as f64
                    * (beyond * beyond + if beyond == 0.0 { step * step / 12.0 } else { 0.0 })
            });
            each.sum::<f64>()
        };
        let shares = (0..CANDIDATES).map(share);
        let best = shares.min_by(|a, b| error(*a).total_cmp(&error(*b)));
        let best = best.expect("there are candidates");
        (best * self.low, best * self.high)
    }
}

/// Bytes for a range around 0, which gets a byte of its own.
fn affine_of(low: f64, high: f64) -> Affine {
    let range = high - low;
    if range <= 0.0 {
        return Affine { scale: 1.0, zero: 0 };
    }
    let scale = range / 255.0;
    Affine { scale: scale as f32, zero: (-low / scale).round().clamp(0.0, 255.0) as u8 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(values: &[f32]) -> Histogram {
        let mut histogram = Histogram::default();
        values.chunks(7).for_each(|part| histogram.add(part));
        histogram
    }

    #[test]
    fn the_whole_range_is_that_of_the_values() {
        let histogram = filled(&[0.0, 0.1, -1.0, 3.0]);
        let affine = histogram.affine(RangeMethod::Largest);
        assert_eq!((affine.scale, affine.zero), (4.0 / 255.0, 64));
        let rectified = filled(&[0.0, 0.5, 2.0]).affine(RangeMethod::Largest);
        assert_eq!((rectified.scale, rectified.zero), (2.0 / 255.0, 0));
    }

    #[test]
    fn a_percentile_leaves_out_what_is_rare() {
        let mut values = vec![1.0; 9999];
        values.push(100.0);
        let affine = filled(&values).affine(RangeMethod::Percentile(99.9));
        let high = 255.0 * affine.scale;
        assert!((1.0..1.1).contains(&high), "{high}");
    }

    #[test]
    fn the_least_error_clips_outliers_and_keeps_even_distributions() {
        let even: Vec<f32> = (0..200_000).map(|i| i as f32 / 200_000.0).collect();
        let high = 255.0 * filled(&even).affine(RangeMethod::Mse).scale;
        assert!((0.97..=1.0).contains(&high), "{high}");
        let mut tailed: Vec<f32> = even;
        tailed.push(1.3);
        let clipped = 255.0 * filled(&tailed).affine(RangeMethod::Mse).scale;
        assert!((0.95..1.05).contains(&clipped), "{clipped}");
    }

    #[test]
    fn nothing_but_zeros_is_a_range_too() {
        let affine = filled(&[0.0; 20]).affine(RangeMethod::Mse);
        assert_eq!((affine.scale, affine.zero), (1.0, 0));
        assert_eq!(Histogram::default().affine(RangeMethod::Percentile(99.0)).zero, 0);
    }

    #[test]
    fn the_order_of_values_does_not_matter() {
        let values: Vec<f32> = (0..1000).map(|i| (i as f32 - 300.0) * 0.01).collect();
        let reversed: Vec<f32> = values.iter().rev().copied().collect();
        assert_eq!(filled(&values), filled(&reversed));
    }
}
