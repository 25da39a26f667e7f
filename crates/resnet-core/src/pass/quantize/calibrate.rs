//! From a network in f32 to one on bytes: folded state, a run over calibration pictures, new state.

use std::collections::HashMap;

use super::range::{Histogram, RangeMethod};
use super::{Activation, Activations, Int8Weights, Quantized, activations};
use crate::executor::{Executor, ExecutorError, Input, StepId};
use crate::graph::Graph;
use crate::pass::fold_bn::Fold;

/// A state tensor in canonical layout.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedState {
    /// Its name.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Vec<f32>,
}

/// All state of a folded graph, from that of the network; `value` finds the latter by name.
pub fn folded_states<'v>(
    folded: &Graph,
    folds: &[Fold],
    value: &dyn Fn(&str) -> &'v [f32],
) -> Vec<NamedState> {
    let mut made: HashMap<&str, Vec<f32>> = HashMap::new();
    for fold in folds {
        let norm = fold.norm.each_ref().map(|name| value(name));
        let (scale, bias) = fold.scale_and_bias(norm);
        let w = value(&fold.weight);
        let per_output = w.len() / scale.len();
        let scaled = |(i, &w): (usize, &f32)| (f64::from(w) * scale[i / per_output]) as f32;
        made.insert(&fold.folded_weight, w.iter().enumerate().map(scaled).collect());
        made.insert(&fold.folded_bias, bias.iter().map(|&b| b as f32).collect());
    }
    let states = folded.states().map(|(id, _)| {
        let tensor = folded.get(id);
        let values = made.remove(tensor.name.as_str());
        NamedState {
            name: tensor.name.clone(),
            shape: tensor.ty.shape.clone(),
            values: values.unwrap_or_else(|| value(&tensor.name).to_vec()),
        }
    });
    states.collect()
}

/// Sets state tensors of an executor.
///
/// # Errors
/// If the executor has none of a name, or one of another shape.
pub fn import(executor: &mut dyn Executor, states: &[NamedState]) -> Result<(), ExecutorError> {
    states.iter().try_for_each(|state| executor.import(&state.name, &state.shape, &state.values))
}

/// A run of a folded graph in f32 that watches its activations.
#[derive(Debug)]
pub struct Calibration {
    step: StepId,
    activations: Vec<Activation>,
    histograms: Vec<Histogram>,
}

impl Calibration {
    /// Compiles a folded graph in an executor and sets its state.
    ///
    /// # Errors
    /// If the executor cannot run the graph.
    pub fn new(
        executor: &mut dyn Executor,
        folded: &Graph,
        states: &[NamedState],
    ) -> Result<Calibration, ExecutorError> {
        let activations = activations(folded)?;
        let mut watched = folded.clone();
        let outputs = activations.iter().map(|a| (format!("watch/{}", a.name), a.tensor));
        watched.outputs.extend(outputs);
        let step = executor.compile(&watched)?;
        import(executor, states)?;
        let histograms = vec![Histogram::default(); activations.len()];
        Ok(Calibration { step, activations, histograms })
    }

    /// Runs a batch and counts its activations.
    ///
    /// # Errors
    /// If the batch is not the graph's.
    pub fn add(&mut self, executor: &mut dyn Executor, pixels: &[u8]) -> Result<(), ExecutorError> {
        executor.run(self.step, &[Input::U8(pixels)])?;
        for (activation, histogram) in self.activations.iter().zip(&mut self.histograms) {
            histogram.add(&executor.output(self.step, &format!("watch/{}", activation.name))?);
        }
        Ok(())
    }

    /// What the bytes of each activation should stand for.
    pub fn activations(&self, method: RangeMethod) -> Activations {
        let named = self.activations.iter().zip(&self.histograms);
        named.map(|(a, histogram)| (a.name.clone(), histogram.affine(method))).collect()
    }
}

impl Quantized {
    /// Each layer's weights in 8 bits, from the folded state.
    ///
    /// # Panics
    /// If `folded` lacks state of the graph before.
    pub fn weights(&self, folded: &[NamedState]) -> Vec<Int8Weights> {
        let values: HashMap<&str, &[f32]> =
            folded.iter().map(|state| (state.name.as_str(), &state.values[..])).collect();
        let of = |layer: &super::QuantizedLayer| {
            layer.weights(
                values[layer.weight.as_str()],
                layer.bias.as_ref().map(|b| values[b.as_str()]),
            )
        };
        self.layers.iter().map(of).collect()
    }

    /// All state of the graph: that of the layers, and what stays in f32, which `value` finds.
    pub fn states<'v>(
        &self,
        weights: &[Int8Weights],
        value: &dyn Fn(&str) -> &'v [f32],
    ) -> Vec<NamedState> {
        let mut made: HashMap<String, Vec<f32>> = HashMap::new();
        for (layer, weights) in self.layers.iter().zip(weights) {
            let (offset, multiplier) = layer.constants(weights);
            let values = weights.values.iter().map(|&w| f32::from(w)).collect();
            made.extend(layer.state_names().into_iter().zip([values, offset, multiplier]));
        }
        let states = self.graph.states().map(|(id, _)| {
            let tensor = self.graph.get(id);
            let values = made.remove(&tensor.name);
            NamedState {
                name: tensor.name.clone(),
                shape: tensor.ty.shape.clone(),
                values: values.unwrap_or_else(|| value(&tensor.name).to_vec()),
            }
        });
        states.collect()
    }
}
