//! Each operation alone, forward and backward, in f64 against PyTorch in double.
//!
//! A case in `fixtures/ops` names attributes, inputs made from the hash, and results. Here each
//! result is one graph of one or two nodes, since gradients are operations of their own.

use std::collections::BTreeMap;

use resnet_core::executor::{Executor, Input};
use resnet_core::graph::{Graph, TensorId, TensorType};
use resnet_core::op::{BinaryCrossEntropy, Conv2d, CrossEntropy, DType, Op, Pool2d, SubsamplePad};
use resnet_core::oracle::{Summary, uniform};
use resnet_core::reference::ReferenceExecutor;
use serde::Deserialize;

use crate::fixture::read;

/// Sums of up to some hundred terms of size one in f64: eps times a few hundred.
const TOLERANCE: f64 = 1e-13;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    inputs: BTreeMap<String, Made>,
    outputs: BTreeMap<String, Summary>,
    #[serde(flatten)]
    attributes: BTreeMap<String, serde_json::Value>,
}

/// How an input comes from the hash of `CASE/INPUT`, as in `xtask/oracle/ops.py`.
#[derive(Deserialize)]
struct Made {
    kind: String,
    shape: Vec<usize>,
}

impl Case {
    fn number(&self, name: &str) -> f64 {
        self.attributes[name].as_f64().unwrap()
    }

    fn size(&self, name: &str) -> usize {
        self.attributes[name].as_u64().unwrap() as usize
    }

    fn flag(&self, name: &str) -> bool {
        self.attributes[name].as_bool().unwrap()
    }

    fn shape(&self, input: &str) -> &[usize] {
        &self.inputs[input].shape
    }

    fn values(&self, input: &str) -> Vec<f64> {
        let Made { kind, shape } = &self.inputs[input];
        let u = uniform(&format!("{}/{input}", self.name), shape.iter().product());
        let u: Vec<f64> = u.into_iter().map(f64::from).collect();
        match kind.as_str() {
            "centred" => u.iter().map(|u| 2.0 * u - 1.0).collect(),
            "positive" => u.iter().map(|u| 0.5 + u).collect(),
            "ties" => u.iter().map(|u| (4.0 * u).floor()).collect(),
            "labels" => u.iter().map(|u| (u * self.number("classes")).floor()).collect(),
            "many" => u.iter().map(|&u| f64::from(u8::from(0.6 < u))).collect(),
            "simplex" => u
                .chunks(shape[1])
                .flat_map(|row| {
                    let sum: f64 = row.iter().map(|u| 0.05 + u).sum();
                    row.iter().map(move |u| (0.05 + u) / sum)
                })
                .collect(),
            kind => panic!("{}: no inputs of kind {kind}", self.name),
        }
    }

    /// Compares what PyTorch stored under `output`.
    #[track_caller]
    fn compare(&self, output: &str, ours: &[f64]) {
        let name = format!("{}/{output}", self.name);
        let expected = &self.outputs[output];
        let apart = expected.distance(&name, ours);
        // A gradient may be zero throughout: then nothing but zero will do. One that cancels to
        // nearly nothing keeps the rounding of its terms, which are of size one.
        let norm = expected.norm();
        let limit = if norm == 0.0 { 0.0 } else { TOLERANCE * norm.max(0.01) };
        assert!(apart <= limit, "{name}: {apart:.1e} from PyTorch's, at most {limit:.1e}");
    }
}

/// A graph in the making, with the values of its state.
#[derive(Default)]
struct Bench {
    graph: Graph,
    values: Vec<(String, Vec<usize>, Vec<f64>)>,
}

impl Bench {
    /// A named f64 tensor. Real inputs are state here, since inputs of a run are f32.
    fn tensor(&mut self, name: &str, shape: &[usize], values: Vec<f64>) -> TensorId {
        // Any role does: the role decides initial values, and these are given.
        let role = resnet_core::graph::StateRole::Gradient;
        self.values.push((name.into(), shape.to_vec(), values));
        self.graph.state(name, role, shape)
    }

    /// A made input of the case.
    fn made(&mut self, case: &Case, name: &str) -> TensorId {
        self.tensor(name, case.shape(name), case.values(name))
    }

    /// A made input under another shape of the same elements.
    fn reshaped(&mut self, case: &Case, name: &str, shape: &[usize]) -> TensorId {
        self.tensor(name, shape, case.values(name))
    }

    fn node(&mut self, op: Op, inputs: &[TensorId]) -> Vec<TensorId> {
        let name = format!("node{}", self.graph.nodes.len());
        self.graph.node(&name, op, inputs).unwrap()
    }

    fn output(&mut self, name: &str, id: TensorId) {
        self.graph.outputs.push((name.into(), id));
    }

    /// Runs the graph and compares all of its outputs with the case's.
    #[track_caller]
    fn compare(&self, case: &Case, inputs: &[Input<'_>]) {
        let mut executor = ReferenceExecutor::<f64>::new();
        let step = executor.compile(&self.graph).unwrap();
        for (name, shape, values) in &self.values {
            executor.import_f64(name, shape, values).unwrap();
        }
        executor.run(step, inputs).unwrap();
        for (name, _) in &self.graph.outputs {
            case.compare(name, &executor.output_f64(step, name).unwrap());
        }
    }
}

/// Runs `check` on every case of a file whose name begins with `prefix`; there must be some.
fn for_each(file: &str, prefix: &str, check: impl Fn(&Case)) {
    let all: Cases = read(&format!("ops/{file}.json"));
    let chosen: Vec<Case> = all.cases.into_iter().filter(|c| c.name.starts_with(prefix)).collect();
    assert!(!chosen.is_empty(), "{file}: no case begins with {prefix}");
    chosen.iter().for_each(check);
}

#[test]
fn convolutions_and_their_gradients_equal_pytorch() {
    for_each("convolutions", "conv", |case| {
        let (k, x) = (case.size("kernel"), case.shape("x"));
        let conv = Conv2d {
            kh: k,
            kw: k,
            stride: case.size("stride"),
            pad: case.size("pad"),
            dilation: case.size("dilation"),
            groups: case.size("groups"),
        };
        let input_size = [x[1], x[2]];
        let mut bench = Bench::default();
        let [x, w, dy] = ["x", "w", "dy"].map(|name| bench.made(case, name));
        let y = bench.node(Op::Conv2d(conv), &[x, w]);
        let dx = bench.node(Op::Conv2dInputGrad { conv, input_size }, &[dy, w]);
        let dw = bench.node(Op::Conv2dWeightGrad(conv), &[x, dy]);
        for (name, id) in [("y", y[0]), ("dx", dx[0]), ("dw", dw[0])] {
            bench.output(name, id);
        }
        bench.compare(case, &[]);
    });
}

#[test]
fn batch_norm_and_its_gradients_equal_pytorch() {
    for_each("batch_norms", "batch-norm", |case| {
        let (eps, momentum) = (case.number("eps"), case.number("momentum"));
        let mut bench = Bench::default();
        let [x, gamma, beta, mean, var, dy] =
            ["x", "gamma", "beta", "mean", "var", "dy"].map(|name| bench.made(case, name));
        let inputs = [x, gamma, beta, mean, var];
        let gradients = if case.attributes["mode"] == "training" {
            let y = bench.node(Op::BatchNorm { eps, momentum }, &inputs);
            for (name, id) in [("y", y[0]), ("running_mean", y[3]), ("running_var", y[4])] {
                bench.output(name, id);
            }
            bench.node(Op::BatchNormGrad, &[dy, x, gamma, y[1], y[2]])
        } else {
            let y = bench.node(Op::BatchNormInference { eps }, &inputs);
            bench.output("y", y[0]);
            bench.node(Op::BatchNormInferenceGrad { eps }, &[dy, x, gamma, mean, var])
        };
        for (name, id) in ["dx", "dgamma", "dbeta"].into_iter().zip(gradients) {
            bench.output(name, id);
        }
        bench.compare(case, &[]);
    });
}

fn pool_of(case: &Case, ceil: bool) -> (Pool2d, [usize; 2]) {
    let (kernel, stride, pad) = (case.size("kernel"), case.size("stride"), case.size("pad"));
    let x = case.shape("x");
    (Pool2d { kernel, stride, pad, ceil }, [x[1], x[2]])
}

#[test]
fn max_pools_and_their_gradients_equal_pytorch_on_ties_too() {
    for_each("pools", "max-pool", |case| {
        let (pool, input_size) = pool_of(case, false);
        let mut bench = Bench::default();
        let [x, dy] = ["x", "dy"].map(|name| bench.made(case, name));
        let y = bench.node(Op::MaxPool(pool), &[x]);
        let dx = bench.node(Op::MaxPoolGrad { pool, input_size }, &[dy, y[1]]);
        bench.output("y", y[0]);
        bench.output("dx", dx[0]);
        bench.compare(case, &[]);
    });
}

#[test]
fn average_pools_and_their_gradients_equal_pytorch() {
    for_each("pools", "avg-pool", |case| {
        let (pool, input_size) = pool_of(case, case.flag("ceil_mode"));
        // Ours never counts what lies outside the picture: that is the kind that networks use.
        let has_border = pool.pad > 0 || pool.ceil;
        if case.flag("count_include_pad") && has_border {
            return;
        }
        let mut bench = Bench::default();
        let [x, dy] = ["x", "dy"].map(|name| bench.made(case, name));
        let y = bench.node(Op::AvgPool(pool), &[x]);
        let dx = bench.node(Op::AvgPoolGrad { pool, input_size }, &[dy]);
        bench.output("y", y[0]);
        bench.output("dx", dx[0]);
        bench.compare(case, &[]);
    });
}

#[test]
fn the_global_pool_and_its_gradient_equal_pytorch() {
    for_each("pools", "global-pool", |case| {
        let &[n, h, w, c] = case.shape("x") else { panic!("not NHWC") };
        let mut bench = Bench::default();
        let x = bench.made(case, "x");
        let dy = bench.reshaped(case, "dy", &[n, 1, 1, c]);
        let y = bench.node(Op::GlobalAvgPool, &[x]);
        let dx =
            bench.node(Op::GlobalAvgPoolGrad { input_size: [h, w], stored: DType::F32 }, &[dy]);
        bench.output("y", y[0]);
        bench.output("dx", dx[0]);
        bench.compare(case, &[]);
    });
}

#[test]
fn elementwise_operations_and_their_gradients_equal_pytorch() {
    for (name, op, grad) in
        [("relu-with-zeros", Op::Relu, Op::ReluGrad), ("sigmoid", Op::Sigmoid, Op::SigmoidGrad)]
    {
        for_each("elementwise", name, |case| {
            // What the operation reads is `factor * x + offset`.
            let or = |key: &str, otherwise: f64| {
                case.attributes.get(key).map_or(otherwise, |v| v.as_f64().unwrap())
            };
            let (factor, offset) = (or("factor", 1.0), or("offset", 0.0));
            let x = case.values("x").iter().map(|x| factor * x + offset).collect();
            let dy = case.values("dy").iter().map(|dy| factor * dy).collect();
            let mut bench = Bench::default();
            let x = bench.tensor("x", case.shape("x"), x);
            let dy = bench.tensor("dy", case.shape("dy"), dy);
            let y = bench.node(op.clone(), &[x]);
            let dx = bench.node(grad.clone(), &[dy, y[0]]);
            bench.output("y", y[0]);
            bench.output("dx", dx[0]);
            bench.compare(case, &[]);
        });
    }
}

#[test]
fn channel_scale_and_its_gradients_equal_pytorch() {
    for_each("elementwise", "channel-scale", |case| {
        let &[n, c] = case.shape("s") else { panic!("not one a channel") };
        let mut bench = Bench::default();
        let [x, dy] = ["x", "dy"].map(|name| bench.made(case, name));
        let s = bench.reshaped(case, "s", &[n, 1, 1, c]);
        for (name, op, inputs) in [
            ("y", Op::ChannelScale, [x, s]),
            ("dx", Op::ChannelScale, [dy, s]),
            ("ds", Op::ChannelScaleGrad, [dy, x]),
        ] {
            let made = bench.node(op, &inputs)[0];
            bench.output(name, made);
        }
        bench.compare(case, &[]);
    });
}

#[test]
fn shortcut_a_and_its_gradient_equal_pytorch() {
    for_each("elementwise", "pad-shortcut", |case| {
        let (stride, before, after) =
            (case.size("stride"), case.size("before"), case.size("after"));
        let shortcut = SubsamplePad { stride, before, after };
        let &[_, h, w, _] = case.shape("x") else { panic!("not NHWC") };
        let mut bench = Bench::default();
        let [x, dy] = ["x", "dy"].map(|name| bench.made(case, name));
        let y = bench.node(Op::SubsamplePad(shortcut), &[x]);
        let dx = bench.node(Op::SubsamplePadGrad { shortcut, input_size: [h, w] }, &[dy]);
        bench.output("y", y[0]);
        bench.output("dx", dx[0]);
        bench.compare(case, &[]);
    });
}

#[test]
fn the_classifier_and_its_gradients_equal_pytorch() {
    for_each("elementwise", "linear", |case| {
        let &[n, c] = case.shape("x") else { panic!("not a matrix") };
        let mut bench = Bench::default();
        let x = bench.reshaped(case, "x", &[n, 1, 1, c]);
        let [w, b, dy] = ["w", "b", "dy"].map(|name| bench.made(case, name));
        let y = bench.node(Op::Linear, &[x, w, b]);
        let dx = bench.node(Op::LinearInputGrad, &[dy, w]);
        let dw = bench.node(Op::LinearWeightGrad, &[x, dy]);
        let db = bench.node(Op::BiasGrad, &[dy]);
        for (name, id) in [("y", y[0]), ("dx", dx[0]), ("dw", dw[0]), ("db", db[0])] {
            bench.output(name, id);
        }
        bench.compare(case, &[]);
    });
}

#[test]
fn cross_entropy_and_its_gradient_equal_pytorch() {
    for_each("losses", "cross-entropy", |case| {
        // Weights by class are PyTorch's, not yet ours.
        if case.inputs.contains_key("class_weights") {
            return;
        }
        let divisor = case.shape("x")[0];
        let loss = CrossEntropy { label_smoothing: case.number("smoothing"), divisor };
        let (mut bench, logits, targets, labels) = loss_bench(case);
        let inputs: Vec<Input<'_>> = labels.iter().map(|labels| Input::U32(labels)).collect();
        let y = bench.node(Op::CrossEntropy(loss), &[logits, targets]);
        let dx = bench.node(Op::CrossEntropyGrad(loss), &[y[1], targets]);
        bench.output("loss", y[0]);
        bench.output("dx", dx[0]);
        bench.compare(case, &inputs);
    });
}

#[test]
fn binary_cross_entropy_and_its_gradient_equal_pytorch_and_timm() {
    for_each("binary_losses", "binary", |case| {
        let loss = BinaryCrossEntropy {
            label_smoothing: case.number("smoothing"),
            target_threshold: case.attributes["threshold"].as_f64(),
            pos_weight: case.number("weight"),
            divisor: case.shape("x")[0],
        };
        let (mut bench, logits, targets, labels) = loss_bench(case);
        let inputs: Vec<Input<'_>> = labels.iter().map(|labels| Input::U32(labels)).collect();
        let y = bench.node(Op::BinaryCrossEntropy(loss), &[logits, targets]);
        let dx = bench.node(Op::BinaryCrossEntropyGrad(loss), &[logits, targets]);
        bench.output("loss", y[0]);
        bench.output("dx", dx[0]);
        bench.compare(case, &inputs);
    });
}

/// A graph with the logits and targets of a case; the labels, where the targets are class numbers.
fn loss_bench(case: &Case) -> (Bench, TensorId, TensorId, Option<Vec<u32>>) {
    let mut bench = Bench::default();
    let factor = case.number("factor");
    let logits = case.values("x").iter().map(|x| factor * x).collect();
    let logits = bench.tensor("x", case.shape("x"), logits);
    if !case.inputs.contains_key("labels") {
        let targets = bench.made(case, "targets");
        return (bench, logits, targets, None);
    }
    let labels = case.values("labels").into_iter().map(|label| label as u32).collect();
    let targets = bench.graph.input("labels", TensorType::new(&case.shape("x")[..1], DType::U32));
    (bench, logits, targets, Some(labels))
}
