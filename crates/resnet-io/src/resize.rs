//! Scaling as Pillow does it: antialiased bilinear on 8-bit pixels, bit-equal to Pillow 13.
//!
//! Source of the method: Pillow's `Resample.c`. Each output pixel is a sum over a triangle of input
//! pixels whose width is the scale; coefficients are rounded to 22 bits of fraction, sums start at a
//! half and are shifted back. Two passes, each rounded to 8 bits: horizontal first, unless far more
//! rows than columns go away (Pillow 13's order).

use std::borrow::Cow;

use crate::augment::Picture;
use crate::picture::ImageRef;

/// Bits of fraction: 32 of the sum, 8 of a pixel and 2 of overshoot leave 22.
const PRECISION: u32 = 32 - 8 - 2;

/// The inputs of one output along a side: the first, and their weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// Weights for `to` outputs over inputs `from`, which starts and ends at fractions of pixels.
fn windows(size: usize, (from, until): (f64, f64), to: usize) -> Vec<Window> {
    let scale = (until - from) / to as f64;
    let filter_scale = scale.max(1.0);
    // The triangle reaches one (scaled) pixel to each side.
    let support = filter_scale;
    let window = |output: usize| {
        let center = from + (output as f64 + 0.5) * scale;
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(size);
        let weight = |input: usize| {
            let distance = ((input as f64 - center + 0.5) / filter_scale).abs();
            if distance < 1.0 { 1.0 - distance } else { 0.0 }
        };
        let weights: Vec<f64> = (first..last).map(weight).collect();
        let total: f64 = weights.iter().sum();
        let fixed = |weight: f64| {
            let weight = if total == 0.0 { weight } else { weight / total };
            (0.5 + weight * f64::from(1 << PRECISION)) as i32
        };
        Window { first, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

fn finish(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

/// Scales a picture to `width` x `height`.
pub fn resize(picture: ImageRef<'_>, width: usize, height: usize) -> Picture<'_> {
    if (width, height) == (picture.width, picture.height) {
        return Picture { width, height, pixels: Cow::Borrowed(picture.pixels) };
    }
    let lost = |from: usize, to: usize| from as isize - to as isize;
    let (rows, columns) = (lost(picture.height, height), lost(picture.width, width));
    let pixels = if 0 < rows && 2 * columns < rows {
        let tall = vertical(picture, height);
        horizontal(ImageRef { width: picture.width, height, pixels: &tall }, width)
    } else {
        let wide = horizontal(picture, width);
        vertical(ImageRef { width, height: picture.height, pixels: &wide }, height)
    };
    Picture { width, height, pixels: pixels.into() }
}

fn horizontal(picture: ImageRef<'_>, width: usize) -> Vec<u8> {
    if width == picture.width {
        return picture.pixels.to_vec();
    }
    let windows = windows(picture.width, (0.0, picture.width as f64), width);
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

fn vertical(picture: ImageRef<'_>, height: usize) -> Vec<u8> {
    if height == picture.height {
        return picture.pixels.to_vec();
    }
    let row_len = 3 * picture.width;
    let mut pixels = Vec::with_capacity(row_len * height);
    let mut sums = vec![0; row_len];
    for window in windows(picture.height, (0.0, picture.height as f64), height) {
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
            let scaled = resize(picture, width, height);
            assert_eq!(scaled.pixels, [10, 200, 77].repeat(width * height));
        }
    }

    #[test]
    fn the_shorter_side_decides_and_the_longer_is_rounded_down() {
        assert_eq!(shorter_side(500, 375, 256), (341, 256));
        assert_eq!(shorter_side(375, 500, 256), (256, 341));
        assert_eq!(shorter_side(224, 224, 256), (256, 256));
    }
}
