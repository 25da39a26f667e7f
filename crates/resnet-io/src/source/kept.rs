//! What is kept from one start to the next: the files of archives far away, and what was unpacked.
//!
//! The folder is `RESNET_CACHE`, else `resnet` in the user's folder for such files (`XDG_CACHE_HOME`, `~/.cache`,
//! `LOCALAPPDATA`). Nothing in it is needed: what is missing, damaged or of another time is made again. A file
//! gets its name when it is whole.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;
use tempfile::NamedTempFile;

use crate::error::{DataError, io_at};

/// The folder for what is kept; none if the system names none.
pub(super) fn standard_folder() -> Option<PathBuf> {
    let of = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(folder) = of("RESNET_CACHE") {
        return Some(folder.into());
    }
    let above = of("XDG_CACHE_HOME").map(PathBuf::from);
    let above = above.or_else(|| Some(PathBuf::from(of("HOME")?).join(".cache")));
    let above = above.or_else(|| of("LOCALAPPDATA").map(PathBuf::from));
    above.map(|folder| folder.join("resnet"))
}

/// A name for what is kept of `what`: another one for any other text.
pub(super) fn name_of(what: &str) -> String {
    format!("{:032x}", xxhash_rust::xxh3::xxh3_128(what.as_bytes()))
}

/// Writes a file under another name and gives it its own, so that it is never there in part.
///
/// # Errors
/// When it cannot be written; what `fill` says, if that fails.
pub(super) fn write(
    path: &Path,
    fill: impl FnOnce(&mut NamedTempFile) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    fs::create_dir_all(folder).map_err(io_at(folder))?;
    let mut file = NamedTempFile::new_in(folder).map_err(io_at(folder))?;
    fill(&mut file)?;
    file.persist(path)
        .map_err(|error: tempfile::PersistError| io::Error::from(error))
        .map_err(io_at(path))?;
    Ok(())
}

/// The most bytes that a compressed archive may unpack to: a bomb must not fill every disk.
const MAX_UNPACKED: u64 = 1 << 40;

/// A file of packed pictures as it is now.
#[derive(Debug)]
pub(super) struct Packed {
    /// What it is called, on this machine or any.
    pub(super) address: String,
    /// What tells this state of it from another; without it, what is unpacked is not kept.
    pub(super) version: Option<String>,
}

/// A file that was unpacked.
#[derive(Debug)]
pub(super) struct Unpacked {
    pub(super) file: File,
    /// Where it is kept, if it was unpacked now.
    pub(super) made: Option<PathBuf>,
}

/// What is in an archive compressed by gzip: unpacked before, or now, from what `open` reads.
///
/// # Errors
/// When the archive cannot be read or is damaged, or the disk is full.
pub(super) fn unpacked<R: Read>(
    packed: &Packed,
    cache: Option<&Path>,
    open: impl Fn() -> Result<R, DataError>,
    fail: impl Fn(io::Error) -> DataError,
) -> Result<Unpacked, DataError> {
    keep(
        packed,
        ".tar",
        cache,
        |_| true,
        |to| {
            let mut reader = MultiGzDecoder::new(open()?).take(MAX_UNPACKED + 1);
            let bytes = io::copy(&mut reader, to).map_err(&fail)?;
            if MAX_UNPACKED < bytes {
                let found = format!("an archive of more than {} GiB", MAX_UNPACKED >> 30);
                return Err(DataError::NotASet { place: packed.address.clone(), found });
            }
            Ok(())
        },
    )
}

/// What `unpack` writes: written before, as far as it `is_whole`, or now.
///
/// It is kept in `cache` with this ending, in place of that of an earlier state; without such a folder, or if it
/// cannot be written, in a file without a name that ends with the program.
///
/// # Errors
/// What `unpack` says, or when the disk is full.
pub(super) fn keep(
    packed: &Packed,
    ending: &str,
    cache: Option<&Path>,
    mut is_whole: impl FnMut(&mut File) -> bool,
    unpack: impl FnOnce(&mut File) -> Result<(), DataError>,
) -> Result<Unpacked, DataError> {
    let cache = cache.filter(|cache| is_writable(cache));
    if let Some((cache, version)) = cache.zip(packed.version.as_ref()) {
        let stem = name_of(&packed.address);
        let path = cache.join(format!("{stem}-{}{ending}", name_of(version)));
        if let Ok(mut file) = File::open(&path)
            && is_whole(&mut file)
        {
            return Ok(Unpacked { file, made: None });
        }
        remove_earlier(cache, &stem, ending);
        write(&path, |file| unpack(file.as_file_mut()))?;
        let file = File::open(&path).map_err(io_at(&path))?;
        return Ok(Unpacked { file, made: Some(path) });
    }
    let fail = |source| DataError::Io { path: packed.address.clone().into(), source };
    let mut file = tempfile::tempfile().map_err(fail)?;
    unpack(&mut file)?;
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    Ok(Unpacked { file, made: None })
}

/// Whether files can be made in a folder, which may have to be made itself.
fn is_writable(folder: &Path) -> bool {
    fs::create_dir_all(folder).is_ok() && NamedTempFile::new_in(folder).is_ok()
}

/// Removes what was unpacked of a file that has changed since.
fn remove_earlier(cache: &Path, stem: &str, ending: &str) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with(stem) && name.ends_with(ending) {
            // It only takes room.
            let _ = fs::remove_file(entry.path());
        }
    }
}
