//! The stable text form of a training step's two graphs.

use resnet_core::build::{BuildOptions, Mode};
use resnet_core::op::CrossEntropy;
use resnet_core::spec::ShortcutKind;
use resnet_core::step::{Decay, SgdOptions, Targets, gradient_graph, update_graph};
use resnet_core::zoo::network;

#[test]
fn a_training_step_of_one_block_reads_as_it_runs() {
    let mut spec = network("resnet20").unwrap();
    spec.shortcut.kind = ShortcutKind::B;
    spec.stages.truncate(2);
    spec.stages.remove(0);
    spec.stages[0].blocks = 1;
    let options = BuildOptions::imagenet(8, Mode::Training);
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: 8 };
    let gradients = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    insta::assert_snapshot!("gradients", gradients.to_string());
    let sgd = SgdOptions {
        weight_decay: 1e-4,
        decay: Decay::WeightsOnly,
        nesterov: false,
        clip_norm: Some(1.0),
    };
    let update = update_graph(&gradients, &sgd).unwrap();
    insta::assert_snapshot!("update", update.to_string());
}
