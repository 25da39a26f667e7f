//! Brightness, contrast, saturation, hue, sharpness and light, as Pillow's `ImageEnhance` and torchvision do them.

use crate::picture::{Image, ImageRef, luma};

/// Pillow's `Image.blend`: in single precision, towards zero, clipped.
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    let (from, to) = (f32::from(from), f32::from(to));
    // The cast truncates and saturates.
    (from + factor * (to - from)) as u8
}

/// 0 is black, 1 the picture.
pub(super) fn brightness(pixels: &mut [u8], factor: f64) {
    pixels.iter_mut().for_each(|v| *v = blend(0, *v, factor as f32));
}

/// 0 is the mean luma everywhere, 1 the picture.
pub(super) fn contrast(pixels: &mut [u8], factor: f64) {
    let (rgb, _) = pixels.as_chunks::<3>();
    let total: u64 = rgb.iter().map(|&rgb| u64::from(luma(rgb))).sum();
    let mean = (total as f64 / rgb.len() as f64 + 0.5) as u8;
    pixels.iter_mut().for_each(|v| *v = blend(mean, *v, factor as f32));
}

/// 0 is without colour, 1 the picture.
pub(super) fn saturation(pixels: &mut [u8], factor: f64) {
    for rgb in pixels.as_chunks_mut::<3>().0 {
        let grey = luma(*rgb);
        *rgb = rgb.map(|v| blend(grey, v, factor as f32));
    }
}

/// Takes all colours away.
pub(super) fn grayscale(pixels: &mut [u8]) {
    for rgb in pixels.as_chunks_mut::<3>().0 {
        *rgb = [luma(*rgb); 3];
    }
}

/// 0 is smoothed, 1 the picture, above 1 sharper.
pub(super) fn sharpness(picture: ImageRef<'_>, factor: f64) -> Image {
    let mut image = smooth(picture);
    for (smooth, &own) in image.pixels.iter_mut().zip(picture.pixels) {
        *smooth = blend(*smooth, own, factor as f32);
    }
    image
}

/// Pillow's `ImageFilter.SMOOTH`: eight neighbours and five times the pixel, by thirteen; the border stays.
/// Sums go in the order of `ImagingFilter3x3`, in single precision.
fn smooth(picture: ImageRef<'_>) -> Image {
    let (width, height) = (picture.width, picture.height);
    let mut image = picture.to_image();
    let (one, five) = (1.0f32 / 13.0, 5.0f32 / 13.0);
    let row_bytes = 3 * width;
    for y in 1..height.saturating_sub(1) {
        let [above, own, below] = [y - 1, y, y + 1].map(|y| picture.row(y, 0, width));
        let out = &mut image.pixels[y * row_bytes..][..row_bytes];
        for i in 3..row_bytes.saturating_sub(3) {
            let three = |row: &[u8], middle: f32| {
                let [left, at, right] = [row[i - 3], row[i], row[i + 3]].map(f32::from);
                left * one + at * middle + right * one
            };
            let mut sum = 0.5f32;
            sum += three(below, one);
            sum += three(own, five);
            sum += three(above, one);
            out[i] = sum as u8;
        }
    }
    image
}

/// Turns the hue by `factor` of a full circle, -0.5 to 0.5: torchvision's `adjust_hue` on Pillow's HSV.
pub fn hue(pixels: &mut [u8], factor: f64) {
    // Towards zero, then modulo 256, as numpy's casts do.
    let turn = (factor * 255.0) as i32 as u8;
    for rgb in pixels.as_chunks_mut::<3>().0 {
        let [h, s, v] = to_hsv(*rgb);
        *rgb = to_rgb([h.wrapping_add(turn), s, v]);
    }
}

/// Pillow's `rgb2hsv_row`, with its mixture of single and double precision.
fn to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
    let (most, least) = (r.max(g).max(b), r.min(g).min(b));
    if most == least {
        return [0, 0, most];
    }
    let range = f32::from(most - least);
    let saturation = range / f32::from(most);
    let [rc, gc, bc] = [r, g, b].map(|v| f32::from(most - v) / range);
    let hue = if r == most {
        bc - gc
    } else if g == most {
        (2.0 + f64::from(rc) - f64::from(bc)) as f32
    } else {
        (4.0 + f64::from(gc) - f64::from(rc)) as f32
    };
    let hue = ((f64::from(hue) / 6.0 + 1.0) % 1.0) as f32;
    [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, most]
}

/// Pillow's `hsv2rgb`.
fn to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
    if s == 0 {
        return [v; 3];
    }
    let sector = (f64::from(h) * 6.0 / 255.0).floor();
    let f = f64::from((f64::from(h) * 6.0 / 255.0 - sector) as f32);
    let fs = f64::from((f64::from(s) / 255.0) as f32);
    let value = f64::from(v);
    let part = |share: f64| (value * share).round() as u8;
    let (p, q, t) = (part(1.0 - fs), part(1.0 - fs * f), part(1.0 - fs * (1.0 - f)));
    match sector as u32 % 6 {
        0 => [v, t, p],
        1 => [q, v, p],
        2 => [p, v, t],
        3 => [p, q, v],
        4 => [t, p, v],
        _ => [v, p, q],
    }
}

/// Principal components of ImageNet's colours, of values in 0..1: standard deviations, and a column of red, green and blue
/// for each (Krizhevsky et al. 2012, section 4.1; numbers of fb.resnet.torch, `datasets/imagenet.lua`).
const COMPONENTS: [(f64, [f64; 3]); 3] = [
    (0.2175, [-0.5675, -0.5808, -0.5836]),
    (0.0188, [0.7192, -0.0045, -0.6948]),
    (0.0045, [0.4009, -0.8140, 0.4203]),
];

/// Adds light along the principal components of ImageNet's colours, rounded to whole grey levels.
pub(super) fn lighting(pixels: &mut [u8], alphas: [f64; 3]) {
    let mut shift = [0.0; 3];
    for (alpha, (deviation, direction)) in alphas.into_iter().zip(COMPONENTS) {
        for (shift, along) in shift.iter_mut().zip(direction) {
            *shift += 255.0 * alpha * deviation * along;
        }
    }
    let shift = shift.map(|shift| shift.round() as i32);
    for rgb in pixels.as_chunks_mut::<3>().0 {
        for (v, shift) in rgb.iter_mut().zip(shift) {
            *v = (i32::from(*v) + shift).clamp(0, 255) as u8;
        }
    }
}
