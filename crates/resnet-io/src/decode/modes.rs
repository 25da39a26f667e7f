//! All kinds of pixels to 8-bit RGB, as Pillow 13's `convert("RGB")` does.

use image::DynamicImage;

/// Grey to three equal channels.
pub(super) fn grey(pixels: &[u8]) -> Vec<u8> {
    pixels.iter().flat_map(|&v| [v; 3]).collect()
}

/// CMYK to RGB: `(255 - k) - c * (255 - k) / 255`, rounded as Pillow's MULDIV255 rounds.
///
/// `inverted`: the file holds 255 minus each ink, as Adobe's do.
pub(super) fn cmyk(pixels: &[u8], inverted: bool) -> Vec<u8> {
    let muldiv255 = |a: u32, b: u32| {
        let product = a * b + 128;
        ((product >> 8) + product) >> 8
    };
    let (inks, _) = pixels.as_chunks::<4>();
    let convert = |inks: &[u8; 4]| {
        let [c, m, y, k] = inks.map(|v| u32::from(if inverted { 255 - v } else { v }));
        let light = 255 - k;
        [c, m, y].map(|ink| light.saturating_sub(muldiv255(ink, light)) as u8)
    };
    inks.iter().flat_map(convert).collect()
}

/// What the `image` crate decoded, to RGB: alpha is dropped, 16-bit colour takes its high byte, 16-bit
/// grey is clipped at 255, as Pillow's mode `I;16` is.
pub(super) fn rgb(image: DynamicImage) -> Vec<u8> {
    let high = |v: u16| (v >> 8) as u8;
    match image {
        DynamicImage::ImageLuma8(image) => grey(image.as_raw()),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageRgb8(image) => image.into_raw(),
        DynamicImage::ImageRgba8(image) => {
            image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect()
        }
        DynamicImage::ImageLuma16(image) => {
            image.pixels().flat_map(|p| [p.0[0].min(255) as u8; 3]).collect()
        }
        DynamicImage::ImageLumaA16(image) => {
            image.pixels().flat_map(|p| [high(p.0[0]); 3]).collect()
        }
        DynamicImage::ImageRgb16(image) => image.into_raw().into_iter().map(high).collect(),
        DynamicImage::ImageRgba16(image) => {
            image.pixels().flat_map(|p| [high(p.0[0]), high(p.0[1]), high(p.0[2])]).collect()
        }
        other => other.into_rgb8().into_raw(),
    }
}
