//! The steps of a recipe's `[augment]`, and of evaluation, with what their numbers may be.

use serde::{Deserialize, Serialize};

use super::policy::LearntFor;
use crate::resize::Filter;

/// One step. Interpolation is bilinear where it is not named.
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
        #[serde(default = "crop_scale")]
        scale: [f64; 2],
        /// Its width over its height, lowest and highest.
        #[serde(default = "crop_ratio")]
        ratio: [f64; 2],
        /// How it is scaled.
        #[serde(default)]
        interpolation: Filter,
    },
    /// Cuts `size` x `size` out at a random place, with black around smaller pictures.
    RandomCrop {
        /// Rows and columns of the result.
        size: u32,
    },
    /// Scales so that the shorter side has `side` pixels (torchvision's `Resize(side)`).
    Resize {
        /// Pixels of the shorter side.
        side: u32,
        /// How it is scaled.
        #[serde(default)]
        interpolation: Filter,
    },
    /// Scales so that the shorter side has a random number of pixels (He et al. 2015, section 3.4: 256 to 480).
    ScaleJitter {
        /// The fewest and the most.
        sides: [u32; 2],
        /// How it is scaled.
        #[serde(default)]
        interpolation: Filter,
    },
    /// Cuts the middle out, padding with black where the picture is smaller (torchvision's
    /// `CenterCrop`).
    CenterCrop {
        /// Rows of the result.
        height: u32,
        /// Columns of the result.
        width: u32,
    },
    /// Turns against the clock by a random angle, black in the corners (torchvision's `RandomRotation`).
    Rotation {
        /// The least and the most, in degrees.
        degrees: [f64; 2],
    },
    /// Changes brightness, contrast, saturation and hue by random factors in random order (torchvision's
    /// `ColorJitter`).
    ColorJitter {
        /// How far the factor may be from 1.
        #[serde(default)]
        brightness: f64,
        /// How far the factor may be from 1.
        #[serde(default)]
        contrast: f64,
        /// How far the factor may be from 1.
        #[serde(default)]
        saturation: f64,
        /// How far the hue may turn, of a full circle, up to 0.5.
        #[serde(default)]
        hue: f64,
    },
    /// Takes the colours away with probability `p` (torchvision's `RandomGrayscale`).
    Grayscale {
        /// The probability.
        p: f64,
    },
    /// Adds light along the principal components of ImageNet's colours (Krizhevsky et al. 2012).
    Lighting {
        /// Standard deviation of the amounts: 0.1 in the paper.
        std: f64,
    },
    /// torchvision's `RandAugment`.
    RandAugment {
        /// Operations one after the other.
        #[serde(default = "two")]
        ops: u32,
        /// Which of the bins.
        #[serde(default = "nine")]
        magnitude: u32,
        /// Bins of magnitudes.
        #[serde(default = "bins")]
        bins: u32,
    },
    /// torchvision's `TrivialAugmentWide`.
    TrivialAugmentWide {
        /// Bins of magnitudes.
        #[serde(default = "bins")]
        bins: u32,
    },
    /// torchvision's `AutoAugment`.
    AutoAugment {
        /// What the policy was learnt for.
        policy: LearntFor,
    },
    /// torchvision's `AugMix`, its operations on Pillow's pictures.
    AugMix {
        /// How many of ten magnitudes are drawn from, mildest first.
        #[serde(default = "three")]
        severity: u32,
        /// Chains of operations.
        #[serde(default = "three")]
        width: u32,
        /// Operations of a chain; 0 draws 1 to 3.
        #[serde(default)]
        depth: u32,
    },
    /// Fills a random rectangle with a colour, with probability `p` (torchvision's `RandomErasing`).
    RandomErasing {
        /// The probability.
        p: f64,
        /// The rectangle's share of the area, lowest and highest.
        #[serde(default = "erasing_scale")]
        scale: [f64; 2],
        /// Its height over its width, lowest and highest.
        #[serde(default = "erasing_ratio")]
        ratio: [f64; 2],
        /// The colour: ImageNet's mean, rounded, which is torchvision's 0 after normalising.
        #[serde(default = "erasing_value")]
        value: [u8; 3],
    },
}

/// torchvision's defaults.
fn crop_scale() -> [f64; 2] {
    [0.08, 1.0]
}

fn crop_ratio() -> [f64; 2] {
    [3.0 / 4.0, 4.0 / 3.0]
}

fn erasing_scale() -> [f64; 2] {
    [0.02, 0.33]
}

fn erasing_ratio() -> [f64; 2] {
    [0.3, 3.3]
}

fn erasing_value() -> [u8; 3] {
    [124, 116, 104]
}

fn two() -> u32 {
    2
}

fn three() -> u32 {
    3
}

fn nine() -> u32 {
    9
}

fn bins() -> u32 {
    31
}

impl Step {
    /// A [`Step::RandomResizedCrop`] with torchvision's share of the area and proportions.
    pub fn random_resized_crop(size: u32) -> Step {
        let (scale, ratio) = (crop_scale(), crop_ratio());
        Step::RandomResizedCrop { size, scale, ratio, interpolation: Filter::default() }
    }

    /// Rows and columns of what comes out of it, whatever goes in; none where they depend on that.
    pub fn size(&self) -> Option<[u32; 2]> {
        match *self {
            Step::RandomResizedCrop { size, .. } | Step::RandomCrop { size } => Some([size; 2]),
            Step::CenterCrop { height, width } => Some([height, width]),
            Step::PadCrop { .. }
            | Step::Flip { .. }
            | Step::Resize { .. }
            | Step::ScaleJitter { .. }
            | Step::Rotation { .. }
            | Step::ColorJitter { .. }
            | Step::Grayscale { .. }
            | Step::Lighting { .. }
            | Step::RandAugment { .. }
            | Step::TrivialAugmentWide { .. }
            | Step::AutoAugment { .. }
            | Step::AugMix { .. }
            | Step::RandomErasing { .. } => None,
        }
    }

    /// Makes a step that sets a size set this one.
    pub fn set_size(&mut self, [rows, columns]: [u32; 2]) {
        match self {
            Step::RandomResizedCrop { size, .. } | Step::RandomCrop { size } => *size = rows,
            Step::CenterCrop { height, width } => (*height, *width) = (rows, columns),
            other => debug_assert_eq!(other.size(), None),
        }
    }

    /// What its numbers may be, where they are not.
    pub fn fault(&self) -> Option<&'static str> {
        let is_share = |p: f64| (0.0..=1.0).contains(&p);
        let rises = |[low, high]: [f64; 2]| low <= high && low.is_finite() && high.is_finite();
        let is_side = |side: u32| (1..=16_384).contains(&side);
        let (holds, expected) = match *self {
            Step::PadCrop { padding } => (padding <= 16_384, "a padding of at most 16384"),
            Step::Flip { p } | Step::Grayscale { p } => (is_share(p), "p from 0 to 1"),
            Step::RandomResizedCrop { size, scale, ratio, .. } => {
                let parts = 0.0 < scale[0] && rises(scale) && 0.0 < ratio[0] && rises(ratio);
                let expected = "a size from 1 to 16384, scale and ratio above 0, the lower first";
                (is_side(size) && parts, expected)
            }
            Step::RandomCrop { size } => (is_side(size), "a size from 1 to 16384"),
            Step::Resize { side, .. } => (is_side(side), "a side from 1 to 16384"),
            Step::ScaleJitter { sides: [low, high], .. } => {
                let expected = "sides from 1 to 16384, the smaller first";
                (is_side(low) && is_side(high) && low <= high, expected)
            }
            Step::CenterCrop { height, width } => {
                (is_side(height) && is_side(width), "height and width from 1 to 16384")
            }
            Step::Rotation { degrees } => (rises(degrees), "two angles, the lower first"),
            Step::ColorJitter { brightness, contrast, saturation, hue } => {
                let factors = [brightness, contrast, saturation];
                let holds = factors.iter().all(|f| 0.0 <= *f && f.is_finite());
                let expected = "numbers of 0 or more, and a hue of at most 0.5";
                (holds && (0.0..=0.5).contains(&hue), expected)
            }
            Step::Lighting { std } => (0.0 <= std && std.is_finite(), "a std of 0 or more"),
            Step::RandAugment { ops, magnitude, bins } => {
                let holds = (2..=1000).contains(&bins) && magnitude < bins && ops <= 100;
                (holds, "2 to 1000 bins, a magnitude below them, at most 100 ops")
            }
            Step::TrivialAugmentWide { bins } => ((2..=1000).contains(&bins), "2 to 1000 bins"),
            Step::AutoAugment { .. } => (true, ""),
            Step::AugMix { severity, width, depth } => {
                let counts = (1..=10).contains(&severity) && (1..=100).contains(&width);
                let holds = counts && depth <= 100;
                (holds, "a severity of 1 to 10, a width of 1 to 100, a depth of at most 100")
            }
            Step::RandomErasing { p, scale, ratio, .. } => {
                let parts = 0.0 < scale[0] && rises(scale) && 0.0 < ratio[0] && rises(ratio);
                let expected = "p from 0 to 1, scale and ratio above 0, the lower first";
                (is_share(p) && parts, expected)
            }
        };
        (!holds).then_some(expected)
    }
}
