//! From the bytes of a picture file to RGB.

use crate::error::DataError;
use crate::picture::Image;

/// Decodes a picture, told by content.
///
/// # Errors
/// When the bytes are no picture, or a damaged one.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Image, DataError> {
    let picture = image::load_from_memory(bytes)
        .map_err(|error| DataError::Decode { name: name.into(), reason: error.to_string() })?
        .into_rgb8();
    Ok(Image {
        width: picture.width() as usize,
        height: picture.height() as usize,
        pixels: picture.into_raw(),
    })
}
