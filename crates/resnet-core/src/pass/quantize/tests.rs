//! Networks on bytes compute what they compute in f32, nearly.

use std::collections::HashMap;

use super::calibrate::{Calibration, NamedState, folded_states, import};
use super::range::RangeMethod;
use super::*;
use crate::build::{BuildOptions, Mode, forward};
use crate::executor::{Executor, Input};
use crate::oracle;
use crate::pass::fold_bn::fold_batch_norm;
use crate::reference::ReferenceExecutor;
use crate::spec::NetworkSpec;
use crate::zoo::network;

const BATCH: usize = 2;
const SIDE: usize = 32;

fn small(name: &str) -> NetworkSpec {
    let mut spec = network(name).unwrap();
    (spec.input.height, spec.input.width, spec.classes) = (SIDE, SIDE, 10);
    spec
}

/// Logits in f32 and in int8 of the same pictures, calibrated on them.
fn logits(name: &str) -> (Vec<f32>, Vec<f32>, Graph) {
    let spec = small(name);
    let graph = forward(&spec, &BuildOptions::imagenet(BATCH, Mode::Evaluation)).unwrap();
    let state = |(id, _)| {
        let name = &graph.get(id).name;
        (name.clone(), oracle::parameter(name, graph.shape(id), 0))
    };
    let state: HashMap<String, Vec<f32>> = graph.states().map(state).collect();
    let value = |name: &str| &state[name][..];
    let (folded, folds) = fold_batch_norm(&graph).unwrap();
    let folded_states = folded_states(&folded, &folds, &value);
    let pixels = oracle::pixels(BATCH * SIDE * SIDE * 3, 0);
    let mut executor = ReferenceExecutor::<f32>::new();
    let mut calibration = Calibration::new(&mut executor, &folded, &folded_states).unwrap();
    calibration.add(&mut executor, &pixels).unwrap();
    let quantized = quantize(&folded, &calibration.activations(RangeMethod::Largest)).unwrap();
    quantized.graph.verify().unwrap();
    let weights = quantized.weights(&folded_states);
    let mut run = |graph: &Graph, states: &[NamedState]| {
        let step = executor.compile(graph).unwrap();
        import(&mut executor, states).unwrap();
        executor.run(step, &[Input::U8(&pixels)]).unwrap();
        executor.output(step, "logits").unwrap()
    };
    let expected = run(&folded, &folded_states);
    let found = run(&quantized.graph, &quantized.states(&weights, &value));
    (expected, found, quantized.graph)
}

/// How far int8 logits of random weights are from f32's, of their root mean square.
#[track_caller]
fn check(name: &str) -> Graph {
    let (expected, found, graph) = logits(name);
    let square = |x: &[f32]| x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    let error: Vec<f32> = expected.iter().zip(&found).map(|(a, b)| a - b).collect();
    let share = (square(&error) / square(&expected)).sqrt();
    assert!(share < 0.15, "{name}: off by {share:.3}");
    graph
}

fn count(graph: &Graph, op: &str) -> usize {
    graph.nodes.iter().filter(|node| node.op.name() == op).count()
}

#[test]
fn networks_become_bytes_from_pixels_to_logits() {
    for (name, convolutions) in [("resnet20", 19), ("resnet18", 20), ("cifar-plain20", 19)] {
        let graph = check(name);
        assert_eq!(count(&graph, "int8_conv2d"), convolutions, "{name}");
        for op in ["quantize", "dequantize", "conv2d", "relu", "add", "normalize"] {
            assert_eq!(count(&graph, op), 0, "{name}: {op}");
        }
        assert_eq!(count(&graph, "int8_linear"), 1, "{name}");
    }
}

#[test]
fn what_has_no_form_on_bytes_stays_in_f32() {
    for name in ["seresnet18", "resnet18-d", "cifar-resnet20-v2"] {
        let graph = check(name);
        assert_eq!(count(&graph, "conv2d"), 0, "{name}");
        assert!(0 < count(&graph, "dequantize"), "{name}");
    }
}

#[test]
fn an_activation_without_a_scale_is_named() {
    let graph = forward(&small("resnet20"), &BuildOptions::imagenet(1, Mode::Evaluation)).unwrap();
    let (folded, _) = fold_batch_norm(&graph).unwrap();
    let error = quantize(&folded, &Activations::new()).unwrap_err();
    assert_eq!(error, QuantizeError::NoActivation { name: "conv1".into() });
}
