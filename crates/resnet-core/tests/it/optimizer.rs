//! SGD and clipping against PyTorch's (`fixtures/training`).

use resnet_core::executor::{Executor, Input};
use resnet_core::graph::{Graph, StateRole};
use resnet_core::oracle::uniform;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::step::{Decay, SgdOptions, gradient_name, update_graph, velocity_name};
use serde::Deserialize;

use crate::fixture::{apart, read};

/// Rate and momentum are f32 inputs: 0.1 and 0.9 are rounded there, and PyTorch's are not.
const TOLERANCE: f64 = 1e-7;

#[derive(Deserialize)]
struct Cases<T> {
    cases: Vec<T>,
}

#[derive(Deserialize)]
struct SgdCase {
    lr: f32,
    momentum: f32,
    nesterov: bool,
    weight_decay: f64,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    parameter: Vec<f64>,
    /// Empty where PyTorch keeps none.
    momentum_buffer: Vec<f64>,
}

#[derive(Deserialize)]
struct ClippingCase {
    max_norm: f64,
    norm: f64,
    clipped: Vec<Vec<f64>>,
}

/// `2u - 1`.
fn centred(name: &str, len: usize) -> Vec<f64> {
    uniform(name, len).into_iter().map(|u| 2.0 * f64::from(u) - 1.0).collect()
}

/// A graph of some parameters, `p0`, `p1`, ..., and nothing else.
fn parameters(lens: &[usize]) -> Graph {
    let mut graph = Graph::default();
    for (i, &len) in lens.iter().enumerate() {
        graph.state(&format!("p{i}"), StateRole::ConvWeight, &[len]);
    }
    graph
}

#[test]
fn steps_of_sgd_equal_pytorchs() {
    let file: Cases<SgdCase> = read("training/sgd.json");
    for (i, case) in file.cases.iter().enumerate() {
        let (weight_decay, nesterov) = (case.weight_decay, case.nesterov);
        let options = SgdOptions { weight_decay, decay: Decay::All, nesterov, clip_norm: None };
        let len = case.steps[0].parameter.len();
        let mut executor = ReferenceExecutor::<f64>::new();
        let update = update_graph(&parameters(&[len]), &options).unwrap();
        let update = executor.compile(&update).unwrap();
        executor.import_f64("p0", &[len], &centred("sgd/start", len)).unwrap();
        for (at, step) in case.steps.iter().enumerate() {
            let lr = if at < 3 { case.lr } else { case.lr * 0.5 };
            let gradient = centred(&format!("sgd/gradient/{at}"), len);
            executor.import_f64(&gradient_name("p0"), &[len], &gradient).unwrap();
            executor.run(update, &[Input::F32(&[lr, case.momentum])]).unwrap();
            let far = apart(&executor.export_f64("p0").unwrap(), &step.parameter);
            assert!(far <= TOLERANCE, "case {i}, step {at}: parameter {far:e}");
            if !step.momentum_buffer.is_empty() {
                let velocity = executor.export_f64(&velocity_name("p0")).unwrap();
                let far = apart(&velocity, &step.momentum_buffer);
                assert!(far <= TOLERANCE, "case {i}, step {at}: velocity {far:e}");
            }
        }
    }
}

/// A step of rate 1 from zero leaves the clipped gradients, negated.
#[test]
fn clipping_by_norm_equals_pytorchs() {
    let file: Cases<ClippingCase> = read("training/clipping.json");
    for case in &file.cases {
        let lens: Vec<usize> = case.clipped.iter().map(Vec::len).collect();
        let options = SgdOptions {
            weight_decay: 0.0,
            decay: Decay::All,
            nesterov: false,
            clip_norm: Some(case.max_norm),
        };
        let mut executor = ReferenceExecutor::<f64>::new();
        let update = update_graph(&parameters(&lens), &options).unwrap();
        let update = executor.compile(&update).unwrap();
        for (i, &len) in lens.iter().enumerate() {
            let gradient = centred(&format!("clip/{i}"), len);
            executor.import_f64(&gradient_name(&format!("p{i}")), &[len], &gradient).unwrap();
        }
        executor.run(update, &[Input::F32(&[1.0, 0.0])]).unwrap();
        let norm = executor.output_f64(update, "grad_norm").unwrap();
        let far = apart(&norm, &[case.norm]);
        assert!(far <= TOLERANCE, "norm {far:e}");
        for (i, clipped) in case.clipped.iter().enumerate() {
            let parameter = executor.export_f64(&format!("p{i}")).unwrap();
            let negated: Vec<f64> = parameter.iter().map(|p| -p).collect();
            let far = apart(&negated, clipped);
            assert!(far <= TOLERANCE, "at most {}: p{i} {far:e}", case.max_norm);
        }
    }
}
