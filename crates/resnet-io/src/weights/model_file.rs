//! Our model file: one safetensors file that says everything about a network, readable by anyone's
//! library.
//!
//! Tensors carry torchvision's names; the optimiser's stand under `optim/`, averages under `ema/`.
//! The string map `__metadata__` holds the keys below, each but the version and the checksum as
//! JSON.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::error::WeightsError;
use super::safetensors::{TensorRef, file_order, write_safetensors};
use super::tensor_file::{Tensor, TensorFile};

/// Version of the program that wrote the file; its presence makes a safetensors file a model file.
pub(super) const VERSION: &str = "resnet.version";
const SPEC: &str = "resnet.spec";
const PREPROCESS: &str = "resnet.preprocess";
const CLASSES: &str = "resnet.classes";
const MULTI_LABEL: &str = "resnet.multi_label";
const RECIPE: &str = "resnet.recipe";
const PROGRESS: &str = "resnet.progress";
const QUANTIZATION: &str = "resnet.quantization";
const CHECKSUM: &str = "resnet.checksum";

/// Names of the optimiser's tensors begin with this.
pub const OPTIM: &str = "optim/";
/// Names of averaged parameters begin with this.
pub const EMA: &str = "ema/";

/// Whether a tensor is something other than a parameter or statistic of the network.
pub(super) fn is_beside_weights(name: &str) -> bool {
    name.starts_with(OPTIM) || name.starts_with(EMA)
}

/// What a model file says besides its tensors. The values are JSON, so that this module need not
/// know their types.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelMeta {
    /// Version of the program that wrote it.
    pub version: String,
    /// The network.
    pub spec: serde_json::Value,
    /// How a picture becomes its input; null if unknown.
    pub preprocess: serde_json::Value,
    /// Names of the classes in the order of the logits; empty if unknown.
    pub classes: Vec<String>,
    /// Whether a picture may have any number of the classes.
    pub multi_label: bool,
    /// What it was trained with; null outside of runs.
    pub recipe: serde_json::Value,
    /// How far training came; null outside of runs.
    pub progress: serde_json::Value,
    /// What the bytes of activations stand for; null for a network in f32.
    pub quantization: serde_json::Value,
}

/// A model file that was read.
#[derive(Debug, Clone)]
pub struct ModelFile {
    /// What it says.
    pub meta: ModelMeta,
    /// Its tensors, mapped.
    pub file: TensorFile,
}

impl ModelFile {
    /// Whether a file of tensors is a model file of ours.
    pub fn is_one(file: &TensorFile) -> bool {
        file.metadata.contains_key(VERSION)
    }

    /// Takes a file of tensors for a model file. The checksum is not verified: see
    /// [`ModelFile::verify`].
    ///
    /// # Errors
    /// A metadata entry that is missing or no JSON.
    pub fn from_tensors(file: TensorFile) -> Result<ModelFile, WeightsError> {
        let meta = ModelMeta {
            version: text(&file, VERSION)?.into(),
            spec: json(&file, SPEC)?,
            preprocess: json(&file, PREPROCESS)?,
            classes: json(&file, CLASSES)?,
            multi_label: match file.metadata.get(MULTI_LABEL) {
                None => false,
                Some(_) => json(&file, MULTI_LABEL)?,
            },
            recipe: json(&file, RECIPE)?,
            progress: json(&file, PROGRESS)?,
            quantization: match file.metadata.get(QUANTIZATION) {
                None => serde_json::Value::Null,
                Some(_) => json(&file, QUANTIZATION)?,
            },
        };
        Ok(ModelFile { meta, file })
    }

    /// Reads a model file.
    ///
    /// # Errors
    /// Those of [`super::open_raw`] and of [`ModelFile::from_tensors`].
    pub fn read(path: &Path) -> Result<ModelFile, WeightsError> {
        ModelFile::from_tensors(super::open_raw(path)?)
    }

    /// Compares the tensor bytes with the checksum; reads the whole file. For resuming and
    /// `info --verify`.
    ///
    /// # Errors
    /// [`WeightsError::Checksum`] when they differ.
    pub fn verify(&self) -> Result<(), WeightsError> {
        let expected = text(&self.file, CHECKSUM)?;
        let mut hash = Sha256::new();
        self.file.tensors.iter().for_each(|tensor| hash.update(tensor.bytes()));
        let found = hexadecimal(hash);
        if found == expected {
            return Ok(());
        }
        let (path, expected) = (self.file.path.clone(), expected.into());
        Err(WeightsError::Checksum { path, expected, found })
    }

    /// The tensors under a prefix ([`OPTIM`], [`EMA`]), each with the rest of its name.
    pub fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a Tensor)> {
        self.file.tensors.iter().filter_map(move |t| Some((t.name.strip_prefix(prefix)?, t)))
    }
}

/// Writes a model file in place of what was there (see [`super::atomic::write`]).
///
/// # Errors
/// [`WeightsError::Write`] when the system refuses; the old file is then untouched.
pub fn write(path: &Path, meta: &ModelMeta, tensors: &[TensorRef<'_>]) -> Result<(), WeightsError> {
    let mut hash = Sha256::new();
    for tensor in file_order(tensors) {
        tensor.with_bytes(|bytes| hash.update(bytes));
    }
    let mut metadata = BTreeMap::from([
        (VERSION.into(), meta.version.clone()),
        (SPEC.into(), meta.spec.to_string()),
        (PREPROCESS.into(), meta.preprocess.to_string()),
        (CLASSES.into(), to_json(&meta.classes)),
        (RECIPE.into(), meta.recipe.to_string()),
        (PROGRESS.into(), meta.progress.to_string()),
        (CHECKSUM.into(), hexadecimal(hash)),
    ]);
    if meta.multi_label {
        metadata.insert(MULTI_LABEL.into(), "true".into());
    }
    if !meta.quantization.is_null() {
        metadata.insert(QUANTIZATION.into(), meta.quantization.to_string());
    }
    write_safetensors(path, &metadata, tensors)
}

fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("a list of strings always serialises")
}

fn text<'a>(file: &'a TensorFile, key: &'static str) -> Result<&'a str, WeightsError> {
    file.metadata
        .get(key)
        .map(String::as_str)
        .ok_or_else(|| WeightsError::NoMeta { path: file.path.clone(), key })
}

fn json<T: DeserializeOwned>(file: &TensorFile, key: &'static str) -> Result<T, WeightsError> {
    serde_json::from_str(text(file, key)?).map_err(|source| WeightsError::Meta {
        path: file.path.clone(),
        key: key.into(),
        source,
    })
}

/// The checksum of a file whose tensors' bytes were hashed in its order.
fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
