//! Augmentation and evaluation geometry: a list of named steps from a picture to what the network sees.
//!
//! Parameters come from the stream of (seed, [`Purpose::Augment`], epoch, sample identity): the same picture
//! for the same three, whatever the workers. Evaluation's steps draw nothing.

use std::borrow::Cow;

use resnet_core::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

use crate::picture::{Colour, Image, ImageRef, Part};
use crate::resize::{resize, shorter_side};

/// One step of a recipe's `[augment]`, or of evaluation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Pads each side with black and cuts the original size out at a random place
    /// (torchvision's `RandomCrop(size, padding)`).
    PadCrop {
        /// Pixels added on each side.
        padding: u32,
    },
    /// Mirrors left and right with probability `p`.
    Flip {
        /// The probability.
        p: f64,
    },
    /// Cuts out a random part of the area and proportions and scales it to `size` x `size`
    /// (torchvision's `RandomResizedCrop`).
    RandomResizedCrop {
        /// Rows and columns of the result.
        size: u32,
        /// The part's share of the area, lowest and highest.
        #[serde(default = "default_scale")]
        scale: [f64; 2],
        /// Its width over its height, lowest and highest.
        #[serde(default = "default_ratio")]
        ratio: [f64; 2],
    },
    /// Scales so that the shorter side has `side` pixels (torchvision's `Resize(side)`).
    Resize {
        /// Pixels of the shorter side.
        side: u32,
    },
    /// Cuts the middle out, padding with black where the picture is smaller (torchvision's
    /// `CenterCrop`).
    CenterCrop {
        /// Rows of the result.
        height: u32,
        /// Columns of the result.
        width: u32,
    },
}

impl Step {
    /// A [`Step::RandomResizedCrop`] with torchvision's share of the area and proportions.
    pub fn random_resized_crop(size: u32) -> Step {
        Step::RandomResizedCrop { size, scale: default_scale(), ratio: default_ratio() }
    }
}

/// torchvision's defaults.
fn default_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn default_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

/// The stream that a sample's augmentation draws from.
pub fn stream_for(seed: u64, epoch: u32, sample_id: u64) -> Stream {
    Stream::new(seed, Purpose::Augment, epoch, sample_id)
}

/// The part of a picture of this size that the steps begin by cutting out, if they do so before all else; draws
/// what that step draws. [`prepare_after_cut`] goes on with the part.
pub fn first_cut(steps: &[Step], size: (usize, usize), stream: &mut Stream) -> Option<Part> {
    match steps.first()? {
        Step::RandomResizedCrop { scale, ratio, .. } => {
            Some(random_part(size, (*scale, *ratio), stream))
        }
        _ => None,
    }
}

/// Takes the part that [`first_cut`] chose through the rest of `steps`: the same pixels as [`apply`] of the
/// whole picture.
fn apply_after_cut<'a>(part: ImageRef<'_>, steps: &[Step], stream: &mut Stream) -> Picture<'a> {
    let Some((Step::RandomResizedCrop { size, .. }, rest)) = steps.split_first() else {
        return owned(apply(part, steps, stream));
    };
    let scaled = resize(part, *size as usize, *size as usize);
    owned(apply(scaled.view(), rest, stream))
}

/// Takes a picture through `steps`.
pub fn apply<'a>(picture: ImageRef<'a>, steps: &[Step], stream: &mut Stream) -> Picture<'a> {
    let mut picture =
        Picture { width: picture.width, height: picture.height, pixels: picture.pixels.into() };
    for step in steps {
        match *step {
            Step::PadCrop { padding } => pad_crop(&mut picture, padding, stream),
            Step::Flip { p } => {
                // Drawn even for p = 0 or 1, so that p does not shift what later steps draw.
                if stream.uniform_f64() < p {
                    flip(&mut picture);
                }
            }
            Step::RandomResizedCrop { size, scale, ratio } => {
                let part = random_part((picture.width, picture.height), (scale, ratio), stream);
                let cut = crop(&picture, part);
                picture = owned(resize(cut.view(), size as usize, size as usize));
            }
            Step::Resize { side } => {
                let (width, height) = shorter_side(picture.width, picture.height, side as usize);
                picture = owned(resize(picture.view(), width, height));
            }
            Step::CenterCrop { height, width } => {
                picture = center_crop(&picture, width as usize, height as usize);
            }
        }
    }
    picture
}

/// Takes a picture through `steps` to what a network sees: appends u8 `[height, width, channels]` to `pixels` and
/// returns width and height.
///
/// Greyscale pictures lose their colours first and then go through the steps as three equal channels, which
/// every step leaves equal.
pub fn prepare(
    picture: ImageRef<'_>,
    colour: Colour,
    steps: &[Step],
    stream: &mut Stream,
    pixels: &mut Vec<u8>,
) -> (usize, usize) {
    let grey;
    let picture = match colour {
        Colour::Rgb => picture,
        Colour::Grey => {
            grey = picture.to_grey();
            grey.view()
        }
    };
    append(apply(picture, steps, stream), colour, pixels)
}

/// [`prepare`], for the part that [`first_cut`] chose.
pub fn prepare_after_cut(
    part: ImageRef<'_>,
    colour: Colour,
    steps: &[Step],
    stream: &mut Stream,
    pixels: &mut Vec<u8>,
) -> (usize, usize) {
    let grey;
    let part = match colour {
        Colour::Rgb => part,
        Colour::Grey => {
            grey = part.to_grey();
            grey.view()
        }
    };
    append(apply_after_cut(part, steps, stream), colour, pixels)
}

/// Appends a picture's pixels in a network's colours; its columns and rows.
fn append(picture: Picture<'_>, colour: Colour, pixels: &mut Vec<u8>) -> (usize, usize) {
    match colour {
        Colour::Rgb => pixels.extend_from_slice(&picture.pixels),
        Colour::Grey => pixels.extend(picture.pixels.as_chunks::<3>().0.iter().map(|rgb| rgb[0])),
    }
    (picture.width, picture.height)
}

/// A picture on its way through the steps: borrowed until the first step that changes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Picture<'a> {
    /// Pixels in a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `[height, width, 3]`.
    pub pixels: Cow<'a, [u8]>,
}

impl Picture<'_> {
    /// The same picture, borrowed.
    pub fn view(&self) -> ImageRef<'_> {
        ImageRef { width: self.width, height: self.height, pixels: &self.pixels }
    }
}

impl From<Image> for Picture<'static> {
    fn from(image: Image) -> Picture<'static> {
        Picture { width: image.width, height: image.height, pixels: image.pixels.into() }
    }
}

/// torchvision's `RandomResizedCrop.get_params`: ten tries at an area and proportions that fit, then
/// the middle, as near to the proportions as the picture allows.
fn random_part(
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

fn crop(picture: &Picture<'_>, part: Part) -> Picture<'static> {
    let rows = part.y..part.y + part.height;
    let pixels: Vec<u8> =
        rows.flat_map(|y| picture.view().row(y, part.x, part.width).iter().copied()).collect();
    Picture { width: part.width, height: part.height, pixels: pixels.into() }
}

fn center_crop<'a>(picture: &Picture<'_>, width: usize, height: usize) -> Picture<'a> {
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

fn owned(picture: Picture<'_>) -> Picture<'static> {
    let Picture { width, height, pixels } = picture;
    Picture { width, height, pixels: pixels.into_owned().into() }
}

fn pad_crop(picture: &mut Picture, padding: u32, stream: &mut Stream) {
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

fn flip(picture: &mut Picture) {
    let row_bytes = 3 * picture.width;
    if row_bytes == 0 {
        return;
    }
    for row in picture.pixels.to_mut().chunks_exact_mut(row_bytes) {
        let (pixels, _) = row.as_chunks_mut::<3>();
        pixels.reverse();
    }
}
