//! How a picture becomes a network's input. It travels inside the model file, so that whoever uses the
//! model prepares pictures as its evaluation did.

use resnet_core::build::{IMAGENET_MEAN, IMAGENET_STD};
use resnet_core::spec::{NetworkSpec, StemKind};
use resnet_io::augment::Step;
use serde::{Deserialize, Serialize};

/// The largest side up to which a picture is taken as it is, without scaling.
pub const SMALL_PICTURE: usize = 64;

/// What is done to a picture in evaluation and prediction, in this order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Preprocess {
    /// The shorter side is scaled to this many pixels, the other in proportion; none leaves it.
    pub resize: Option<usize>,
    /// How it is scaled: `bilinear`, antialiased, as Pillow does it.
    pub interpolation: String,
    /// The middle of so many rows and columns is taken.
    pub crop: [usize; 2],
    /// Taken from each channel, of values in 0..1.
    pub mean: Vec<f64>,
    /// Each channel is divided by it.
    pub std: Vec<f64>,
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
            interpolation: "bilinear".into(),
            crop,
            mean: for_channels(&IMAGENET_MEAN, spec.input.channels),
            std: for_channels(&IMAGENET_STD, spec.input.channels),
        }
    }

    /// The steps that a picture takes.
    pub fn steps(&self) -> Vec<Step> {
        let [rows, columns] = self.crop;
        let resize = self.resize.map(|side| Step::Resize { side: side as u32 });
        let crop = Step::CenterCrop { height: rows as u32, width: columns as u32 };
        // Small pictures are taken as they are: another size is then an error, not a black border.
        resize.into_iter().flat_map(|resize| [resize, crop.clone()]).collect()
    }

    /// One line for people.
    pub fn describe(&self) -> String {
        let list = |values: &[f64]| values.iter().map(f64::to_string).collect::<Vec<_>>().join(",");
        let resize = self.resize.map_or("no resize".into(), |side| format!("resize {side}"));
        let [rows, columns] = self.crop;
        let (mean, std) = (list(&self.mean), list(&self.std));
        let grey = if self.mean.len() == 1 { "greyscale, " } else { "" };
        format!("{grey}{resize}, crop {rows}x{columns}, mean {mean}, std {std}")
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
