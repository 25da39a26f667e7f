//! Policies that choose what to do: RandAugment, TrivialAugmentWide, AutoAugment and AugMix, over torchvision's
//! operations and magnitudes.
//!
//! Sources: Cubuk et al. 2018 and 2019, arXiv:1805.09501 and 1909.13719; Müller and Hutter 2021, arXiv:2103.10158;
//! Hendrycks et al. 2019, arXiv:1912.02781; torchvision's `transforms/autoaugment.py`.

mod tables;

use resnet_core::rng::Stream;
use serde::{Deserialize, Serialize};

use self::Operation::*;
use super::{affine, colour, tone};
use crate::picture::Image;

/// What a policy may do to a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "torchvision's names, one line each in `operate`")]
pub enum Operation {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

/// The operations of RandAugment and TrivialAugmentWide, in torchvision's order.
const ALL: [Operation; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Color,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];
/// Those of AugMix.
const MIXED: [Operation; 13] = [
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Brightness,
    Color,
    Contrast,
    Sharpness,
];

/// Learnt for which pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LearntFor {
    /// ImageNet.
    ImageNet,
    /// CIFAR-10.
    Cifar10,
    /// Street View House Numbers.
    Svhn,
}

/// How far operations go: a policy's table of magnitudes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// RandAugment's, of so many bins.
    Rand(usize),
    /// TrivialAugmentWide's, of so many bins.
    Wide(usize),
    /// AutoAugment's ten.
    Auto,
    /// AugMix's ten.
    Mix,
}

impl Space {
    /// The number of magnitudes.
    pub fn bins(self) -> usize {
        match self {
            Space::Rand(bins) | Space::Wide(bins) => bins,
            Space::Auto | Space::Mix => 10,
        }
    }

    /// The magnitude in a bin, for a picture of so many columns and rows.
    ///
    /// In single precision where torchvision's are.
    pub fn magnitude(self, operation: Operation, bin: usize, (w, h): (usize, usize)) -> f64 {
        let is_wide = matches!(self, Space::Wide(_));
        let moved = |size: usize| match self {
            Space::Rand(_) | Space::Auto => 150.0 / 331.0 * size as f64,
            Space::Wide(_) => 32.0,
            Space::Mix => size as f64 / 3.0,
        };
        let highest = match operation {
            Identity | AutoContrast | Equalize | Invert => return 0.0,
            Posterize => {
                let (bits, levels) = match self {
                    Space::Rand(_) | Space::Auto => (8.0, 4.0),
                    Space::Wide(_) => (8.0, 6.0),
                    Space::Mix => (4.0, 4.0),
                };
                let step = bin as f64 * levels / (self.bins() - 1) as f64;
                return bits - step.round_ties_even();
            }
            Solarize => return linspace((255.0, 0.0), bin, self.bins()),
            ShearX | ShearY => {
                if is_wide {
                    0.99
                } else {
                    0.3
                }
            }
            TranslateX => moved(w),
            TranslateY => moved(h),
            Rotate => {
                if is_wide {
                    135.0
                } else {
                    30.0
                }
            }
            Brightness | Color | Contrast | Sharpness => {
                if is_wide {
                    0.99
                } else {
                    0.9
                }
            }
        };
        linspace((0.0, highest), bin, self.bins())
    }
}

/// Whether a magnitude may go either way.
fn is_signed(operation: Operation) -> bool {
    match operation {
        ShearX | ShearY | TranslateX | TranslateY | Rotate | Brightness | Color | Contrast
        | Sharpness => true,
        Identity | Posterize | Solarize | AutoContrast | Equalize | Invert => false,
    }
}

/// PyTorch's `linspace` in single precision: from both ends.
fn linspace((start, end): (f64, f64), bin: usize, bins: usize) -> f64 {
    let (start, end) = (start as f32, end as f32);
    let step = (end - start) / (bins - 1) as f32;
    let value = if bin < bins / 2 {
        start + step * bin as f32
    } else {
        end - step * (bins - bin - 1) as f32
    };
    f64::from(value)
}

/// torchvision's `_apply_op` on a Pillow picture.
pub fn operate(image: &mut Image, operation: Operation, magnitude: f64) {
    let size = (image.width as i64, image.height as i64);
    let pixels = &mut image.pixels;
    match operation {
        Identity => {}
        ShearX => *image = affine::shear(image.view(), [magnitude, 0.0]),
        ShearY => *image = affine::shear(image.view(), [0.0, magnitude]),
        TranslateX => *image = affine::translate(image.view(), (magnitude as i64, 0)),
        TranslateY => *image = affine::translate(image.view(), (0, magnitude as i64)),
        Rotate => *image = affine::rotate(image.view(), magnitude),
        Brightness => colour::brightness(pixels, 1.0 + magnitude),
        Color => colour::saturation(pixels, 1.0 + magnitude),
        Contrast => colour::contrast(pixels, 1.0 + magnitude),
        Sharpness => *image = colour::sharpness(image.view(), 1.0 + magnitude),
        Posterize => tone::posterize(pixels, magnitude as u32),
        Solarize => tone::solarize(pixels, magnitude),
        AutoContrast => tone::autocontrast(pixels),
        Equalize => tone::equalize(pixels),
        Invert => tone::invert(pixels),
    }
    debug_assert_eq!(size, (image.width as i64, image.height as i64));
}

/// One operation at a magnitude whose sign is drawn.
fn operate_signed(image: &mut Image, operation: Operation, magnitude: f64, stream: &mut Stream) {
    // Drawn even where it does not matter, so that it does not shift what is drawn next.
    let is_negative = stream.below(2) == 1;
    let magnitude = if is_negative && is_signed(operation) { -magnitude } else { magnitude };
    operate(image, operation, magnitude);
}

/// `ops` operations one after the other, each drawn from all, at one magnitude of `bins`.
pub fn rand_augment(
    image: &mut Image,
    (ops, magnitude, bins): (u32, u32, u32),
    stream: &mut Stream,
) {
    let space = Space::Rand(bins as usize);
    for _ in 0..ops {
        let operation = ALL[stream.below(ALL.len() as u32) as usize];
        let size = (image.width, image.height);
        let magnitude = space.magnitude(operation, magnitude as usize, size);
        operate_signed(image, operation, magnitude, stream);
    }
}

/// One operation, drawn from all, at a magnitude that is drawn too.
pub fn trivial_augment_wide(image: &mut Image, bins: u32, stream: &mut Stream) {
    let operation = ALL[stream.below(ALL.len() as u32) as usize];
    let bin = stream.below(bins) as usize;
    let size = (image.width, image.height);
    let magnitude = Space::Wide(bins as usize).magnitude(operation, bin, size);
    operate_signed(image, operation, magnitude, stream);
}

/// One pair of operations, drawn from a learnt list.
pub fn auto_augment(image: &mut Image, learnt_for: LearntFor, stream: &mut Stream) {
    let policies = match learnt_for {
        LearntFor::ImageNet => &tables::IMAGENET[..],
        LearntFor::Cifar10 => &tables::CIFAR10[..],
        LearntFor::Svhn => &tables::SVHN[..],
    };
    let pair = &policies[stream.below(policies.len() as u32) as usize];
    for &(operation, probability, bin) in pair {
        let is_done = stream.uniform_f64() <= probability;
        let size = (image.width, image.height);
        let magnitude = bin.map_or(0.0, |bin| Space::Auto.magnitude(operation, bin, size));
        if is_done {
            operate_signed(image, operation, magnitude, stream);
        } else {
            stream.below(2);
        }
    }
}

/// A mixture of a picture and chains of operations on it.
///
/// `severity`: how many of the magnitudes are drawn from; `width`: chains; `depth`: operations of each, 0 draws 1
/// to 3. The weights are drawn from uniform Dirichlet distributions (torchvision's `alpha` of 1). torchvision runs the chains on tensors, here they
/// are Pillow's operations; the mixture is in single precision and cut off to whole values, as there.
pub fn aug_mix(image: &mut Image, spec: AugMix, stream: &mut Stream) {
    let mut kept = [0.0; 2];
    uniform_shares(&mut kept, stream);
    let mut weights = vec![0.0; spec.width as usize];
    uniform_shares(&mut weights, stream);
    let mut sums: Vec<f32> = image.pixels.iter().map(|&v| kept[0] as f32 * f32::from(v)).collect();
    for weight in weights {
        let mut chain = image.clone();
        let depth = if spec.depth == 0 { 1 + stream.below(3) } else { spec.depth };
        for _ in 0..depth {
            let operation = MIXED[stream.below(MIXED.len() as u32) as usize];
            let bin = stream.below(spec.severity) as usize;
            let size = (image.width, image.height);
            let magnitude = Space::Mix.magnitude(operation, bin, size);
            operate_signed(&mut chain, operation, magnitude, stream);
        }
        let weight = (weight * kept[1]) as f32;
        for (sum, &v) in sums.iter_mut().zip(&chain.pixels) {
            *sum += weight * f32::from(v);
        }
    }
    // The cast truncates and saturates.
    image.pixels = sums.into_iter().map(|sum| sum as u8).collect();
}

/// AugMix's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AugMix {
    /// How many of the ten magnitudes are drawn from, mildest first.
    pub severity: u32,
    /// Chains.
    pub width: u32,
    /// Operations of each; 0 draws 1 to 3.
    pub depth: u32,
}

/// Shares that sum to one, each division as probable as another: exponential variates, normalised.
fn uniform_shares(shares: &mut [f64], stream: &mut Stream) {
    // 1 - u lies in (0, 1], so the logarithm is finite; all of them are zero once in 2^53 draws and more.
    shares.fill_with(|| -libm::log(1.0 - stream.uniform_f64()));
    let total = shares.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    shares.iter_mut().for_each(|share| *share /= total);
}
