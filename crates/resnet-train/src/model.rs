//! A model for use: network, weights, preprocessing and class names, from a file of anyone.
//!
//! A model file of ours says all of it. What another file does not say comes from flags, or is assumed
//! from the family and reported.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::graph::Graph;
use resnet_core::init::{Initial, initial_state, initial_state_of};
use resnet_core::op::{CrossEntropy, DType};
use resnet_core::precision::Precision;
use resnet_core::spec::NetworkSpec;
use resnet_core::step::{Decay, SgdOptions, Targets};
use resnet_core::zoo;
use resnet_io::Colour;
use resnet_io::resize::Filter;
use resnet_io::weights::{
    self, Expected, Head, ModelFile, Tensor, TensorFile, WeightsError, match_tensors,
};

use crate::classes::Classes;
use crate::engine::{Plan, StateTensor};
use crate::error::{TrainError, io_error};
use crate::int8::Int8Model;
use crate::preprocess::{Preprocess, for_channels, usual_resize};
use crate::score::multi_label::sigmoids;
use crate::score::probabilities;
use crate::suggest;

/// A network with weights, ready for an executor.
#[derive(Clone, Debug)]
pub struct Model {
    /// The network.
    pub spec: NetworkSpec,
    /// How a picture becomes its input.
    pub preprocess: Preprocess,
    /// Names of the classes, as far as they are known.
    pub classes: Classes,
    /// Whether a picture may have any number of them, each with a probability of its own.
    pub multi_label: bool,
    /// Parameters and statistics.
    pub states: Vec<StateTensor>,
    /// What makes it a network on bytes; none: it computes in f32.
    pub int8: Option<Int8Model>,
    /// How activations are stored: `F32` or `Bf16`.
    pub stored: DType,
    /// What was assumed or passed over, for the user to read.
    pub notices: Vec<String>,
}

/// What a user says about a file of weights.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelRequest {
    /// The file.
    pub weights: PathBuf,
    /// A network's name or TOML file (`--model`); a model file of ours needs none.
    pub model: Option<String>,
    /// Names of the classes (`--classes-file`).
    pub classes_file: Option<PathBuf>,
    /// Mean of each channel.
    pub mean: Option<Vec<f64>>,
    /// Standard deviation of each channel.
    pub std: Option<Vec<f64>>,
    /// Shorter side after scaling.
    pub resize: Option<usize>,
    /// Rows and columns of the middle that is taken.
    pub crop: Option<usize>,
    /// How pictures are scaled.
    pub interpolation: Option<Filter>,
    /// Whether pictures are turned as their EXIF data say.
    pub exif: Option<bool>,
    /// What to compute with (`--precision`); a network on bytes stays one.
    pub precision: Precision,
}

impl Model {
    /// Reads a model.
    ///
    /// # Errors
    /// A file that cannot be read or is of another network; a network that is not known.
    pub fn load(request: &ModelRequest) -> Result<Model, TrainError> {
        let file = weights::open(&request.weights)?;
        let mut notices: Vec<String> = file
            .passed_over()
            .map(|entries| format!("{}: passed over {entries}", request.weights.display()))
            .into_iter()
            .collect();
        let ours = ModelFile::is_one(&file).then(|| ModelFile::from_tensors(file.clone()));
        let ours = ours.transpose()?.filter(|file| !file.meta.spec.is_null());
        let mut spec = match (&request.model, &ours) {
            (Some(name), _) => network(name)?,
            (None, Some(file)) => from_meta(&request.weights, "resnet.spec", &file.meta.spec)?,
            (None, None) => {
                return Err(TrainError::UnknownNetwork { path: request.weights.clone() });
            }
        };
        adopt_classes(&mut spec, &file, &mut notices);
        adopt_channels(&mut spec, &file, &mut notices);
        let quantization = match &ours {
            Some(file) if !file.meta.quantization.is_null() => {
                Some(from_meta(&request.weights, "resnet.quantization", &file.meta.quantization)?)
            }
            _ => None,
        };
        let preprocess = preprocess(request, &ours, &spec, &mut notices)?;
        [spec.input.height, spec.input.width] = preprocess.crop;
        let classes = match (&request.classes_file, &ours) {
            (Some(path), _) => Classes::read(path)?,
            (None, Some(file)) => Classes::of_labels(file.meta.classes.clone()),
            (None, None) => Classes::default(),
        };
        classes.check_count(spec.classes)?;
        let multi_label = ours.as_ref().is_some_and(|file| file.meta.multi_label);
        spec.validate()?;
        colour_of(&spec)?;
        let mut stored = request.precision.stored();
        let (int8, states) = match quantization {
            None => (None, matched_states(&spec, &file, Head::Keep, 0)?),
            Some(quantization) => {
                stored = DType::F32;
                let (int8, states) = Int8Model::read(&spec, &preprocess, quantization, &file)?;
                (Some(int8), states)
            }
        };
        Ok(Model { spec, preprocess, classes, multi_label, states, int8, stored, notices })
    }

    /// What the network sees of colours.
    ///
    /// # Errors
    /// A network that takes neither one channel nor three.
    pub fn colour(&self) -> Result<Colour, TrainError> {
        colour_of(&self.spec)
    }

    /// The probability of each class: of all classes together, or of each by itself.
    pub fn probabilities(&self, logits: &[f32]) -> Vec<f64> {
        if self.multi_label { sigmoids(logits) } else { probabilities(logits) }
    }

    /// The plan of an engine that only evaluates.
    pub fn plan(&self) -> Plan {
        let sgd =
            SgdOptions { weight_decay: 0.0, decay: Decay::All, nesterov: false, clip_norm: None };
        Plan {
            train_size: [self.spec.input.height, self.spec.input.width],
            spec: self.spec.clone(),
            mean: self.preprocess.mean.clone(),
            std: self.preprocess.std.clone(),
            loss: CrossEntropy { label_smoothing: 0.0, divisor: 1 }.into(),
            sgd,
            targets: Targets::Classes,
            seed: 0,
            stored: self.stored,
            activations: self.int8.as_ref().map(|int8| int8.quantization.activations.clone()),
        }
    }
}

/// A network by its name, or from its TOML file.
///
/// # Errors
/// A name that is not known, a file that cannot be read or holds no network.
pub fn network(name: &str) -> Result<NetworkSpec, TrainError> {
    let path = Path::new(name);
    let is_file = path.extension().is_some_and(|extension| extension == "toml");
    if !is_file {
        return Ok(zoo::network(name)?);
    }
    let text = std::fs::read_to_string(path).map_err(io_error(path))?;
    let spec: NetworkSpec = toml::from_str(&text).map_err(|e| {
        let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        let message = e.message().split_whitespace().collect::<Vec<_>>().join(" ");
        let message = format!("line {line}: {message}{}", suggest::in_message(&message));
        TrainError::SpecFile { path: path.into(), message }
    })?;
    spec.validate()
        .map_err(|e| TrainError::SpecFile { path: path.into(), message: e.to_string() })?;
    Ok(spec)
}

/// The forward graph of one picture, whose state is what files hold.
fn one_picture(spec: &NetworkSpec) -> Result<Graph, TrainError> {
    let (mean, std) = (vec![0.0; spec.input.channels], vec![1.0; spec.input.channels]);
    let options = BuildOptions { mean, std, ..BuildOptions::imagenet(1, Mode::Evaluation) };
    Ok(forward(spec, &options)?)
}

/// Fresh parameters and statistics, by a seed, each made when it is its turn.
///
/// # Errors
/// When the network does not fit its input.
pub fn fresh_states(
    spec: &NetworkSpec,
    seed: u64,
) -> Result<impl Iterator<Item = StateTensor>, TrainError> {
    let states = initial_state(spec, &one_picture(spec)?, seed);
    Ok(states.map(|s| StateTensor { name: s.name, shape: s.shape, values: s.values.into() }))
}

/// A network's parameters and statistics from a file; a new head is as `seed` makes it.
///
/// # Errors
/// [`WeightsError::Mismatch`] with all that does not fit.
pub fn matched_states(
    spec: &NetworkSpec,
    file: &TensorFile,
    head: Head,
    seed: u64,
) -> Result<Vec<StateTensor>, TrainError> {
    let graph = one_picture(spec)?;
    let states: Vec<Initial> = initial_state_of(spec, &graph, seed, |_| false).collect();
    let expected: Vec<Expected<'_>> =
        states.iter().map(|state| Expected { name: &state.name, shape: &state.shape }).collect();
    let matched = match_tensors(&spec.name, &expected, file, head).map_err(WeightsError::from)?;
    let named = expected.iter().map(|expected| expected.name).zip(&matched.tensors);
    let missing: HashSet<&str> =
        named.filter(|(_, tensor)| tensor.is_none()).map(|(name, _)| name).collect();
    let fresh = initial_state_of(spec, &graph, seed, |name| missing.contains(name));
    let states = fresh.zip(&matched.tensors).map(|(initial, tensor)| StateTensor {
        name: initial.name,
        shape: initial.shape,
        values: tensor.map_or_else(|| initial.values.into(), Tensor::to_values),
    });
    Ok(states.collect())
}

/// Takes the number of classes from the file's classifier: the network's own is only a default.
fn adopt_classes(spec: &mut NetworkSpec, file: &TensorFile, notices: &mut Vec<String>) {
    let Some(&classes) = file.get("fc.weight").and_then(|tensor| tensor.shape().first()) else {
        return;
    };
    if classes != spec.classes && classes != 0 {
        notices.push(format!("{} with the file's {classes} classes", spec.name));
        spec.classes = classes;
    }
}

/// Takes the number of channels from the file's first convolution: the network's own is only a default.
fn adopt_channels(spec: &mut NetworkSpec, file: &TensorFile, notices: &mut Vec<String>) {
    let first = file.get("conv1.weight").or_else(|| file.get("conv1.0.weight"));
    let Some(&channels) = first.and_then(|tensor| tensor.shape().get(1)) else { return };
    if channels != spec.input.channels && Colour::of_channels(channels).is_some() {
        notices.push(format!("{} with the file's {channels} input channels", spec.name));
        spec.input.channels = channels;
    }
}

/// What a network sees of colours.
///
/// # Errors
/// One that takes neither one channel nor three.
pub(crate) fn colour_of(spec: &NetworkSpec) -> Result<Colour, TrainError> {
    let found = spec.input.channels;
    Colour::of_channels(found).ok_or(TrainError::Channels { found })
}

/// How pictures are prepared: as the file says or the network's family does, and what the user says
/// otherwise.
fn preprocess(
    request: &ModelRequest,
    ours: &Option<ModelFile>,
    spec: &NetworkSpec,
    notices: &mut Vec<String>,
) -> Result<Preprocess, TrainError> {
    let meta = ours.as_ref().map(|file| &file.meta).filter(|meta| !meta.preprocess.is_null());
    let own = match meta {
        Some(meta) => from_meta(&request.weights, "resnet.preprocess", &meta.preprocess)?,
        None => {
            let assumed = Preprocess::of_family(spec);
            let text = assumed.describe();
            notices.push(format!("the file does not say how to prepare pictures: {text}"));
            assumed
        }
    };
    let mut preprocess = own.clone();
    override_preprocess(&mut preprocess, request, spec.input.channels)?;
    let on_bytes = ours.as_ref().is_some_and(|file| !file.meta.quantization.is_null());
    if on_bytes && (&own.mean, &own.std) != (&preprocess.mean, &preprocess.std) {
        notices.push("mean and deviation are part of an int8 model: the file's are used".into());
        (preprocess.mean, preprocess.std) = (own.mean.clone(), own.std.clone());
    }
    if meta.is_some() && preprocess != own {
        let own = own.describe();
        notices.push(format!("pictures are not prepared as the model's own were: {own}"));
    }
    Ok(preprocess)
}

fn override_preprocess(
    preprocess: &mut Preprocess,
    request: &ModelRequest,
    channels: usize,
) -> Result<(), TrainError> {
    let checked = |what, values: &[f64]| {
        let (values, found) = (for_channels(values, channels), values.len());
        let fits = values.len() == channels;
        let error = TrainError::ChannelNumbers { what, found, expected: channels };
        fits.then_some(values).ok_or(error)
    };
    if let Some(mean) = &request.mean {
        preprocess.mean = checked("--mean", mean)?;
    }
    if let Some(std) = &request.std {
        preprocess.std = checked("--std", std)?;
    }
    if let Some(crop) = request.crop {
        preprocess.crop = [crop; 2];
        preprocess.resize = preprocess.resize.map(|_| usual_resize([crop; 2]));
    }
    preprocess.resize = request.resize.or(preprocess.resize);
    preprocess.interpolation = request.interpolation.unwrap_or(preprocess.interpolation);
    preprocess.exif = request.exif.unwrap_or(preprocess.exif);
    Ok(())
}

fn from_meta<T: serde::de::DeserializeOwned>(
    path: &Path,
    key: &str,
    value: &serde_json::Value,
) -> Result<T, TrainError> {
    serde_json::from_value(value.clone()).map_err(|source| {
        TrainError::Weights(WeightsError::Meta { path: path.into(), key: key.into(), source })
    })
}
