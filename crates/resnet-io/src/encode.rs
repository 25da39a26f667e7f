//! From pixels to the bytes of a picture file.

use std::io::Cursor;

use crate::error::DataError;
use crate::picture::ImageRef;

/// A PNG of a picture.
///
/// # Errors
/// When the picture is larger than the format allows.
pub fn png(picture: ImageRef<'_>) -> Result<Vec<u8>, DataError> {
    let mut bytes = Vec::new();
    let fail = |error: image::ImageError| unwritable(picture, &error.to_string());
    let (width, height) = sides(picture)?;
    image::write_buffer_with_format(
        &mut Cursor::new(&mut bytes),
        picture.pixels,
        width,
        height,
        image::ExtendedColorType::Rgb8,
        image::ImageFormat::Png,
    )
    .map_err(fail)?;
    Ok(bytes)
}

/// A JPEG of a picture, at a quality of 1 to 100, colours at full resolution above 90.
///
/// # Errors
/// When the picture is larger than the format allows.
pub fn jpeg(picture: ImageRef<'_>, quality: u8) -> Result<Vec<u8>, DataError> {
    let fail = |reason: &str| unwritable(picture, reason);
    let side =
        |n: usize| u16::try_from(n).map_err(|_| fail("JPEG has at most 65535 pixels a side"));
    let (width, height) = (side(picture.width)?, side(picture.height)?);
    let mut bytes = Vec::new();
    let mut encoder = jpeg_encoder::Encoder::new(&mut bytes, quality);
    encoder.set_sampling_factor(match quality {
        91.. => jpeg_encoder::SamplingFactor::R_4_4_4,
        _ => jpeg_encoder::SamplingFactor::R_4_2_0,
    });
    let colour = jpeg_encoder::ColorType::Rgb;
    let written = encoder.encode(picture.pixels, width, height, colour);
    written.map_err(|error| fail(&error.to_string()))?;
    Ok(bytes)
}

fn sides(picture: ImageRef<'_>) -> Result<(u32, u32), DataError> {
    let side =
        |n: usize| u32::try_from(n).map_err(|_| unwritable(picture, "too many pixels a side"));
    Ok((side(picture.width)?, side(picture.height)?))
}

fn unwritable(picture: ImageRef<'_>, reason: &str) -> DataError {
    let reason = reason.to_string();
    DataError::Encode { width: picture.width, height: picture.height, reason }
}
