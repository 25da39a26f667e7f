//! What can be wrong with a file of weights, and what a file that is none looks like.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::matching::Mismatch;
use super::tensor_file::{Format, Skipped};

/// Why weights could not be read, matched or written. Every variant names the file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The operating system would not let us read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder, socket or the like.
    #[error("{}: not a file", path.display())]
    NotAFile {
        /// What was given.
        path: PathBuf,
    },
    /// Neither safetensors nor anything that `torch.save` writes.
    #[error("{}: neither safetensors nor a PyTorch file: {found}", path.display())]
    UnknownFormat {
        /// The file.
        path: PathBuf,
        /// What it looks like instead.
        found: Lookalike,
    },
    /// Shorter or longer than its own header says.
    #[error("{}: the header describes {expected} bytes, the file has {found}", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes according to the header.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A safetensors header that breaks the format's rules.
    #[error("{}: damaged safetensors header: {source}", path.display())]
    SafetensorsHeader {
        /// The file.
        path: PathBuf,
        /// Which rule.
        source: serde_json::Error,
    },
    /// A safetensors header longer than any honest one.
    #[error("{}: a safetensors header of {bytes} bytes: refused above {limit}", path.display())]
    LongHeader {
        /// The file.
        path: PathBuf,
        /// Bytes that it claims.
        bytes: u64,
        /// Bytes that we would still read.
        limit: u64,
    },
    /// A PyTorch file that is hostile or holds something we cannot represent.
    #[error("{}: not readable as {format}: {source}", path.display())]
    Pth {
        /// The file.
        path: PathBuf,
        /// What its first bytes promise.
        format: Format,
        /// What went wrong.
        source: pytorch_reader::PytorchError,
    },
    /// A PyTorch file that ends before it should, or whose archive is broken.
    #[error("{}: the {format} file is cut short or damaged: {source}", path.display())]
    PthDamaged {
        /// The file.
        path: PathBuf,
        /// What its first bytes promise.
        format: Format,
        /// What went wrong.
        source: pytorch_reader::PytorchError,
    },
    /// A PyTorch file whose pickle is fine, but one tensor's bytes are not.
    #[error("{}: {source}", path.display())]
    TensorBytes {
        /// The file.
        path: PathBuf,
        /// Names the tensor and its storage.
        source: io::Error,
    },
    /// Tensors that would take far more memory than the file has bytes (views that repeat a
    /// storage).
    #[error(
        "{}: tensors of {declared} bytes in a file of {file_bytes}: refused above {limit}", path.display()
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes that all tensors would take.
        declared: u128,
        /// Bytes of the file.
        file_bytes: u64,
        /// Bytes that we would still take.
        limit: u64,
    },
    /// Nothing in it is a tensor.
    #[error("{}: holds no tensors{}", path.display(), Found(skipped))]
    NoTensors {
        /// The file.
        path: PathBuf,
        /// What it holds.
        skipped: Vec<Skipped>,
    },
    /// Two tensors have one name once wrappers and other spellings are resolved.
    #[error("{}: \"{first}\" and \"{second}\" are both our \"{name}\"", path.display())]
    SameName {
        /// The file.
        path: PathBuf,
        /// Our name.
        name: String,
        /// One of theirs.
        first: String,
        /// The other.
        second: String,
    },
    /// The tensors are not those of the network.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
    /// An entry of our model file's metadata is missing.
    #[error("{}: no \"{key}\" in its metadata: not a model file of this program", path.display())]
    NoMeta {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: &'static str,
    },
    /// An entry of our model file's metadata is not what it should be.
    #[error("{}: metadata \"{key}\": {source}", path.display())]
    Meta {
        /// The file.
        path: PathBuf,
        /// The metadata key.
        key: String,
        /// What the parser said.
        source: serde_json::Error,
    },
    /// The tensor bytes are not those that were written.
    #[error("{}: checksum {found}, expected {expected}: the file is damaged", path.display())]
    Checksum {
        /// The file.
        path: PathBuf,
        /// SHA-256 noted when it was written.
        expected: String,
        /// SHA-256 of what is there.
        found: String,
    },
    /// A file could not be written; what was there before is untouched.
    #[error("{}: not written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// ", only a (number), b (text) and 3 more", or nothing.
struct Found<'a>(&'a [Skipped]);

impl fmt::Display for Found<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, more) = self.0.split_at(self.0.len().min(3));
        for (i, skipped) in first.iter().enumerate() {
            write!(f, "{}{skipped}", if i == 0 { ", only " } else { ", " })?;
        }
        if !more.is_empty() {
            write!(f, " and {} more", more.len())?;
        }
        Ok(())
    }
}

/// What a file that holds no weights looks like, so that the message can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookalike {
    /// No bytes.
    Empty,
    /// A pointer that git-lfs left in place of the file.
    GitLfsPointer,
    /// A web page, mostly a failed download.
    Html,
    /// Keras and others.
    Hdf5,
    /// A compressed file.
    Gzip,
    /// Anything else.
    Unknown,
}

impl fmt::Display for Lookalike {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Lookalike::Empty => "it is empty",
            Lookalike::GitLfsPointer => "it is a git-lfs pointer, the weights were not downloaded",
            Lookalike::Html => "it is a web page, perhaps a failed download",
            Lookalike::Hdf5 => "it is HDF5 (Keras), export it to safetensors first",
            Lookalike::Gzip => "it is gzip-compressed, unpack it first",
            Lookalike::Unknown => "its first bytes are of no known kind",
        })
    }
}

/// The magic number 0x1950a86a20f9469cfc6c that opens a legacy PyTorch file, as pickle writes it.
const TORCH_LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same number as text, in pickle protocols 0 and 1.
const TORCH_LEGACY_MAGIC_TEXT: &[u8] = b"119547037146038801333356";
/// Where a tar header says `ustar`.
const TAR_MAGIC: std::ops::Range<usize> = 257..262;
/// Bytes within which the legacy magic stands, whatever the pickle protocol.
const LEGACY_WINDOW: usize = 64;

/// Tells a file's kind from its first bytes.
pub(super) fn sniff(bytes: &[u8]) -> Result<Format, Lookalike> {
    let holds = |magic: &[u8]| {
        bytes[..bytes.len().min(LEGACY_WINDOW)].windows(magic.len()).any(|w| w == magic)
    };
    if bytes.is_empty() {
        Err(Lookalike::Empty)
    } else if bytes.starts_with(b"PK\x03\x04") || bytes.starts_with(b"PK\x05\x06") {
        Ok(Format::TorchZip)
    } else if bytes.get(TAR_MAGIC) == Some(b"ustar") {
        Ok(Format::TorchTar)
    } else if starts_like_safetensors(bytes) {
        Ok(Format::Safetensors)
    } else if holds(&TORCH_LEGACY_MAGIC) || holds(TORCH_LEGACY_MAGIC_TEXT) {
        Ok(Format::TorchLegacy)
    } else if bytes.starts_with(b"version https://git-lfs") {
        Err(Lookalike::GitLfsPointer)
    } else if bytes.starts_with(b"\x89HDF\r\n\x1a\n") {
        Err(Lookalike::Hdf5)
    } else if bytes.starts_with(b"\x1f\x8b") {
        Err(Lookalike::Gzip)
    } else if looks_like_html(bytes) {
        Err(Lookalike::Html)
    } else if matches!(bytes[0], 0x80 | b'(' | b'}' | b']' | b'c') {
        Ok(Format::Pickle)
    } else {
        Err(Lookalike::Unknown)
    }
}

/// The length of a JSON header (`u64`, little-endian), then the header's first character.
fn starts_like_safetensors(bytes: &[u8]) -> bool {
    // Longer lengths are left to the other formats; the reader has a far lower limit.
    bytes.get(8) == Some(&b'{') && bytes[6] == 0 && bytes[7] == 0
}

fn looks_like_html(bytes: &[u8]) -> bool {
    let start = bytes.trim_ascii_start();
    let opens = |tag: &[u8]| start.get(..tag.len()).is_some_and(|s| s.eq_ignore_ascii_case(tag));
    opens(b"<!doctype html") || opens(b"<html")
}
