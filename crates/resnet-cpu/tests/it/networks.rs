//! Whole networks: every instruction set against the reference in f64.

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::executor::{Executor, Input, StepId, Values};
use resnet_core::graph::{Graph, Origin, TensorId};
use resnet_core::op::{CrossEntropy, Op};
use resnet_core::oracle;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::step::{Targets, gradient_graph};
use resnet_core::zoo::network;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_simd::Isa;

fn cpu(isa: Isa, threads: usize) -> CpuExecutor {
    CpuExecutor::new(CpuOptions { checked: true, ..CpuOptions::new(isa, threads) })
}

fn compile(executor: &mut dyn Executor, graph: &Graph) -> StepId {
    let step = executor.compile(graph).unwrap();
    for (name, shape) in executor.states() {
        if !name.starts_with("grad/") && !name.starts_with("optim/") && !name.starts_with("folded/")
        {
            executor.import(&name, &shape, &oracle::parameter(&name, &shape, 0)).unwrap();
        }
    }
    step
}

/// Distance relative to the largest expected value.
fn distance(found: &[f32], expected: &[f32]) -> f64 {
    let largest = expected.iter().fold(0.0_f32, |a, b| a.max(b.abs()));
    let far = found.iter().zip(expected).fold(0.0_f32, |a, (x, y)| a.max((x - y).abs()));
    f64::from(far) / f64::from(largest.max(1e-30))
}

#[track_caller]
fn check_evaluation(name: &str, size: usize, batch: usize) {
    let mut spec = network(name).unwrap();
    (spec.input.height, spec.input.width, spec.classes) = (size, size, 10);
    let graph = forward(&spec, &BuildOptions::imagenet(batch, Mode::Evaluation)).unwrap();
    let pixels = oracle::pixels(batch * size * size * 3, 0);
    let mut reference = ReferenceExecutor::<f64>::new();
    let step = compile(&mut reference, &graph);
    reference.run(step, &[Input::U8(&pixels)]).unwrap();
    let expected = reference.output(step, "logits").unwrap();
    for isa in Isa::available() {
        let mut executor = cpu(isa, 2);
        let step = compile(&mut executor, &graph);
        executor.run(step, &[Input::U8(&pixels)]).unwrap();
        let far = distance(&executor.output(step, "logits").unwrap(), &expected);
        // f32 through some tens of layers; PyTorch's own f32 lies within 1e-6 to 1e-5.
        assert!(far < 2e-5, "{name} on {}: {far:e}", isa.name());
    }
}

#[test]
fn evaluation_equals_the_reference_in_every_family() {
    check_evaluation("resnet20", 32, 3);
    check_evaluation("cifar-plain20", 20, 2);
    check_evaluation("resnet18", 64, 2);
    check_evaluation("resnet50-v2", 64, 1);
    check_evaluation("resnet18-d", 40, 2);
    check_evaluation("seresnet50", 64, 1);
    check_evaluation("resnext50_32x4d", 64, 1);
}

#[test]
fn a_sum_takes_the_place_of_a_residual_that_nobody_reads_later() {
    let size = 32;
    let mut spec = network("resnet20").unwrap();
    (spec.input.height, spec.input.width) = (size, size);
    let pixels = oracle::pixels(size * size * 3, 0);
    let mut graph = forward(&spec, &BuildOptions::imagenet(1, Mode::Evaluation)).unwrap();
    let run = |executor: &mut dyn Executor, graph: &Graph, output: &str| {
        let step = compile(executor, graph);
        executor.run(step, &[Input::U8(&pixels)]).unwrap();
        (step, executor.output(step, output).unwrap())
    };
    let in_place = |executor: &CpuExecutor, step| {
        executor.plan(step).to_string().matches("add in place").count()
    };
    let mut executor = cpu(Isa::detect(), 2);
    let (step, logits) = run(&mut executor, &graph, "logits");
    assert_eq!(in_place(&executor, step), 9, "{}", executor.plan(step));

    let join = graph.nodes.iter().filter(|node| matches!(node.op, Op::Add)).nth(1).unwrap();
    let relu = |id: &&TensorId| match graph.get(**id).origin {
        Origin::Node(node, _) => matches!(graph.nodes[node.0 as usize].op, Op::Relu),
        Origin::Input | Origin::State(_) => false,
    };
    let residual = *join.inputs.iter().find(relu).expect("the first block ends in a ReLU");
    graph.outputs.push(("residual".into(), residual));
    let mut executor = cpu(Isa::detect(), 2);
    let (step, kept) = run(&mut executor, &graph, "residual");
    assert_eq!(in_place(&executor, step), 8, "{}", executor.plan(step));
    assert_eq!(executor.output(step, "logits").unwrap(), logits);
    let (_, expected) = run(&mut ReferenceExecutor::<f64>::new(), &graph, "residual");
    assert!(distance(&kept, &expected) < 2e-5);
}

/// Training of a network, checked, with and without recomputing: equal bits, and a smaller arena.
#[track_caller]
fn check_recompute(name: &str, tenths: usize) {
    let (size, batch) = (32, 4);
    let mut spec = network(name).unwrap();
    (spec.input.height, spec.input.width, spec.classes) = (size, size, 10);
    let options = BuildOptions::imagenet(batch, Mode::Training);
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: batch };
    let graph = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let pixels = oracle::pixels(batch * size * size * 3, 0);
    let labels = oracle::labels(batch, 10, 0);
    let run = |recompute: bool| {
        let options = CpuOptions::new(Isa::detect(), 2);
        let mut executor = CpuExecutor::new(CpuOptions { checked: true, recompute, ..options });
        let step = compile(&mut executor, &graph);
        executor.run(step, &[Input::U8(&pixels), Input::U32(&labels)]).unwrap();
        let values: Vec<Vec<f32>> =
            executor.states().iter().map(|(name, _)| executor.export(name).unwrap()).collect();
        (values, executor.plan(step).arena_bytes)
    };
    let ((kept, whole), (made_again, small)) = (run(false), run(true));
    assert!(kept == made_again, "{name}: recomputing changes bits");
    let shown = format!("{small} bytes with recomputing, {whole} without");
    assert!(10 * small <= tenths * whole, "{name}: {shown}");
}

#[test]
fn recomputing_takes_less_memory_and_changes_no_bit() {
    check_recompute("resnet20", 9);
    check_recompute("cifar-plain20", 9);
    // Pictures this small weigh less than these networks' weights.
    check_recompute("resnet50", 10);
    check_recompute("resnet18-v2", 10);
    check_recompute("seresnet50", 10);
}

#[test]
fn recomputing_halves_the_arena_of_a_bottleneck_network_at_full_size() {
    let spec = network("resnet50").unwrap();
    let options = BuildOptions::imagenet(16, Mode::Training);
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: 16 };
    let graph = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let arena = |recompute: bool| {
        let options = CpuOptions { recompute, ..CpuOptions::new(Isa::detect(), 2) };
        let mut executor = CpuExecutor::new(options);
        let step = executor.compile(&graph).unwrap();
        executor.plan(step).arena_bytes
    };
    let (whole, small) = (arena(false), arena(true));
    assert!(2 * small <= whole, "{small} bytes with recomputing, {whole} without");
}

/// What is somebody else's is read until it is folded, and never again; what is imported later counts.
#[test]
fn shared_weights_are_folded_once_for_all_batches() {
    let size = 32;
    let mut spec = network("resnet20").unwrap();
    (spec.input.height, spec.input.width) = (size, size);
    let graph = |batch| forward(&spec, &BuildOptions::imagenet(batch, Mode::Evaluation)).unwrap();
    let pixels = oracle::pixels(2 * size * size * 3, 0);
    let mut executor = cpu(Isa::detect(), 2);
    let one = executor.compile(&graph(1)).unwrap();
    let states = executor.states();
    let tensors: Vec<(&str, &[usize], Values)> = states
        .iter()
        .filter(|(name, _)| !name.starts_with("folded/"))
        .map(|(name, shape)| {
            (name.as_str(), shape.as_slice(), oracle::parameter(name, shape, 0).into())
        })
        .collect();
    for (name, shape, values) in &tensors {
        executor.import_shared(name, shape, values).unwrap();
        assert_eq!(executor.export(name).unwrap(), values[..], "{name}");
    }
    executor.run(one, &[Input::U8(&pixels[..pixels.len() / 2])]).unwrap();
    let alone = executor.output(one, "logits").unwrap();
    let both = executor.compile(&graph(2)).unwrap();
    executor.run(both, &[Input::U8(&pixels)]).unwrap();
    assert_eq!(executor.output(both, "logits").unwrap()[..10], alone);

    let (name, shape, values) = &tensors[0];
    let other: Vec<f32> = values.iter().map(|v| -v).collect();
    executor.import(name, shape, &other).unwrap();
    executor.run(one, &[Input::U8(&pixels[..pixels.len() / 2])]).unwrap();
    let changed = executor.output(one, "logits").unwrap();
    assert_ne!(changed, alone, "{name} was imported anew");
    executor.run(both, &[Input::U8(&pixels)]).unwrap();
    assert_eq!(executor.output(both, "logits").unwrap()[..10], changed);
}

/// Beside a training step an evaluation keeps folded and transformed weights in the arena, and makes them
/// again when another plan has used that: it takes no memory of its own, and the logits are those of
/// an executor for inference.
#[test]
fn an_evaluation_in_training_takes_no_memory_of_its_own() {
    let size = 32;
    let mut spec = network("resnet18").unwrap();
    (spec.input.height, spec.input.width, spec.classes) = (size, size, 10);
    let graph = |batch| forward(&spec, &BuildOptions::imagenet(batch, Mode::Evaluation)).unwrap();
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: 128 };
    let options = BuildOptions::imagenet(128, Mode::Training);
    let gradients = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let pixels = oracle::pixels(2 * size * size * 3, 0);
    let (both, one) = (&pixels[..], &pixels[..pixels.len() / 2]);
    let executor = || CpuExecutor::new(CpuOptions::new(Isa::detect(), 2));

    let mut inference = executor();
    let step = compile(&mut inference, &graph(2));
    inference.run(step, &[Input::U8(both)]).unwrap();
    let expected = inference.output(step, "logits").unwrap();

    let mut training = executor();
    compile(&mut training, &gradients);
    let before = training.memory_bytes();
    let [pair, single] = [2, 1].map(|batch| compile(&mut training, &graph(batch)));
    assert!(!training.plan(pair).preparation.is_empty(), "no weights are transformed");
    for _ in 0..2 {
        training.run(pair, &[Input::U8(both)]).unwrap();
        assert_eq!(training.output(pair, "logits").unwrap(), expected);
        training.run(single, &[Input::U8(one)]).unwrap();
        assert_eq!(training.output(single, "logits").unwrap(), expected[..10]);
    }
    assert_eq!(training.memory_bytes(), before);
}

/// Batches of a check: how many ReLUs flip by rounding is a matter of luck in any one of them.
const BATCHES: u64 = 3;

#[track_caller]
fn check_training(name: &str, size: usize, batch: usize) {
    let mut spec = network(name).unwrap();
    (spec.input.height, spec.input.width, spec.classes) = (size, size, 10);
    let options = BuildOptions::imagenet(batch, Mode::Training);
    let loss = CrossEntropy { label_smoothing: 0.1, divisor: batch };
    let graph = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let mut distances: Vec<_> =
        Isa::available().into_iter().map(|isa| (isa, Vec::new(), Vec::new())).collect();
    for seed in 0..BATCHES {
        let (pixels, labels) =
            (oracle::pixels(batch * size * size * 3, seed), oracle::labels(batch, 10, seed));
        let inputs = [Input::U8(&pixels), Input::U32(&labels)];
        let mut reference = ReferenceExecutor::<f64>::new();
        let at = compile(&mut reference, &graph);
        reference.run(at, &inputs).unwrap();
        for (isa, medians, largests) in &mut distances {
            let mut executor = cpu(*isa, 2);
            let step = compile(&mut executor, &graph);
            executor.run(step, &inputs).unwrap();
            for output in ["logits", "loss"] {
                let expected = reference.output(at, output).unwrap();
                let far = distance(&executor.output(step, output).unwrap(), &expected);
                assert!(far < 2e-5, "{name} on {}: {output} {far:e}", isa.name());
            }
            let mut gradients = Vec::new();
            for (state, _) in reference.states() {
                let expected = reference.export(&state).unwrap();
                let far = distance(&executor.export(&state).unwrap(), &expected);
                if state.starts_with("grad/") {
                    gradients.push(far);
                } else {
                    assert!(far < 1e-5, "{name} on {}: {state} {far:e}", isa.name());
                }
            }
            medians.push(median(&mut gradients));
            largests.push(gradients[gradients.len() - 1]);
        }
    }
    // A ReLU that flips by rounding moves single gradients by per cents, a wrong kernel moves all of
    // them in every batch; the parity tests hold each to PyTorch's own deviation.
    for (isa, medians, largests) in &mut distances {
        println!("{name} on {}: medians {medians:?}, largest {largests:?}", isa.name());
        let (middle, largest) = (median(medians), median(largests));
        assert!(middle < 1e-3 && largest < 0.1, "{name}: median {middle:e}, largest {largest:e}");
    }
}

/// The middle of some numbers, which are sorted.
fn median(numbers: &mut [f64]) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

#[test]
fn a_training_step_equals_the_reference() {
    // 32 values a channel at least: normalising by fewer is ill-conditioned.
    check_training("resnet20", 32, 8);
    check_training("resnet18-v2", 32, 32);
    check_training("resnet18-d", 32, 32);
    check_training("seresnet18", 32, 32);
}

/// Dropout and stochastic depth draw the bits that the reference draws.
#[test]
fn random_masks_equal_the_references() {
    let mut spec = network("resnet20").unwrap();
    (spec.dropout, spec.stochastic_depth, spec.classes) = (0.4, 0.5, 10);
    let options = BuildOptions::imagenet(9, Mode::Training);
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: 9 };
    let graph = gradient_graph(&spec, &options, Targets::Classes, loss).unwrap();
    let (pixels, labels) = (oracle::pixels(9 * 32 * 32 * 3, 0), oracle::labels(9, 10, 0));
    let run = |executor: &mut dyn Executor, step_number: u32| {
        let step = compile(executor, &graph);
        let (seed, number) = ([7, 9], [step_number]);
        let random = [Input::U32(&seed), Input::U32(&number)];
        let inputs = [Input::U8(&pixels), random[0], random[1], Input::U32(&labels)];
        executor.run(step, &inputs).unwrap();
        executor.output(step, "logits").unwrap()
    };
    for step_number in [0, 3] {
        let expected = run(&mut ReferenceExecutor::<f64>::new(), step_number);
        for isa in Isa::available() {
            let far = distance(&run(&mut cpu(isa, 2), step_number), &expected);
            assert!(far < 2e-5, "step {step_number} on {}: {far:e}", isa.name());
        }
    }
}
