//! Picture files by class: a folder of folders, or a tar archive of one.
//!
//! The folder that a file lies in, below the split's, names its class; deeper folders belong to it.
//! Hidden files and those that are no pictures by name are passed over and counted; what a file really
//! is shows when it is read.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::GzDecoder;

use super::{DataSet, Encoded, Source, sample_id};
use crate::error::DataError;

/// Endings of picture files, in any case.
const EXTENSIONS: [&str; 6] = ["jpg", "jpeg", "png", "gif", "bmp", "webp"];
/// The most bytes that a compressed archive may unpack to.
const MAX_UNPACKED: u64 = 8 << 30;

/// Picture files with their classes, in the order of their names' bytes.
pub struct PictureFiles {
    store: Store,
    classes: Vec<String>,
    samples: Vec<Sample>,
}

/// Where the bytes are.
#[derive(Clone)]
enum Store {
    /// Files below a folder.
    Folder(PathBuf),
    /// A tar file that is read by offset.
    Tar { path: PathBuf, file: Arc<Mutex<File>> },
    /// An unpacked archive.
    Memory { path: PathBuf, bytes: Arc<Vec<u8>> },
}

struct Sample {
    /// Within the place: `train/cat/1.jpg`.
    path: String,
    /// Within the split: `cat/1.jpg`. Its hash is the sample's identity.
    name: String,
    label: u32,
    offset: u64,
    len: u64,
}

/// A file found in a place.
struct Entry {
    path: String,
    offset: u64,
    len: u64,
}

/// Opens a folder, if there are picture files below it.
pub(super) fn open_folder(path: &Path) -> Result<DataSet, DataError> {
    let mut entries = Vec::new();
    let mut passed_over = 0;
    for entry in walkdir::WalkDir::new(path).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| {
            let place = error.path().unwrap_or(path).to_path_buf();
            let source = error.into_io_error();
            let source = source.unwrap_or_else(|| std::io::Error::other("a loop of links"));
            DataError::Io { path: place, source }
        })?;
        if !entry.file_type().is_file() {
            continue;
        }
        let inside = entry.path().strip_prefix(path).expect("the walk stays below its start");
        let inside: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
        let inside = inside.join("/");
        if is_picture(&inside) {
            entries.push(Entry { path: inside, offset: 0, len: 0 });
        } else if !is_hidden(&inside) {
            passed_over += 1;
        }
    }
    splits(&Store::Folder(path.into()), entries, passed_over, &path.display().to_string())
}

/// Opens a tar archive, compressed by gzip or not.
pub(super) fn open_archive(path: &Path) -> Result<DataSet, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(fail)?;
    let mut start = [0; 2];
    let read = file.read(&mut start).map_err(fail)?;
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    let place = path.display().to_string();
    if read == 2 && start == [0x1f, 0x8b] {
        let mut bytes = Vec::new();
        GzDecoder::new(file).take(MAX_UNPACKED + 1).read_to_end(&mut bytes).map_err(fail)?;
        if MAX_UNPACKED < bytes.len() as u64 {
            let found = format!("an archive of more than {} GiB; unpack it", MAX_UNPACKED >> 30);
            return Err(DataError::NotASet { place, found });
        }
        let (entries, passed_over) = index(path, &bytes[..])?;
        let store = Store::Memory { path: path.into(), bytes: Arc::new(bytes) };
        return splits(&store, entries, passed_over, &place);
    }
    let (entries, passed_over) = index(path, &mut file)?;
    let store = Store::Tar { path: path.into(), file: Arc::new(Mutex::new(file)) };
    splits(&store, entries, passed_over, &place)
}

/// The picture files of an archive, and how many others there are.
fn index(path: &Path, archive: impl Read) -> Result<(Vec<Entry>, usize), DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let (mut found, mut passed_over) = (Vec::new(), 0);
    for entry in tar::Archive::new(archive).entries().map_err(fail)? {
        let entry = entry.map_err(fail)?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let inside = entry.path().map_err(fail)?.to_string_lossy().replace('\\', "/");
        let inside = inside.trim_start_matches("./").to_string();
        if is_picture(&inside) {
            let (offset, len) = (entry.raw_file_position(), entry.size());
            found.push(Entry { path: inside, offset, len });
        } else if !is_hidden(&inside) {
            passed_over += 1;
        }
    }
    Ok((found, passed_over))
}

fn is_hidden(path: &str) -> bool {
    path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX")
}

fn is_picture(path: &str) -> bool {
    let extension = path.rsplit_once('.').map_or("", |(_, extension)| extension);
    let known = EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension));
    known && !is_hidden(path)
}

/// Sorts files into `train/`, `val/` and `test/`, or takes all as one list.
fn splits(
    store: &Store,
    entries: Vec<Entry>,
    passed_over: usize,
    place: &str,
) -> Result<DataSet, DataError> {
    let below = common_folder(&entries);
    let is_split = entries.iter().any(|entry| split_of(&entry.path[below..]) == Some(Part::Train));
    let mut parts: BTreeMap<Part, Vec<(String, Entry)>> = BTreeMap::new();
    let mut others = passed_over;
    for entry in entries {
        let inside = &entry.path[below..];
        let part = if is_split { split_of(inside) } else { Some(Part::Train) };
        let rest =
            if is_split { inside.split_once('/').map(|(_, rest)| rest) } else { Some(inside) };
        match (part, rest) {
            (Some(part), Some(name)) if name.contains('/') => {
                let name = name.to_string();
                parts.entry(part).or_default().push((name, entry));
            }
            _ => others += 1,
        }
    }
    if parts.is_empty() {
        return Err(DataError::Empty { place: place.into() });
    }
    let mut take = |part: Part| -> Option<Arc<dyn Source>> {
        let files = parts.remove(&part)?;
        Some(Arc::new(PictureFiles::new(store, files)))
    };
    let mut notices = Vec::new();
    if 0 < others {
        notices
            .push(format!("{place}: passed over {others} files that are no pictures of a class"));
    }
    let (train, val, test) = (take(Part::Train), take(Part::Val), take(Part::Test));
    Ok(DataSet { train, val, test, notices })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Train,
    Val,
    Test,
}

fn split_of(path: &str) -> Option<Part> {
    match path.split_once('/')?.0 {
        "train" => Some(Part::Train),
        "val" | "valid" | "validation" => Some(Part::Val),
        "test" => Some(Part::Test),
        _ => None,
    }
}

/// Bytes of the folder that everything lies in, as archives often have one: `flowers/` of
/// `flowers/rose/1.jpg`. 0 without one, or if it is a split itself.
fn common_folder(entries: &[Entry]) -> usize {
    let Some((first, _)) = entries.first().and_then(|entry| entry.path.split_once('/')) else {
        return 0;
    };
    let folder = format!("{first}/");
    // A class and the file must remain below it.
    let shared = entries
        .iter()
        .all(|entry| entry.path.starts_with(&folder) && 2 <= entry.path.matches('/').count());
    if shared && split_of(&folder).is_none() { folder.len() } else { 0 }
}

impl PictureFiles {
    /// Files by their names in the split, `class/.../file`.
    fn new(store: &Store, mut files: Vec<(String, Entry)>) -> PictureFiles {
        files.sort_by(|(a, _), (b, _)| a.as_bytes().cmp(b.as_bytes()));
        let class = |name: &str| name.split('/').next().unwrap_or_default().to_string();
        let mut classes: Vec<String> = files.iter().map(|(name, _)| class(name)).collect();
        classes.sort_unstable();
        classes.dedup();
        let sample = |(name, entry): (String, Entry)| {
            let label = classes.binary_search(&class(&name)).expect("every class is listed");
            let label = u32::try_from(label).expect("fewer than 2^32 classes");
            Sample { path: entry.path, name, label, offset: entry.offset, len: entry.len }
        };
        let samples = files.into_iter().map(sample).collect();
        PictureFiles { store: store.clone(), classes, samples }
    }
}

impl Source for PictureFiles {
    fn len(&self) -> usize {
        self.samples.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.samples[index].label
    }

    fn name(&self, index: usize) -> String {
        let inside = &self.samples[index].path;
        match &self.store {
            Store::Folder(path) => path.join(inside).display().to_string(),
            Store::Tar { path, .. } | Store::Memory { path, .. } => {
                format!("{}:{inside}", path.display())
            }
        }
    }

    fn id(&self, index: usize) -> u64 {
        sample_id(&self.samples[index].name)
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        let sample = &self.samples[index];
        match &self.store {
            Store::Folder(folder) => {
                let path = folder.join(&sample.path);
                let bytes = fs::read(&path).map_err(|source| DataError::Io { path, source })?;
                Ok(Encoded::File(Cow::Owned(bytes)))
            }
            Store::Tar { path, file } => {
                let mut bytes = vec![0; sample.len as usize];
                // A reader that panicked leaves only the position behind, which is set anew.
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(sample.offset))
                    .and_then(|_| file.read_exact(&mut bytes))
                    .map_err(|source| DataError::Io { path: path.clone(), source })?;
                Ok(Encoded::File(Cow::Owned(bytes)))
            }
            Store::Memory { bytes, .. } => {
                let range = sample.offset as usize..(sample.offset + sample.len) as usize;
                Ok(Encoded::File(Cow::Borrowed(&bytes[range])))
            }
        }
    }
}
