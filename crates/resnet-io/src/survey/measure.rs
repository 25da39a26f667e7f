//! One sample: read, decoded, and reduced to what others are compared with.

use image::ImageFormat;
use sha2::{Digest, Sha256};

use super::Part;
use crate::decode::{Exif, decode_by};
use crate::error::DataError;
use crate::picture::ImageRef;
use crate::resize::{Filter, resize};
use crate::source::{Encoded, Source};

/// Rows and columns of the thumbnail that nearly equal pictures share.
pub(super) const THUMBNAIL: usize = 8;

/// A sample of a set.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What it is called.
    pub path: String,
    /// What it is for.
    pub part: Part,
    /// Its class, or classes, by the part's list; 0 for unused files.
    pub labels: Vec<u32>,
    /// What it is.
    pub measured: Measured,
}

/// What a file turned out to be.
#[derive(Clone, Debug)]
pub enum Measured {
    /// A picture.
    Good(Box<Good>),
    /// None that can be used; the error begins with its name.
    Bad(BadKind, String),
    /// No picture, and not meant to be one: text without a picture's name, such as a list.
    Stray,
}

/// Why a file cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKind {
    /// The system could not read it.
    Unreadable,
    /// It is no picture of a known format.
    NotAnImage,
    /// It is damaged or cut short.
    Damaged,
    /// It has too many pixels.
    TooLarge,
}

/// A picture that can be used.
#[derive(Clone, Debug)]
pub struct Good {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Bytes as stored.
    pub bytes: u64,
    /// Whether the ending of the name is another format's: (by name, by content).
    pub lie: Option<(&'static str, &'static str)>,
    /// SHA-256 of the pixels, RGB, row by row.
    pub rgb_sha256: [u8; 32],
    /// A hash of the bytes as stored.
    pub(super) content: u128,
    /// Which of neighbouring grey values of the thumbnail is larger: nearly equal pictures have nearly
    /// the same bits. (N. Krawetz 2013, "Kind of like that": the difference hash.)
    pub(super) shape: u64,
    /// The picture scaled to 8x8.
    pub(super) thumbnail: [u8; 3 * THUMBNAIL * THUMBNAIL],
}

/// Reads one sample.
pub(super) fn measure(source: &dyn Source, index: usize, part: Part) -> Picture {
    let path = source.name(index);
    let measured = match source.read(index) {
        Err(error) => bad(&error),
        Ok(Encoded::Pixels(pixels)) => good(pixels, pixels.pixels, None),
        Ok(Encoded::File(bytes)) => match decode_by(&path, &bytes, Exif::Apply) {
            Ok(image) => good(image.view(), &bytes, lie(&path, &bytes)),
            Err(_) if is_stray(&path, &bytes) => Measured::Stray,
            Err(error) => bad(&error),
        },
    };
    Picture { path, part, labels: source.labels(index).as_slice().to_vec(), measured }
}

fn bad(error: &DataError) -> Measured {
    let kind = match error {
        DataError::NotAnImage { .. } => BadKind::NotAnImage,
        DataError::TooLarge { .. } => BadKind::TooLarge,
        DataError::Decode { .. } => BadKind::Damaged,
        _ => BadKind::Unreadable,
    };
    Measured::Bad(kind, error.to_string())
}

fn good(pixels: ImageRef<'_>, bytes: &[u8], lie: Option<(&'static str, &'static str)>) -> Measured {
    let small = resize(pixels, THUMBNAIL + 1, THUMBNAIL, Filter::Bilinear);
    let mut shape = 0;
    for row in small.pixels.chunks_exact(3 * (THUMBNAIL + 1)) {
        let (pixels, _) = row.as_chunks::<3>();
        // The sum of the channels orders pixels as well as any grey does.
        let grey = |pixel: &[u8; 3]| pixel.iter().map(|&v| u32::from(v)).sum::<u32>();
        for pair in pixels.windows(2) {
            shape = shape << 1 | u64::from(grey(&pair[0]) < grey(&pair[1]));
        }
    }
    let square = resize(small.view(), THUMBNAIL, THUMBNAIL, Filter::Bilinear);
    let thumbnail = square.pixels.as_ref().try_into().expect("8x8 pixels of three bytes");
    Measured::Good(Box::new(Good {
        width: pixels.width,
        height: pixels.height,
        bytes: bytes.len() as u64,
        lie,
        rgb_sha256: Sha256::digest(pixels.pixels).into(),
        content: xxhash_rust::xxh3::xxh3_128(bytes),
        shape,
        thumbnail,
    }))
}

/// The formats by name and by content, where they differ.
fn lie(path: &str, bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let extension = path.rsplit_once('.')?.1;
    let (named, found) =
        (ImageFormat::from_extension(extension)?, image::guess_format(bytes).ok()?);
    (named != found).then(|| (format_name(named), format_name(found)))
}

fn format_name(format: ImageFormat) -> &'static str {
    format.extensions_str().first().copied().unwrap_or("another format")
}

/// Whether a file that cannot be decoded was never meant to be a picture.
fn is_stray(path: &str, bytes: &[u8]) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let is_named_picture = ImageFormat::from_extension(extension).is_some();
    !is_named_picture && !bytes.is_empty() && std::str::from_utf8(bytes).is_ok()
}
