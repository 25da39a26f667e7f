//! From the bytes of a picture file to RGB: the format is told by content, never by name.

mod gif;
mod jpeg;
mod modes;
mod tiff;

use std::io::Cursor;

use image::metadata::Orientation;
use image::{
    ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits, RgbImage,
};

use crate::error::DataError;
use crate::picture::{Image, Part};

/// The most pixels that are decoded: where Pillow's limit against decompression bombs becomes an error.
pub const MAX_PIXELS: u64 = 2 * 89_478_485;

/// How every JPEG begins.
const JPEG_START: [u8; 3] = [0xff, 0xd8, 0xff];

/// How every GIF begins.
const GIF_START: [u8; 4] = *b"GIF8";

/// Decodes a picture as it is stored: JPEG, PNG, GIF (its first frame), BMP, WebP or TIFF (its first picture).
///
/// Orientation in EXIF is not applied, as Pillow and torchvision do not; that of a TIFF always, as they do.
///
/// # Errors
/// When the bytes are no picture, a damaged or truncated one, or one beyond [`MAX_PIXELS`]; `name`
/// stands in the message.
pub fn decode(name: &str, bytes: &[u8]) -> Result<Image, DataError> {
    decode_by(name, bytes, Exif::Ignore)
}

/// What decodes JPEG in this build, in words.
pub const JPEG_DECODER: &str = if cfg!(feature = "nasm") {
    "libjpeg's (mozjpeg), in assembly"
} else {
    "libjpeg's (mozjpeg), in C; --features nasm would decode faster"
};

/// Whether a picture is turned as its EXIF data say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exif {
    /// As Pillow's `exif_transpose` does.
    Apply,
    /// As it is stored: what torchvision's models were trained on.
    Ignore,
}

/// Decodes a picture, upright or as it is stored.
///
/// # Errors
/// As [`decode`].
pub fn decode_by(name: &str, bytes: &[u8], exif: Exif) -> Result<Image, DataError> {
    if bytes.is_empty() {
        return Err(DataError::NotAnImage { name: name.into(), found: "an empty file".into() });
    }
    if bytes.starts_with(&JPEG_START) {
        decode_jpeg(name, bytes, exif)
    } else if bytes.starts_with(&GIF_START) {
        decode_gif(name, bytes)
    } else if tiff::is_tiff(bytes) {
        decode_tiff(name, bytes)
    } else {
        decode_other(name, bytes, exif)
    }
}

/// Decodes the part of a JPEG that `choose` picks, given its columns and rows: the same pixels as of the whole
/// picture, in less time. None for a file of another format, one that is to be turned, and where `choose` picks none.
///
/// # Errors
/// As [`decode`], wherever in the file the damage is.
pub fn decode_part(
    name: &str,
    bytes: &[u8],
    exif: Exif,
    choose: impl FnOnce(usize, usize) -> Option<Part>,
) -> Result<Option<Image>, DataError> {
    if !bytes.starts_with(&JPEG_START) || jpeg_orientation(bytes, exif) != Orientation::NoTransforms
    {
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

fn decode_jpeg(name: &str, bytes: &[u8], exif: Exif) -> Result<Image, DataError> {
    let damaged = |reason: String| DataError::Decode { name: name.into(), reason };
    let header = jpeg::header(bytes).map_err(damaged)?;
    check_size(name, header.width as u64, header.height as u64)?;
    let pixels = jpeg::pixels(bytes, &header).map_err(damaged)?;
    let pixels = rgb(pixels, &header);
    let image = Image { width: header.width, height: header.height, pixels };
    Ok(upright(image, jpeg_orientation(bytes, exif)))
}

/// How a JPEG is to be turned.
fn jpeg_orientation(bytes: &[u8], exif: Exif) -> Orientation {
    match exif {
        Exif::Apply => orientation_of(jpeg::exif(bytes)),
        Exif::Ignore => Orientation::NoTransforms,
    }
}

fn rgb(pixels: Vec<u8>, header: &jpeg::Header) -> Vec<u8> {
    match header.channels {
        1 => modes::grey(&pixels),
        4 => modes::cmyk(&pixels, header.adobe),
        _ => pixels,
    }
}

fn decode_gif(name: &str, bytes: &[u8]) -> Result<Image, DataError> {
    let damaged = |reason: &str| DataError::Decode { name: name.into(), reason: one_line(reason) };
    let (width, height) = gif::size(bytes).map_err(|error| damaged(&error.to_string()))?;
    check_size(name, width, height)?;
    let size = (width as usize, height as usize);
    gif::pixels(bytes, size).map_err(|reason| damaged(&reason))
}

fn decode_tiff(name: &str, bytes: &[u8]) -> Result<Image, DataError> {
    let damaged =
        |reason: String| DataError::Decode { name: name.into(), reason: one_line(&reason) };
    let header = tiff::header(bytes).map_err(damaged)?;
    check_size(name, header.width, header.height)?;
    let pixels = tiff::pixels(bytes, &header).map_err(damaged)?;
    let (width, height) = (header.width as usize, header.height as usize);
    Ok(upright(Image { width, height, pixels }, header.orientation))
}

/// Whether a PNG stores alpha, rather than a value that is to be seen through.
fn has_alpha(bytes: &[u8]) -> bool {
    let reader = png::Decoder::new(Cursor::new(bytes)).read_info();
    reader.is_ok_and(|reader| reader.info().color_type == png::ColorType::GrayscaleAlpha)
}

/// The orientation of EXIF data, which some WebP files begin with JPEG's mark of them.
fn orientation_of(chunk: Option<Vec<u8>>) -> Orientation {
    let chunk = chunk.unwrap_or_default();
    let data = chunk.strip_prefix(b"Exif\0\0").unwrap_or(&chunk);
    Orientation::from_exif_chunk(data).unwrap_or(Orientation::NoTransforms)
}

/// Turns and mirrors a picture.
fn upright(image: Image, orientation: Orientation) -> Image {
    if orientation == Orientation::NoTransforms {
        return image;
    }
    let (width, height) = (image.width as u32, image.height as u32);
    let buffer = RgbImage::from_raw(width, height, image.pixels);
    let mut turned = DynamicImage::ImageRgb8(buffer.expect("a picture has all its pixels"));
    turned.apply_orientation(orientation);
    let (width, height) = (turned.width() as usize, turned.height() as usize);
    Image { width, height, pixels: turned.into_rgb8().into_raw() }
}

fn decode_other(name: &str, bytes: &[u8], exif: Exif) -> Result<Image, DataError> {
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
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let orientation = match exif {
        Exif::Apply => orientation_of(decoder.exif_metadata().map_err(damaged)?),
        Exif::Ignore => Orientation::NoTransforms,
    };
    let mut image = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    if format == ImageFormat::Png && image.color() == ColorType::La16 && !has_alpha(bytes) {
        image = image.into_luma16().into();
    }
    let (width, height) = (image.width() as usize, image.height() as usize);
    Ok(upright(Image { width, height, pixels: modes::rgb(image) }, orientation))
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
        "no format of JPEG, PNG, GIF, BMP, WebP and TIFF"
    }
}

fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}
