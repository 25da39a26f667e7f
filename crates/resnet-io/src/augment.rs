//! Augmentation and evaluation geometry: a list of named steps from a picture to what the network sees.
//!
//! Parameters come from the stream of (seed, [`Purpose::Augment`], epoch, sample identity): the same picture
//! for the same three, whatever the workers. Evaluation's steps draw nothing.

use std::borrow::Cow;

use resnet_core::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

use crate::picture::{Image, ImageRef};

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
}

/// The stream that a sample's augmentation draws from.
pub fn stream_for(seed: u64, epoch: u32, sample_id: u64) -> Stream {
    Stream::new(seed, Purpose::Augment, epoch, sample_id)
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
        }
    }
    picture
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
