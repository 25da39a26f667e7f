//! Every operation alone, on odd shapes.

use super::{Bound, Bounds, Case, Given, Run};
use crate::graph::{Graph, TensorId, TensorType};
use crate::op::{BinaryCrossEntropy, Conv2d, CrossEntropy, DType, Op, Pool2d, Sgd, SubsamplePad};
use crate::oracle::{self, uniform};
use Bound::{Exact, Largest, Products};

/// A graph of one operation, or of one and its gradients, in the making.
pub(super) struct Made {
    pub(super) case: Case,
}

/// What an input holds, of `u` in `[0, 1)`.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// `2u - 1`.
    Centred,
    /// `0.5 + u`.
    Positive,
    /// `u`.
    Unit,
    /// `2u - 1` where that is positive, else 0: what comes out of a ReLU.
    Rectified,
    /// `u`, rounded to quarters, so that some are equal.
    Ties,
}

impl Made {
    pub(super) fn new(name: String) -> Made {
        let runs = vec![Run { graph: Graph::default(), inputs: Vec::new() }];
        let case = Case { name, runs, state: Vec::new(), bounds: Bounds::Outputs(Vec::new()) };
        Made { case }
    }

    pub(super) fn given(&mut self, name: &str, ty: TensorType, values: Given) -> TensorId {
        self.case.runs[0].inputs.push(values);
        self.case.runs[0].graph.input(name, ty)
    }

    pub(super) fn input(&mut self, name: &str, kind: Kind, shape: &[usize]) -> TensorId {
        let len = shape.iter().product();
        let u = uniform(&format!("{}/{name}", self.case.name), len).into_iter();
        let values = match kind {
            Kind::Centred => u.map(|u| 2.0 * u - 1.0).collect(),
            Kind::Positive => u.map(|u| 0.5 + u).collect(),
            Kind::Unit => u.collect(),
            Kind::Rectified => u.map(|u| (2.0 * u - 1.0).max(0.0)).collect(),
            Kind::Ties => u.map(|u| (4.0 * u).floor() / 4.0).collect(),
        };
        self.given(name, TensorType::f32(shape), Given::F32(values))
    }

    fn words(&mut self, name: &str, values: &[u32]) -> TensorId {
        let ty = TensorType::new(&[values.len()], DType::U32);
        self.given(name, ty, Given::U32(values.to_vec()))
    }

    pub(super) fn node(&mut self, op: Op, inputs: &[TensorId]) -> Vec<TensorId> {
        let graph = &mut self.case.runs[0].graph;
        let name = format!("node{}", graph.nodes.len());
        graph.node(&name, op, inputs).expect("the cases' shapes fit")
    }

    pub(super) fn output(&mut self, name: &str, id: TensorId, bound: Bound) {
        self.case.runs[0].graph.outputs.push((name.into(), id));
        let Bounds::Outputs(bounds) = &mut self.case.bounds else { unreachable!("set in `new`") };
        bounds.push(bound);
    }

    /// An operation of one result.
    pub(super) fn only(mut self, op: Op, inputs: &[TensorId], bound: Bound) -> Case {
        let y = self.node(op, inputs)[0];
        self.output("y", y, bound);
        self.case
    }
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(convolutions());
    cases.extend(norms());
    cases.extend(pools());
    cases.extend(elementwise());
    cases.extend(classifiers());
    cases.extend(random());
    cases.extend(updates());
    cases
}

/// Picture, output channels and geometry: 1x1, 3x3 and 7x7, strides, groups, dilation, a window
/// larger than the picture, channels that fill no vector and more than one block of them.
pub(super) fn geometries() -> Vec<([usize; 4], usize, Conv2d)> {
    let square = Conv2d::square;
    let grouped = |groups, stride| Conv2d { groups, ..square(3, stride) };
    vec![
        ([1, 1, 1, 1], 1, square(1, 1)),
        ([2, 5, 7, 3], 10, square(1, 1)),
        ([2, 7, 5, 24], 40, square(1, 2)),
        ([1, 4, 4, 700], 33, square(1, 1)),
        ([1, 9, 8, 3], 16, square(7, 2)),
        ([2, 5, 7, 3], 5, square(3, 1)),
        ([1, 2, 2, 20], 20, square(3, 1)),
        ([2, 6, 5, 24], 40, square(3, 2)),
        ([1, 13, 14, 40], 100, square(3, 1)),
        ([3, 16, 16, 64], 64, square(3, 1)),
        ([1, 7, 7, 130], 48, square(3, 1)),
        ([2, 6, 6, 12], 8, grouped(4, 1)),
        ([1, 5, 5, 64], 64, grouped(32, 2)),
        ([1, 5, 6, 6], 6, grouped(6, 1)),
        ([1, 9, 8, 10], 9, Conv2d { dilation: 2, pad: 2, ..square(3, 1) }),
        ([1, 6, 7, 5], 4, Conv2d { kh: 2, kw: 3, stride: 2, pad: 0, dilation: 1, groups: 1 }),
        ([1, 1, 3, 4], 6, Conv2d { kh: 5, kw: 5, stride: 1, pad: 2, dilation: 1, groups: 1 }),
    ]
}

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (x_shape, cout, conv) in geometries() {
        let [n, h, w, cin] = x_shape;
        let (oh, ow) = conv.output_size(h, w).expect("the cases' shapes fit");
        let dy_shape = [n, oh, ow, cout];
        let w_shape = [cout, cin / conv.groups, conv.kh, conv.kw];
        let name = format!(
            "{}x{}/{} of {n}x{h}x{w}x{cin} to {cout}, {} groups",
            conv.kh, conv.kw, conv.stride, conv.groups
        );
        let taps = conv.kh * conv.kw;

        let mut made = Made::new(format!("conv2d {name}"));
        let x = made.input("x", Kind::Centred, &x_shape);
        let weight = made.input("w", Kind::Centred, &w_shape);
        let bias = made.input("b", Kind::Centred, &[cout]);
        let terms = cin / conv.groups * taps;
        cases.push(made.only(Op::Conv2d(conv), &[x, weight, bias], Products(terms + 1)));

        let mut made = Made::new(format!("conv2d_input_grad {name}"));
        let dy = made.input("dy", Kind::Centred, &dy_shape);
        let weight = made.input("w", Kind::Centred, &w_shape);
        let op = Op::Conv2dInputGrad { conv, input_size: [h, w] };
        let terms = cout / conv.groups * taps;
        cases.push(made.only(op, &[dy, weight], Products(terms)));

        let mut made = Made::new(format!("conv2d_weight_grad {name}"));
        let x = made.input("x", Kind::Centred, &x_shape);
        let dy = made.input("dy", Kind::Centred, &dy_shape);
        let op = Op::Conv2dWeightGrad(conv);
        cases.push(made.only(op, &[x, dy], Products(n * oh * ow)));
    }
    cases
}

/// A norm with beta before a padded convolution, too: what is padded is zero, not beta.
fn norms() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, h, w, c) in [(2, 1, 2, 3), (3, 5, 4, 1), (2, 7, 6, 20), (4, 16, 16, 64), (1, 9, 9, 100)]
    {
        let rows = n * h * w;
        let shape = [n, h, w, c];
        for inference in [false, true] {
            let kind = if inference { "batch_norm_inference" } else { "batch_norm" };
            let mut made = Made::new(format!("{kind} of {n}x{h}x{w}x{c}"));
            let x = made.input("x", Kind::Centred, &shape);
            let gamma = made.input("gamma", Kind::Positive, &[c]);
            let beta = made.input("beta", Kind::Centred, &[c]);
            let mean = made.input("mean", Kind::Centred, &[c]);
            let var = made.input("var", Kind::Positive, &[c]);
            let dy = made.input("dy", Kind::Centred, &shape);
            // A large eps keeps a few values a channel well-conditioned.
            let (eps, momentum) = (1e-2, 0.1);
            let inputs = [x, gamma, beta, mean, var];
            let gradients = if inference {
                let y = made.node(Op::BatchNormInference { eps }, &inputs)[0];
                made.output("y", y, Largest(1));
                made.node(Op::BatchNormInferenceGrad { eps }, &[dy, x, gamma, mean, var])
            } else {
                let y = made.node(Op::BatchNorm { eps, momentum }, &inputs);
                for (name, id) in
                    ["y", "mean", "rstd", "new_mean", "new_var"].into_iter().zip(y.clone())
                {
                    let bound = if name == "mean" { Products(rows) } else { Largest(rows) };
                    made.output(name, id, bound);
                }
                made.node(Op::BatchNormGrad, &[dy, x, gamma, y[1], y[2]])
            };
            for (name, id) in ["dx", "dgamma", "dbeta"].into_iter().zip(gradients) {
                let bound = if name == "dbeta" { Products(rows) } else { Largest(4 * rows) };
                made.output(name, id, bound);
            }
            cases.push(made.case);
        }
    }
    let mut made = Made::new("batch_norm_inference with beta before a padded conv2d".into());
    let x = made.input("x", Kind::Centred, &[2, 5, 6, 7]);
    let [gamma, var] = ["gamma", "var"].map(|name| made.input(name, Kind::Positive, &[7]));
    let [beta, mean] = ["beta", "mean"].map(|name| made.input(name, Kind::Centred, &[7]));
    let weight = made.input("w", Kind::Centred, &[9, 7, 3, 3]);
    let y = made.node(Op::BatchNormInference { eps: 1e-5 }, &[x, gamma, beta, mean, var])[0];
    cases.push(made.only(Op::Conv2d(Conv2d::square(3, 1)), &[y, weight], Largest(63)));
    cases
}

fn pools() -> Vec<Case> {
    let mut cases = Vec::new();
    let pool = |kernel, stride, pad, ceil| Pool2d { kernel, stride, pad, ceil };
    for (pool, [n, h, w, c]) in [
        (pool(3, 2, 1, false), [2, 7, 6, 3]),
        (pool(3, 2, 1, false), [1, 16, 15, 64]),
        (pool(2, 2, 0, true), [2, 5, 7, 17]),
        (pool(2, 2, 0, true), [1, 1, 1, 5]),
        (pool(3, 1, 1, false), [2, 4, 4, 20]),
    ] {
        let (oh, ow) = (pool.output_len(h), pool.output_len(w));
        let (oh, ow) = (oh.expect("the shapes fit"), ow.expect("the shapes fit"));
        let name = format!("{0}x{0}/{1} of {n}x{h}x{w}x{c}", pool.kernel, pool.stride);
        let window = pool.kernel * pool.kernel;

        let mut made = Made::new(format!("max_pool {name}"));
        let x = made.input("x", Kind::Ties, &[n, h, w, c]);
        let dy = made.input("dy", Kind::Centred, &[n, oh, ow, c]);
        let y = made.node(Op::MaxPool(pool), &[x]);
        made.output("y", y[0], Exact);
        let op = Op::MaxPoolGrad { pool, input_size: [h, w] };
        cases.push(made.only(op, &[dy, y[1]], Products(window)));

        let mut made = Made::new(format!("avg_pool {name}"));
        let x = made.input("x", Kind::Centred, &[n, h, w, c]);
        cases.push(made.only(Op::AvgPool(pool), &[x], Products(window)));
        let mut made = Made::new(format!("avg_pool_grad {name}"));
        let dy = made.input("dy", Kind::Centred, &[n, oh, ow, c]);
        let op = Op::AvgPoolGrad { pool, input_size: [h, w] };
        cases.push(made.only(op, &[dy], Products(window)));
    }
    for [n, h, w, c] in [[2, 5, 4, 3], [1, 7, 7, 100], [3, 1, 1, 16]] {
        let mut made = Made::new(format!("global_avg_pool of {n}x{h}x{w}x{c}"));
        let x = made.input("x", Kind::Centred, &[n, h, w, c]);
        cases.push(made.only(Op::GlobalAvgPool, &[x], Products(h * w)));
        let mut made = Made::new(format!("global_avg_pool_grad to {n}x{h}x{w}x{c}"));
        let dy = made.input("dy", Kind::Centred, &[n, 1, 1, c]);
        let op = Op::GlobalAvgPoolGrad { input_size: [h, w], stored: DType::F32 };
        cases.push(made.only(op, &[dy], Products(1)));
    }
    cases
}

fn elementwise() -> Vec<Case> {
    let mut cases = Vec::new();
    for shape in [[1, 1, 1, 1], [2, 5, 7, 3], [3, 4, 5, 40]] {
        let [n, h, w, c] = shape;
        let of = format!("of {n}x{h}x{w}x{c}");
        let two = |op: Op, second: Kind, bound: Bound| {
            let mut made = Made::new(format!("{} {of}", op.name()));
            let a = made.input("a", Kind::Centred, &shape);
            let b = made.input("b", second, &shape);
            made.only(op, &[a, b], bound)
        };
        cases.push(two(Op::Add, Kind::Centred, Products(2)));
        cases.push(two(Op::ReluGrad, Kind::Rectified, Exact));
        cases.push(two(Op::SigmoidGrad, Kind::Unit, Products(2)));
        for (op, bound) in [(Op::Relu, Exact), (Op::Sigmoid, Largest(1))] {
            let mut made = Made::new(format!("{} {of}", op.name()));
            let x = made.input("x", Kind::Centred, &shape);
            cases.push(made.only(op, &[x], bound));
        }

        let mut made = Made::new(format!("channel_scale {of}"));
        let x = made.input("x", Kind::Centred, &shape);
        let s = made.input("s", Kind::Centred, &[n, 1, 1, c]);
        cases.push(made.only(Op::ChannelScale, &[x, s], Products(1)));
        let mut made = Made::new(format!("channel_scale_grad {of}"));
        let dy = made.input("dy", Kind::Centred, &shape);
        let x = made.input("x", Kind::Centred, &shape);
        cases.push(made.only(Op::ChannelScaleGrad, &[dy, x], Products(h * w)));

        let mut made = Made::new(format!("bias_grad {of}"));
        let dy = made.input("dy", Kind::Centred, &shape);
        cases.push(made.only(Op::BiasGrad, &[dy], Products(n * h * w)));

        let mut made = Made::new(format!("normalize {of}"));
        let pixels = oracle::pixels(n * h * w * c, 1);
        let ty = TensorType::new(&shape, DType::U8);
        let x = made.given("x", ty, Given::U8(pixels));
        let op = Op::Normalize { mean: vec![0.45; c], std: vec![0.23; c], stored: DType::F32 };
        cases.push(made.only(op, &[x], Largest(2)));

        let shortcut = SubsamplePad { stride: 2, before: 1, after: 2 };
        let mut made = Made::new(format!("subsample_pad {of}"));
        let x = made.input("x", Kind::Centred, &shape);
        cases.push(made.only(Op::SubsamplePad(shortcut), &[x], Exact));
        let mut made = Made::new(format!("subsample_pad_grad {of}"));
        let dy = made.input("dy", Kind::Centred, &[n, h.div_ceil(2), w.div_ceil(2), c + 3]);
        let op = Op::SubsamplePadGrad { shortcut, input_size: [h, w] };
        cases.push(made.only(op, &[dy], Exact));
    }
    cases
}

fn classifiers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (n, cin, cout) in [(1, 1, 1), (3, 7, 5), (5, 100, 10), (2, 64, 33)] {
        let of = format!("of {n}x{cin} to {cout}");
        let mut made = Made::new(format!("linear {of}"));
        let x = made.input("x", Kind::Centred, &[n, 1, 1, cin]);
        let w = made.input("w", Kind::Centred, &[cout, cin]);
        let b = made.input("b", Kind::Centred, &[cout]);
        cases.push(made.only(Op::Linear, &[x, w, b], Products(cin + 1)));
        let mut made = Made::new(format!("linear_input_grad {of}"));
        let dy = made.input("dy", Kind::Centred, &[n, cout]);
        let w = made.input("w", Kind::Centred, &[cout, cin]);
        cases.push(made.only(Op::LinearInputGrad, &[dy, w], Products(cout)));
        let mut made = Made::new(format!("linear_weight_grad {of}"));
        let x = made.input("x", Kind::Centred, &[n, 1, 1, cin]);
        let dy = made.input("dy", Kind::Centred, &[n, cout]);
        cases.push(made.only(Op::LinearWeightGrad, &[x, dy], Products(n)));

        for (kind, label_smoothing) in [("classes", 0.0), ("smoothed", 0.1), ("dense", 0.1)] {
            let constants = CrossEntropy { label_smoothing, divisor: n + 2 };
            let mut made = Made::new(format!("cross_entropy {kind} of {n}x{cout}"));
            let logits = made.input("logits", Kind::Centred, &[n, cout]);
            let targets = if kind == "dense" {
                made.input("targets", Kind::Positive, &[n, cout])
            } else {
                let labels: Vec<u32> = (0..n as u32).map(|i| i * 7 % cout as u32).collect();
                made.words("labels", &labels)
            };
            let y = made.node(Op::CrossEntropy(constants), &[logits, targets]);
            made.output("loss", y[0], Largest(n * cout));
            made.output("probabilities", y[1], Largest(cout));
            let op = Op::CrossEntropyGrad(constants);
            cases.push(made.only(op, &[y[1], targets], Largest(cout)));
        }
        for (kind, label_smoothing, target_threshold, pos_weight) in [
            ("classes", 0.0, None, 1.0),
            ("smoothed", 0.1, None, 1.0),
            ("dense", 0.1, None, 2.5),
            ("thresholded", 0.1, Some(0.2), 1.0),
        ] {
            let divisor = n + 2;
            let constants =
                BinaryCrossEntropy { label_smoothing, target_threshold, pos_weight, divisor };
            let mut made = Made::new(format!("binary_cross_entropy {kind} of {n}x{cout}"));
            let logits = made.input("logits", Kind::Centred, &[n, cout]);
            let targets = if ["dense", "thresholded"].contains(&kind) {
                made.input("targets", Kind::Unit, &[n, cout])
            } else {
                let labels: Vec<u32> = (0..n as u32).map(|i| i * 7 % cout as u32).collect();
                made.words("labels", &labels)
            };
            let y = made.node(Op::BinaryCrossEntropy(constants), &[logits, targets]);
            made.output("loss", y[0], Largest(n * cout));
            let op = Op::BinaryCrossEntropyGrad(constants);
            cases.push(made.only(op, &[logits, targets], Largest(1)));
        }
    }
    cases
}

/// The same seed and step draw the same bits everywhere.
fn random() -> Vec<Case> {
    let ops = [Op::Dropout { p: 0.4, stream: 3 }, Op::StochasticDepth { p: 0.4, stream: 1 }];
    let grads = [Op::DropoutGrad, Op::StochasticDepthGrad];
    let cases = ops.into_iter().zip(grads).map(|(op, grad)| {
        let mut made = Made::new(format!("{} of 9x3x5x7", op.name()));
        let x = made.input("x", Kind::Centred, &[9, 3, 5, 7]);
        let dy = made.input("dy", Kind::Centred, &[9, 3, 5, 7]);
        let (seed, step) = (made.words("seed", &[7, 9]), made.words("step", &[41]));
        let y = made.node(op, &[x, seed, step]);
        made.output("kept", y[0], Products(1));
        made.only(grad, &[dy, y[1]], Products(1))
    });
    cases.collect()
}

fn updates() -> Vec<Case> {
    let mut cases = Vec::new();
    for (len, nesterov, weight_decay) in [(1, false, 0.0), (37, true, 0.01), (1000, false, 0.01)] {
        for clipped in [false, true] {
            let mut made = Made::new(format!("sgd_update of {len}, clipped: {clipped}"));
            let [w, dw, velocity] =
                ["w", "dw", "velocity"].map(|name| made.input(name, Kind::Centred, &[len]));
            let hyper = Given::F32(vec![0.1, 0.9]);
            let hyper = made.given("hyper", TensorType::f32(&[2]), hyper);
            let mut inputs = vec![w, dw, velocity, hyper];
            if clipped {
                let clip = made.node(Op::ClipFactor { max_norm: 0.5 }, &[dw, velocity]);
                made.output("norm", clip[1], Largest(2 * len));
                inputs.push(clip[0]);
            }
            let op = Op::SgdUpdate(Sgd { weight_decay, rate: 0.5, nesterov });
            let updated = made.node(op, &inputs);
            made.output("w", updated[0], Largest(4));
            made.output("velocity", updated[1], Largest(4));
            cases.push(made.case);
        }
    }
    cases
}
