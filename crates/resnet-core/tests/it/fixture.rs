//! The stored fixtures: what PyTorch computed, and the networks and inputs that it had.
//!
//! `xtask/oracle` writes them, `docs/parity.md` says what they hold. The engine's tests read them
//! with this file, too.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use resnet_core::build::{BuildOptions, Mode};
use resnet_core::executor::Executor;
use resnet_core::oracle::{self, Summary};
use resnet_core::spec::{NetworkSpec, ShortcutKind};
use resnet_core::zoo;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// One network: `fixtures/parity/NETWORK.json`.
#[derive(Deserialize)]
pub(crate) struct Network {
    model: String,
    classes: usize,
    pub(crate) evaluation: Evaluation,
    pub(crate) training: Training,
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
