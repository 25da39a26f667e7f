//! Scaling as Pillow does it: antialiased filters on 8-bit pixels, bit-equal to Pillow 13.
//!
//! Source of the method: Pillow's `Resample.c`. Each output pixel is a sum over a window of input pixels that
//! widens with the scale; coefficients are rounded to 22 bits of fraction, sums start at a half and are shifted
//! back. Two passes, each rounded to 8 bits: horizontal first, unless far more rows than columns go away
//! (Pillow 13's order). Nearest takes one pixel, as `ImagingScaleAffine` of `Geometry.c` does.

use std::borrow::Cow;

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::augment::Picture;
use crate::picture::ImageRef;

/// How pixels between pixels are made; Pillow's filters of these names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Filter {
    /// The pixel that is nearest, without antialiasing.
    Nearest,
    /// The mean of the pixels that an output pixel covers.
    Box,
    /// A triangle.
    #[default]
    Bilinear,
    /// A cubic with a = -0.5.
    Bicubic,
    /// A sinc under a sinc of three times its width.
    Lanczos,
}

impl Filter {
    /// Its name in recipes, flags and model files.
    pub fn name(self) -> &'static str {
        match self {
            Filter::Nearest => "nearest",
            Filter::Box => "box",
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
            Filter::Lanczos => "lanczos",
        }
    }

    /// How far it reaches to each side, in pixels of the smaller picture.
    fn support(self) -> f64 {
        match self {
            Filter::Nearest | Filter::Box => 0.5,
            Filter::Bilinear => 1.0,
            Filter::Bicubic => 2.0,
            Filter::Lanczos => 3.0,
        }
    }

    /// The weight of a pixel at a distance from the centre.
    fn weight(self, distance: f64) -> f64 {
        let x = distance.abs();
        match self {
            Filter::Nearest | Filter::Box => f64::from(-0.5 < distance && distance <= 0.5),
            Filter::Bilinear if x < 1.0 => 1.0 - x,
            Filter::Bicubic if x < 1.0 => ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0,
            Filter::Bicubic if x < 2.0 => (((x - 5.0) * x + 8.0) * x - 4.0) * A,
            Filter::Lanczos if (-3.0..3.0).contains(&distance) => {
                sinc(distance) * sinc(distance / 3.0)
            }
            Filter::Bilinear | Filter::Bicubic | Filter::Lanczos => 0.0,
        }
    }
}

/// Pillow's cubic.
const A: f64 = -0.5;

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { libm::sin(x * PI) / (x * PI) }
}

/// Bits of fraction: 32 of the sum, 8 of a pixel and 2 of overshoot leave 22.
const PRECISION: u32 = 32 - 8 - 2;

/// The inputs of one output along a side: the first, and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Weights for `to` outputs over `size` inputs.
fn windows(filter: Filter, size: usize, to: usize) -> Vec<Window> {
    let scale = size as f64 / to as f64;
    let filter_scale = scale.max(1.0);
    let support = filter.support() * filter_scale;
    let narrow = 1.0 / filter_scale;
    let window = |output: usize| {
        let center = (output as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(size);
        let weight = |input: usize| filter.weight((input as f64 - center + 0.5) * narrow);
        let weights: Vec<f64> = (first..last).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: f64| {
            let weight = if total == 0.0 { weight } else { weight / total };
            let half = if weight < 0.0 { -0.5 } else { 0.5 };
            (half + weight * f64::from(1 << PRECISION)) as i32
        };
        Window { first, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

fn finish(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Scales a picture to `width` x `height`.
pub fn resize(picture: ImageRef<'_>, width: usize, height: usize, filter: Filter) -> Picture<'_> {
    if (width, height) == (picture.width, picture.height) {
        return Picture { width, height, pixels: Cow::Borrowed(picture.pixels) };
    }
    if filter == Filter::Nearest {
        return nearest(picture, width, height);
    }
    let lost = |from: usize, to: usize| from as isize - to as isize;
    let (rows, columns) = (lost(picture.height, height), lost(picture.width, width));
    let pixels = if 0 < rows && 2 * columns < rows {
        let tall = vertical(picture, height, filter);
        horizontal(ImageRef { width: picture.width, height, pixels: &tall }, width, filter)
    } else {
        let wide = horizontal(picture, width, filter);
        vertical(ImageRef { width, height: picture.height, pixels: &wide }, height, filter)
    };
    Picture { width, height, pixels: pixels.into() }
}

fn nearest(picture: ImageRef<'_>, width: usize, height: usize) -> Picture<'static> {
    // Places are added up, not multiplied, as Pillow does: the last bits differ.
    let places = |size: usize, to: usize| {
        let scale = size as f64 / to as f64;
        let next = move |place: &f64| Some(place + scale);
        let found = std::iter::successors(Some(scale * 0.5), next).take(to);
        found.map(move |place| (place as usize).min(size - 1)).collect::<Vec<_>>()
    };
    let columns = places(picture.width, width);
    let mut pixels = Vec::with_capacity(3 * width * height);
    for y in places(picture.height, height) {
        let (row, _) = picture.row(y, 0, picture.width).as_chunks::<3>();
        pixels.extend(columns.iter().flat_map(|&x| row[x]));
    }
    Picture { width, height, pixels: pixels.into() }
}

fn horizontal(picture: ImageRef<'_>, width: usize, filter: Filter) -> Vec<u8> {
    if width == picture.width {
        return picture.pixels.to_vec();
    }
    let windows = windows(filter, picture.width, width);
    let mut pixels = Vec::with_capacity(3 * width * picture.height);
    for row in picture.pixels.chunks_exact(3 * picture.width) {
        for window in &windows {
            let mut sums = [1 << (PRECISION - 1); 3];
            let (inputs, _) = row[3 * window.first..].as_chunks::<3>();
            for (pixel, &weight) in inputs.iter().zip(&window.weights) {
                for (sum, &value) in sums.iter_mut().zip(pixel) {
                    *sum += i32::from(value) * weight;
                }
            }
            pixels.extend(sums.map(finish));
        }
    }
    pixels
}

fn vertical(picture: ImageRef<'_>, height: usize, filter: Filter) -> Vec<u8> {
    if height == picture.height {
        return picture.pixels.to_vec();
    }
    let row_len = 3 * picture.width;
    let mut pixels = Vec::with_capacity(row_len * height);
    let mut sums = vec![0; row_len];
    for window in windows(filter, picture.height, height) {
        sums.fill(1 << (PRECISION - 1));
        let rows = picture.pixels[window.first * row_len..].chunks_exact(row_len);
        for (row, &weight) in rows.zip(&window.weights) {
            for (sum, &value) in sums.iter_mut().zip(row) {
                *sum += i32::from(value) * weight;
            }
        }
        pixels.extend(sums.iter().map(|&sum| finish(sum)));
    }
    pixels
}

/// Sizes after scaling the shorter side to `side`, as torchvision's `Resize(side)`: the longer one is
/// rounded down.
pub fn shorter_side(width: usize, height: usize, side: usize) -> (usize, usize) {
    let longer = |long: usize, short: usize| (side * long / short).max(1);
    if width <= height { (side, longer(height, width)) } else { (longer(width, height), side) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_colour_stays_one_colour() {
        let pixels: Vec<u8> = [10, 200, 77].repeat(13 * 9);
        let picture = ImageRef { width: 13, height: 9, pixels: &pixels };
        for (width, height) in [(5, 4), (26, 30), (13, 2), (1, 1)] {
            let filters = [Filter::Nearest, Filter::Box, Filter::Bilinear, Filter::Bicubic];
            for filter in filters.into_iter().chain([Filter::Lanczos]) {
                let scaled = resize(picture, width, height, filter);
                assert_eq!(scaled.pixels, [10, 200, 77].repeat(width * height), "{filter:?}");
            }
        }
    }

    #[test]
    fn the_shorter_side_decides_and_the_longer_is_rounded_down() {
        assert_eq!(shorter_side(500, 375, 256), (341, 256));
        assert_eq!(shorter_side(375, 500, 256), (256, 341));
        assert_eq!(shorter_side(224, 224, 256), (256, 256));
    }
}
