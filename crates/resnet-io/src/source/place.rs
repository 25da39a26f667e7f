//! What files a place has: below a folder, or in tar archives.
//!
//! Hidden files (a name that begins with a dot, and macOS's `__MACOSX`) are not listed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use flate2::read::GzDecoder;
use rayon::prelude::*;

use crate::error::DataError;

/// The most bytes that a compressed archive may unpack to.
const MAX_UNPACKED: u64 = 8 << 30;

/// A file of a place.
#[derive(Debug)]
pub(super) struct Entry {
    /// Within the place, `/` between folders: `train/cat/1.jpg`.
    pub(super) path: Box<str>,
    /// Which of the archives it is in; 0 in a folder.
    pub(super) archive: u32,
    /// Where it begins in the archive; 0 in a folder.
    pub(super) offset: u64,
    /// Its bytes in the archive; 0 in a folder.
    pub(super) len: u64,
}

/// Where the bytes are.
pub(super) enum Store {
    /// Files below a folder.
    Folder(PathBuf),
    /// Files within tar archives.
    Archives(Vec<Archive>),
}

/// A tar archive that is read by offset.
pub(super) struct Archive {
    pub(super) path: PathBuf,
    content: Content,
}

impl Archive {
    /// What was in the archive at `path`, copied to a file of ours.
    pub(super) fn copied(path: PathBuf, copy: File) -> Archive {
        Archive { path, content: Content::File(copy) }
    }
}

enum Content {
    File(File),
    Unpacked(Vec<u8>),
}

impl Store {
    /// What to call a file of it in a message.
    pub(super) fn name(&self, archive: u32, path: &str) -> String {
        match self {
            Store::Folder(folder) => folder.join(path).display().to_string(),
            Store::Archives(archives) => {
                format!("{}:{path}", archives[archive as usize].path.display())
            }
        }
    }

    /// Reads a file of it.
    pub(super) fn read(&self, entry: &Entry) -> Result<Vec<u8>, DataError> {
        match self {
            Store::Folder(folder) => {
                let path = folder.join(&*entry.path);
                fs::read(&path).map_err(|source| DataError::Io { path, source })
            }
            Store::Archives(archives) => {
                let archive = &archives[entry.archive as usize];
                // The index has checked that the entry lies within the archive.
                let mut bytes = vec![0; entry.len as usize];
                let read = match &archive.content {
                    Content::File(file) => read_exact_at(file, &mut bytes, entry.offset),
                    Content::Unpacked(all) => {
                        let begin = entry.offset as usize;
                        bytes.copy_from_slice(&all[begin..begin + entry.len as usize]);
                        Ok(())
                    }
                };
                let path = archive.path.clone();
                read.map_err(|source| DataError::Io { path, source }).map(|()| bytes)
            }
        }
    }
}

/// Reads from a place of a file that other threads read too.
#[cfg(unix)]
fn read_exact_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, offset)
}

/// Reads from a place of a file that other threads read too: through a handle with a position of its own.
#[cfg(windows)]
fn read_exact_at(file: &File, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let read = std::os::windows::fs::FileExt::seek_read(file, bytes, offset)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes = &mut bytes[read..];
        offset += read as u64;
    }
    Ok(())
}

/// Lists the files below a folder, in no order; folders are read by several threads.
pub(super) fn list_folder(folder: &Path) -> Result<Vec<Entry>, DataError> {
    walk(folder, "")
}

fn walk(folder: &Path, prefix: &str) -> Result<Vec<Entry>, DataError> {
    let fail = |source| DataError::Io { path: folder.into(), source };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(folder).map_err(fail)? {
        let entry = entry.map_err(fail)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_hidden(&name) {
            continue;
        }
        let mut kind = entry.file_type().map_err(fail)?;
        if kind.is_symlink() {
            let path = entry.path();
            kind = fs::metadata(&path)
                .map_err(|source| DataError::Io { path: path.clone(), source })?
                .file_type();
            if kind.is_dir() && leads_back(&path, folder).map_err(fail)? {
                let source = io::Error::other("a loop of links");
                return Err(DataError::Io { path, source });
            }
        }
        let path = format!("{prefix}{name}");
        if kind.is_dir() {
            folders.push((entry.path(), path + "/"));
        } else if kind.is_file() {
            files.push(Entry { path: path.into(), archive: 0, offset: 0, len: 0 });
        }
    }
    let deeper = folders.par_iter().map(|(path, prefix)| walk(path, prefix));
    for found in deeper.collect::<Result<Vec<_>, _>>()? {
        files.extend(found);
    }
    Ok(files)
}

/// Whether a link leads to a folder above it.
fn leads_back(link: &Path, folder: &Path) -> io::Result<bool> {
    Ok(fs::canonicalize(folder)?.starts_with(fs::canonicalize(link)?))
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

/// Opens tar archives, compressed by gzip or not, and lists their files, in their order.
pub(super) fn list_archives(paths: &[PathBuf]) -> Result<(Store, Vec<Entry>), DataError> {
    let opened = paths.par_iter().enumerate().map(|(number, path)| {
        let number = u32::try_from(number).expect("fewer than 2^32 archives");
        open_archive(path, number)
    });
    let (mut archives, mut entries) = (Vec::new(), Vec::new());
    for (archive, found) in opened.collect::<Result<Vec<_>, _>>()? {
        archives.push(archive);
        entries.extend(found);
    }
    Ok((Store::Archives(archives), entries))
}

fn open_archive(path: &Path, number: u32) -> Result<(Archive, Vec<Entry>), DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(fail)?;
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start).map_err(fail)?;
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    if start != GZIP_START {
        let size = file.metadata().map_err(fail)?.len();
        let reader = BufReader::with_capacity(1 << 13, &file);
        let mut archive = tar::Archive::new(reader);
        let entries = index(path, number, size, archive.entries_with_seek().map_err(fail)?)?;
        return Ok((Archive { path: path.into(), content: Content::File(file) }, entries));
    }
    let mut bytes = Vec::new();
    GzDecoder::new(file).take(MAX_UNPACKED + 1).read_to_end(&mut bytes).map_err(fail)?;
    if MAX_UNPACKED < bytes.len() as u64 {
        let found = format!("an archive of more than {} GiB; unpack it", MAX_UNPACKED >> 30);
        return Err(DataError::NotASet { place: path.display().to_string(), found });
    }
    let mut archive = tar::Archive::new(&bytes[..]);
    let entries = index(path, number, bytes.len() as u64, archive.entries().map_err(fail)?)?;
    Ok((Archive { path: path.into(), content: Content::Unpacked(bytes) }, entries))
}

/// How a file compressed by gzip begins.
pub(super) const GZIP_START: [u8; 2] = [0x1f, 0x8b];

/// The files of an archive of `size` bytes.
fn index<R: Read>(
    path: &Path,
    archive: u32,
    size: u64,
    entries: tar::Entries<'_, R>,
) -> Result<Vec<Entry>, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(fail)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let inside = entry.path().map_err(fail)?.to_string_lossy().replace('\\', "/");
        let inside = inside.trim_start_matches("./");
        let (offset, len) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(len).is_none_or(|end| size < end) {
            let source = io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the archive is cut short within {inside}"),
            );
            return Err(fail(source));
        }
        if !inside.split('/').any(is_hidden) {
            found.push(Entry { path: inside.into(), archive, offset, len });
        }
    }
    Ok(found)
}
