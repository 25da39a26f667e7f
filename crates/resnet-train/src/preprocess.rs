//! How a picture becomes a network's input. It travels inside the model file, so that whoever uses the
//! model prepares pictures as its evaluation did.

use resnet_core::build::{IMAGENET_MEAN, IMAGENET_STD};
use resnet_core::spec::{NetworkSpec, StemKind};
use resnet_io::augment::Step;
use resnet_io::decode::Exif;
use resnet_io::resize::Filter;
use serde::{Deserialize, Serialize};

/// The largest side up to which a picture is taken as it is, without scaling.
pub const SMALL_PICTURE: usize = 64;

/// What is done to a picture in evaluation and prediction, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// The shorter side is scaled to this many pixels, the other in proportion; none leaves it.
    pub resize: Option<usize>,
    /// How it is scaled: by Pillow's filter of this name.
    pub interpolation: Filter,
    /// The middle of so many rows and columns is taken.
    pub crop: [usize; 2],
    /// Taken from each channel, of values in 0..1.
    pub mean: Vec<f64>,
    /// Each channel is divided by it.
    pub std: Vec<f64>,
    /// Whether pictures are turned as their EXIF data say, before all else. A file that does not say it has not.
    #[serde(default)]
    pub exif: bool,
}

impl Preprocess {
    /// What a network is usually fed: ImageNet's families scale to 256 of 224 in proportion and take
    /// the middle (torchvision's first weights), CIFAR's take the picture as it is; both with
    /// ImageNet's mean and standard deviation.
    pub fn of_family(spec: &NetworkSpec) -> Preprocess {
        let crop = [spec.input.height, spec.input.width];
        let is_small = spec.stem.kind == StemKind::Small || crop[0].max(crop[1]) <= SMALL_PICTURE;
        Preprocess {
            resize: (!is_small).then(|| usual_resize(crop)),
            interpolation: Filter::Bilinear,
            crop,
            mean: for_channels(&IMAGENET_MEAN, spec.input.channels),
            std: for_channels(&IMAGENET_STD, spec.input.channels),
            // torchvision's and other models of the time were trained without.
            exif: false,
        }
    }

    /// The steps that a picture takes.
    pub fn steps(&self) -> Vec<Step> {
        let [rows, columns] = self.crop;
        let interpolation = self.interpolation;
        let resize = self.resize.map(|side| Step::Resize { side: side as u32, interpolation });
        let crop = Step::CenterCrop { height: rows as u32, width: columns as u32 };
        // Small pictures are taken as they are: another size is then an error, not a black border.
        resize.into_iter().flat_map(|resize| [resize, crop.clone()]).collect()
    }

    /// How files are decoded.
    pub fn orientation(&self) -> Exif {
        if self.exif { Exif::Apply } else { Exif::Ignore }
    }

    /// The whole chain from a file to the network, in one line for people.
    pub fn describe(&self) -> String {
        let list = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        let filter = self.interpolation.name();
        let resize = match self.resize {
            Some(side) if self.interpolation == Filter::Nearest => {
                format!("resize {side} ({filter})")
            }
            Some(side) => format!("resize {side} ({filter}, antialiased)"),
            None => "no resize".into(),
        };
        let [rows, columns] = self.crop;
        let (mean, std) = (list(&self.mean), list(&self.std));
        let colour = if self.mean.len() == 1 { "greyscale" } else { "RGB" };
        let exif = if self.exif { "applied" } else { "ignored" };
        format!(
            "{colour}, EXIF orientation {exif}, {resize}, crop {rows}x{columns}, mean {mean}, std {std}"
        )
    }
}

/// One number a channel: of a single channel, three weighed as luma weighs colours.
pub fn for_channels(values: &[f64], channels: usize) -> Vec<f64> {
    match (values, channels) {
        (&[r, g, b], 1) => vec![0.299 * r + 0.587 * g + 0.114 * b],
        _ => values.to_vec(),
    }
}

/// 256 for 224, and others in proportion.
pub fn usual_resize(crop: [usize; 2]) -> usize {
    (crop[0].min(crop[1]) * 256).div_ceil(224)
}
