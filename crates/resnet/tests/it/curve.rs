//! The loss of ResNet-20 on real CIFAR-10, step by step, against PyTorch's: the same start, the same
//! batches of 16 in file order, no augmentation.
//!
//! The pictures lie beside the checkout or not at all; then the tests say what they skipped.

use std::path::Path;

use resnet::Device;
use resnet_core::build::{BuildOptions, Mode};
use resnet_core::executor::{Executor, Input};
use resnet_core::graph::Graph;
use resnet_core::op::CrossEntropy;
use resnet_core::oracle;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::step::{Decay, SgdOptions, Targets, gradient_graph, update_graph};
use resnet_core::zoo::network;
use resnet_io::decode::decode;
use serde::Deserialize;

use crate::real_weights::shared;

const SIDE: usize = 32;
/// A sheet holds 1,000 pictures, 40 a row.
const SHEET_COLUMNS: usize = 40;
const SHEET: usize = 1000;

/// `fixtures/parity/resnet20-curve.json`.
#[derive(Deserialize)]
struct Curve {
    model: String,
    batch: usize,
    lr: f32,
    momentum: f32,
    weight_decay: f64,
    f64: Exact,
    f32: Single,
}

#[derive(Deserialize)]
struct Exact {
    losses: Vec<f64>,
}

#[derive(Deserialize)]
struct Single {
    steps: usize,
    runs: Vec<Run>,
}

#[derive(Deserialize)]
struct Run {
    seed: u64,
    nchw: Losses,
    channels_last: Losses,
    f64_first_steps: Vec<f64>,
}

#[derive(Deserialize)]
struct Losses {
    mean_100_200: f64,
}

fn curve() -> Curve {
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity/resnet20-curve.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The first training pictures of CIFAR-10 and their labels.
fn pictures(count: usize) -> Option<(Vec<u8>, Vec<u32>)> {
    let labels = std::fs::read(shared("cifar10-train.labels")?).unwrap();
    let mut pixels = Vec::with_capacity(count * SIDE * SIDE * 3);
    for sheet in 0..count.div_ceil(SHEET) {
        let name = format!("cifar10-train-{sheet:02}.webp");
        let image = decode(&name, &std::fs::read(shared(&name)?).unwrap()).unwrap();
        for i in 0..SHEET.min(count - sheet * SHEET) {
            let (top, left) = (i / SHEET_COLUMNS * SIDE, i % SHEET_COLUMNS * SIDE);
            for y in top..top + SIDE {
                let at = 3 * (y * image.width + left);
                pixels.extend_from_slice(&image.pixels[at..at + 3 * SIDE]);
            }
        }
    }
    Some((pixels, labels[..count].iter().copied().map(u32::from).collect()))
}

fn graphs(curve: &Curve) -> (Graph, Graph) {
    let options = BuildOptions::imagenet(curve.batch, Mode::Training);
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: curve.batch };
    let spec = network(&curve.model).unwrap();
    let gradients = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let sgd = SgdOptions {
        weight_decay: curve.weight_decay,
        decay: Decay::All,
        nesterov: false,
        clip_norm: None,
    };
    let update = update_graph(&gradients, &sgd).unwrap();
    (gradients, update)
}

/// Trains from the made weights of a seed; `loss` reads a step's loss.
fn train<E: Executor + ?Sized>(
    executor: &mut E,
    curve: &Curve,
    seed: u64,
    (pixels, labels): (&[u8], &[u32]),
    loss: impl Fn(&E, resnet_core::executor::StepId) -> f64,
) -> Vec<f64> {
    let (gradients, update) = graphs(curve);
    let gradients = executor.compile(&gradients).unwrap();
    let update = executor.compile(&update).unwrap();
    for (name, shape) in executor.states() {
        if !name.starts_with("grad/") && !name.starts_with("optim/") {
            executor.import(&name, &shape, &oracle::parameter(&name, &shape, seed)).unwrap();
        }
    }
    let batches = pixels.chunks(curve.batch * SIDE * SIDE * 3).zip(labels.chunks(curve.batch));
    let mut losses = Vec::new();
    for (pixels, labels) in batches {
        executor.run(gradients, &[Input::U8(pixels), Input::U32(labels)]).unwrap();
        losses.push(loss(executor, gradients));
        executor.run(update, &[Input::F32(&[curve.lr, curve.momentum])]).unwrap();
    }
    losses
}

#[test]
fn the_reference_follows_pytorch_in_double() {
    let curve = curve();
    let expected = &curve.f64.losses;
    let Some((pixels, labels)) = pictures(curve.batch * expected.len()) else { return };
    let mut executor = ReferenceExecutor::<f64>::new();
    let read =
        |executor: &ReferenceExecutor<f64>, step| executor.output_f64(step, "loss").unwrap()[0];
    let losses = train(&mut executor, &curve, 0, (&pixels, &labels), read);
    let apart = losses.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    println!("{} steps in f64: at most {apart:.1e} from PyTorch", expected.len());
    assert!(apart <= 1e-9, "{apart:e}");
}

#[test]
fn the_engine_learns_as_fast_as_pytorch() {
    let curve = curve();
    let Some((pixels, labels)) = pictures(curve.batch * curve.f32.steps) else { return };
    let device = Device { threads: 2, ..Device::detect() };
    let (mut ours, mut theirs) = (0.0, 0.0);
    for run in &curve.f32.runs {
        let read = |executor: &(dyn Executor + 'static), step| {
            f64::from(executor.output(step, "loss").unwrap()[0])
        };
        let losses = train(&mut *device.executor(), &curve, run.seed, (&pixels, &labels), read);
        for (step, (loss, expected)) in losses.iter().zip(&run.f64_first_steps).enumerate() {
            let far = (loss - expected).abs();
            assert!(far <= 1e-3, "seed {}, step {step}: {far:e}", run.seed);
        }
        let late = &losses[100..];
        ours += late.iter().sum::<f64>() / late.len() as f64;
        theirs += (run.nchw.mean_100_200 + run.channels_last.mean_100_200) / 2.0;
    }
    let runs = curve.f32.runs.len() as f64;
    println!("mean loss of steps 100 to 200: {:.4}, PyTorch {:.4}", ours / runs, theirs / runs);
    assert!((ours / theirs - 1.0).abs() <= 0.03, "{ours} is not {theirs}");
}
