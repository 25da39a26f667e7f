//! The stored fixtures: what PyTorch computed, and the networks and inputs that it had.
//!
//! `xtask/oracle` writes them, `docs/parity.md` says what they hold. The engine's tests read them
//! with this file, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::executor::Executor;
use resnet_core::graph::Graph;
use resnet_core::op::Op;
use resnet_core::oracle::{self, Summary};
use resnet_core::pass::dead::drop_dead_nodes;
use resnet_core::spec::{NetworkSpec, ShortcutKind};
use resnet_core::zoo;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One network: `fixtures/parity/NETWORK.json`.
#[derive(Deserialize)]
pub(crate) struct Network {
    pub(crate) model: String,
    classes: usize,
    pub(crate) evaluation: Evaluation,
    pub(crate) training: Training,
    pub(crate) seeds: Vec<Seed>,
}

/// Logits of a made batch, by running statistics.
#[derive(Deserialize)]
pub(crate) struct Evaluation {
    pub(crate) batch: usize,
    pub(crate) size: usize,
    pub(crate) logits: Vec<Vec<f64>>,
}

/// One forward and backward pass of a made batch, seed 0.
#[derive(Deserialize)]
pub(crate) struct Training {
    pub(crate) batch: usize,
    pub(crate) size: usize,
    pub(crate) loss: f64,
    pub(crate) logits: Vec<Vec<f64>>,
    pub(crate) running: BTreeMap<String, Summary>,
    pub(crate) gradients: BTreeMap<String, Summary>,
}

/// How far PyTorch's f32 strays from its f64 in the training step of another seed.
#[derive(Deserialize)]
pub(crate) struct Seed {
    pub(crate) seed: u64,
    /// In f64, with fewer digits than the first seed's, which are in [`Training`] alone.
    pub(crate) gradients: BTreeMap<String, Summary>,
    pub(crate) f32: Strays,
}

/// PyTorch's f32 in its two memory layouts.
#[derive(Deserialize)]
pub(crate) struct Strays {
    pub(crate) nchw: Stray,
    pub(crate) channels_last: Stray,
}

/// Distances of f32 from f64.
#[derive(Deserialize)]
pub(crate) struct Stray {
    /// Relative L2 distance of a gradient, the median over the parameters.
    pub(crate) median: f64,
}

/// torchvision's deep networks at full size: `fixtures/parity/layout.json`.
#[derive(Deserialize)]
pub(crate) struct Layout {
    classes: usize,
    size: usize,
    pub(crate) nets: BTreeMap<String, LayoutNetwork>,
}

/// What is stored of one picture's logits.
#[derive(Deserialize)]
pub(crate) struct LayoutNetwork {
    largest: f64,
    argmax: usize,
    logits: Summary,
}

impl LayoutNetwork {
    /// How far logits are from these, as a share of the largest: by the samples stored, and on
    /// average over all of them by the projections.
    #[track_caller]
    pub(crate) fn apart(&self, model: &str, ours: &[f64]) -> f64 {
        let argmax = (0..ours.len()).max_by(|&a, &b| ours[a].total_cmp(&ours[b]));
        assert_eq!(argmax, Some(self.argmax), "{model}");
        let name = format!("layout/{model}");
        let pairs = self.logits.pairs(&name, ours);
        let sampled = pairs.iter().map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        let mean = self.logits.distance(&name, ours) / (ours.len() as f64).sqrt();
        sampled.max(mean) / self.largest
    }
}

/// A network of [`Layout`] in evaluation, of one picture of real numbers in place of pixels.
pub(crate) fn layout_network(layout: &Layout, model: &str) -> Graph {
    let mut spec = zoo::network(model).unwrap();
    spec.classes = layout.classes;
    (spec.input.height, spec.input.width) = (layout.size, layout.size);
    let mut graph = forward(&spec, &options(1, Mode::Evaluation)).unwrap();
    let normalized = graph.nodes[0].outputs[0];
    assert!(matches!(graph.nodes[0].op, Op::Normalize { .. }));
    graph.inputs.clear();
    let input = graph.input("reals", graph.ty(normalized).clone());
    for id in graph.nodes.iter_mut().flat_map(|node| &mut node.inputs) {
        if *id == normalized {
            *id = input;
        }
    }
    drop_dead_nodes(&graph).unwrap()
}

/// The picture of [`Layout`], NHWC: `4u - 2` of the name `input`, counted in NCHW order.
pub(crate) fn float_input(layout: &Layout) -> Vec<f32> {
    let pixels = layout.size * layout.size;
    let u = oracle::uniform("input", 3 * pixels);
    (0..pixels).flat_map(|i| [0, 1, 2].map(|c| 4.0 * u[c * pixels + i] - 2.0)).collect()
}

/// Reads `fixtures/PATH`.
pub(crate) fn read<T: DeserializeOwned>(path: &str) -> T {
    let path = workspace().join("fixtures").join(path);
    let text = std::fs::read_to_string(&path).expect("fixtures are part of the project");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

impl Network {
    /// The network of these fixtures, for pictures of `size` pixels a side.
    pub(crate) fn spec(&self, size: usize) -> NetworkSpec {
        let (name, shortcut) = match self.model.as_str() {
            "resnet20-b" => ("resnet20", Some(ShortcutKind::B)),
            "resnet20-c" => ("resnet20", Some(ShortcutKind::C)),
            "plain20" => ("cifar-plain20", None),
            name => (name, None),
        };
        let mut spec = zoo::network(name).unwrap();
        spec.shortcut.kind = shortcut.unwrap_or(spec.shortcut.kind);
        spec.classes = self.classes;
        (spec.input.height, spec.input.width) = (size, size);
        spec
    }

    /// Pixels and labels of a made batch.
    pub(crate) fn batch(&self, batch: usize, size: usize, seed: u64) -> (Vec<u8>, Vec<u32>) {
        let pixels = oracle::pixels(batch * size * size * 3, seed);
        (pixels, oracle::labels(batch, self.classes, seed))
    }
}

/// ImageNet's normalisation.
pub(crate) fn options(batch: usize, mode: Mode) -> BuildOptions {
    BuildOptions::imagenet(batch, mode)
}

/// Gives every parameter and running statistic its made value.
pub(crate) fn fill(executor: &mut impl Executor, seed: u64) {
    for (name, shape) in executor.states() {
        if !name.starts_with("grad/") && !name.starts_with("optim/") {
            executor.import(&name, &shape, &oracle::parameter(&name, &shape, seed)).unwrap();
        }
    }
}

/// The largest difference as a share of the largest expected value.
#[track_caller]
pub(crate) fn apart(ours: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let difference = ours.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    difference / largest
}
