//! The reference executor in f64 against PyTorch in double: the same weights, the same pictures.

use resnet_core::build::{Mode, forward};
use resnet_core::executor::{Executor, Input};
use resnet_core::op::CrossEntropy;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::step::{Targets, gradient_graph, gradient_name};

use crate::fixture::{Layout, Network, apart, fill, float_input, layout_network, options, read};

/// Two programs that sum in different orders in f64 differ by some 1e-13 in the deepest network
/// here; a wrong term shows at 1e-6 or more. Relative: logits by the largest, gradients and
/// statistics by their L2 norm.
const TOLERANCE: f64 = 1e-9;

/// Compares numbers one by one, and keeps the worst to tell.
#[derive(Default)]
struct Comparison {
    worst: f64,
    of: String,
}

impl Comparison {
    #[track_caller]
    fn add(&mut self, what: &str, apart: f64) {
        assert!(apart <= TOLERANCE, "{what}: {apart:.1e} from PyTorch's, at most {TOLERANCE:e}");
        if self.worst <= apart {
            (self.worst, self.of) = (apart, what.into());
        }
    }
}

/// Evaluation, then one training step, in every number that is stored.
fn check(model: &str) {
    let network: Network = read(&format!("parity/{model}.json"));
    let mut comparison = Comparison::default();
    check_evaluation(&network, &mut comparison);
    check_training(&network, &mut comparison);
    println!("{model}: at most {:.1e} from PyTorch, in {}", comparison.worst, comparison.of);
}

fn check_evaluation(network: &Network, comparison: &mut Comparison) {
    let expected = &network.evaluation;
    let graph = forward(&network.spec(expected.size), &options(expected.batch, Mode::Evaluation));
    let mut executor = ReferenceExecutor::<f64>::new();
    let step = executor.compile(&graph.unwrap()).unwrap();
    fill(&mut executor, 0);
    let (pixels, _) = network.batch(expected.batch, expected.size, 0);
    executor.run(step, &[Input::U8(&pixels)]).unwrap();
    let logits = executor.output_f64(step, "logits").unwrap();
    comparison.add("logits in evaluation", apart(&logits, &expected.logits.concat()));
}

fn check_training(network: &Network, comparison: &mut Comparison) {
    let expected = &network.training;
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: expected.batch };
    let (spec, options) = (network.spec(expected.size), options(expected.batch, Mode::Training));
    let graph = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let mut executor = ReferenceExecutor::<f64>::new();
    let step = executor.compile(&graph).unwrap();
    fill(&mut executor, 0);
    let (pixels, labels) = network.batch(expected.batch, expected.size, 0);
    executor.run(step, &[Input::U8(&pixels), Input::U32(&labels)]).unwrap();

    let logits = executor.output_f64(step, "logits").unwrap();
    comparison.add("logits in training", apart(&logits, &expected.logits.concat()));
    let loss = executor.output_f64(step, "loss").unwrap();
    comparison.add("loss", apart(&loss, &[expected.loss]));
    for (name, summary) in &expected.running {
        let values = executor.export_f64(name).unwrap();
        comparison.add(name, summary.relative_distance(name, &values));
    }
    let parameters = graph.parameters().count();
    assert_eq!(parameters, expected.gradients.len(), "parameters of the network");
    for (name, summary) in &expected.gradients {
        let gradient = executor.export_f64(&gradient_name(name)).unwrap();
        comparison.add(&gradient_name(name), summary.relative_distance(name, &gradient));
    }
}

#[test]
fn resnet18_equals_pytorch() {
    check("resnet18");
}

#[test]
fn resnet50_equals_pytorch() {
    check("resnet50");
}

#[test]
fn resnet50_with_the_papers_stride_equals_pytorch() {
    check("resnet50-v1");
}

#[test]
fn preactivation_equals_timm() {
    check("resnet50-v2");
}

#[test]
fn deep_stem_and_pooled_shortcut_equal_timm() {
    check("resnet18-d");
}

#[test]
fn squeeze_and_excitation_equals_timm() {
    check("seresnet50");
}

#[test]
fn grouped_convolutions_equal_pytorch() {
    check("resnext50_32x4d");
}

#[test]
fn cifar_network_with_shortcut_a_equals_pytorch() {
    check("resnet20");
}

#[test]
fn cifar_network_with_shortcut_b_equals_pytorch() {
    check("resnet20-b");
}

#[test]
fn cifar_network_with_shortcut_c_equals_pytorch() {
    check("resnet20-c");
}

#[test]
fn plain_network_equals_pytorch() {
    check("plain20");
}

fn check_layout(model: &str) {
    let layout: Layout = read("parity/layout.json");
    let graph = layout_network(&layout, model);
    let mut executor = ReferenceExecutor::<f64>::new();
    let step = executor.compile(&graph).unwrap();
    fill(&mut executor, 0);
    executor.run(step, &[Input::F32(&float_input(&layout))]).unwrap();
    let far = layout.nets[model].apart(model, &executor.output_f64(step, "logits").unwrap());
    println!("{model}: {far:.1e} of the largest logit from PyTorch");
    assert!(far <= TOLERANCE, "{model}: {far:.1e}");
}

#[test]
fn resnet18_at_full_size_equals_pytorch() {
    check_layout("resnet18");
}

#[test]
fn resnet34_at_full_size_equals_pytorch() {
    check_layout("resnet34");
}

#[test]
fn resnet50_at_full_size_equals_pytorch() {
    check_layout("resnet50");
}

#[test]
fn resnet101_at_full_size_equals_pytorch() {
    check_layout("resnet101");
}

#[test]
fn resnet152_at_full_size_equals_pytorch() {
    check_layout("resnet152");
}
