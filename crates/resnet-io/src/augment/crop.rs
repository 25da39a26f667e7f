//! Cutting pictures: at random, in the middle, with a black border, mirrored.

use resnet_core::rng::Stream;

use super::Picture;
use crate::picture::Part;

/// torchvision's `RandomResizedCrop.get_params`: ten tries at an area and proportions that fit, then
/// the middle, as near to the proportions as the picture allows.
pub(super) fn random_part(
    (width, height): (usize, usize),
    (scale, ratio): ([f64; 2], [f64; 2]),
    stream: &mut Stream,
) -> Part {
    let area = (width * height) as f64;
    let between = |[low, high]: [f64; 2], u: f64| low + (high - low) * u;
    let log_ratio = ratio.map(libm::log);
    for _ in 0..10 {
        let target = area * between(scale, stream.uniform_f64());
        let proportion = libm::exp(between(log_ratio, stream.uniform_f64()));
        let w = (target * proportion).sqrt().round_ties_even() as usize;
        let h = (target / proportion).sqrt().round_ties_even() as usize;
        if 0 < w && w <= width && 0 < h && h <= height {
            let y = stream.below((height - h + 1) as u32) as usize;
            let x = stream.below((width - w + 1) as u32) as usize;
            return Part { x, y, width: w, height: h };
        }
    }
    let own = width as f64 / height as f64;
    let (w, h) = if own < ratio[0] {
        (width, ((width as f64 / ratio[0]).round_ties_even() as usize).clamp(1, height))
    } else if ratio[1] < own {
        (((height as f64 * ratio[1]).round_ties_even() as usize).clamp(1, width), height)
    } else {
        (width, height)
    };
    Part { x: (width - w) / 2, y: (height - h) / 2, width: w, height: h }
}

pub(super) fn crop(picture: &Picture<'_>, part: Part) -> Picture<'static> {
    let rows = part.y..part.y + part.height;
    let pixels: Vec<u8> =
        rows.flat_map(|y| picture.view().row(y, part.x, part.width).iter().copied()).collect();
    Picture { width: part.width, height: part.height, pixels: pixels.into() }
}

pub(super) fn center_crop<'a>(picture: &Picture<'_>, width: usize, height: usize) -> Picture<'a> {
    // torchvision pads first, half (rounded down) before, then cuts at int(round(half the rest)).
    let pad = |size: usize, wanted: usize| wanted.saturating_sub(size) / 2;
    let cut = |size: usize, wanted: usize| {
        ((size.saturating_sub(wanted)) as f64 / 2.0).round_ties_even() as usize
    };
    let (left, top) = (pad(picture.width, width), pad(picture.height, height));
    let (x, y) = (cut(picture.width, width), cut(picture.height, height));
    let (columns, rows) = (width.min(picture.width), height.min(picture.height));
    let mut pixels = vec![0; 3 * width * height];
    for row in 0..rows {
        let to = 3 * ((top + row) * width + left);
        pixels[to..to + 3 * columns].copy_from_slice(picture.view().row(y + row, x, columns));
    }
    Picture { width, height, pixels: pixels.into() }
}

/// Cuts `size` x `size` out at a random place, with black around where the picture is smaller (torchvision's
/// `RandomCrop(size, pad_if_needed=True)` but for a border on both sides alike).
pub(super) fn random_crop(
    picture: &Picture<'_>,
    size: usize,
    stream: &mut Stream,
) -> Picture<'static> {
    // Row first, as torchvision draws; drawn even where there is one place only.
    let y = stream.below((picture.height.saturating_sub(size) + 1) as u32) as usize;
    let x = stream.below((picture.width.saturating_sub(size) + 1) as u32) as usize;
    let (width, height) = (picture.width.min(size), picture.height.min(size));
    let part = crop(picture, Part { x, y, width, height });
    center_crop(&part, size, size)
}

pub(super) fn pad_crop(picture: &mut Picture, padding: u32, stream: &mut Stream) {
    let places = 2 * padding + 1;
    let pad = padding as usize;
    // How far the cut begins above and left of the padded picture's corner, as torchvision draws it: row first.
    let (top, left) = (stream.below(places) as usize, stream.below(places) as usize);
    let (width, height) = (picture.width, picture.height);
    let mut pixels = vec![0; 3 * width * height];
    let columns =
        pad.saturating_sub(left).min(width)..(width + pad).saturating_sub(left).min(width);
    for y in 0..height {
        let Some(source_y) = (y + top).checked_sub(pad).filter(|&row| row < height) else {
            continue;
        };
        if columns.is_empty() {
            continue;
        }
        let source = picture.view().row(source_y, columns.start + left - pad, columns.len());
        pixels[3 * (y * width + columns.start)..3 * (y * width + columns.end)]
            .copy_from_slice(source);
    }
    picture.pixels = pixels.into();
}

pub(super) fn flip(picture: &mut Picture) {
    let row_bytes = 3 * picture.width;
    if row_bytes == 0 {
        return;
    }
    for row in picture.pixels.to_mut().chunks_exact_mut(row_bytes) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}
