//! Augmentation and evaluation geometry: a list of named steps from a picture to what the network sees.
//!
//! Parameters come from the stream of (seed, [`Purpose::Augment`], epoch and copy, sample identity): the same picture
//! for the same four, whatever the workers. Evaluation's steps draw nothing. Given its parameters, a step gives the pixels that
//! torchvision gives on Pillow's pictures.

mod affine;
mod colour;
mod crop;
mod erase;
pub mod policy;
mod step;
mod tone;

use std::borrow::Cow;

use resnet_core::rng::{Purpose, Stream};

pub use self::colour::hue;
use self::crop::{center_crop, flip, pad_crop, random_crop, random_part};
use self::policy::AugMix;
pub use self::step::Step;
use crate::picture::{Colour, Image, ImageRef, Part};
use crate::resize::{Filter, resize, shorter_side};

/// Where the number of a sample's copy stands in the stream's first counter: above all epochs.
const COPY_SHIFT: u32 = 20;
/// Copies of a sample in an epoch that can be told apart.
pub(crate) const MAX_COPIES: u32 = 1 << (32 - COPY_SHIFT);

/// The stream that a sample's augmentation draws from. `copy` counts the times that an epoch has the sample, from 0.
///
/// # Panics
/// When the epoch reaches 2^20 or the copy 2^12.
pub fn stream_for(seed: u64, epoch: u32, copy: u32, sample_id: u64) -> Stream {
    assert!(epoch < 1 << COPY_SHIFT && copy < MAX_COPIES, "recipes allow fewer");
    Stream::new(seed, Purpose::Augment, epoch | copy << COPY_SHIFT, sample_id)
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
fn apply_after_cut<'a>(part: ImageRef<'a>, steps: &[Step], stream: &mut Stream) -> Picture<'a> {
    let mut picture =
        Picture { width: part.width, height: part.height, pixels: part.pixels.into() };
    let rest = match steps.split_first() {
        Some((Step::RandomResizedCrop { size, interpolation, .. }, rest)) => {
            scale_to(&mut picture, (*size as usize, *size as usize), *interpolation);
            rest
        }
        _ => steps,
    };
    for step in rest {
        apply_step(&mut picture, step, stream);
    }
    picture
}

/// Takes a picture through `steps`.
pub fn apply<'a>(picture: ImageRef<'a>, steps: &[Step], stream: &mut Stream) -> Picture<'a> {
    let mut picture =
        Picture { width: picture.width, height: picture.height, pixels: picture.pixels.into() };
    for step in steps {
        apply_step(&mut picture, step, stream);
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
    in_colours(picture, colour, pixels, |picture| apply(picture, steps, stream))
}

/// [`prepare`], for the part that [`first_cut`] chose.
pub fn prepare_after_cut(
    part: ImageRef<'_>,
    colour: Colour,
    steps: &[Step],
    stream: &mut Stream,
    pixels: &mut Vec<u8>,
) -> (usize, usize) {
    in_colours(part, colour, pixels, |part| apply_after_cut(part, steps, stream))
}

/// Appends what `change` makes of a picture in a network's colours; its columns and rows.
fn in_colours(
    picture: ImageRef<'_>,
    colour: Colour,
    pixels: &mut Vec<u8>,
    change: impl for<'p> FnOnce(ImageRef<'p>) -> Picture<'p>,
) -> (usize, usize) {
    match colour {
        Colour::Rgb => {
            let picture = change(picture);
            pixels.extend_from_slice(&picture.pixels);
            (picture.width, picture.height)
        }
        Colour::Grey => {
            let grey = picture.to_grey();
            let picture = change(grey.view());
            pixels.extend(picture.pixels.as_chunks::<3>().0.iter().map(|rgb| rgb[0]));
            (picture.width, picture.height)
        }
    }
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

fn apply_step(picture: &mut Picture<'_>, step: &Step, stream: &mut Stream) {
    match *step {
        Step::PadCrop { padding } => pad_crop(picture, padding, stream),
        Step::Flip { p } => {
            if happens(p, stream) {
                flip(picture);
            }
        }
        Step::RandomResizedCrop { size, scale, ratio, interpolation } => {
            let part = random_part((picture.width, picture.height), (scale, ratio), stream);
            *picture = crop::crop(picture, part);
            scale_to(picture, (size as usize, size as usize), interpolation);
        }
        Step::RandomCrop { size } => *picture = random_crop(picture, size as usize, stream),
        Step::Resize { side, interpolation } => {
            let size = shorter_side(picture.width, picture.height, side as usize);
            scale_to(picture, size, interpolation);
        }
        Step::ScaleJitter { sides: [low, high], interpolation } => {
            let side = low + stream.below(high - low + 1);
            let size = shorter_side(picture.width, picture.height, side as usize);
            scale_to(picture, size, interpolation);
        }
        Step::CenterCrop { height, width } => {
            *picture = center_crop(picture, width as usize, height as usize);
        }
        Step::Rotation { degrees } => {
            let angle = between(degrees, stream);
            change(picture, |image| *image = affine::rotate(image.view(), angle));
        }
        Step::ColorJitter { brightness, contrast, saturation, hue } => {
            let jitter = Jitter::draw([brightness, contrast, saturation], hue, stream);
            change(picture, |image| jitter.apply(&mut image.pixels));
        }
        Step::Grayscale { p } => {
            if happens(p, stream) {
                change(picture, |image| colour::grayscale(&mut image.pixels));
            }
        }
        Step::Lighting { std } => {
            let alphas = std::array::from_fn(|_| std * stream.normal());
            change(picture, |image| colour::lighting(&mut image.pixels, alphas));
        }
        Step::RandAugment { ops, magnitude, bins } => {
            change(picture, |image| policy::rand_augment(image, (ops, magnitude, bins), stream));
        }
        Step::TrivialAugmentWide { bins } => {
            change(picture, |image| policy::trivial_augment_wide(image, bins, stream));
        }
        Step::AutoAugment { policy } => {
            change(picture, |image| policy::auto_augment(image, policy, stream));
        }
        Step::AugMix { severity, width, depth } => {
            let spec = AugMix { severity, width, depth };
            change(picture, |image| policy::aug_mix(image, spec, stream));
        }
        Step::RandomErasing { p, scale, ratio, value } => {
            let size = (picture.width, picture.height);
            if happens(p, stream)
                && let Some(rectangle) = erase::rectangle(size, (scale, ratio), stream)
            {
                change(picture, |image| erase::erase(image, rectangle, value));
            }
        }
    }
}

/// Drawn even for p = 0 or 1, so that p does not shift what later steps draw.
fn happens(p: f64, stream: &mut Stream) -> bool {
    stream.uniform_f64() < p
}

fn between([low, high]: [f64; 2], stream: &mut Stream) -> f64 {
    low + (high - low) * stream.uniform_f64()
}

/// Changes the pixels of a picture's own copy.
fn change(picture: &mut Picture<'_>, change: impl FnOnce(&mut Image)) {
    let pixels = std::mem::take(&mut picture.pixels).into_owned();
    let mut image = Image { width: picture.width, height: picture.height, pixels };
    change(&mut image);
    *picture = image.into();
}

fn scale_to(picture: &mut Picture<'_>, (width, height): (usize, usize), filter: Filter) {
    let scaled = resize(picture.view(), width, height, filter);
    let Picture { width, height, pixels } = scaled;
    let pixels = pixels.into_owned();
    *picture = Image { width, height, pixels }.into();
}

/// What torchvision's `ColorJitter` draws: an order and four factors.
struct Jitter {
    order: [usize; 4],
    factors: [f64; 4],
}

impl Jitter {
    /// `around_one`: how far brightness, contrast and saturation may be from 1; `hue`: how far from 0.
    fn draw(around_one: [f64; 3], hue: f64, stream: &mut Stream) -> Jitter {
        let mut order = [0, 1, 2, 3];
        stream.shuffle(&mut order);
        let [b, c, s] = around_one.map(|by| between([(1.0 - by).max(0.0), 1.0 + by], &mut *stream));
        Jitter { order, factors: [b, c, s, between([-hue, hue], stream)] }
    }

    fn apply(&self, pixels: &mut [u8]) {
        for which in self.order {
            let factor = self.factors[which];
            match which {
                0 => colour::brightness(pixels, factor),
                1 => colour::contrast(pixels, factor),
                2 => colour::saturation(pixels, factor),
                _ => colour::hue(pixels, factor),
            }
        }
    }
}
