//! Augmentation: the same picture for the same (seed, epoch, sample), and what each step may do.

use resnet_io::augment::{Step, apply, stream_for};
use resnet_io::resize::Filter;
use resnet_io::{Image, ImageRef};

/// A picture of which every pixel tells its place.
fn places(width: usize, height: usize) -> Image {
    let pixel = |y: usize, x: usize| [x as u8 + 1, y as u8 + 1, 255];
    let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| pixel(y, x)));
    Image { width, height, pixels: pixels.collect() }
}

/// The picture after the steps, for sample `id` of an epoch.
fn augmented(picture: &Image, steps: &[Step], epoch: u32, id: u64) -> Image {
    let found = apply(picture.view(), steps, &mut stream_for(5, epoch, 0, id));
    Image { width: found.width, height: found.height, pixels: found.pixels.into_owned() }
}

fn pixel(picture: ImageRef<'_>, x: usize, y: usize) -> [u8; 3] {
    picture.row(y, x, 1).try_into().unwrap()
}

#[test]
fn the_same_seed_epoch_and_sample_give_the_same_picture_and_another_one_does_not() {
    let picture = places(40, 30);
    let steps =
        [Step::PadCrop { padding: 4 }, Step::Flip { p: 0.5 }, Step::random_resized_crop(16)];
    let first = augmented(&picture, &steps, 3, 11);
    assert_eq!(augmented(&picture, &steps, 3, 11), first);
    assert_ne!(augmented(&picture, &steps, 4, 11), first);
    assert_ne!(augmented(&picture, &steps, 3, 12), first);
}

#[test]
fn a_flip_mirrors_as_often_as_it_should() {
    let picture = places(5, 2);
    let mirrored = augmented(&picture, &[Step::Flip { p: 1.0 }], 0, 0);
    assert_eq!(pixel(mirrored.view(), 0, 1), pixel(picture.view(), 4, 1));
    assert_eq!(augmented(&mirrored, &[Step::Flip { p: 1.0 }], 0, 0), picture);
    assert_eq!(augmented(&picture, &[Step::Flip { p: 0.0 }], 0, 0), picture);
    let flips =
        (0..1000).filter(|&id| augmented(&picture, &[Step::Flip { p: 0.3 }], 0, id) == mirrored);
    // Four standard deviations of a thousand draws.
    assert!((242..=358).contains(&flips.count()));
}

#[test]
fn a_padded_crop_moves_the_picture_to_every_place_within_the_padding() {
    let (picture, padding) = (places(6, 5), 2i64);
    let mut seen = std::collections::BTreeSet::new();
    for id in 0..500 {
        let found = augmented(&picture, &[Step::PadCrop { padding: padding as u32 }], 0, id);
        assert_eq!((found.width, found.height), (6, 5));
        // The middle pixel is never padding; it tells the shift.
        let [x, y, _] = pixel(found.view(), 3, 2).map(i64::from);
        let shift = (x - 1 - 3, y - 1 - 2);
        seen.insert(shift);
        for (i, [r, g, b]) in found.pixels.as_chunks::<3>().0.iter().copied().enumerate() {
            let (x, y) = ((i % 6) as i64 + shift.0, (i / 6) as i64 + shift.1);
            let inside = (0..6).contains(&x) && (0..5).contains(&y);
            let expected = if inside { [x as u8 + 1, y as u8 + 1, 255] } else { [0; 3] };
            assert_eq!([r, g, b], expected, "shift {shift:?}, pixel {i}");
        }
    }
    assert_eq!(seen.len(), 25, "{seen:?}");
}

#[test]
fn a_random_part_keeps_to_its_share_of_the_area_and_its_proportions() {
    // Each pixel's red and green are its place, so the scaled part's mean and corners tell where it was.
    let picture = places(200, 150);
    let step = Step::RandomResizedCrop {
        size: 32,
        scale: [0.25, 0.5],
        ratio: [0.75, 4.0 / 3.0],
        interpolation: Filter::Bilinear,
    };
    for id in 0..200 {
        let found = augmented(&picture, std::slice::from_ref(&step), 0, id);
        assert_eq!((found.width, found.height), (32, 32));
        let ([left, top, _], [right, bottom, _]) =
            (pixel(found.view(), 0, 0), pixel(found.view(), 31, 31));
        // The corners' pixels are half a step inside of the part.
        let extent = |low: u8, high: u8| f64::from(high - low) * 32.0 / 31.0;
        let (width, height) = (extent(left, right), extent(top, bottom));
        let (share, ratio) = (width * height / 30_000.0, width / height);
        // Corners are rounded to a pixel, parts too.
        assert!((0.22..0.55).contains(&share), "{share}");
        assert!((0.70..1.42).contains(&ratio), "{ratio}");
    }
}

#[test]
fn a_part_that_fits_nowhere_is_the_middle() {
    let step = Step::RandomResizedCrop {
        size: 4,
        scale: [1.0, 1.0],
        ratio: [1.0, 1.0],
        interpolation: Filter::Bilinear,
    };
    let found = augmented(&places(120, 4), std::slice::from_ref(&step), 0, 0);
    // 4x4 pixels from column 58 on, not scaled.
    assert_eq!(pixel(found.view(), 0, 0), [59, 1, 255]);
    assert_eq!(pixel(found.view(), 3, 3), [62, 4, 255]);
}

#[test]
fn evaluation_scales_the_shorter_side_and_takes_the_middle() {
    let crop = Step::CenterCrop { height: 3, width: 4 };
    let found = augmented(&places(8, 6), std::slice::from_ref(&crop), 0, 0);
    // torchvision: round(1.5) = 2 rows above, 2 columns to the left.
    assert_eq!(pixel(found.view(), 0, 0), [3, 3, 255]);
    let small = augmented(&places(2, 2), &[crop], 0, 0);
    assert_eq!((small.width, small.height), (4, 3));
    assert_eq!(pixel(small.view(), 0, 0), [0; 3]);
    assert_eq!(pixel(small.view(), 1, 0), [1, 1, 255]);
    let scaled = augmented(
        &places(80, 60),
        &[Step::Resize { side: 30, interpolation: Filter::Bilinear }],
        0,
        0,
    );
    assert_eq!((scaled.width, scaled.height), (40, 30));
}
