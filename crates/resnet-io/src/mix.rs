//! Mixing the pictures of a batch: mixup and CutMix, as torchvision's `MixUp` and `CutMix` do it.
//!
//! Each picture is mixed with the one before it in the batch, the first with the last; the order of an epoch is
//! shuffled, so that they are strangers. One draw holds for the whole batch. The share that a picture keeps is
//! a multiple of 2^-16, in the pixels and in the targets alike.
//!
//! Mixup works on 8-bit pixels: `round(share * own + (1 - share) * other)`, halves up, computed exactly in integers.
//! torchvision mixes floats after normalising, which is the same but for that rounding, half a grey level at
//! most. CutMix copies pixels and rounds nothing.
//!
//! Sources: Zhang et al. 2017, arXiv:1710.09412; Yun et al. 2019, arXiv:1905.04899.

use resnet_core::rng::Stream;

/// How the batches of a run are mixed: parameters of Beta(alpha, alpha), 0 where it is not done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mix {
    /// Mixup's alpha.
    pub mixup: f64,
    /// CutMix's alpha.
    pub cutmix: f64,
    /// Where both are done: the share of batches that take CutMix.
    pub switch: f64,
}

impl Mix {
    /// The mix, unless nothing is mixed.
    pub fn of(mixup: f64, cutmix: f64, switch: f64) -> Option<Mix> {
        (0.0 < mixup || 0.0 < cutmix).then_some(Mix { mixup, cutmix, switch })
    }
}

/// One whole in shares.
pub const WHOLE: u32 = 1 << 16;

/// What happens to one batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mixing {
    /// Every pixel is a sum of two.
    MixUp {
        /// What a picture keeps of itself, in parts of [`WHOLE`].
        share: u32,
    },
    /// A rectangle is the other picture's.
    CutMix {
        /// Its columns, first and behind the last.
        x: (usize, usize),
        /// Its rows.
        y: (usize, usize),
    },
}

impl Mixing {
    /// What a picture of so many columns and rows keeps of itself: of a rectangle, by the area that was really cut.
    pub fn share(self, (width, height): (usize, usize)) -> f64 {
        match self {
            Mixing::MixUp { share } => f64::from(share) / f64::from(WHOLE),
            Mixing::CutMix { x, y } => {
                let cut = (x.1 - x.0) * (y.1 - y.0);
                1.0 - cut as f64 / (width * height) as f64
            }
        }
    }
}

/// Draws what happens to a batch of pictures of so many columns and rows.
pub fn draw(mix: Mix, (width, height): (usize, usize), stream: &mut Stream) -> Mixing {
    // Drawn even where only one is done, so that the other does not shift what is drawn next.
    let takes_cutmix = stream.uniform_f64() < mix.switch;
    if mix.mixup == 0.0 || (takes_cutmix && 0.0 < mix.cutmix) {
        let kept = stream.beta(mix.cutmix);
        let x = stream.below(width as u32) as usize;
        let y = stream.below(height as u32) as usize;
        return cut((width, height), kept, (x, y));
    }
    let kept = stream.beta(mix.mixup);
    Mixing::MixUp { share: (kept * f64::from(WHOLE)).round() as u32 }
}

/// torchvision's rectangle about `center`: of the picture's proportions and `1 - kept` of its area, cut off at
/// the picture's border.
fn cut((width, height): (usize, usize), kept: f64, center: (usize, usize)) -> Mixing {
    let half = 0.5 * (1.0 - kept).sqrt();
    let side = |center: usize, size: usize| {
        let half = (half * size as f64) as usize;
        (center.saturating_sub(half), (center + half).min(size))
    };
    Mixing::CutMix { x: side(center.0, width), y: side(center.1, height) }
}

/// Mixes each of `images` pictures, u8 NHWC of so many columns and rows, with the one before it.
///
/// # Panics
/// When the bytes are not those of so many pictures, or a rectangle leaves them.
pub fn mix_pixels(
    pixels: &mut [u8],
    images: usize,
    (width, height): (usize, usize),
    mixing: Mixing,
) {
    if images == 0 {
        return;
    }
    let bytes = pixels.len() / images;
    assert_eq!(bytes * images, pixels.len(), "all pictures have one size");
    let row = bytes / height;
    assert_eq!(row * height, bytes, "a picture has whole rows");
    // From the last on, so that the one before is still as it was; the first needs the last as it was.
    let last = pixels[pixels.len() - bytes..].to_vec();
    for image in (1..images).rev() {
        let (before, own) = pixels[(image - 1) * bytes..][..2 * bytes].split_at_mut(bytes);
        mix_picture(own, before, (row, row / width), mixing);
    }
    mix_picture(&mut pixels[..bytes], &last, (row, row / width), mixing);
}

/// Mixes one picture with another; a row and a pixel of them have so many bytes.
fn mix_picture(own: &mut [u8], other: &[u8], (row, pixel): (usize, usize), mixing: Mixing) {
    match mixing {
        Mixing::MixUp { share } => {
            for (own, &other) in own.iter_mut().zip(other) {
                let sum = share * u32::from(*own) + (WHOLE - share) * u32::from(other);
                *own = ((sum + WHOLE / 2) / WHOLE) as u8;
            }
        }
        Mixing::CutMix { x, y } => {
            for y in y.0..y.1 {
                let piece = y * row + x.0 * pixel..y * row + x.1 * pixel;
                own[piece.clone()].copy_from_slice(&other[piece]);
            }
        }
    }
}

/// Targets `[images, classes]`: `share` for a picture's own class, the rest for that of the one before it.
pub fn targets(labels: &[u32], classes: usize, share: f64) -> Vec<f32> {
    let mut targets = vec![0.0; labels.len() * classes];
    for (image, row) in targets.chunks_exact_mut(classes.max(1)).enumerate() {
        row[labels[image] as usize] += share as f32;
        row[other_label(labels, image) as usize] += (1.0 - share) as f32;
    }
    targets
}

/// Mixes targets `[images, classes]` of any number of classes: `share` of a picture's own, the rest of those of
/// the one before it.
pub fn mix_targets(targets: &[f32], classes: usize, share: f64) -> Vec<f32> {
    let before = targets.len().saturating_sub(classes);
    let other = targets[before..].iter().chain(&targets[..before]);
    let mixed = |(own, other): (&f32, &f32)| {
        (share * f64::from(*own) + (1.0 - share) * f64::from(*other)) as f32
    };
    targets.iter().zip(other).map(mixed).collect()
}

/// Replaces each class by that of the two which weighs more, the picture's own where both weigh the same.
pub fn heavier_labels(labels: &mut [u32], share: f64) {
    if share < 0.5 {
        labels.rotate_right(1.min(labels.len()));
    }
}

/// The class of the picture that `image` is mixed with.
fn other_label(labels: &[u32], image: usize) -> u32 {
    labels[image.checked_sub(1).unwrap_or(labels.len() - 1)]
}

#[cfg(test)]
mod tests {
    use resnet_core::rng::Purpose;

    use super::*;

    #[test]
    fn a_rectangle_is_torchvisions() {
        // `CutMix.make_params` by hand: kept 0.19 gives half sides int(0.45 * 10) = 4 and int(0.45 * 8) = 3.
        let found = cut((10, 8), 0.19, (2, 7));
        assert_eq!(found, Mixing::CutMix { x: (0, 6), y: (4, 8) });
        assert_eq!(found.share((10, 8)), 1.0 - 24.0 / 80.0);
        assert_eq!(cut((10, 8), 1.0, (2, 7)), Mixing::CutMix { x: (2, 2), y: (7, 7) });
        assert_eq!(cut((10, 8), 0.0, (5, 4)), Mixing::CutMix { x: (0, 10), y: (0, 8) });
    }

    #[test]
    fn draws_take_each_kind_as_often_as_the_recipe_says() {
        let count = |mix: Mix| {
            let kinds = (0..1000).map(|step| {
                let mut stream = Stream::new(3, Purpose::Mix, 0, step);
                matches!(draw(mix, (32, 32), &mut stream), Mixing::CutMix { .. })
            });
            kinds.filter(|&is_cutmix| is_cutmix).count()
        };
        assert_eq!(count(Mix { mixup: 0.2, cutmix: 0.0, switch: 1.0 }), 0);
        assert_eq!(count(Mix { mixup: 0.0, cutmix: 1.0, switch: 0.0 }), 1000);
        // Four standard deviations of a thousand draws.
        let both = count(Mix { mixup: 0.2, cutmix: 1.0, switch: 0.3 });
        assert!((242..=358).contains(&both), "{both}");
    }

    #[test]
    fn a_rectangle_leaves_the_share_that_it_really_left() {
        let mix = Mix { mixup: 0.0, cutmix: 1.0, switch: 0.5 };
        for step in 0..100 {
            let (width, height) = (7, 5);
            let mixing = draw(mix, (width, height), &mut Stream::new(3, Purpose::Mix, 1, step));
            let mut pixels = [[0; 3 * 35], [255; 3 * 35]].concat();
            mix_pixels(&mut pixels, 2, (width, height), mixing);
            let kept = pixels[..3 * 35].iter().filter(|&&v| v == 0).count() as f64 / (3.0 * 35.0);
            assert!((kept - mixing.share((width, height))).abs() < 1e-12, "{mixing:?}");
        }
    }
}
