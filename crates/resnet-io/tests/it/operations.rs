//! Operations on pixels against torchvision's on Pillow's pictures, and the steps that draw them.

use resnet_io::augment::policy::{Operation, Space, operate};
use resnet_io::augment::{Step, apply, stream_for};
use resnet_io::resize::Filter;
use resnet_io::{Image, luma};

use crate::real_data::sha256;

const FIXTURE: &str = include_str!("../fixtures/augment.tsv");

/// The made pictures of `xtask/oracle/augment.py`.
fn picture(kind: &str, width: usize, height: usize) -> Image {
    let byte = |i: usize| {
        let noise = ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        if kind == "soft" { 40 + noise % 100 } else { noise }
    };
    Image { width, height, pixels: (0..3 * width * height).map(byte).collect() }
}

fn operation(name: &str) -> Option<Operation> {
    use Operation::*;
    let all = [
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
    ];
    all.into_iter().find(|operation| format!("{operation:?}") == name)
}

fn stepped(image: &Image, step: Step, id: u64) -> Image {
    let found = apply(image.view(), &[step], &mut stream_for(5, 0, 0, id));
    Image { width: found.width, height: found.height, pixels: found.pixels.into_owned() }
}

#[test]
fn every_operation_has_torchvisions_pixels() {
    let (mut operations, mut hues) = (0, 0);
    let lines = FIXTURE.lines().filter(|line| !line.starts_with(['#', 's']));
    for line in lines {
        let fields: Vec<&str> = line.split('\t').collect();
        let [width, height] = [fields[3], fields[4]].map(|size| size.parse().unwrap());
        let magnitude: f64 = fields[1].parse().unwrap();
        let mut image = picture(fields[2], width, height);
        match fields[0] {
            "Grayscale" => image = stepped(&image, Step::Grayscale { p: 1.0 }, 0),
            "Hue" => {
                resnet_io::augment::hue(&mut image.pixels, magnitude);
                hues += 1;
            }
            name => {
                operate(&mut image, operation(name).unwrap(), magnitude);
                operations += 1;
            }
        }
        assert_eq!(sha256(&image.pixels)[..16], *fields[5], "{line}");
    }
    assert_eq!((operations, hues), (776, 48));
}

#[test]
fn magnitudes_are_torchvisions() {
    let mut count = 0;
    for line in FIXTURE.lines().filter(|line| line.starts_with("space")) {
        let fields: Vec<&str> = line.split('\t').collect();
        let space = match fields[1] {
            "rand" => Space::Rand(31),
            "wide" => Space::Wide(31),
            "auto" => Space::Auto,
            "mix" => Space::Mix,
            other => panic!("{other}"),
        };
        let (operation, size) = (operation(fields[2]).unwrap(), (32, 24));
        let expected: Vec<f64> = fields[5].split(' ').map(|v| v.parse().unwrap()).collect();
        assert_eq!(expected.len(), space.bins());
        for (bin, expected) in expected.into_iter().enumerate() {
            let found = space.magnitude(operation, bin, size);
            // PyTorch's vector code may round the last bit of single precision otherwise.
            assert!(
                (found - expected).abs() <= 2e-7 * expected.abs().max(1.0),
                "{line} {bin}: {found}"
            );
        }
        count += 1;
    }
    assert_eq!(count, 44);
}

#[test]
fn steps_with_nothing_to_do_leave_the_picture_alone() {
    let image = picture("noise", 20, 14);
    let nothing = [
        Step::Rotation { degrees: [0.0, 0.0] },
        Step::ColorJitter { brightness: 0.0, contrast: 0.0, saturation: 0.0, hue: 0.0 },
        Step::Grayscale { p: 0.0 },
        Step::Lighting { std: 0.0 },
        Step::RandAugment { ops: 0, magnitude: 9, bins: 31 },
        toml_step("random_erasing", "p = 0.0"),
    ];
    for step in nothing {
        // Pillow's way to HSV and back is not exact, and torchvision takes it for a hue of 0 too.
        if !matches!(step, Step::ColorJitter { .. }) {
            assert_eq!(stepped(&image, step, 0), image);
        }
    }
}

/// A step with its defaults.
fn toml_step(name: &str, more: &str) -> Step {
    let object = match more.split_once(" = ") {
        Some((key, value)) => format!("{{\"step\": \"{name}\", \"{key}\": {value}}}"),
        None => format!("{{\"step\": \"{name}\"}}"),
    };
    serde_json::from_str(&object).unwrap()
}

#[test]
fn every_policy_changes_pictures_and_keeps_their_size() {
    let image = picture("soft", 24, 18);
    let policies = [
        toml_step("rand_augment", ""),
        toml_step("trivial_augment_wide", ""),
        toml_step("auto_augment", "policy = \"imagenet\""),
        toml_step("auto_augment", "policy = \"cifar10\""),
        toml_step("auto_augment", "policy = \"svhn\""),
        toml_step("aug_mix", ""),
    ];
    for step in policies {
        let mut changed = 0;
        for id in 0..100 {
            let found = stepped(&image, step.clone(), id);
            assert_eq!((found.width, found.height), (24, 18), "{step:?}");
            assert_eq!(found, stepped(&image, step.clone(), id), "{step:?}");
            changed += u32::from(found != image);
        }
        assert!((60..=100).contains(&changed), "{step:?}: {changed}");
    }
}

#[test]
fn erased_rectangles_keep_to_their_share_and_proportions() {
    let image = Image::filled(60, 50, [7, 7, 7]);
    let (mut erased, mut total) = (0, 0.0);
    for id in 0..400 {
        let found = stepped(&image, toml_step("random_erasing", "p = 0.5"), id);
        let (pixels, _) = found.pixels.as_chunks::<3>();
        let share = pixels.iter().filter(|&&rgb| rgb == [124, 116, 104]).count() as f64 / 3000.0;
        // Sides are whole pixels.
        assert!(share == 0.0 || (0.015..0.35).contains(&share), "{share}");
        erased += u32::from(share != 0.0);
        total += share;
    }
    // Four standard deviations of 400 draws; some proportions do not fit in ten tries, but hardly ever.
    assert!((160..=240).contains(&erased), "{erased}");
    let mean = total / f64::from(erased);
    assert!((0.14..0.21).contains(&mean), "uniform from 0.02 to 0.33: {mean}");
}

#[test]
fn random_parts_are_distributed_as_torchvisions() {
    // A picture so large that rounding to pixels does not matter, of which hardly any part fails to fit.
    let [scale, ratio] = [[0.08, 0.5], [3.0 / 4.0, 4.0 / 3.0]];
    let image = Image {
        width: 250,
        height: 250,
        pixels: (0..250 * 250).flat_map(|i| [(i % 250) as u8, (i / 250) as u8, 0]).collect(),
    };
    let step = Step::RandomResizedCrop { size: 100, scale, ratio, interpolation: Filter::Nearest };
    let (mut areas, mut ratios, mut lefts) = (Vec::new(), Vec::new(), Vec::new());
    for id in 0..2000 {
        let found = stepped(&image, step.clone(), id);
        let (pixels, _) = found.pixels.as_chunks::<3>();
        let ([left, top, _], [right, bottom, _]) = (pixels[0], pixels[9999]);
        // Nearest takes the middles of hundredths.
        let side = |low: u8, high: u8| f64::from(high - low) * 100.0 / 99.0;
        let (width, height) = (side(left, right), side(top, bottom));
        areas.push(width * height / 62_500.0);
        ratios.push((width / height).ln());
        lefts.push(f64::from(left) / (250.0 - width).max(1.0));
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    // Uniform: area from 0.08 to 0.5, logarithm of the proportions about 0, the place along what is left.
    assert!((mean(&areas) - 0.29).abs() < 0.012, "{}", mean(&areas));
    assert!(mean(&ratios).abs() < 0.015, "{}", mean(&ratios));
    let spread = ratios.iter().map(|r| r * r).sum::<f64>() / ratios.len() as f64;
    let expected = (4.0f64 / 3.0).ln().powi(2) / 3.0;
    assert!((spread - expected).abs() < 0.003, "{spread} {expected}");
    assert!((mean(&lefts) - 0.5).abs() < 0.03, "{}", mean(&lefts));
    let quarter = areas.iter().filter(|&&area| area < 0.185).count() as f64 / 2000.0;
    assert!((quarter - 0.25).abs() < 0.04, "{quarter}");
}

#[test]
fn scale_jitter_reaches_every_side_and_crops_fit_anywhere() {
    let image = picture("soft", 30, 20);
    let jitter = Step::ScaleJitter { sides: [10, 14], interpolation: Filter::Bilinear };
    let sides: std::collections::BTreeSet<usize> =
        (0..100).map(|id| stepped(&image, jitter.clone(), id).height).collect();
    assert_eq!(sides.into_iter().collect::<Vec<_>>(), [10, 11, 12, 13, 14]);
    let crops: std::collections::BTreeSet<Vec<u8>> =
        (0..3000).map(|id| stepped(&image, Step::RandomCrop { size: 18 }, id).pixels).collect();
    assert_eq!(crops.len(), 13 * 3);
    let padded = stepped(&image, Step::RandomCrop { size: 24 }, 0);
    assert_eq!((padded.width, padded.height), (24, 24));
    assert_eq!(padded.pixels[..3 * 24 * 2], [0; 3 * 24 * 2]);
}

#[test]
fn jitter_stays_within_its_factors() {
    let image = Image::filled(4, 4, [100, 100, 100]);
    let jitter = Step::ColorJitter { brightness: 0.4, contrast: 0.0, saturation: 0.0, hue: 0.0 };
    let values: Vec<u8> =
        (0..500).map(|id| stepped(&image, jitter.clone(), id).pixels[0]).collect();
    let (low, high) = (*values.iter().min().unwrap(), *values.iter().max().unwrap());
    assert!((59..65).contains(&low) && (136..=140).contains(&high), "{low} {high}");
    // Light moves all channels along the components: mostly grey, as the first is.
    let lit: Vec<Image> =
        (0..500).map(|id| stepped(&image, Step::Lighting { std: 0.1 }, id)).collect();
    let shift =
        |image: &Image| f64::from(luma([image.pixels[0], image.pixels[1], image.pixels[2]]));
    let spread = lit.iter().map(|image| (shift(image) - 100.0).powi(2)).sum::<f64>() / 500.0;
    // 255 * 0.1 * 0.2175 * 0.58 = 3.2 grey levels.
    assert!((2.8..3.7).contains(&spread.sqrt()), "{}", spread.sqrt());
}
