//! The one form that weights of any file take in memory: named, shaped, typed bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use resnet_core::executor::Values;

use super::map::FileBytes;

/// What kind of file the tensors came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Hugging Face's safetensors; our own model file is one.
    Safetensors,
    /// `torch.save` since PyTorch 1.6: a zip archive with a pickle inside.
    TorchZip,
    /// `torch.save` before 1.6: several pickles and the storages one after another.
    TorchLegacy,
    /// `torch.save` before 0.1.10: a tar archive.
    TorchTar,
    /// A bare pickle, which cannot hold PyTorch tensors.
    Pickle,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Safetensors => "safetensors",
            Format::TorchZip => "PyTorch (zip)",
            Format::TorchLegacy => "PyTorch (legacy pickle)",
            Format::TorchTar => "PyTorch (tar)",
            Format::Pickle => "pickle",
        })
    }
}

/// The type of a tensor's elements. Bytes are little-endian throughout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the documentation")]
pub enum DType {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    /// One byte, 0 or 1.
    Bool,
}

impl DType {
    /// Bytes an element takes.
    pub const fn size(self) -> usize {
        match self {
            DType::F64 | DType::I64 | DType::U64 => 8,
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::F16 | DType::BF16 | DType::I16 | DType::U16 => 2,
            DType::I8 | DType::U8 | DType::Bool => 1,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F64 => "f64",
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::BF16 => "bf16",
            DType::I64 => "i64",
            DType::I32 => "i32",
            DType::I16 => "i16",
            DType::I8 => "i8",
            DType::U64 => "u64",
            DType::U32 => "u32",
            DType::U16 => "u16",
            DType::U8 => "u8",
            DType::Bool => "bool",
        })
    }
}

/// A tensor's bytes: its own, or a part of a mapped file that it keeps alive.
#[derive(Clone)]
enum Storage {
    Owned(Arc<Vec<u8>>),
    Mapped(Arc<FileBytes>, Range<usize>),
}

/// A named tensor, contiguous in row-major order.
#[derive(Clone)]
pub struct Tensor {
    /// Dotted name, such as `layer1.0.conv1.weight`.
    pub name: String,
    dtype: DType,
    shape: Vec<usize>,
    storage: Storage,
}

impl Tensor {
    /// A tensor that owns its bytes.
    ///
    /// # Panics
    /// When `bytes` is not what `dtype` and `shape` ask for: readers check before.
    pub fn new(name: String, dtype: DType, shape: Vec<usize>, bytes: Vec<u8>) -> Tensor {
        assert_eq!(bytes.len(), shape.iter().product::<usize>() * dtype.size(), "{name}");
        Tensor { name, dtype, shape, storage: Storage::Owned(Arc::new(bytes)) }
    }

    /// A tensor that is `range` of a file's bytes.
    pub(super) fn mapped(
        name: String,
        dtype: DType,
        shape: Vec<usize>,
        file: &Arc<FileBytes>,
        range: Range<usize>,
    ) -> Tensor {
        assert_eq!(range.len(), shape.iter().product::<usize>() * dtype.size(), "{name}");
        assert!(range.end <= file.bytes().len(), "{name}");
        Tensor { name, dtype, shape, storage: Storage::Mapped(Arc::clone(file), range) }
    }

    /// Type of the elements.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents, outermost first; empty for a scalar.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The elements as they are in the file: row-major, little-endian.
    pub fn bytes(&self) -> &[u8] {
        match &self.storage {
            Storage::Owned(bytes) => bytes,
            Storage::Mapped(file, range) => &file.bytes()[range.clone()],
        }
    }

    /// The elements as [`to_f32`](Tensor::to_f32) has them, shared with the file where they already
    /// are that.
    pub fn to_values(&self) -> Values {
        match self.to_f32() {
            Cow::Borrowed(_) => Values::new(Floats(self.clone())),
            Cow::Owned(values) => values.into(),
        }
    }

    /// The elements as f32, borrowed from the file where they already are that.
    ///
    /// f64 and integers are rounded to nearest, f16 and bf16 are exact, bool is 0 or 1.
    pub fn to_f32(&self) -> Cow<'_, [f32]> {
        let bytes = self.bytes();
        if self.dtype == DType::F32
            && cfg!(target_endian = "little")
            && let Ok(values) = bytemuck::try_cast_slice(bytes)
        {
            return Cow::Borrowed(values);
        }
        Cow::Owned(match self.dtype {
            DType::F64 => convert(bytes, |b| f64::from_le_bytes(b) as f32),
            DType::F32 => convert(bytes, f32::from_le_bytes),
            DType::F16 => convert(bytes, |b| half::f16::from_le_bytes(b).to_f32()),
            DType::BF16 => convert(bytes, |b| half::bf16::from_le_bytes(b).to_f32()),
            DType::I64 => convert(bytes, |b| i64::from_le_bytes(b) as f32),
            DType::I32 => convert(bytes, |b| i32::from_le_bytes(b) as f32),
            DType::I16 => convert(bytes, |b| f32::from(i16::from_le_bytes(b))),
            DType::I8 => convert(bytes, |b| f32::from(i8::from_le_bytes(b))),
            DType::U64 => convert(bytes, |b| u64::from_le_bytes(b) as f32),
            DType::U32 => convert(bytes, |b| u32::from_le_bytes(b) as f32),
            DType::U16 => convert(bytes, |b| f32::from(u16::from_le_bytes(b))),
            DType::U8 | DType::Bool => convert(bytes, |b| f32::from(u8::from_le_bytes(b))),
        })
    }
}

/// A tensor whose bytes are f32 as they are.
struct Floats(Tensor);

impl AsRef<[f32]> for Floats {
    fn as_ref(&self) -> &[f32] {
        bytemuck::cast_slice(self.0.bytes())
    }
}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?}", self.name, self.dtype, self.shape)
    }
}

fn convert<const N: usize>(bytes: &[u8], element: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|&b| element(b)).collect()
}

/// An entry of the file that is not taken: its place and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Dotted place in the file, such as `best_prec1` or `optimizer.state.0.step`.
    pub name: String,
    /// What it is, in a word or two: `number`, `text`, or a Python type's name.
    pub kind: String,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// All tensors of one file.
#[derive(Debug, Clone)]
pub struct TensorFile {
    /// Where it was read from.
    pub path: PathBuf,
    /// What kind of file it is.
    pub format: Format,
    /// safetensors' string map `__metadata__`; empty for other formats.
    pub metadata: BTreeMap<String, String>,
    /// The tensors; in file order for safetensors, else by name.
    pub tensors: Vec<Tensor>,
    /// What the file holds besides, by name.
    pub skipped: Vec<Skipped>,
}

/// How many entries [`TensorFile::passed_over`] names.
const NAMED: usize = 6;

impl TensorFile {
    /// One line on what the file holds besides its tensors, such as
    /// `epoch (number), optimizer (163 entries)`; none if there is nothing.
    pub fn passed_over(&self) -> Option<String> {
        let top = |skipped: &Skipped| match skipped.name.split_once('.') {
            Some((top, _)) => top.to_string(),
            None => skipped.name.clone(),
        };
        let groups: Vec<&[Skipped]> = self.skipped.chunk_by(|a, b| top(a) == top(b)).collect();
        let text = |group: &&[Skipped]| match group {
            [one] => one.to_string(),
            many => format!("{} ({} entries)", top(&many[0]), many.len()),
        };
        let named: Vec<String> = groups.iter().take(NAMED).map(text).collect();
        let more = match groups.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        (!named.is_empty()).then(|| named.join(", ") + &more)
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }
}
