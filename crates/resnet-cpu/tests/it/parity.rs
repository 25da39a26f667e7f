//! The engine against PyTorch: the same weights, the same pictures, f32 held to f64.

use resnet_core::build::{Mode, forward};
use resnet_core::executor::{Executor, Input};
use resnet_core::op::CrossEntropy;
use resnet_core::step::{Targets, gradient_graph, gradient_name};
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_simd::Isa;

use crate::fixture::{
    Layout, LayoutNetwork, Network, apart, fill, float_input, layout_network, options, read,
};

/// Logits, as a share of the largest.
const LOGITS: f64 = 1e-4;
/// Running statistics, as a share of `max(1, |v|)`.
const RUNNING: f64 = 1e-5;
/// Logits of one picture through the deepest networks. PyTorch's own f32 lies within 1.3e-6.
const LAYOUT: f64 = 2e-5;
/// How many times further than PyTorch's f32 our gradients may be from f64.
const TIMES_PYTORCH: f64 = 3.0;

fn cpu(isa: Isa) -> CpuExecutor {
    CpuExecutor::new(CpuOptions::new(isa, 2))
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn check(model: &str) {
    let network: Network = read(&format!("parity/{model}.json"));
    for isa in Isa::available() {
        check_evaluation(&network, isa);
        check_training(&network, isa);
        check_gradients(&network, isa);
    }
}

fn check_evaluation(network: &Network, isa: Isa) {
    let expected = &network.evaluation;
    let graph = forward(&network.spec(expected.size), &options(expected.batch, Mode::Evaluation));
    let mut executor = cpu(isa);
    let step = executor.compile(&graph.unwrap()).unwrap();
    fill(&mut executor, 0);
    let (pixels, _) = network.batch(expected.batch, expected.size, 0);
    executor.run(step, &[Input::U8(&pixels)]).unwrap();
    let logits = wide(&executor.output(step, "logits").unwrap());
    let far = apart(&logits, &expected.logits.concat());
    assert!(far <= LOGITS, "{} on {}: logits {far:.1e}", network.model, isa.name());
}

/// One training step of a seed's weights, pictures and labels.
fn train(network: &Network, isa: Isa, seed: u64) -> (CpuExecutor, Vec<f64>) {
    let (batch, size) = (network.training.batch, network.training.size);
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: batch };
    let (spec, options) = (network.spec(size), options(batch, Mode::Training));
    let graph = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let mut executor = cpu(isa);
    let step = executor.compile(&graph).unwrap();
    fill(&mut executor, seed);
    let (pixels, labels) = network.batch(batch, size, seed);
    executor.run(step, &[Input::U8(&pixels), Input::U32(&labels)]).unwrap();
    let logits = wide(&executor.output(step, "logits").unwrap());
    (executor, logits)
}

fn check_training(network: &Network, isa: Isa) {
    let expected = &network.training;
    let (executor, logits) = train(network, isa, 0);
    let far = apart(&logits, &expected.logits.concat());
    assert!(far <= LOGITS, "{} on {}: training logits {far:.1e}", network.model, isa.name());
    for (name, summary) in &expected.running {
        let values = wide(&executor.export(name).unwrap());
        for (stored, ours) in summary.pairs(name, &values) {
            let far = (ours - stored).abs() / stored.abs().max(1.0);
            assert!(far <= RUNNING, "{} on {}: {name} {far:.1e}", network.model, isa.name());
        }
    }
}

/// How far the gradients of each seed are from f64, by the median over the parameters; and the
/// middle one of the seeds beside PyTorch's.
fn check_gradients(network: &Network, isa: Isa) {
    let mut ours = Vec::new();
    let mut theirs = Vec::new();
    let mut largest = (0.0, String::new());
    for seed in &network.seeds {
        let (executor, _) = train(network, isa, seed.seed);
        let stored = if seed.seed == 0 { &network.training.gradients } else { &seed.gradients };
        let mut distances = Vec::new();
        for (name, summary) in stored {
            let gradient = wide(&executor.export(&gradient_name(name)).unwrap());
            let distance = summary.relative_distance(name, &gradient);
            distances.push(distance);
            if largest.0 < distance {
                largest = (distance, name.clone());
            }
        }
        ours.push(middle(distances));
        theirs.push(seed.f32.nchw.median.min(seed.f32.channels_last.median));
    }
    let (ours, theirs) = (middle(ours), middle(theirs));
    println!(
        "{} on {}: gradients {ours:.1e} from f64, PyTorch's f32 {theirs:.1e}; the largest {:.1e} in {}",
        network.model,
        isa.name(),
        largest.0,
        largest.1
    );
    assert!(ours <= TIMES_PYTORCH * theirs, "{} on {}", network.model, isa.name());
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[test]
fn resnet18_is_as_near_as_pytorch() {
    check("resnet18");
}

#[test]
fn resnet50_is_as_near_as_pytorch() {
    check("resnet50");
}

#[test]
fn resnet50_with_the_papers_stride_is_as_near_as_pytorch() {
    check("resnet50-v1");
}

#[test]
fn preactivation_is_as_near_as_pytorch() {
    check("resnet50-v2");
}

#[test]
fn deep_stem_and_pooled_shortcut_are_as_near_as_pytorch() {
    check("resnet18-d");
}

#[test]
fn squeeze_and_excitation_is_as_near_as_pytorch() {
    check("seresnet50");
}

#[test]
fn grouped_convolutions_are_as_near_as_pytorch() {
    check("resnext50_32x4d");
}

#[test]
fn cifar_network_with_shortcut_a_is_as_near_as_pytorch() {
    check("resnet20");
}

#[test]
fn cifar_network_with_shortcut_b_is_as_near_as_pytorch() {
    check("resnet20-b");
}

#[test]
fn cifar_network_with_shortcut_c_is_as_near_as_pytorch() {
    check("resnet20-c");
}

#[test]
fn plain_network_is_as_near_as_pytorch() {
    check("plain20");
}

/// torchvision's five depths at full size.
#[test]
fn deep_networks_at_full_size_are_as_near_as_pytorch() {
    let layout: Layout = read("parity/layout.json");
    for (model, expected) in &layout.nets {
        for isa in Isa::available().into_iter().filter(|isa| isa.name() != "portable") {
            check_layout(&layout, model, expected, isa);
        }
    }
}

fn check_layout(layout: &Layout, model: &str, expected: &LayoutNetwork, isa: Isa) {
    let graph = layout_network(layout, model);
    let mut executor = cpu(isa);
    let step = executor.compile(&graph).unwrap();
    fill(&mut executor, 0);
    executor.run(step, &[Input::F32(&float_input(layout))]).unwrap();
    let far = expected.apart(model, &wide(&executor.output(step, "logits").unwrap()));
    println!("{model} on {}: {far:.1e} of the largest logit from f64", isa.name());
    assert!(far <= LAYOUT, "{model} on {}: {far:.1e}", isa.name());
}
