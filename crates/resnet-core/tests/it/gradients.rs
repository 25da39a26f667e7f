//! Gradients against central differences, in f64 on the reference executor.

use resnet_core::build::{BuildOptions, Mode};
use resnet_core::executor::{Executor, Input, StepId};
use resnet_core::grad::gradients;
use resnet_core::graph::{Graph, GraphError, StateRole, TensorId, TensorType};
use resnet_core::init::{Initial, initial_state};
use resnet_core::op::{BinaryCrossEntropy, Conv2d, CrossEntropy, DType, Op, Pool2d, SubsamplePad};
use resnet_core::reference::ReferenceExecutor;
use resnet_core::rng::{Purpose, Stream};
use resnet_core::spec::{NetworkSpec, ShortcutKind, StemKind};
use resnet_core::step::{Targets, gradient_graph, gradient_name};
use resnet_core::zoo::network;

/// Half the distance of a central difference. The error of the difference is about
/// `STEP^2 * f'''` plus `1e-16 / STEP` of cancellation: near 1e-10 for both here.
const STEP: f64 = 1e-5;
/// Largest deviation from the difference, relative to the largest gradient of the tensor and one
/// thousandth of one: a hundred times the error of the difference itself.
const TOLERANCE: f64 = 1e-6;

/// Elements tested of each parameter, evenly spread.
const DIFFERENCES: usize = 12;

fn random(stream: &mut Stream, len: usize) -> Vec<f64> {
    (0..len).map(|_| 2.0 * stream.uniform_f64() - 1.0).collect()
}

/// Compares the gradients of output `loss` by every parameter with central differences: all
/// elements of small tensors, every so many of larger ones.
fn check_graph(graph: &Graph, inputs: &[Input<'_>], set: impl Fn(&str, &mut [f64])) {
    graph.verify().unwrap();
    let mut executor = ReferenceExecutor::<f64>::new();
    let step = executor.compile(graph).unwrap();
    let mut stream = Stream::new(5, Purpose::Test, 0, 0);
    for (name, shape) in executor.states() {
        let mut values = random(&mut stream, shape.iter().product());
        set(&name, &mut values);
        executor.import_f64(&name, &shape, &values).unwrap();
    }
    executor.run(step, inputs).unwrap();
    // Read before the differences are made: each of their runs writes gradients again.
    let analytic: Vec<(TensorId, Vec<f64>)> = graph
        .parameters()
        .map(|(id, _)| (id, executor.export_f64(&gradient_name(&graph.get(id).name)).unwrap()))
        .collect();
    for (id, gradient) in analytic {
        let parameter = (graph.get(id).name.as_str(), graph.shape(id));
        check_parameter(&mut executor, step, inputs, parameter, &gradient);
    }
}

fn check_parameter(
    executor: &mut ReferenceExecutor<f64>,
    step: StepId,
    inputs: &[Input<'_>],
    (name, shape): (&str, &[usize]),
    gradient: &[f64],
) {
    let at = executor.export_f64(name).unwrap();
    let statistics: Vec<_> = executor
        .states()
        .into_iter()
        .filter(|(s, _)| s.contains("running"))
        .map(|(s, shape)| (executor.export_f64(&s).unwrap(), s, shape))
        .collect();
    let mut loss = |i: usize, delta: f64| {
        let mut moved = at.clone();
        moved[i] += delta;
        executor.import_f64(name, shape, &moved).unwrap();
        executor.run(step, inputs).unwrap();
        for (values, name, shape) in &statistics {
            executor.import_f64(name, shape, values).unwrap();
        }
        executor.output_f64(step, "loss").unwrap()[0]
    };
    let largest = gradient.iter().fold(1e-3, |m: f64, g| m.max(g.abs()));
    for i in (0..at.len()).step_by(at.len().div_ceil(DIFFERENCES)) {
        let difference = (loss(i, STEP) - loss(i, -STEP)) / (2.0 * STEP);
        let error = (difference - gradient[i]).abs() / largest;
        assert!(
            error < TOLERANCE,
            "{name}[{i}]: gradient {}, difference {difference}",
            gradient[i]
        );
    }
    executor.import_f64(name, shape, &at).unwrap();
}

/// A graph of parameters only, ending in a loss that weighs every element differently.
struct Small {
    graph: Graph,
}

impl Small {
    fn new() -> Small {
        Small { graph: Graph::default() }
    }

    /// An input of the operation, which is differentiated by.
    fn parameter(&mut self, name: &str, shape: &[usize]) -> TensorId {
        self.graph.state(name, StateRole::Bias, shape)
    }

    fn statistics(&mut self, c: usize) -> [TensorId; 2] {
        [
            self.graph.state("running_mean", StateRole::RunningMean, &[c]),
            self.graph.state("running_var", StateRole::RunningVar, &[c]),
        ]
    }

    fn op(&mut self, op: Op, inputs: &[TensorId]) -> TensorId {
        self.graph.node("op", op, inputs).unwrap()[0]
    }

    /// Reduces a picture to logits by a convolution as large as itself.
    fn logits(&mut self, y: TensorId) -> TensorId {
        let [_, kh, kw, c] = *self.graph.shape(y) else { panic!("a picture") };
        let w = self.graph.state("reduce", StateRole::RunningMean, &[3, c, kh, kw]);
        let conv = Conv2d { kh, kw, stride: 1, pad: 0, dilation: 1, groups: 1 };
        let y = self.graph.node1("reduce", Op::Conv2d(conv), &[y, w]).unwrap();
        let w = self.graph.state("fc.weight", StateRole::LinearWeight, &[4, 3]);
        let b = self.graph.state("fc.bias", StateRole::Bias, &[4]);
        self.graph.node1("fc", Op::Linear, &[y, w, b]).unwrap()
    }

    fn check(mut self, y: TensorId) {
        let logits = self.logits(y);
        let n = self.graph.shape(logits)[0];
        let labels = self.graph.input("labels", TensorType::new(&[n], DType::U32));
        let constants = CrossEntropy { label_smoothing: 0.1, divisor: n };
        let outputs =
            self.graph.node("loss", Op::CrossEntropy(constants), &[logits, labels]).unwrap();
        self.graph.outputs.push(("loss".into(), outputs[0]));
        let graph = gradients(&self.graph, outputs[0]).unwrap();
        let labels: Vec<u32> = (0..n as u32).map(|i| i % 4).collect();
        let mut given = vec![Input::U32(&labels)];
        if graph.inputs.len() == 3 {
            given = vec![Input::U32(&[7, 1]), Input::U32(&[3]), Input::U32(&labels)];
        }
        check_graph(&graph, &given, spread);
    }
}

/// Keeps variances positive.
fn spread(name: &str, values: &mut [f64]) {
    if name.contains("running_var") {
        values.iter_mut().for_each(|v| *v += 1.5);
    }
}

#[track_caller]
fn check_unary(op: Op, shape: &[usize]) {
    let mut small = Small::new();
    let x = small.parameter("x", shape);
    let y = small.op(op, &[x]);
    small.check(y);
}

#[track_caller]
fn check_conv(conv: Conv2d, x: [usize; 4], cout: usize) {
    let mut small = Small::new();
    let w = [cout, x[3] / conv.groups, conv.kh, conv.kw];
    let inputs =
        [small.parameter("x", &x), small.parameter("w", &w), small.parameter("b", &[cout])];
    let y = small.op(Op::Conv2d(conv), &inputs);
    small.check(y);
}

#[test]
fn convolutions_of_every_geometry_have_the_right_gradients() {
    check_conv(Conv2d::square(1, 1), [2, 3, 4, 3], 5);
    check_conv(Conv2d::square(1, 2), [2, 5, 4, 3], 2);
    check_conv(Conv2d::square(3, 1), [2, 5, 4, 3], 4);
    check_conv(Conv2d::square(3, 2), [1, 6, 7, 3], 4);
    check_conv(Conv2d::square(3, 3), [1, 7, 8, 2], 3);
    check_conv(Conv2d::square(7, 2), [2, 9, 8, 1], 3);
    check_conv(Conv2d { groups: 2, ..Conv2d::square(3, 1) }, [2, 4, 4, 6], 4);
    check_conv(Conv2d { groups: 4, ..Conv2d::square(3, 2) }, [1, 5, 5, 4], 8);
    check_conv(Conv2d { dilation: 2, pad: 2, ..Conv2d::square(3, 1) }, [1, 6, 5, 2], 3);
    check_conv(Conv2d { kh: 2, kw: 3, stride: 2, pad: 0, dilation: 1, groups: 1 }, [2, 5, 6, 2], 2);
}

#[test]
fn elementwise_operations_have_the_right_gradients() {
    check_unary(Op::Relu, &[2, 3, 3, 4]);
    check_unary(Op::Sigmoid, &[2, 3, 3, 4]);
    for same in [true, false] {
        let mut small = Small::new();
        let a = small.parameter("a", &[2, 3, 3, 4]);
        let b = if same { a } else { small.parameter("b", &[2, 3, 3, 4]) };
        let y = small.op(Op::Add, &[a, b]);
        small.check(y);
    }
    let mut small = Small::new();
    let inputs = [small.parameter("x", &[2, 3, 3, 4]), small.parameter("s", &[2, 1, 1, 4])];
    let y = small.op(Op::ChannelScale, &inputs);
    small.check(y);
}

#[test]
fn pools_and_shortcut_a_have_the_right_gradients() {
    for pool in [
        Pool2d { kernel: 3, stride: 2, pad: 1, ceil: false },
        Pool2d { kernel: 2, stride: 2, pad: 0, ceil: true },
        Pool2d { kernel: 3, stride: 1, pad: 1, ceil: false },
    ] {
        check_unary(Op::MaxPool(pool), &[2, 7, 6, 3]);
        check_unary(Op::AvgPool(pool), &[2, 7, 6, 3]);
    }
    check_unary(Op::GlobalAvgPool, &[2, 5, 4, 3]);
    check_unary(Op::SubsamplePad(SubsamplePad { stride: 2, before: 1, after: 2 }), &[2, 5, 4, 3]);
}

#[test]
fn batch_norm_has_the_right_gradients_in_training_and_frozen() {
    for frozen in [false, true] {
        let mut small = Small::new();
        let inputs = [("x", vec![3, 3, 2, 4]), ("gamma", vec![4]), ("beta", vec![4])]
            .map(|(name, shape)| small.parameter(name, &shape));
        let [x, gamma, beta] = inputs;
        let [mean, var] = small.statistics(4);
        let op = if frozen {
            Op::BatchNormInference { eps: 1e-5 }
        } else {
            Op::BatchNorm { eps: 1e-5, momentum: 0.1 }
        };
        let y = small.op(op, &[x, gamma, beta, mean, var]);
        small.check(y);
    }
}

#[test]
fn dropout_and_stochastic_depth_have_the_right_gradients() {
    let ops = [Op::Dropout { p: 0.4, stream: 1 }, Op::StochasticDepth { p: 0.4, stream: 2 }];
    for op in ops {
        let mut small = Small::new();
        let x = small.parameter("x", &[5, 2, 2, 3]);
        let seed = small.graph.input("seed", TensorType::new(&[2], DType::U32));
        let step = small.graph.input("step", TensorType::new(&[1], DType::U32));
        let y = small.op(op, &[x, seed, step]);
        small.check(y);
    }
}

#[test]
fn dense_targets_that_do_not_sum_to_one_have_the_right_gradients() {
    let mut graph = Graph::default();
    let logits = graph.state("logits", StateRole::Bias, &[2, 3]);
    let targets = graph.input("targets", TensorType::f32(&[2, 3]));
    let constants = CrossEntropy { label_smoothing: 0.2, divisor: 7 };
    let loss = graph.node("loss", Op::CrossEntropy(constants), &[logits, targets]).unwrap()[0];
    graph.outputs.push(("loss".into(), loss));
    let graph = gradients(&graph, loss).unwrap();
    check_graph(&graph, &[Input::F32(&[0.3, 0.1, 0.9, 0.0, 0.5, 0.25])], |_, _| {});
}

#[test]
fn binary_targets_of_each_kind_have_the_right_gradients() {
    for (target_threshold, pos_weight) in [(None, 1.0), (None, 2.5), (Some(0.4), 1.0)] {
        let mut graph = Graph::default();
        let logits = graph.state("logits", StateRole::Bias, &[2, 3]);
        let targets = graph.input("targets", TensorType::f32(&[2, 3]));
        let constants =
            BinaryCrossEntropy { label_smoothing: 0.2, target_threshold, pos_weight, divisor: 7 };
        let op = Op::BinaryCrossEntropy(constants);
        let loss = graph.node("loss", op, &[logits, targets]).unwrap()[0];
        graph.outputs.push(("loss".into(), loss));
        let graph = gradients(&graph, loss).unwrap();
        check_graph(&graph, &[Input::F32(&[1.0, 0.1, 0.9, 0.0, 0.5, 0.25])], |_, _| {});
    }
}

/// A network small enough to differentiate by hand.
fn tiny(name: &str) -> NetworkSpec {
    let mut spec = network(name).unwrap();
    spec.classes = 3;
    (spec.input.height, spec.input.width) = (12, 12);
    spec.stem.channels = 4;
    spec.stem.pool = spec.stem.pool && spec.stem.kind == StemKind::Large;
    let width = 64 / spec.block.groups.min(2);
    (spec.block.groups, spec.block.width_per_group) = (spec.block.groups.min(2), width);
    spec.block.se_reduction = spec.block.se_reduction.map(|_| 2);
    spec.stages.truncate(2);
    for stage in &mut spec.stages {
        (stage.blocks, stage.channels) = (1, 4 * stage.stride);
    }
    spec.validate().unwrap();
    spec
}

#[track_caller]
fn check_network(spec: &NetworkSpec) {
    let options = BuildOptions::imagenet(3, Mode::Training);
    let constants = CrossEntropy { label_smoothing: 0.0, divisor: 3 };
    let graph = gradient_graph(spec, &options, Targets::Classes, constants).unwrap();
    let mut stream = Stream::new(11, Purpose::Test, 0, 0);
    let pixels: Vec<u8> = (0..3 * 12 * 12 * 3).map(|_| stream.next_u32() as u8).collect();
    let initial: Vec<Initial> = initial_state(spec, &graph, 3).collect();
    let mut given = vec![Input::U8(&pixels), Input::U32(&[0, 2, 1])];
    if graph.inputs.len() == 4 {
        given.splice(1..1, [Input::U32(&[1, 2]), Input::U32(&[9])]);
    }
    check_graph(&graph, &given, |name, values| {
        for state in initial.iter().filter(|state| state.name == name) {
            for (value, start) in values.iter_mut().zip(&state.values) {
                *value = f64::from(*start) + 0.2 * *value;
            }
        }
    });
}

#[test]
fn a_small_network_of_each_family_has_the_right_gradients() {
    for name in [
        "resnet18",
        "resnet50",
        "resnet50-v1",
        "resnet18-v2",
        "resnet50-v2",
        "resnet18-d",
        "resnext50_32x4d",
        "wide_resnet50_2",
        "seresnet50",
        "plain18",
        "resnet20",
        "cifar-resnet20-v2",
    ] {
        check_network(&tiny(name));
    }
    let mut spec = tiny("resnet20");
    spec.shortcut.kind = ShortcutKind::C;
    (spec.dropout, spec.stochastic_depth) = (0.3, 0.4);
    check_network(&spec);
}

#[test]
fn only_the_loss_of_a_cross_entropy_can_be_differentiated() {
    let mut small = Small::new();
    let x = small.parameter("x", &[2, 3, 3, 4]);
    let y = small.op(Op::Relu, &[x]);
    let error = gradients(&small.graph, y).unwrap_err();
    assert_eq!(error, GraphError::NotALoss { tensor: "op.0".into() });
}

#[test]
fn a_gradient_has_no_gradient() {
    let mut small = Small::new();
    let x = small.parameter("x", &[2, 3, 3, 4]);
    let y = small.op(Op::ReluGrad, &[x, x]);
    let logits = small.logits(y);
    let labels = small.graph.input("labels", TensorType::new(&[2], DType::U32));
    let constants = CrossEntropy { label_smoothing: 0.0, divisor: 2 };
    let op = Op::CrossEntropy(constants);
    let loss = small.graph.node("loss", op, &[logits, labels]).unwrap()[0];
    let error = gradients(&small.graph, loss).unwrap_err();
    assert_eq!(error, GraphError::NotDifferentiable { node: "op".into(), op: "relu_grad" });
}
