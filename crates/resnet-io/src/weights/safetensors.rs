//! safetensors: reading from a memory map, writing atomically with the same bytes every time.
//!
//! The library's own writer keeps the metadata in a hash map, so its files differ from run to run,
//! and does not sync; ours writes the same format with sorted metadata through [`atomic::write`].
//! Format: <https://huggingface.co/docs/safetensors/index#format>.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::Serialize;
use serde::ser::SerializeMap;

use super::atomic;
use super::error::WeightsError;
use super::map::FileBytes;
use super::tensor_file::{DType, Format, Skipped, Tensor, TensorFile};

/// Bytes of the header's length.
const LENGTH_BYTES: usize = 8;
/// The longest header the format's own library reads.
const MAX_HEADER_BYTES: u64 = 100_000_000;

/// Reads a mapped safetensors file; the tensors share the map.
pub(super) fn read(path: &Path, file: FileBytes) -> Result<TensorFile, WeightsError> {
    let bytes = file.bytes();
    let wrong_length = |expected: usize| WeightsError::Length {
        path: path.into(),
        expected: expected as u64,
        found: bytes.len() as u64,
    };
    let length = bytes.first_chunk().ok_or_else(|| wrong_length(LENGTH_BYTES))?;
    let header_bytes = u64::from_le_bytes(*length);
    if header_bytes > MAX_HEADER_BYTES {
        let (path, limit) = (path.into(), MAX_HEADER_BYTES);
        return Err(WeightsError::LongHeader { path, bytes: header_bytes, limit });
    }
    let data_start = LENGTH_BYTES + header_bytes as usize;
    let header = bytes.get(LENGTH_BYTES..data_start).ok_or_else(|| wrong_length(data_start))?;
    // Parsing checks what each tensor claims: shape times type is its range, and the ranges join
    // up.
    let header: Metadata = serde_json::from_slice(header)
        .map_err(|source| WeightsError::SafetensorsHeader { path: path.into(), source })?;
    let expected = data_start.saturating_add(header.data_len());
    if expected != bytes.len() {
        return Err(wrong_length(expected));
    }

    let file = Arc::new(file);
    let mut tensors = Vec::new();
    let mut skipped = Vec::new();
    for name in header.offset_keys() {
        let info = header.info(&name).expect("the key comes from the same header");
        let (start, end) = info.data_offsets;
        match our_dtype(info.dtype) {
            Some(dtype) => {
                let range = data_start + start..data_start + end;
                tensors.push(Tensor::mapped(name, dtype, info.shape.clone(), &file, range));
            }
            None => skipped.push(Skipped { name, kind: format!("tensor of type {}", info.dtype) }),
        }
    }
    skipped.sort_by(|a, b| a.name.cmp(&b.name));
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok(TensorFile { path: path.into(), format: Format::Safetensors, metadata, tensors, skipped })
}

/// A tensor to write.
#[derive(Clone, Copy)]
pub struct TensorRef<'a> {
    /// Dotted name.
    pub name: &'a str,
    /// Type of the elements.
    pub dtype: DType,
    /// Extents, outermost first.
    pub shape: &'a [usize],
    elements: Elements<'a>,
}

/// A tensor's elements in row-major order.
#[derive(Clone, Copy)]
enum Elements<'a> {
    /// Little-endian bytes in memory.
    Here(&'a [u8]),
    /// Values that are made to be written.
    Made(&'a dyn Fn() -> Vec<f32>),
}

impl<'a> TensorRef<'a> {
    /// A tensor of little-endian bytes.
    pub fn new(name: &'a str, dtype: DType, shape: &'a [usize], bytes: &'a [u8]) -> TensorRef<'a> {
        TensorRef { name, dtype, shape, elements: Elements::Here(bytes) }
    }

    /// A tensor of f32 values.
    ///
    /// # Panics
    /// When there are not as many values as the shape says.
    pub fn f32(name: &'a str, shape: &'a [usize], values: &'a [f32]) -> TensorRef<'a> {
        const { assert!(cfg!(target_endian = "little"), "the format is little-endian") };
        assert_eq!(values.len(), shape.iter().product::<usize>(), "{name}");
        TensorRef::new(name, DType::F32, shape, bytemuck::cast_slice(values))
    }

    /// A tensor of f32 values that are made when they are needed, which is more than once: all of a
    /// large network need not be in memory beside what they are made of.
    pub fn made(
        name: &'a str,
        shape: &'a [usize],
        make: &'a dyn Fn() -> Vec<f32>,
    ) -> TensorRef<'a> {
        TensorRef { name, dtype: DType::F32, shape, elements: Elements::Made(make) }
    }

    /// A tensor of signed bytes in memory.
    pub fn i8(name: &'a str, shape: &'a [usize], values: &'a [i8]) -> TensorRef<'a> {
        TensorRef::new(name, DType::I8, shape, bytemuck::cast_slice(values))
    }

    fn byte_len(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.size()
    }

    /// Shows the elements' bytes to `read`.
    ///
    /// # Panics
    /// When there are not as many elements as the shape says.
    pub(super) fn with_bytes<T>(&self, read: impl FnOnce(&[u8]) -> T) -> T {
        let made;
        let bytes = match self.elements {
            Elements::Here(bytes) => bytes,
            Elements::Made(make) => {
                made = make();
                bytemuck::cast_slice(&made)
            }
        };
        assert_eq!(bytes.len(), self.byte_len(), "{}", self.name);
        read(bytes)
    }
}

impl<'a> From<&'a Tensor> for TensorRef<'a> {
    fn from(t: &'a Tensor) -> TensorRef<'a> {
        TensorRef::new(&t.name, t.dtype(), t.shape(), t.bytes())
    }
}

/// Writes a safetensors file that PyTorch's and anyone's library reads; equal input gives equal
/// bytes.
///
/// Tensors keep their order but for larger element types coming first, which keeps each aligned.
/// The old file stays whole until the new one is safely on disk (see [`atomic::write`]).
///
/// # Errors
/// [`WeightsError::Write`] when the system refuses (full disk, no permission); two tensors of one
/// name.
pub fn write_safetensors(
    path: &Path,
    metadata: &BTreeMap<String, String>,
    tensors: &[TensorRef<'_>],
) -> Result<(), WeightsError> {
    let tensors = file_order(tensors);
    check_names(path, &tensors)?;
    let header = header_bytes(metadata, &tensors);
    atomic::write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(&header)?;
        tensors.iter().try_for_each(|tensor| tensor.with_bytes(|bytes| file.write_all(bytes)))
    })
    .map_err(|source| WeightsError::Write { path: path.into(), source })
}

/// The order in which tensors stand in the file.
pub(super) fn file_order<'a>(tensors: &[TensorRef<'a>]) -> Vec<TensorRef<'a>> {
    let mut tensors = tensors.to_vec();
    tensors.sort_by_key(|tensor| std::cmp::Reverse(tensor.dtype.size()));
    tensors
}

fn check_names(path: &Path, tensors: &[TensorRef<'_>]) -> Result<(), WeightsError> {
    let mut names: Vec<&str> = tensors.iter().map(|tensor| tensor.name).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(WeightsError::SameName {
            path: path.into(),
            name: pair[0].into(),
            first: pair[0].into(),
            second: pair[1].into(),
        }),
    }
}

/// The JSON header, padded by spaces so that the tensors begin at a multiple of eight.
fn header_bytes(metadata: &BTreeMap<String, String>, tensors: &[TensorRef<'_>]) -> Vec<u8> {
    let header = Header { metadata, tensors };
    let mut bytes = serde_json::to_vec(&header).expect("strings and numbers always serialise");
    bytes.resize(bytes.len().next_multiple_of(LENGTH_BYTES), b' ');
    bytes
}

/// The header in a fixed order, which the library's hash maps would not keep.
struct Header<'a> {
    metadata: &'a BTreeMap<String, String>,
    tensors: &'a [TensorRef<'a>],
}

impl Serialize for Header<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        if !self.metadata.is_empty() {
            map.serialize_entry("__metadata__", self.metadata)?;
        }
        let mut start = 0;
        for tensor in self.tensors {
            let end = start + tensor.byte_len();
            let info = TensorInfo {
                dtype: their_dtype(tensor.dtype),
                shape: tensor.shape.to_vec(),
                data_offsets: (start, end),
            };
            map.serialize_entry(tensor.name, &info)?;
            start = end;
        }
        map.end()
    }
}

/// None for types that no weights we know of come in (complex, and those under a byte or of 8-bit
/// floats).
fn our_dtype(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F64 => DType::F64,
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I64 => DType::I64,
        Dtype::I32 => DType::I32,
        Dtype::I16 => DType::I16,
        Dtype::I8 => DType::I8,
        Dtype::U64 => DType::U64,
        Dtype::U32 => DType::U32,
        Dtype::U16 => DType::U16,
        Dtype::U8 => DType::U8,
        Dtype::BOOL => DType::Bool,
        _ => return None,
    })
}

fn their_dtype(dtype: DType) -> Dtype {
    match dtype {
        DType::F64 => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I64 => Dtype::I64,
        DType::I32 => Dtype::I32,
        DType::I16 => Dtype::I16,
        DType::I8 => Dtype::I8,
        DType::U64 => Dtype::U64,
        DType::U32 => Dtype::U32,
        DType::U16 => Dtype::U16,
        DType::U8 => Dtype::U8,
        DType::Bool => Dtype::BOOL,
    }
}
