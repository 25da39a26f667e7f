//! Where the files of an archive are: found by reading through it once, and kept.
//!
//! The next start asks the server for the archive's size, time and tag only; if they are other ones, it is read anew.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde::{Deserialize, Serialize};

use super::reader::{Reader, unwrapped};
use super::server::{Object, Remote};
use crate::error::DataError;
use crate::source::kept;
use crate::source::keyed;
use crate::source::labels::Named;
use crate::source::place::{self, Entry};

/// Archives that are looked at or read through at once.
const AT_ONCE: usize = 16;
/// The most bytes of a file that says a picture's class.
const MAX_LABEL: u64 = 1 << 20;
/// The form of what is kept; another one is read anew.
const FORM: u32 = 2;

/// An archive: its files and the classes that it states.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Index {
    form: u32,
    address: String,
    size: u64,
    modified: i64,
    tag: Option<String>,
    /// Path, offset, length.
    pub(super) files: Vec<(Box<str>, u64, u64)>,
    /// What label files say, by their offsets.
    pub(super) labels: Vec<(u64, Named)>,
}

impl Index {
    fn is_of(&self, address: &str, object: &Object) -> bool {
        let now = (FORM, address, object.size, object.modified, &object.tag);
        now == (self.form, self.address.as_str(), self.size, self.modified, &self.tag)
    }

    /// Its files, as of the archive with this number.
    pub(super) fn entries(&self, archive: u32) -> impl Iterator<Item = Entry> {
        let entry = move |(path, offset, len): &(Box<str>, u64, u64)| Entry {
            path: path.clone(),
            archive,
            offset: *offset,
            len: *len,
        };
        self.files.iter().map(entry)
    }
}

/// What each of some archives has, in their order.
///
/// # Errors
/// When one cannot be read, or is none.
pub(super) fn indices(
    archives: &[Remote],
    cache: Option<&PathBuf>,
) -> Result<Vec<(Object, Index)>, DataError> {
    at_once(archives, |archive| {
        let object = archive.look()?;
        let index = index(archive, &object, cache)?;
        Ok((object, index))
    })
}

/// Does something with each of some files, several at a time: nearly all of it is waiting.
pub(super) fn at_once<T: Send>(
    files: &[Remote],
    work: impl Fn(&Remote) -> Result<T, DataError> + Sync,
) -> Result<Vec<T>, DataError> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<T, DataError>)>> = Mutex::new(Vec::new());
    let run = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(number) else { return };
            let result = work(file);
            if result.is_err() {
                next.store(files.len(), Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, result));
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(files.len()) {
            scope.spawn(run);
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}

fn index(archive: &Remote, object: &Object, cache: Option<&PathBuf>) -> Result<Index, DataError> {
    let address = archive.address();
    let path = cache
        .filter(|_| object.version().is_some())
        .map(|cache| cache.join(format!("{}.index", kept::name_of(&address))));
    let known = path.as_ref().and_then(|path| {
        let file = BufReader::new(File::open(path).ok()?);
        serde_json::from_reader::<_, Index>(file).ok()
    });
    if let Some(index) = known.filter(|index| index.is_of(&address, object)) {
        return Ok(index);
    }
    let index = read_through(archive, object)?;
    if let Some(path) = path {
        // Without it, the next start takes as long as this one.
        let _ = kept::write(&path, |file| {
            let io = |source| DataError::Io { path: path.clone(), source };
            let mut file = BufWriter::new(file);
            serde_json::to_writer(&mut file, &index).map_err(|error| io(error.into()))?;
            file.flush().map_err(io)
        });
    }
    Ok(index)
}

fn read_through(archive: &Remote, object: &Object) -> Result<Index, DataError> {
    let address = archive.address();
    let fail = |error| unwrapped(error, &address);
    let reader = Reader::new(archive.server.clone(), object.clone());
    let mut tar = tar::Archive::new(reader);
    let mut labels = Vec::new();
    let entries = tar.entries_with_seek().map_err(fail)?;
    let found = place::index(0, object.size, entries, |path, entry| {
        if keyed::is_label(path) && entry.size() <= MAX_LABEL {
            let (offset, mut bytes) = (entry.raw_file_position(), Vec::new());
            entry.read_to_end(&mut bytes)?;
            labels.extend(keyed::label(path, &bytes).map(|label| (offset, label)));
        }
        Ok(())
    });
    let files = found.map_err(fail)?.into_iter();
    Ok(Index {
        form: FORM,
        address: address.clone(),
        size: object.size,
        modified: object.modified,
        tag: object.tag.clone(),
        files: files.map(|entry| (entry.path, entry.offset, entry.len)).collect(),
        labels,
    })
}
