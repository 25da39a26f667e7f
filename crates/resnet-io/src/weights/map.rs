//! A file's bytes in memory, mapped where the system can.
//!
//! The only unsafe code of the weights: mapping itself. What the map cannot protect from: a file
//! that another program *shortens in place* while it is mapped ends the process with SIGBUS when
//! the lost pages are touched, and one that is overwritten in place changes under the reader (an
//! executor reads such weights once, before its first run, and keeps what it made of them). Our
//! own writer never does either (it writes a new file and renames it over the old one, whose map
//! stays whole); copy a file first if someone else might.
#![expect(unsafe_code, reason = "mapping a file is unsafe: see the module's doc")]

use std::fs::File;
use std::path::Path;

use super::error::WeightsError;

/// The bytes of a whole file.
pub(super) enum FileBytes {
    Mapped(memmap2::Mmap),
    Read(Vec<u8>),
}

impl FileBytes {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            FileBytes::Mapped(map) => map,
            FileBytes::Read(bytes) => bytes,
        }
    }
}

/// Maps a file, or reads it where the file system has no maps or the file is empty.
pub(super) fn map_file(path: &Path) -> Result<FileBytes, WeightsError> {
    let io = |source| WeightsError::Read { path: path.into(), source };
    let file = File::open(path).map_err(io)?;
    let meta = file.metadata().map_err(io)?;
    if !meta.is_file() {
        return Err(WeightsError::NotAFile { path: path.into() });
    }
    // SAFETY: the map is private and read-only, and is only handed out as `&[u8]` borrowed from its
    // owner, so no reference outlives it. That nobody changes the file meanwhile cannot be proven
    // from here; the module's doc says what happens then. No value's validity depends on the bytes:
    // they are only read as numbers.
    let map = unsafe { memmap2::MmapOptions::new().map(&file) };
    match map {
        // The length is the system's own at the time of mapping; a file that shrank since is caught
        // here.
        Ok(map) if map.len() as u64 == file.metadata().map_err(io)?.len() => {
            Ok(FileBytes::Mapped(map))
        }
        _ => std::fs::read(path).map(FileBytes::Read).map_err(io),
    }
}
