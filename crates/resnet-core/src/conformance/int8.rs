//! Int8 inference: operations on odd shapes, and whole networks on bytes. All results are bits.

use std::collections::HashMap;

use super::networks::{self, pixels, small};
use super::operations::{Kind, Made};
use super::{Bound, Bounds, Case, Given, Run};
use crate::graph::{TensorId, TensorType};
use crate::int8::MAX_WEIGHT;
use crate::op::{Affine, Conv2d, DType, Int8Conv2d, Op, Pool2d, SubsamplePad};
use crate::oracle::{self, uniform};
use crate::pass::fold_bn::fold_batch_norm;
use crate::pass::quantize::calibrate::{Calibration, folded_states};
use crate::pass::quantize::quantize;
use crate::pass::quantize::range::RangeMethod;
use crate::reference::ReferenceExecutor;

/// Networks whose convolutions have every form that bytes know.
const NETWORKS: [&str; 4] = ["resnet18", "resnet50", "resnext50_32x4d", "resnet20"];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = convolutions();
    cases.extend(others());
    cases.extend(NETWORKS.map(network));
    cases
}

impl Made {
    fn bytes(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let len = shape.iter().product();
        let u = uniform(&format!("{}/{name}", self.case.name), len);
        // The ends come often, as after clamping.
        let bytes = u.into_iter().map(|u| (330.0 * u - 40.0) as u8).collect();
        self.given(name, TensorType::new(shape, DType::U8), Given::U8(bytes))
    }

    fn whole(&mut self, name: &str, shape: &[usize], largest: f32) -> TensorId {
        let len = shape.iter().product();
        let u = uniform(&format!("{}/{name}", self.case.name), len).into_iter();
        let values = u.map(|u| ((2.0 * u - 1.0) * largest).round()).collect();
        self.given(name, TensorType::f32(shape), Given::F32(values))
    }

    /// Multipliers with which sums of so many products spread over all bytes.
    fn multipliers(&mut self, cout: usize, products: usize) -> TensorId {
        let u = uniform(&format!("{}/multiplier", self.case.name), cout).into_iter();
        let scale = 1.0 / (60.0 * (products as f32).sqrt());
        let values = u.map(|u| (0.5 + u) * scale).collect();
        self.given("multiplier", TensorType::f32(&[cout]), Given::F32(values))
    }

    /// Outputs come as real numbers.
    fn byte_output(mut self, y: TensorId) -> Case {
        let real = self.node(Op::Dequantize(Affine { scale: 1.0, zero: 0 }), &[y])[0];
        self.output("y", real, Bound::Exact);
        self.case
    }
}

fn convolutions() -> Vec<Case> {
    let mut cases = Vec::new();
    for (x_shape, cout, conv) in super::operations::geometries() {
        for residual in [None, Some(0.43)] {
            let [n, h, w, cin] = x_shape;
            let (oh, ow) = conv.output_size(h, w).expect("the cases' shapes fit");
            let Conv2d { kh, kw, stride, groups, .. } = conv;
            let mut made = Made::new(format!(
                "int8_conv2d {kh}x{kw}/{stride} of {n}x{h}x{w}x{cin} to {cout}, {groups} groups, \
                 residual: {residual:?}"
            ));
            let x = made.bytes("x", &x_shape);
            let weights = [cout, cin / groups, kh, kw];
            let weight = made.whole("w", &weights, f32::from(MAX_WEIGHT));
            let offset = made.whole("offset", &[cout], 1e5);
            let multiplier = made.multipliers(cout, cin / groups * kh * kw);
            let padding = (0..cin).map(|channel| (37 * channel % 256) as u8).collect();
            let mut inputs = vec![x, weight, offset, multiplier];
            if residual.is_some() {
                inputs.push(made.bytes("residual", &[n, oh, ow, cout]));
            }
            let op = Op::Int8Conv2d(Int8Conv2d { conv, padding, residual });
            let y = made.node(op, &inputs)[0];
            cases.push(made.byte_output(y));
        }
    }
    for (n, cin, cout) in [(1, 1, 1), (3, 7, 5), (5, 100, 10), (2, 64, 33)] {
        let mut made = Made::new(format!("int8_linear of {n}x{cin} to {cout}"));
        let x = made.bytes("x", &[n, 1, 1, cin]);
        let w = made.whole("w", &[cout, cin], f32::from(MAX_WEIGHT));
        let offset = made.whole("offset", &[cout], 1e5);
        let multiplier = made.multipliers(cout, cin);
        cases.push(made.only(Op::Int8Linear, &[x, w, offset, multiplier], Bound::Exact));
    }
    cases
}

fn others() -> Vec<Case> {
    let mut cases = Vec::new();
    let affine = Affine { scale: 0.0123, zero: 97 };
    for shape in [[1, 1, 1, 1], [2, 5, 7, 3], [3, 4, 5, 40]] {
        let [n, h, w, c] = shape;
        let of = format!("of {n}x{h}x{w}x{c}");
        let mut made = Made::new(format!("quantize {of}"));
        let x = made.input("x", Kind::Centred, &shape);
        let y = made.node(Op::Quantize(affine), &[x])[0];
        cases.push(made.byte_output(y));
        let mut made = Made::new(format!("dequantize {of}"));
        let x = made.bytes("x", &shape);
        cases.push(made.only(Op::Dequantize(affine), &[x], Bound::Exact));
        let shortcut = SubsamplePad { stride: 2, before: 1, after: 2 };
        let pool = Pool2d { kernel: 3, stride: 2, pad: 1, ceil: false };
        let multiplier = 1.3 / (h * w) as f32;
        for op in [
            Op::Int8SubsamplePad { shortcut, zero: 97 },
            Op::Int8MaxPool(pool),
            Op::Int8GlobalAvgPool { offset: -17, multiplier },
        ] {
            let mut made = Made::new(format!("{} {of}", op.name()));
            let x = made.bytes("x", &shape);
            let y = made.node(op, &[x])[0];
            cases.push(made.byte_output(y));
        }
    }
    cases
}

/// A small network on bytes, calibrated on the case's own pictures.
fn network(name: &str) -> Case {
    let spec = small(name);
    let graph = networks::evaluation_graph(&spec);
    let state = |(id, _)| {
        let name = &graph.get(id).name;
        (name.clone(), oracle::parameter(name, graph.shape(id), 0))
    };
    let state: HashMap<String, Vec<f32>> = graph.states().map(state).collect();
    let value = |name: &str| &state[name][..];
    let (folded, folds) = fold_batch_norm(&graph).expect("the graph is verified");
    let before = folded_states(&folded, &folds, &value);
    let Given::U8(pictures) = pixels(0) else { unreachable!("pixels are bytes") };
    let mut executor = ReferenceExecutor::<f32>::new();
    let calibrated = Calibration::new(&mut executor, &folded, &before);
    let mut calibration = calibrated.expect("the reference runs any graph");
    calibration.add(&mut executor, &pictures).expect("the batch is the graph's");
    let activations = calibration.activations(RangeMethod::Largest);
    let quantized = quantize(&folded, &activations).expect("every activation is calibrated");
    let states = quantized.states(&quantized.weights(&before), &value);
    Case {
        name: format!("{name} on bytes"),
        runs: vec![Run { graph: quantized.graph, inputs: vec![Given::U8(pictures)] }],
        state: states.into_iter().map(|state| (state.name, state.values)).collect(),
        bounds: Bounds::Outputs(vec![Bound::Exact]),
    }
}
