//! Every kind of block, in small networks: evaluation, and two training steps with an update after
//! each.

use super::{Bounds, Case, Given, Run};
use crate::build::{BuildOptions, Mode, forward};
use crate::graph::Graph;
use crate::op::{CrossEntropy, DType};
use crate::oracle;
use crate::spec::{NetworkSpec, ShortcutKind, StemKind};
use crate::step::{Decay, SgdOptions, Targets, gradient_graph, update_graph};
use crate::zoo;

/// Pictures a batch.
const BATCH: usize = 3;
/// Pixels a side; odd, so that every stride meets a border.
const SIDE: usize = 13;
const CLASSES: usize = 5;

/// Networks of the zoo that between them have every kind of block, stem and shortcut.
const NETWORKS: [&str; 12] = [
    "resnet18",
    "resnet50",
    "resnet50-v1",
    "resnet18-v2",
    "resnet50-v2",
    "resnet18-d",
    "resnet50-d",
    "seresnet18",
    "seresnet50",
    "resnext50_32x4d",
    "resnet20",
    "cifar-plain20",
];

/// The networks, with what they are called.
pub(super) fn specs() -> Vec<(String, NetworkSpec)> {
    let mut specs: Vec<(String, NetworkSpec)> =
        NETWORKS.iter().map(|&name| (name.to_string(), small(name))).collect();
    for kind in [ShortcutKind::B, ShortcutKind::C] {
        let mut spec = small("resnet20");
        spec.shortcut.kind = kind;
        specs.push((format!("resnet20 with shortcut {kind:?}"), spec));
    }
    let mut random = small("resnet18");
    (random.dropout, random.stochastic_depth) = (0.3, 0.4);
    specs.push(("resnet18 with dropout and stochastic depth".into(), random));
    specs
}

pub(super) fn cases() -> Vec<Case> {
    let both = |(name, spec): &(String, NetworkSpec)| {
        [evaluation(name, spec), training(name, spec, DType::F32, 0)]
    };
    specs().iter().flat_map(both).collect()
}

/// A network of the zoo with two short stages of odd numbers of channels.
pub(super) fn small(name: &str) -> NetworkSpec {
    let mut spec = zoo::network(name).expect("the list names networks of the zoo");
    spec.classes = CLASSES;
    (spec.input.height, spec.input.width) = (SIDE, SIDE);
    spec.stem.channels = 12;
    // 13 pixels a side are not enough for the large stem and a pool after it.
    spec.stem.pool = spec.stem.pool && spec.stem.kind == StemKind::Large;
    if 1 < spec.block.groups {
        (spec.block.groups, spec.block.width_per_group) = (4, 32);
    }
    spec.block.se_reduction = spec.block.se_reduction.map(|_| 4);
    spec.stages.truncate(2);
    for (stage, channels) in spec.stages.iter_mut().zip([12, 20]) {
        (stage.blocks, stage.channels) = (1 + usize::from(channels == 12), channels);
    }
    spec
}

/// The pictures of this number.
pub(super) fn pixels(pictures: u64) -> Given {
    Given::U8(oracle::pixels(BATCH * SIDE * SIDE * 3, pictures))
}

/// Made values of all parameters and running statistics.
fn state(spec: &NetworkSpec) -> Vec<(String, Vec<f32>)> {
    let options = BuildOptions::imagenet(BATCH, Mode::Evaluation);
    let graph = forward(spec, &options).expect("small networks fit their pictures");
    let states = graph.states().map(|(id, _)| {
        let name = graph.get(id).name.clone();
        let values = oracle::parameter(&name, graph.shape(id), 0);
        (name, values)
    });
    states.collect()
}

/// The forward graph of a small network.
pub(super) fn evaluation_graph(spec: &NetworkSpec) -> Graph {
    let options = BuildOptions::imagenet(BATCH, Mode::Evaluation);
    forward(spec, &options).expect("small networks fit their pictures")
}

fn evaluation(name: &str, spec: &NetworkSpec) -> Case {
    let options =
        BuildOptions { features: true, ..BuildOptions::imagenet(BATCH, Mode::Evaluation) };
    let graph = forward(spec, &options).expect("small networks fit their pictures");
    Case {
        name: format!("{name} in evaluation"),
        runs: vec![Run { graph, inputs: vec![pixels(0)] }],
        state: state(spec),
        bounds: Bounds::Network,
    }
}

/// Two steps, so that momentum counts.
pub(super) fn training(name: &str, spec: &NetworkSpec, stored: DType, pictures: u64) -> Case {
    let options = BuildOptions { stored, ..BuildOptions::imagenet(BATCH, Mode::Training) };
    let loss = CrossEntropy { label_smoothing: 0.1, divisor: BATCH };
    let gradients = gradient_graph(spec, &options, Targets::Classes, loss)
        .expect("small networks fit their pictures");
    let sgd = SgdOptions {
        weight_decay: 1e-3,
        decay: Decay::WeightsOnly,
        nesterov: true,
        clip_norm: Some(1.0),
    };
    let update = update_graph(&gradients, &sgd).expect("every network can be updated");
    let labels = Given::U32(oracle::labels(BATCH, CLASSES, 0));
    let hyper = Given::F32(vec![0.05, 0.9]);
    let runs = (0..2).flat_map(|step| {
        let mut inputs = vec![pixels(pictures), labels.clone()];
        if gradients.inputs.len() == 4 {
            inputs.splice(1..1, [Given::U32(vec![1, 2]), Given::U32(vec![step])]);
        }
        [
            Run { graph: gradients.clone(), inputs },
            Run { graph: update.clone(), inputs: vec![hyper.clone()] },
        ]
    });
    Case {
        name: format!("{name} in training"),
        runs: runs.collect(),
        state: state(spec),
        bounds: Bounds::Network,
    }
}
