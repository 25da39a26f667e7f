//! Mixing pictures against torchvision, and mixed batches from the loader.

use std::sync::Arc;

use resnet_io::Colour;
use resnet_io::augment::Step;
use resnet_io::decode::Exif;
use resnet_io::loader::{Batch, Loader, LoaderSpec, Mode, Order};
use resnet_io::mix::{Mix, Mixing, heavier_labels, mix_pixels, mix_targets, targets};
use resnet_io::source::{Generated, GeneratedSpec, GeneratedSplit, MultiLabel, Source};

const LABELS: [u32; 3] = [2, 0, 2];
const SIZE: (usize, usize) = (6, 5);

#[test]
fn mixed_pixels_and_targets_are_torchvisions() {
    let mut count = 0;
    let fixture = include_str!("../fixtures/mix.tsv");
    for line in fixture.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = line.split('\t').collect();
        let numbers: Vec<u32> = fields[1].split(' ').map(|n| n.parse().unwrap()).collect();
        let mixing = match (fields[0], &numbers[..]) {
            ("mixup", &[share]) => Mixing::MixUp { share },
            ("cutmix", &[x1, x2, y1, y2]) => {
                let [x1, x2, y1, y2] = [x1, x2, y1, y2].map(|n| n as usize);
                Mixing::CutMix { x: (x1, x2), y: (y1, y2) }
            }
            other => panic!("{other:?}"),
        };
        let byte = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
        let mut pixels: Vec<u8> = (0..3 * 3 * SIZE.0 * SIZE.1).map(byte).collect();
        mix_pixels(&mut pixels, LABELS.len(), SIZE, mixing);
        let found: String = pixels.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, fields[2], "{mixing:?}");
        let expected: Vec<f32> = fields[3].split(' ').map(|v| v.parse().unwrap()).collect();
        assert_eq!(targets(&LABELS, 4, mixing.share(SIZE)), expected, "{mixing:?}");
        // The same from a row of zeros and a one each, but for one rounding where both are of one class.
        let rows =
            LABELS.iter().flat_map(|&label| (0..4).map(move |k| f32::from(u8::from(k == label))));
        let mixed = mix_targets(&rows.collect::<Vec<_>>(), 4, mixing.share(SIZE));
        assert!(
            mixed.iter().zip(&expected).all(|(a, b)| (a - b).abs() <= f32::EPSILON),
            "{mixing:?}"
        );
        count += 1;
    }
    assert_eq!(count, 10);
}

#[test]
fn the_label_of_a_mixed_picture_is_the_heavier_one() {
    let labels = |share| {
        let mut labels = vec![5, 6, 7];
        heavier_labels(&mut labels, share);
        labels
    };
    assert_eq!(labels(0.5), [5, 6, 7]);
    assert_eq!(labels(0.499), [7, 5, 6]);
}

fn generated() -> Arc<dyn Source> {
    let source = GeneratedSpec { classes: 3, images: 40, size: 8, seed: 2 };
    Arc::new(Generated::new(&source, GeneratedSplit::Train))
}

fn epoch(mix: Option<Mix>, epoch: u32, first_step: usize, workers: usize) -> Vec<Batch> {
    epoch_of(generated(), mix, (epoch, first_step), workers)
}

fn epoch_of(
    source: Arc<dyn Source>,
    mix: Option<Mix>,
    (epoch, first_step): (u32, usize),
    workers: usize,
) -> Vec<Batch> {
    let spec = LoaderSpec {
        mode: Mode::Train,
        batch_size: 8,
        width: 8,
        height: 8,
        steps: vec![Step::Flip { p: 0.5 }],
        colour: Colour::Rgb,
        exif: Exif::Ignore,
        repeats: 1,
        mix,
        seed: 4,
        order: Order::default(),
        workers,
    };
    let mut batches = Loader::new(source, spec).unwrap().epoch(epoch, first_step);
    std::iter::from_fn(|| batches.next_batch().unwrap()).collect()
}

#[test]
fn mixed_batches_are_a_function_of_epoch_and_step() {
    let mix = Mix::of(0.4, 1.0, 0.5);
    let whole = epoch(mix, 1, 0, 1);
    assert_eq!(epoch(mix, 1, 0, 3), whole);
    assert_eq!(epoch(mix, 1, 3, 2), whole[3..]);
    let plain = epoch(None, 1, 0, 1);
    for (mixed, plain) in whole.iter().zip(&plain) {
        assert_eq!(mixed.samples, plain.samples);
        assert_ne!(mixed.pixels, plain.pixels);
        assert!(plain.targets.is_empty());
        for (row, &label) in mixed.targets.chunks_exact(3).zip(&mixed.labels) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{row:?}");
            assert!(row.iter().all(|&share| share <= row[label as usize]), "{row:?} {label}");
        }
    }
    let shares = |batches: &[Batch]| batches.iter().map(|b| b.targets.clone()).collect::<Vec<_>>();
    assert_ne!(shares(&epoch(mix, 2, 0, 1)), shares(&whole));
}

#[test]
fn batches_of_several_classes_hold_a_row_of_targets_a_picture() {
    let classes = generated().classes().to_vec();
    let labels = |i: usize| [vec![], vec![2, 0], vec![1]][i % 3].clone();
    let source: Arc<dyn Source> =
        Arc::new(MultiLabel::new(generated(), classes, (0..40).map(labels)));
    let plain = epoch_of(source.clone(), None, (1, 0), 1);
    for batch in &plain {
        assert!(batch.labels.is_empty() && !batch.is_empty());
        for (row, &sample) in batch.targets.chunks_exact(3).zip(&batch.samples) {
            let expected = [[0.0; 3], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]][sample as usize % 3];
            assert_eq!(row, expected);
        }
    }
    // Mixed, each row is a sum of its own and the one before it, whatever the workers.
    let mix = Mix::of(0.4, 1.0, 0.5);
    let mixed = epoch_of(source.clone(), mix, (1, 0), 1);
    assert_eq!(epoch_of(source.clone(), mix, (1, 0), 3), mixed);
    assert_eq!(epoch_of(source, mix, (1, 2), 2), mixed[2..]);
    for (mixed, plain) in mixed.iter().zip(&plain) {
        let sum = |targets: &[f32]| targets.iter().sum::<f32>();
        assert!((sum(&mixed.targets) - sum(&plain.targets)).abs() < 1e-5);
        assert_ne!(mixed.targets, plain.targets);
    }
}
