//! Weights: reading them from anyone's file, giving them our names, and writing our model file.
//!
//! ```text
//! file ─► open ─► TensorFile ─► names (in place) ─► match_tensors(expected) ─► Matched
//!                (safetensors, pth)                  └─► Mismatch: missing, unexpected, misshapen
//! ```
//!
//! Reading executes nothing that is in a file, and what is not a tensor is skipped and named.
//! The content decides what a file is, never its extension.

pub mod atomic;
mod error;
mod map;
pub mod matching;
pub mod model_file;
pub mod names;
mod pth;
mod safetensors;
pub mod tensor_file;

use std::path::Path;

pub use error::{Lookalike, WeightsError};
pub use matching::{Expected, Head, Matched, Mismatch, match_tensors};
pub use model_file::{ModelFile, ModelMeta};
pub use safetensors::{TensorRef, write_safetensors};
pub use tensor_file::{DType, Format, Skipped, Tensor, TensorFile};

/// Reads a file of weights under the names that are in it.
///
/// safetensors files are mapped into memory, not read; PyTorch's pickles are read whole.
///
/// # Errors
/// A file that cannot be read, is of no known kind, is damaged, or holds no tensor.
pub fn open_raw(path: &Path) -> Result<TensorFile, WeightsError> {
    let map = map::map_file(path)?;
    let file = match error::sniff(map.bytes()) {
        Ok(Format::Safetensors) => safetensors::read(path, map)?,
        Ok(format) => pth::read(path, format, map.bytes().len())?,
        Err(found) => return Err(WeightsError::UnknownFormat { path: path.into(), found }),
    };
    if file.tensors.is_empty() {
        return Err(WeightsError::NoTensors { path: path.into(), skipped: file.skipped });
    }
    Ok(file)
}

/// Reads a file of weights and gives its tensors our names (see [`names`]).
///
/// # Errors
/// Those of [`open_raw`], and two tensors that end up under one name.
pub fn open(path: &Path) -> Result<TensorFile, WeightsError> {
    names::rename(open_raw(path)?)
}
