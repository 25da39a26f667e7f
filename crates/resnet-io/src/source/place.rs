//! What files a place has: below a folder, or in tar archives.
//!
//! Hidden files (a name that begins with a dot, and macOS's `__MACOSX`) are not listed.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::Asked;
use super::kept::{self, Packed, Unpacked};
use super::keyed;
use super::labels::Named;
#[cfg(feature = "remote")]
use super::remote::Objects;
use crate::error::DataError;

/// A file of a place.
#[derive(Debug)]
pub(super) struct Entry {
    /// Within the place, `/` between folders: `train/cat/1.jpg`.
    pub(super) path: Box<str>,
    /// Which of the archives it is in; 0 in a folder.
    pub(super) archive: u32,
    /// Where it begins in the archive; 0 in a folder.
    pub(super) offset: u64,
    /// Its bytes in the archive; 0 in a folder here.
    pub(super) len: u64,
}

/// Where the bytes are.
pub(super) enum Store {
    /// Files below a folder.
    Folder(PathBuf),
    /// Files within tar archives.
    Archives(Vec<Archive>),
    /// Files on a server.
    #[cfg(feature = "remote")]
    Remote(Objects),
}

/// A tar archive that is read by offset.
pub(super) struct Archive {
    pub(super) path: PathBuf,
    content: File,
}

impl Archive {
    /// What was in the archive at `path`, copied to a file of ours.
    pub(super) fn copied(path: PathBuf, copy: File) -> Archive {
        Archive { path, content: copy }
    }
}

impl Store {
    /// The files of the folder that a file lies in.
    pub(super) fn beside(file: &Path) -> Store {
        Store::Folder(file.parent().unwrap_or(Path::new("")).to_path_buf())
    }

    /// Whether its files are within archives.
    pub(super) fn is_archives(&self) -> bool {
        match self {
            Store::Folder(_) => false,
            Store::Archives(_) => true,
            #[cfg(feature = "remote")]
            Store::Remote(objects) => objects.are_archives(),
        }
    }

    /// What a file says that has the class of the picture beside it.
    pub(super) fn label(&self, entry: &Entry) -> Result<Option<Named>, DataError> {
        match self {
            Store::Folder(_) | Store::Archives(_) => {
                Ok(keyed::label(&entry.path, &self.read(entry)?))
            }
            #[cfg(feature = "remote")]
            Store::Remote(objects) => Ok(objects.label(entry)),
        }
    }

    /// Begins to bring files that will be read soon, where that takes long.
    pub(super) fn ask<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Option<Asked> {
        match self {
            Store::Folder(_) | Store::Archives(_) => {
                // The system reads ahead by itself; `entries` is for servers alone.
                drop(entries);
                None
            }
            #[cfg(feature = "remote")]
            Store::Remote(objects) => Some(objects.ask(entries)),
        }
    }

    /// What to call a file of it in a message.
    pub(super) fn name(&self, archive: u32, path: &str) -> String {
        match self {
            Store::Folder(folder) => folder.join(path).display().to_string(),
            Store::Archives(archives) => {
                format!("{}:{path}", archives[archive as usize].path.display())
            }
            #[cfg(feature = "remote")]
            Store::Remote(objects) => objects.name(archive, path),
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
                let read = read_exact_at(&archive.content, &mut bytes, entry.offset);
                let path = archive.path.clone();
                read.map_err(|source| DataError::Io { path, source }).map(|()| bytes)
            }
            #[cfg(feature = "remote")]
            Store::Remote(objects) => objects.read(entry),
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

/// Whether a file, or a folder that it lies in, is hidden.
pub(super) fn is_hidden_path(path: &str) -> bool {
    path.split('/').any(is_hidden)
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name == "__MACOSX"
}

/// Opens tar archives and lists their files, in their order. Those compressed by gzip are unpacked into the folder
/// `cache`, about which there is a notice.
pub(super) fn list_archives(
    paths: &[PathBuf],
    cache: Option<&Path>,
) -> Result<(Store, Vec<Entry>, Vec<String>), DataError> {
    let opened = paths.par_iter().map(|path| open_archive(path, cache));
    list_opened(paths, opened.collect::<Result<_, _>>()?)
}

/// Lists the files of tar archives that were opened already; their names are for messages.
pub(super) fn list_opened(
    names: &[PathBuf],
    opened: Vec<Unpacked>,
) -> Result<(Store, Vec<Entry>, Vec<String>), DataError> {
    let listed = names.par_iter().zip(&opened).enumerate().map(|(number, (name, opened))| {
        let number = u32::try_from(number).expect("fewer than 2^32 archives");
        list_archive(name, number, &opened.file)
    });
    let entries: Vec<Vec<Entry>> = listed.collect::<Result<_, _>>()?;
    let notices = made_notice(&opened, "archive").into_iter().collect();
    let archive =
        |(name, opened): (&PathBuf, Unpacked)| Archive { path: name.clone(), content: opened.file };
    let archives = names.iter().zip(opened).map(archive).collect();
    Ok((Store::Archives(archives), entries.into_iter().flatten().collect(), notices))
}

/// How much room what was unpacked now takes, and where.
pub(super) fn made_notice(opened: &[Unpacked], what: &str) -> Option<String> {
    let made: Vec<&Unpacked> = opened.iter().filter(|opened| opened.made.is_some()).collect();
    let folder = made.first()?.made.as_ref()?.parent()?;
    let sizes = made.iter().filter_map(|opened| opened.file.metadata().ok());
    let bytes: u64 = sizes.map(|metadata| metadata.len()).sum();
    let (count, megabytes) = (made.len(), bytes.div_ceil(1_000_000));
    let end = if count == 1 { "" } else { "s" };
    Some(format!(
        "{count} {what}{end} unpacked into {megabytes} MB in {}, where the next start finds it; remove it when it is no longer wanted",
        folder.display()
    ))
}

/// Opens an archive, unpacked if it is compressed.
fn open_archive(path: &Path, cache: Option<&Path>) -> Result<Unpacked, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(fail)?;
    let mut start = Vec::new();
    file.by_ref().take(2).read_to_end(&mut start).map_err(fail)?;
    if start != GZIP_START {
        return Ok(Unpacked { file, made: None });
    }
    let packed = packed_here(path)?;
    let open = || File::open(path).map(BufReader::new).map_err(fail);
    kept::unpacked(&packed, cache, open, fail)
}

/// A packed file of this machine, as it is now.
pub(super) fn packed_here(path: &Path) -> Result<Packed, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let metadata = fs::metadata(path).map_err(fail)?;
    let modified = metadata.modified().map_err(fail)?;
    let version = Some(format!("{} {modified:?}", metadata.len()));
    let address = fs::canonicalize(path).map_err(fail)?.display().to_string();
    Ok(Packed { address, version })
}

fn list_archive(path: &Path, number: u32, mut file: &File) -> Result<Vec<Entry>, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let size = file.metadata().map_err(fail)?.len();
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let mut archive = tar::Archive::new(BufReader::with_capacity(1 << 13, file));
    let entries = archive.entries_with_seek().map_err(fail)?;
    index(number, size, entries, |_, _| Ok(())).map_err(fail)
}

/// How a file compressed by gzip begins.
pub(super) const GZIP_START: [u8; 2] = [0x1f, 0x8b];

/// The files of an archive of `size` bytes, each shown to `look` with its path.
pub(super) fn index<'a, R: Read>(
    archive: u32,
    size: u64,
    entries: tar::Entries<'a, R>,
    mut look: impl FnMut(&str, &mut tar::Entry<'a, R>) -> io::Result<()>,
) -> io::Result<Vec<Entry>> {
    let mut found = Vec::new();
    for entry in entries {
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let inside = entry.path()?.to_string_lossy().replace('\\', "/");
        let inside = inside.trim_start_matches("./");
        let (offset, len) = (entry.raw_file_position(), entry.size());
        if offset.checked_add(len).is_none_or(|end| size < end) {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("the archive is cut short within {inside}"),
            ));
        }
        if !is_hidden_path(inside) {
            look(inside, &mut entry)?;
            found.push(Entry { path: inside.into(), archive, offset, len });
        }
    }
    Ok(found)
}
