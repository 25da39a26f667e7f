//! TIFF by the `tiff` crate: its first picture, uncompressed or by LZW, deflate, PackBits or fax group 4.
//!
//! The fields of the directory that decide how the crate reads are looked at here first: what it would panic on
//! (planes in tiles) or decode to other pixels than Pillow is refused by name, as is what no two programs agree on.

use std::collections::BTreeMap;
use std::io::Cursor;

use ::tiff::ColorType;
use ::tiff::decoder::{Decoder, DecodingResult, Limits};
use ::tiff::tags::Tag;
use image::metadata::Orientation;

use super::{MAX_PIXELS, modes};

/// How every TIFF begins, in either order of bytes; BigTIFF too, which is refused by name.
const STARTS: [&[u8; 4]; 4] = [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"];

/// Whether bytes are of a TIFF file.
pub(super) fn is_tiff(bytes: &[u8]) -> bool {
    STARTS.iter().any(|start| bytes.starts_with(*start))
}

// Numbers of fields (TIFF 6.0, 1992, section 8 and following).
const WIDTH: u16 = 256;
const HEIGHT: u16 = 257;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const FILL_ORDER: u16 = 266;
const ORIENTATION: u16 = 274;
const SAMPLES: u16 = 277;
const PLANAR: u16 = 284;
const PREDICTOR: u16 = 317;
const TILE_OFFSETS: u16 = 324;

// What PHOTOMETRIC says.
const WHITE_IS_ZERO: u32 = 0;
const BLACK_IS_ZERO: u32 = 1;
const RGB: u32 = 2;
const PALETTE: u32 = 3;
const CMYK: u32 = 5;

/// The most samples of a pixel: CMYK and two more, the most that Pillow knows.
const MAX_SAMPLES: u32 = 6;

/// What is known before anything is decoded.
pub(super) struct Header {
    pub(super) width: u64,
    pub(super) height: u64,
    /// Pillow turns every TIFF as this says when it is loaded.
    pub(super) orientation: Orientation,
    photometric: u32,
    samples: u32,
    predictor: u32,
    fields: Fields,
}

/// The fields of the first directory.
struct Fields {
    little: bool,
    found: BTreeMap<u16, Field>,
}

/// A field that is one number: where in the file, its bytes, and the number. Others have none.
type Field = Option<(usize, usize, u32)>;

impl Fields {
    fn read(bytes: &[u8]) -> Result<Fields, String> {
        let little = bytes.starts_with(b"II");
        Fields::entries(bytes, little).ok_or("its directory is damaged".to_string())
    }

    /// None if the directory leaves the file, has a field twice, or one that is longer than the file.
    fn entries(bytes: &[u8], little: bool) -> Option<Fields> {
        let short = |at: usize| {
            let two = *bytes.get(at..)?.first_chunk()?;
            Some(if little { u16::from_le_bytes(two) } else { u16::from_be_bytes(two) })
        };
        let long = |at: usize| {
            let four = *bytes.get(at..)?.first_chunk()?;
            Some(if little { u32::from_le_bytes(four) } else { u32::from_be_bytes(four) })
        };
        let start = long(4)? as usize;
        let count = usize::from(short(start)?);
        let mut found = BTreeMap::new();
        for at in (0..count).map(|number| start + 2 + 12 * number) {
            let (tag, kind, items, value) = (short(at)?, short(at + 2)?, long(at + 4)?, at + 8);
            long(value)?;
            let field = match (kind, items) {
                (3, 1) => Some((value, 2, u32::from(short(value)?))),
                (4, 1) => Some((value, 4, long(value)?)),
                _ => None,
            };
            if bytes.len() < items as usize || found.insert(tag, field).is_some() {
                return None;
            }
        }
        Some(Fields { little, found })
    }

    /// A field's number, or what it is where there is none.
    fn number(&self, tag: u16, default: Option<u32>) -> Result<u32, String> {
        match self.found.get(&tag) {
            Some(Some((_, _, number))) => Ok(*number),
            Some(None) => Err(format!("its field {tag} is not one whole number")),
            None => default.ok_or_else(|| format!("it has no field {tag}")),
        }
    }

    /// The file with another number in a field that is one.
    fn with(&self, bytes: &[u8], tag: u16, number: u16) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if let Some(Some((at, len, _))) = self.found.get(&tag) {
            let place = &mut bytes[*at..at + len];
            place.fill(0);
            if self.little {
                place[..2].copy_from_slice(&number.to_le_bytes());
            } else {
                place[len - 2..].copy_from_slice(&number.to_be_bytes());
            }
        }
        bytes
    }
}

/// Reads what decides how a file is decoded.
///
/// # Errors
/// When the file is damaged there, or of a kind that is not read.
pub(super) fn header(bytes: &[u8]) -> Result<Header, String> {
    if bytes.get(2..4).is_some_and(|version| version.contains(&b'+')) {
        return Err("BigTIFF is not read".to_string());
    }
    let fields = Fields::read(bytes)?;
    let number = |tag, default| fields.number(tag, Some(default));
    let refuse = |what: &str, number: u32| Err(format!("TIFF with {what} {number} is not read"));
    let compression = number(COMPRESSION, 1)?;
    if ![1, 4, 5, 8, 32_773, 32_946].contains(&compression) {
        return refuse("compression", compression);
    }
    let photometric = fields.number(PHOTOMETRIC, None)?;
    if ![WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK].contains(&photometric) {
        return refuse("photometric interpretation", photometric);
    }
    let (samples, fill_order) = (number(SAMPLES, 1)?, number(FILL_ORDER, 1)?);
    if MAX_SAMPLES < samples {
        return refuse("samples a pixel of", samples);
    }
    if fill_order != 1 {
        return refuse("fill order", fill_order);
    }
    if number(PLANAR, 1)? != 1 && fields.found.contains_key(&TILE_OFFSETS) {
        return Err("TIFF with planes in tiles is not read".to_string());
    }
    let orientation = u8::try_from(number(ORIENTATION, 1)?).ok().and_then(Orientation::from_exif);
    Ok(Header {
        width: fields.number(WIDTH, None)?.into(),
        height: fields.number(HEIGHT, None)?.into(),
        orientation: orientation.unwrap_or(Orientation::NoTransforms),
        photometric,
        samples,
        predictor: number(PREDICTOR, 1)?,
        fields,
    })
}

/// Decodes a file to RGB, as Pillow 13's `convert("RGB")` does.
///
/// # Errors
/// When the file is damaged, or of a kind that is not read.
pub(super) fn pixels(bytes: &[u8], header: &Header) -> Result<Vec<u8>, String> {
    let failed = |error: ::tiff::TiffError| error.to_string();
    let is_palette = header.photometric == PALETTE;
    // The crate reads no palettes: it is told that their numbers are grey.
    let as_grey = is_palette.then(|| header.fields.with(bytes, PHOTOMETRIC, BLACK_IS_ZERO as u16));
    let mut limits = Limits::default();
    limits.decoding_buffer_size = (8 * MAX_PIXELS) as usize;
    limits.intermediate_buffer_size = bytes.len();
    limits.ifd_value_size = bytes.len();
    let decoder = Decoder::new(Cursor::new(as_grey.as_deref().unwrap_or(bytes)));
    let mut decoder = decoder.map_err(failed)?.with_limits(limits);
    let colour = decoder.colortype().map_err(failed)?;
    let samples = usize::from(colour.num_samples());
    let refuse = || Err(format!("TIFF of {colour:?} pixels in this layout is not read"));
    if samples != header.samples as usize && header.predictor != 1 {
        // The crate undoes differences with the distance of all samples between those that it keeps.
        return refuse();
    }
    let extra = decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(failed)?;
    let is_premultiplied = extra.is_some_and(|extra| extra.first() == Some(&1));
    let palette = match is_palette {
        true => Some(decoder.get_tag_u16_vec(Tag::ColorMap).map_err(failed)?),
        false => None,
    };
    let mut data = DecodingResult::U8(Vec::new());
    let layout = decoder.read_image_to_buffer(&mut data).map_err(failed)?;
    let (width, height) = (header.width as usize, header.height as usize);
    let Some(values) = bytes_of(data, colour, header) else { return refuse() };
    let values: Vec<u8> = if layout.planes == 1 { values } else { interleave(&values, samples) };
    if Some(values.len()) != width.checked_mul(height).and_then(|n| n.checked_mul(samples)) {
        return Err("fewer pixels than it says".to_string());
    }
    match colour {
        ColorType::Gray(_) => shades(&values, palette),
        ColorType::Multiband { num_samples: 2, .. } if !is_premultiplied => {
            let first: Vec<u8> = values.iter().copied().step_by(2).collect();
            shades(&first, palette)
        }
        ColorType::RGB(_) => Ok(values),
        ColorType::RGBA(_) => Ok(opaque(&values, is_premultiplied)),
        ColorType::CMYK(_) => Ok(modes::cmyk(&values, false)),
        _ => refuse(),
    }
}

/// Values of any kind as bytes, as Pillow makes them: colours by their high byte, wide grey clipped. None for kinds that
/// are not read.
fn bytes_of(data: DecodingResult, colour: ColorType, header: &Header) -> Option<Vec<u8>> {
    let (is_palette, width) = (header.photometric == PALETTE, header.width as usize);
    Some(match (data, colour) {
        (DecodingResult::U8(packed), ColorType::Gray(bits @ (1 | 2 | 4))) => {
            let scale = if is_palette { 1 } else { 255 / ((1 << bits) - 1) };
            unpack(&packed, bits, width).map(|value| value * scale).collect()
        }
        (DecodingResult::U8(values), colour) if colour.bit_depth() == 8 => values,
        _ if is_palette => return None,
        // Pillow inverts none of these.
        (_, ColorType::Gray(_)) if header.photometric == WHITE_IS_ZERO => return None,
        (DecodingResult::U16(values), ColorType::Gray(16)) => {
            values.into_iter().map(|value| value.min(255) as u8).collect()
        }
        (DecodingResult::U16(values), colour) if colour.bit_depth() == 16 => {
            values.into_iter().map(|value| (value >> 8) as u8).collect()
        }
        (DecodingResult::I16(values), ColorType::Gray(16)) => {
            values.into_iter().map(|value| value.clamp(0, 255) as u8).collect()
        }
        (DecodingResult::I32(values), ColorType::Gray(32)) => {
            values.into_iter().map(|value| value.clamp(0, 255) as u8).collect()
        }
        // Pillow takes them for signed ones.
        (DecodingResult::U32(values), ColorType::Gray(32)) => {
            values.into_iter().map(|value| value.cast_signed().clamp(0, 255) as u8).collect()
        }
        // The cast cuts off what is behind the point, and makes 0 of what is no number.
        (DecodingResult::F32(values), ColorType::Gray(32)) => {
            values.into_iter().map(|value| value as u8).collect()
        }
        _ => return None,
    })
}

/// Values of fewer than eight bits, whose rows begin with a byte.
fn unpack(packed: &[u8], bits: u8, width: usize) -> impl Iterator<Item = u8> {
    let row_bytes = (width * usize::from(bits)).div_ceil(8);
    let per_byte = 8 / bits;
    packed.chunks_exact(row_bytes).flat_map(move |row| {
        let values = row.iter().flat_map(move |&byte| {
            (1..=per_byte).map(move |nth| byte >> (8 - nth * bits) & ((1 << bits) - 1))
        });
        values.take(width)
    })
}

/// Pixels of planes that stand one behind another.
fn interleave(values: &[u8], planes: usize) -> Vec<u8> {
    let pixels = values.len() / planes;
    (0..pixels).flat_map(|at| (0..planes).map(move |plane| values[plane * pixels + at])).collect()
}

/// Grey values, or numbers of a palette's colours: all reds, all greens, all blues, in 16 bits.
fn shades(values: &[u8], palette: Option<Vec<u16>>) -> Result<Vec<u8>, String> {
    let Some(palette) = palette else { return Ok(modes::grey(values)) };
    let colours = palette.len() / 3;
    let colour = |value: u8| {
        let of = |channel: usize| palette.get(channel * colours + usize::from(value));
        let at = usize::from(value) < colours;
        at.then(|| [0, 1, 2].map(|channel| of(channel).map_or(0, |&v| (v >> 8) as u8)))
    };
    let rgb: Option<Vec<[u8; 3]>> = values.iter().map(|&value| colour(value)).collect();
    rgb.map(|rgb| rgb.into_flattened()).ok_or("a colour that its palette has not".to_string())
}

/// Drops alpha; where colours were multiplied by it, that is undone as Pillow does.
fn opaque(values: &[u8], is_premultiplied: bool) -> Vec<u8> {
    let (pixels, _) = values.as_chunks::<4>();
    let colour = |&[r, g, b, alpha]: &[u8; 4]| match alpha {
        255 => [r, g, b],
        _ if !is_premultiplied => [r, g, b],
        0 => [0; 3],
        _ => [r, g, b].map(|v| (u32::from(v) * 255 / u32::from(alpha)).min(255) as u8),
    };
    pixels.iter().flat_map(colour).collect()
}
