//! PyTorch's own files (`.pth`, `.pt`, `.th`): zip, legacy and tar, without executing anything in
//! them.
//!
//! A pickle is a program. `pytorch-reader` interprets only what builds dictionaries, lists,
//! numbers, text and tensors; a call of anything else is kept as a name and never made. This module
//! is the only one that knows that library. What it adds: entries that are not tensors are listed,
//! a bound on the memory that all tensors together take, and our errors.

use std::io;
use std::path::Path;

use pytorch_reader::{
    DType as TheirDType, PickleError, PickleValue, PytorchError, PytorchReader,
    Tensor as TheirTensor,
};
use rayon::prelude::*;

use super::error::WeightsError;
use super::tensor_file::{DType, Format, Skipped, Tensor, TensorFile};

/// How many times its size a file's tensors may take in memory. PyTorch stores tensors
/// uncompressed, so more than once comes only from several names for one storage, or from views
/// that repeat a storage (`expand`).
const MAX_EXPANSION: u64 = 4;
/// Expansion is no danger below this many bytes.
const ALWAYS_FINE_BYTES: u64 = 64 << 20;

/// Reads a PyTorch file whole, tensors sorted by name. `file_bytes` is its size.
pub(super) fn read(
    path: &Path,
    format: Format,
    file_bytes: usize,
) -> Result<TensorFile, WeightsError> {
    let unreadable = |source| {
        let path = path.into();
        if is_damage(&source) {
            WeightsError::PthDamaged { path, format, source }
        } else {
            WeightsError::Pth { path, format, source }
        }
    };
    let reader = PytorchReader::new(path).map_err(unreadable)?;
    check_total(path, file_bytes as u64, &reader)?;
    let skipped = skipped_entries(path).map_err(unreadable)?;

    let mut entries: Vec<_> = reader.into_tensors().into_iter().collect();
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    let read = |(name, tensor): (String, TheirTensor)| {
        let dtype = our_dtype(tensor.dtype());
        match tensor.read() {
            Ok(bytes) => Ok(Tensor::new(name, dtype, tensor.shape().to_vec(), bytes)),
            Err(source) => Err(WeightsError::TensorBytes { path: path.into(), source }),
        }
    };
    let tensors = entries.into_par_iter().map(read).collect::<Result<Vec<Tensor>, _>>()?;
    Ok(TensorFile { path: path.into(), format, metadata: Default::default(), tensors, skipped })
}

/// Whether the file is broken, rather than whole and not to our liking.
fn is_damage(error: &PytorchError) -> bool {
    let ends_early = |e: &io::Error| e.kind() == io::ErrorKind::UnexpectedEof;
    match error {
        PytorchError::Zip(_) | PytorchError::Tar(_) => true,
        PytorchError::Io(e) | PytorchError::Pickle(PickleError::Io(e)) => ends_early(e),
        _ => false,
    }
}

fn check_total(path: &Path, file_bytes: u64, reader: &PytorchReader) -> Result<(), WeightsError> {
    let declared: u128 = reader.tensors().values().map(|t| t.byte_len() as u128).sum();
    let limit = file_bytes.saturating_mul(MAX_EXPANSION).max(ALWAYS_FINE_BYTES);
    if declared <= u128::from(limit) {
        return Ok(());
    }
    Err(WeightsError::TooLarge { path: path.into(), declared, file_bytes, limit })
}

/// An attribute of PyTorch's state dicts (a version a module), which the reader hands out like an
/// entry.
const VERSIONS: &str = "_metadata";

/// All leaves that are not tensors, by name. The library hands out either the tensors or the rest,
/// so the pickle is parsed a second time; the tensors' bytes are not touched by that.
fn skipped_entries(path: &Path) -> Result<Vec<Skipped>, pytorch_reader::PytorchError> {
    let root = PytorchReader::read_pickle_data(path, None)?;
    let mut skipped = Vec::new();
    collect_skipped(&root, &mut String::new(), &mut skipped);
    skipped.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(skipped)
}

/// The reader limits nesting to 1,000 levels, so the recursion ends.
fn collect_skipped(value: &PickleValue, place: &mut String, skipped: &mut Vec<Skipped>) {
    let kind = match value {
        PickleValue::Dict(entries) => {
            for (key, value) in entries.iter().filter(|(key, _)| *key != VERSIONS) {
                descend(key, value, place, skipped);
            }
            return;
        }
        PickleValue::List(items) => {
            for (index, value) in items.iter().enumerate() {
                descend(&index.to_string(), value, place, skipped);
            }
            return;
        }
        PickleValue::Unsupported(name) if name == "torch.Tensor" => return,
        PickleValue::Unsupported(name) => name,
        PickleValue::None => "none",
        PickleValue::Bool(_) => "bool",
        PickleValue::Int(_) | PickleValue::Float(_) => "number",
        PickleValue::String(_) => "text",
        PickleValue::Bytes(_) => "bytes",
    };
    skipped.push(Skipped { name: place.clone(), kind: kind.into() });
}

fn descend(key: &str, value: &PickleValue, place: &mut String, skipped: &mut Vec<Skipped>) {
    let length = place.len();
    if !place.is_empty() {
        place.push('.');
    }
    place.push_str(key);
    collect_skipped(value, place, skipped);
    place.truncate(length);
}

fn our_dtype(dtype: TheirDType) -> DType {
    match dtype {
        TheirDType::F64 => DType::F64,
        TheirDType::F32 => DType::F32,
        TheirDType::F16 => DType::F16,
        TheirDType::BF16 => DType::BF16,
        TheirDType::I64 => DType::I64,
        TheirDType::I32 => DType::I32,
        TheirDType::I16 => DType::I16,
        TheirDType::I8 => DType::I8,
        TheirDType::U64 => DType::U64,
        TheirDType::U32 => DType::U32,
        TheirDType::U16 => DType::U16,
        TheirDType::U8 => DType::U8,
        TheirDType::Bool => DType::Bool,
    }
}
