//! From the bytes of a picture file to RGB: the format is told by content, never by name.

mod jpeg;
mod modes;

use std::io::Cursor;

use image::{ImageError, ImageReader, Limits};

use crate::error::DataError;
use crate::picture::{Image, Part};

/// The most pixels that are decoded: where Pillow's limit against decompression bombs becomes an error.
pub const MAX_PIXELS: u64 = 2 * 89_478_485;

/// How every JPEG begins.
const JPEG_START: [u8; 3] = [0xff, 0xd8, 0xff];

/// Decodes a picture: JPEG, PNG, GIF (its first frame), BMP or WebP.
///
/// Orientation in EXIF is not applied, as torchvision does not.
///
/// # Errors
/// When the bytes are no picture, a damaged or truncated one, or one beyond [`MAX_PIXELS`]; `name`
/// stands in the message.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Image, DataError> {
    if bytes.is_empty() {
        return Err(DataError::NotAnImage { name: name.into(), found: "an empty file".into() });
    }
    if bytes.starts_with(&JPEG_START) {
        decode_jpeg(name, bytes)
    } else {
        decode_other(name, bytes)
    }
}

/// Decodes the part of a JPEG that `choose` picks, given its columns and rows: the same pixels as of the whole
/// picture, in less time. None for a file of another format, and where `choose` picks none.
///
/// # Errors
/// As [`decode`], wherever in the file the damage is.
pub fn decode_part(
    name: &str,
    bytes: &[u8],
    choose: impl FnOnce(usize, usize) -> Option<Part>,
) -> Result<Option<Image>, DataError> {
    if !bytes.starts_with(&JPEG_START) {
        return Ok(None);
    }
    let damaged = |reason: String| DataError::Decode { name: name.into(), reason };
    let header = jpeg::header(bytes).map_err(damaged)?;
    check_size(name, header.width as u64, header.height as u64)?;
    let Some(part) = choose(header.width, header.height) else { return Ok(None) };
    let pixels = jpeg::part(bytes, &header, part).map_err(damaged)?;
    let pixels = rgb(pixels, &header);
    Ok(Some(Image { width: part.width, height: part.height, pixels }))
}

fn decode_jpeg(name: &str, bytes: &[u8]) -> Result<Image, DataError> {
    let damaged = |reason: String| DataError::Decode { name: name.into(), reason };
    let header = jpeg::header(bytes).map_err(damaged)?;
    check_size(name, header.width as u64, header.height as u64)?;
    let pixels = jpeg::pixels(bytes, &header).map_err(damaged)?;
    let pixels = rgb(pixels, &header);
    Ok(Image { width: header.width, height: header.height, pixels })
}

fn rgb(pixels: Vec<u8>, header: &jpeg::Header) -> Vec<u8> {
    match header.channels {
        1 => modes::grey(&pixels),
        4 => modes::cmyk(&pixels, header.adobe),
        _ => pixels,
    }
}

fn decode_other(name: &str, bytes: &[u8]) -> Result<Image, DataError> {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format();
    let mut reader = reader.expect("reading from memory cannot fail");
    if reader.format().is_none() {
        return Err(DataError::NotAnImage { name: name.into(), found: kind_of(bytes).into() });
    }
    let mut limits = Limits::default();
    // Eight bytes a pixel is the most that any mode takes; dimensions are checked exactly below.
    limits.max_alloc = Some(8 * MAX_PIXELS);
    reader.limits(limits.clone());
    let damaged = |error: ImageError| match error {
        ImageError::Unsupported(error) => {
            DataError::NotAnImage { name: name.into(), found: one_line(&error.to_string()) }
        }
        error => DataError::Decode { name: name.into(), reason: one_line(&error.to_string()) },
    };
    let format = reader.format().expect("checked above");
    let mut sized = ImageReader::with_format(Cursor::new(bytes), format);
    sized.limits(limits);
    let (width, height) = sized.into_dimensions().map_err(damaged)?;
    check_size(name, width.into(), height.into())?;
    let image = reader.decode().map_err(damaged)?;
    let (width, height) = (image.width() as usize, image.height() as usize);
    Ok(Image { width, height, pixels: modes::rgb(image) })
}

fn check_size(name: &str, width: u64, height: u64) -> Result<(), DataError> {
    if width == 0 || height == 0 {
        let reason = format!("{width}x{height} pixels");
        return Err(DataError::Decode { name: name.into(), reason });
    }
    match width.checked_mul(height) {
        Some(pixels) if pixels <= MAX_PIXELS => Ok(()),
        _ => Err(DataError::TooLarge { name: name.into(), width, height, limit: MAX_PIXELS }),
    }
}

/// What a file that is no picture looks like.
fn kind_of(bytes: &[u8]) -> &'static str {
    let start = &bytes[..bytes.len().min(512)];
    if start.starts_with(b"<!DOCTYPE") || start.starts_with(b"<html") {
        "a web page"
    } else if std::str::from_utf8(start).is_ok() {
        "text"
    } else {
        "no format of JPEG, PNG, GIF, BMP and WebP"
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
