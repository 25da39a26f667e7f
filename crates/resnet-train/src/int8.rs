//! Models on bytes: made of one in f32, written, read.

use std::collections::HashMap;
use std::path::Path;

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::executor::Executor;
use resnet_core::graph::Graph;
use resnet_core::op::DType;
use resnet_core::pass::fold_bn::{Fold, fold_batch_norm};
use resnet_core::pass::quantize::calibrate::{Calibration, NamedState, folded_states};
use resnet_core::pass::quantize::range::RangeMethod;
use resnet_core::pass::quantize::{Activations, Int8Weights, Quantized, QuantizedLayer, quantize};
use resnet_core::spec::NetworkSpec;
use resnet_io::weights::{
    Expected, Head, ModelMeta, TensorFile, TensorRef, WeightsError, match_tensors, model_file,
};
use serde::{Deserialize, Serialize};

use crate::engine::StateTensor;
use crate::error::TrainError;
use crate::model::{Model, fresh_states};
use crate::preprocess::Preprocess;

/// What a file says of its quantisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantization {
    /// What the bytes of each activation stand for.
    pub activations: Activations,
    /// How their ranges were chosen.
    pub method: RangeMethod,
    /// Pictures that they were chosen by.
    pub images: u64,
}

/// What a network on bytes has besides its state.
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Model {
    /// The activations.
    pub quantization: Quantization,
    /// Name, shape and weights of each layer.
    pub layers: Vec<(String, Vec<usize>, Int8Weights)>,
}

/// The graph of a network on bytes.
///
/// # Errors
/// When the network does not fit its input, or the activations are of another.
pub fn int8_graph(
    spec: &NetworkSpec,
    options: &BuildOptions,
    activations: &Activations,
) -> Result<Quantized, TrainError> {
    let (folded, _) = fold_batch_norm(&forward(spec, options)?)?;
    Ok(quantize(&folded, activations)?)
}

/// Build options of an evaluation in batches of `batch`.
fn options(preprocess: &Preprocess, batch: usize) -> BuildOptions {
    let (mean, std) = (preprocess.mean.clone(), preprocess.std.clone());
    BuildOptions { mean, std, ..BuildOptions::imagenet(batch, Mode::Evaluation) }
}

/// A model in f32 whose activations are watched.
#[derive(Debug)]
pub struct Watched {
    folded: Graph,
    states: Vec<NamedState>,
    calibration: Calibration,
}

impl Watched {
    /// Puts a model in f32 into an executor, for batches of `batch` pictures.
    ///
    /// # Errors
    /// When the executor cannot run the network.
    ///
    /// # Panics
    /// When the model is one on bytes.
    pub fn new(
        executor: &mut dyn Executor,
        model: &Model,
        batch: usize,
    ) -> Result<Watched, TrainError> {
        assert!(model.int8.is_none(), "a model in f32");
        let graph = forward(&model.spec, &options(&model.preprocess, batch))?;
        let (folded, folds) = fold_batch_norm(&graph)?;
        let states = fold_states(&folded, &folds, &model.states);
        let calibration = Calibration::new(executor, &folded, &states)?;
        Ok(Watched { folded, states, calibration })
    }

    /// Runs a batch of prepared pictures.
    ///
    /// # Errors
    /// When it is not as many as were said.
    pub fn add(&mut self, executor: &mut dyn Executor, pixels: &[u8]) -> Result<(), TrainError> {
        Ok(self.calibration.add(executor, pixels)?)
    }

    /// The model on bytes.
    ///
    /// # Errors
    /// None: every activation was watched.
    pub fn quantize(
        &self,
        model: &Model,
        method: RangeMethod,
        images: u64,
    ) -> Result<Model, TrainError> {
        let activations = self.calibration.activations(method);
        let quantized = quantize(&self.folded, &activations)?;
        let weights = quantized.weights(&self.states);
        let value = values_of(&model.states);
        let states = quantized.states(&weights, &|name| value[name]);
        let named = quantized.layers.iter().zip(weights);
        let layers = named.map(|(layer, w)| (layer.name.clone(), layer.shape.clone(), w)).collect();
        let quantization = Quantization { activations, method, images };
        let int8 = Int8Model { quantization, layers };
        Ok(Model { states: tensors(states), int8: Some(int8), ..model.clone() })
    }
}

fn values_of(states: &[StateTensor]) -> HashMap<&str, &[f32]> {
    states.iter().map(|state| (state.name.as_str(), &state.values[..])).collect()
}

fn fold_states(folded: &Graph, folds: &[Fold], states: &[StateTensor]) -> Vec<NamedState> {
    let value = values_of(states);
    folded_states(folded, folds, &|name| value[name])
}

fn tensors(states: Vec<NamedState>) -> Vec<StateTensor> {
    let one = |s: NamedState| StateTensor { name: s.name, shape: s.shape, values: s.values.into() };
    states.into_iter().map(one).collect()
}

/// Names of a layer's tensors in files: weights, their scales, bias.
fn file_names(layer: &str) -> [String; 3] {
    ["weight", "weight_scale", "bias"].map(|what| format!("{layer}.{what}"))
}

/// Whether a state is made from a layer's tensors.
fn is_layers(name: &str) -> bool {
    name.starts_with("int8/")
}

impl Int8Model {
    /// A network on bytes from a file, and the state of its graph.
    ///
    /// # Errors
    /// [`WeightsError::Mismatch`] with all that does not fit.
    pub fn read(
        spec: &NetworkSpec,
        preprocess: &Preprocess,
        quantization: Quantization,
        file: &TensorFile,
    ) -> Result<(Int8Model, Vec<StateTensor>), TrainError> {
        let quantized = int8_graph(spec, &options(preprocess, 1), &quantization.activations)?;
        let mut expected: Vec<(String, Vec<usize>)> = Vec::new();
        for layer in &quantized.layers {
            let [weight, scale, bias] = file_names(&layer.name);
            let channels = layer.shape[..1].to_vec();
            expected.push((weight, layer.shape.clone()));
            expected.extend([(scale, channels.clone()), (bias, channels)]);
        }
        let beside = quantized.graph.states().filter_map(|(id, _)| {
            let tensor = quantized.graph.get(id);
            (!is_layers(&tensor.name)).then(|| (tensor.name.clone(), tensor.ty.shape.clone()))
        });
        expected.extend(beside);
        let wanted: Vec<Expected<'_>> =
            expected.iter().map(|(name, shape)| Expected { name, shape }).collect();
        let matched =
            match_tensors(&spec.name, &wanted, file, Head::Keep).map_err(WeightsError::from)?;
        let found = wanted.iter().zip(&matched.tensors).map(|(wanted, tensor)| {
            let values = tensor.map(|tensor| tensor.to_f32().into_owned());
            (wanted.name, values.unwrap_or_default())
        });
        let found: HashMap<&str, Vec<f32>> = found.collect();
        let weights: Vec<Int8Weights> =
            quantized.layers.iter().map(|layer| layer_weights(layer, &found)).collect();
        let states = quantized.states(&weights, &|name| &found[name]);
        let named = quantized.layers.iter().zip(weights);
        let layers = named.map(|(layer, w)| (layer.name.clone(), layer.shape.clone(), w)).collect();
        Ok((Int8Model { quantization, layers }, tensors(states)))
    }
}

fn layer_weights(layer: &QuantizedLayer, found: &HashMap<&str, Vec<f32>>) -> Int8Weights {
    let [weight, scale, bias] = file_names(&layer.name).map(|name| found[name.as_str()].clone());
    Int8Weights { values: weight.into_iter().map(|w| w as i8).collect(), scale, bias }
}

/// Writes a model on bytes as a model file.
///
/// # Errors
/// [`WeightsError::Write`] when the system refuses; the old file is then untouched.
///
/// # Panics
/// When the model is one in f32.
pub fn write(model: &Model, path: &Path) -> Result<(), TrainError> {
    let int8 = model.int8.as_ref().expect("a model on bytes");
    let json = |value: Result<serde_json::Value, serde_json::Error>| {
        value.expect("numbers, texts and lists always serialise")
    };
    let meta = ModelMeta {
        version: env!("CARGO_PKG_VERSION").into(),
        spec: json(serde_json::to_value(&model.spec)),
        preprocess: json(serde_json::to_value(&model.preprocess)),
        classes: model.classes.labels.clone(),
        multi_label: model.multi_label,
        recipe: serde_json::Value::Null,
        progress: serde_json::Value::Null,
        quantization: json(serde_json::to_value(&int8.quantization)),
    };
    let names: Vec<[String; 3]> = int8.layers.iter().map(|(name, ..)| file_names(name)).collect();
    let mut tensors = Vec::new();
    for ([weight, scale, bias], (_, shape, w)) in names.iter().zip(&int8.layers) {
        tensors.push(TensorRef::i8(weight, shape, &w.values));
        tensors.push(TensorRef::f32(scale, &shape[..1], &w.scale));
        tensors.push(TensorRef::f32(bias, &shape[..1], &w.bias));
    }
    for state in model.states.iter().filter(|state| !is_layers(&state.name)) {
        tensors.push(TensorRef::f32(&state.name, &state.shape, &state.values));
    }
    Ok(model_file::write(path, &meta, &tensors)?)
}

/// A model in f32 with fresh weights, as a network's name gives it, for measurements.
///
/// # Errors
/// When the network does not fit its input.
pub fn fresh(spec: &NetworkSpec, preprocess: Preprocess) -> Result<Model, TrainError> {
    let states = fresh_states(spec, 0)?.collect();
    let classes = crate::classes::Classes::default();
    Ok(Model {
        spec: spec.clone(),
        preprocess,
        classes,
        multi_label: false,
        states,
        int8: None,
        stored: DType::F32,
        notices: Vec::new(),
    })
}
