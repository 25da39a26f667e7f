//! The generated set is repeatable, and too hard for what does not look at shapes.

use std::thread;

use resnet_core::rng::{Purpose, Stream};
use resnet_io::source::{Encoded, Generated, GeneratedSpec, GeneratedSplit, Source};

/// What a linear classifier on pixels must stay below.
const LINEAR_BELOW: f64 = 0.50;
/// What the nearest training picture must stay below.
const NEAREST_BELOW: f64 = 0.70;

fn split(images: u32, seed: u64, split: GeneratedSplit) -> Generated {
    Generated::new(&GeneratedSpec { images, seed, ..GeneratedSpec::default() }, split)
}

fn pixels(source: &Generated, index: usize) -> &[u8] {
    match source.read(index).unwrap() {
        Encoded::Pixels(picture) => picture.pixels,
        Encoded::File(_) => panic!("generated pictures are in memory"),
    }
}

fn all(source: &Generated) -> Vec<&[u8]> {
    (0..source.len()).map(|index| pixels(source, index)).collect()
}

#[test]
fn the_same_seed_gives_the_same_pictures_and_a_larger_set_begins_with_them() {
    for part in [GeneratedSplit::Train, GeneratedSplit::Val] {
        let (set, larger) = (split(200, 7, part), split(900, 7, part));
        assert_eq!(all(&set), all(&split(200, 7, part)));
        assert_eq!(all(&set), all(&larger)[..set.len()]);
        let other = split(200, 8, part);
        assert!((0..set.len()).all(|index| pixels(&set, index) != pixels(&other, index)));
    }
}

#[test]
fn training_and_validation_pictures_are_different_ones_of_the_same_classes() {
    let (train, val) = (split(1000, 1, GeneratedSplit::Train), split(1000, 1, GeneratedSplit::Val));
    assert_eq!((train.len(), val.len()), (1000, 200));
    assert_eq!(train.classes(), val.classes());
    assert!(all(&val).iter().all(|picture| !all(&train).contains(picture)));
    let of_class =
        |set: &Generated, class| (0..set.len()).filter(|&i| set.label(i) == class).count();
    for class in 0..10 {
        assert_eq!((of_class(&train, class), of_class(&val, class)), (100, 20));
    }
}

#[test]
fn the_nearest_training_picture_says_little() {
    let (train, val) = default_set();
    let found = nearest_accuracy(&train, &val);
    println!("nearest neighbour: {:.1} %", 100.0 * found);
    assert!(found < NEAREST_BELOW, "{found}");
    // The measurement itself is right: a training picture is nearest to itself.
    let own: Vec<_> = all(&train).into_iter().zip(labels(&train)).take(100).collect();
    assert_eq!(share_right(&own, &all(&train), &labels(&train)), 1.0);
}

#[test]
fn a_linear_classifier_on_pixels_learns_little() {
    let (train, val) = default_set();
    let (train, val) = (Samples::of(&train), Samples::of(&val));
    let decays = [0.0, 0.1, 1.0];
    let found = thread::scope(|scope| {
        let (train, val) = (&train, &val);
        let runs = decays.map(|decay| scope.spawn(move || best_linear(train, val, decay, EPOCHS)));
        runs.map(|run| run.join().unwrap())
    });
    println!("linear, best epoch for decays of {decays:?}: {found:.3?}");
    let best = found.into_iter().fold(0.0, f64::max);
    assert!(best < LINEAR_BELOW, "{best}");
}

#[test]
fn the_linear_classifier_learns_what_is_linear() {
    let (train, val) = default_set();
    let (mut train, mut val) = (Samples::of(&train), Samples::of(&val));
    for samples in [&mut train, &mut val] {
        for (x, &label) in samples.x.chunks_exact_mut(samples.inputs).zip(&samples.labels) {
            // A white mark in the first row, elsewhere for each class.
            x[9 * label as usize..9 * label as usize + 9].fill(255.0);
        }
    }
    let found = best_linear(&train, &val, 0.0, 2);
    assert!(0.99 < found, "{found}");
}

/// The set that `generated` stands for: 5,000 training and 1,000 validation pictures.
fn default_set() -> (Generated, Generated) {
    let spec = GeneratedSpec::default();
    let (train, val) =
        (Generated::new(&spec, GeneratedSplit::Train), Generated::new(&spec, GeneratedSplit::Val));
    assert_eq!((train.len(), val.len()), (5000, 1000));
    (train, val)
}

fn labels(source: &Generated) -> Vec<u32> {
    (0..source.len()).map(|index| source.label(index)).collect()
}

/// The share of validation pictures whose nearest training picture, by the squared distance of
/// pixels, is of their class.
fn nearest_accuracy(train: &Generated, val: &Generated) -> f64 {
    let (known, classes) = (all(train), labels(train));
    let asked: Vec<_> = all(val).into_iter().zip(labels(val)).collect();
    let (first, second) = asked.split_at(asked.len() / 2);
    let (known, classes) = (&known[..], &classes[..]);
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(move || share_right(first, known, classes));
        (first.join().unwrap(), share_right(second, known, classes))
    });
    (first + second) / 2.0
}

fn share_right(asked: &[(&[u8], u32)], known: &[&[u8]], classes: &[u32]) -> f64 {
    let right = asked.iter().filter(|(picture, class)| {
        let nearest = (0..known.len()).min_by_key(|&i| squared_distance(picture, known[i]));
        classes[nearest.unwrap()] == *class
    });
    right.count() as f64 / asked.len() as f64
}

fn squared_distance(a: &[u8], b: &[u8]) -> u32 {
    // 32x32x3 squares of at most 255 * 255 stay below 2^32.
    let difference = |(&a, &b): (&u8, &u8)| i32::from(i16::from(a) - i16::from(b));
    a.iter().zip(b).map(difference).map(|d| d * d).sum::<i32>() as u32
}

/// Passes over the training pictures; the best epoch counts, so more of them can only help.
const EPOCHS: u32 = 10;
/// Pictures a step.
const BATCH: usize = 50;
/// Classes, padded to whole vectors.
const LANES: usize = 12;
/// The first learning rate; it falls along a line to zero. Found by trying 0.0001 to 0.003.
const RATE: f32 = 0.0005;
const MOMENTUM: f32 = 0.9;

/// Pictures as rows of numbers, the last of which is 1 for the bias.
struct Samples {
    inputs: usize,
    x: Vec<f32>,
    labels: Vec<u32>,
}

impl Samples {
    fn of(source: &Generated) -> Samples {
        let pictures = all(source);
        let inputs = pictures[0].len() + 1;
        let row = |picture: &&[u8]| {
            let values: Vec<f32> = picture.iter().map(|&v| f32::from(v)).collect();
            values.into_iter().chain([1.0])
        };
        Samples { inputs, x: pictures.iter().flat_map(row).collect(), labels: labels(source) }
    }

    fn row(&self, index: usize) -> &[f32] {
        &self.x[index * self.inputs..(index + 1) * self.inputs]
    }
}

/// Mean and standard deviation of each pixel, (0, 1) for the bias.
fn scales(samples: &Samples) -> Vec<(f32, f32)> {
    let count = samples.labels.len() as f32;
    let moment = |i: usize, mean: f32| {
        let rows = samples.x.chunks_exact(samples.inputs);
        rows.map(move |row| row[i] - mean)
    };
    let pixels = (0..samples.inputs - 1).map(|i| {
        let mean = moment(i, 0.0).sum::<f32>() / count;
        (mean, (moment(i, mean).map(|d| d * d).sum::<f32>() / count).sqrt())
    });
    pixels.chain([(0.0, 1.0)]).collect()
}

fn standardised(samples: &Samples, scales: &[(f32, f32)]) -> Samples {
    let rows = samples.x.chunks_exact(samples.inputs);
    let x = rows.flat_map(|row| row.iter().zip(scales).map(|(x, (mean, std))| (x - mean) / std));
    Samples { inputs: samples.inputs, x: x.collect(), labels: samples.labels.clone() }
}

/// Softmax regression by SGD with momentum: the validation accuracy of its best epoch. That it is
/// chosen by the validation pictures themselves errs on the side of the classifier.
fn best_linear(train: &Samples, val: &Samples, decay: f32, epochs: u32) -> f64 {
    let scales = scales(train);
    let (train, val) = (standardised(train, &scales), standardised(val, &scales));
    let mut weights = vec![[0.0f32; LANES]; train.inputs];
    let mut velocity = weights.clone();
    let mut order: Vec<u32> = (0..train.labels.len() as u32).collect();
    let steps = (order.len() / BATCH) as u32 * epochs;
    let (mut step, mut best) = (0, 0.0);
    for epoch in 0..epochs {
        Stream::new(0, Purpose::Test, epoch, 0).shuffle(&mut order);
        for batch in order.chunks_exact(BATCH) {
            let rate = RATE * (1.0 - step as f32 / steps as f32);
            sgd_step(&train, batch, &mut weights, &mut velocity, [rate, decay]);
            step += 1;
        }
        best = f64::max(best, linear_accuracy(&val, &weights));
    }
    best
}

fn sgd_step(
    train: &Samples,
    batch: &[u32],
    weights: &mut [[f32; LANES]],
    velocity: &mut [[f32; LANES]],
    [rate, decay]: [f32; 2],
) {
    for (v, w) in velocity.iter_mut().zip(&*weights) {
        for lane in 0..LANES {
            v[lane] = MOMENTUM * v[lane] + decay * w[lane];
        }
    }
    for &index in batch {
        let (x, label) = (train.row(index as usize), train.labels[index as usize]);
        let gradient = logit_gradient(&logits(x, weights), label as usize);
        for (v, &x) in velocity.iter_mut().zip(x) {
            for lane in 0..LANES {
                v[lane] += x * gradient[lane];
            }
        }
    }
    for (w, v) in weights.iter_mut().zip(&*velocity) {
        for lane in 0..LANES {
            w[lane] -= rate * v[lane];
        }
    }
}

fn logits(x: &[f32], weights: &[[f32; LANES]]) -> [f32; LANES] {
    let mut sums = [0.0; LANES];
    for (&x, w) in x.iter().zip(weights) {
        for lane in 0..LANES {
            sums[lane] += x * w[lane];
        }
    }
    sums
}

/// Softmax minus the label, over the batch; 0 for the lanes that are no class.
fn logit_gradient(logits: &[f32; LANES], label: usize) -> [f32; LANES] {
    let most = logits[..10].iter().copied().fold(f32::MIN, f32::max);
    let mut gradient = [0.0; LANES];
    for (g, logit) in gradient.iter_mut().zip(&logits[..10]) {
        *g = (logit - most).exp();
    }
    let sum: f32 = gradient.iter().sum();
    gradient.iter_mut().for_each(|g| *g /= sum);
    gradient[label] -= 1.0;
    gradient.map(|g| g / BATCH as f32)
}

fn linear_accuracy(samples: &Samples, weights: &[[f32; LANES]]) -> f64 {
    let right = (0..samples.labels.len()).filter(|&index| {
        let logits = logits(samples.row(index), weights);
        let best = (0..10).max_by(|&a, &b| logits[a].total_cmp(&logits[b]));
        best == Some(samples.labels[index] as usize)
    });
    right.count() as f64 / samples.labels.len() as f64
}
