//! From an address to splits: what `--data` and `--val` mean.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::beside::Beside;
use super::cifar::Kind;
use super::layout::Part;
use super::place::{self, Entry, GZIP_START, Store};
use super::{
    Cifar, Generated, GeneratedSpec, GeneratedSplit, HeldBack, Idx, Relabelled, Source, hold_back,
};
use super::{files, idx, imagenet, kept, keyed, layout, list, parquet, remote, shards};
use crate::error::{DataError, io_at};

/// How to open an address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenOptions {
    /// Where the validation pictures are, if not at the same address.
    pub val: Option<String>,
    /// What to hold back of the training pictures for validation.
    pub held_back: Option<HeldBack>,
    /// Where to keep what the next start need not do again; without it, a folder of the user's.
    pub cache: Option<PathBuf>,
    /// What to tell the clients of servers besides the environment, which it overrules: `AWS_ENDPOINT_URL` and so on.
    pub settings: Vec<(String, String)>,
}

/// The splits found at an address. A single list without a name is `train`.
#[derive(Clone, Default)]
pub struct DataSet {
    /// Pictures to learn from.
    pub train: Option<Arc<dyn Source>>,
    /// Pictures to choose by.
    pub val: Option<Arc<dyn Source>>,
    /// Pictures to report on.
    pub test: Option<Arc<dyn Source>>,
    /// Files that are of no part: without a class, or no pictures by name.
    pub others: Option<Arc<dyn Source>>,
    /// What was passed over or assumed, for the user to read.
    pub notices: Vec<String>,
}

impl DataSet {
    /// What `eval` takes: test, else validation, else what there is.
    pub fn for_evaluation(&self) -> Option<&Arc<dyn Source>> {
        self.test.as_ref().or(self.val.as_ref()).or(self.train.as_ref())
    }

    /// What training measures with after each epoch: validation, else test.
    pub fn for_validation(&self) -> Option<&Arc<dyn Source>> {
        self.val.as_ref().or(self.test.as_ref())
    }
}

/// Opens the pictures at an address (`--data`): `generated`, a folder, an archive or a CIFAR file, told by content.
///
/// # Errors
/// When there is nothing, nothing readable, or no set of labelled pictures.
pub fn open(address: &str, options: &OpenOptions) -> Result<DataSet, DataError> {
    let set = open_any(address, options)?;
    if set.for_evaluation().is_none() {
        return Err(DataError::Empty { place: address.to_string() });
    }
    Ok(set)
}

/// The same, but a place may have no labelled pictures at all.
///
/// # Errors
/// When there is nothing, or nothing readable.
pub fn open_any(address: &str, options: &OpenOptions) -> Result<DataSet, DataError> {
    let mut set = open_place(address, options)?;
    if let Some(val) = &options.val {
        let other = open_place(val, options)?;
        set.val = other.test.or(other.val).or(other.train);
        if set.val.is_none() {
            return Err(DataError::Empty { place: val.clone() });
        }
    }
    for part in [&mut set.val, &mut set.test] {
        align(set.train.as_ref(), part);
    }
    if let Some(what) = options.held_back {
        if set.val.is_some() {
            return Err(DataError::SplitTwice { place: address.to_string() });
        }
        if let Some(all) = set.train.take() {
            let (train, val) = hold_back(&all, what)?;
            set.train = Some(Arc::new(train));
            set.val = Some(Arc::new(val));
        }
    }
    Ok(set)
}

/// Gives a part the training part's classes, if it has no others.
fn align(train: Option<&Arc<dyn Source>>, part: &mut Option<Arc<dyn Source>>) {
    let (Some(train), Some(other)) = (train, part.as_ref()) else { return };
    if other.classes() != train.classes()
        && let Ok(aligned) = Relabelled::new(other.clone(), train.classes())
    {
        *part = Some(Arc::new(aligned));
    }
}

fn open_place(address: &str, options: &OpenOptions) -> Result<DataSet, DataError> {
    if remote::is_remote(address) {
        return remote::open(address, options);
    }
    if address == "generated" {
        return Ok(open_generated(&GeneratedSpec::default()));
    }
    if let Some(rest) = address.strip_prefix("generated:") {
        return Ok(open_generated(&GeneratedSpec::parse(rest)?));
    }
    let cache = options.cache.clone().or_else(kept::standard_folder);
    let (path, cache) = (Path::new(address), cache.as_deref());
    if !path.exists()
        && let Some(paths) = shards::expand(address)
    {
        let paths: Vec<PathBuf> = paths.into_iter().map(PathBuf::from).collect();
        return open_shards(&paths, &Beside::file(&paths[0]), address, cache);
    }
    let Ok(metadata) = fs::metadata(path) else {
        let suggestion = nearest(address.split(':').next().unwrap_or(address), &["generated"]);
        return Err(DataError::UnknownAddress { address: address.to_string(), suggestion });
    };
    if metadata.is_dir() { open_folder(path, cache) } else { open_file(path, cache) }
}

fn open_generated(spec: &GeneratedSpec) -> DataSet {
    DataSet {
        train: Some(Arc::new(Generated::new(spec, GeneratedSplit::Train))),
        val: Some(Arc::new(Generated::new(spec, GeneratedSplit::Val))),
        ..DataSet::default()
    }
}

pub(super) fn open_folder(path: &Path, cache: Option<&Path>) -> Result<DataSet, DataError> {
    let entries = place::list_folder(path)?;
    let is_bin = |entry: &&Entry| !entry.path.contains('/') && entry.path.ends_with(".bin");
    let mut bins: Vec<&str> = entries.iter().filter(is_bin).map(|entry| &*entry.path).collect();
    let has_pictures = entries.iter().any(|entry| files::is_picture(&entry.path));
    if !has_pictures {
        if let Some(set) = idx::open_folder(path, &entries)? {
            return Ok(set);
        }
        let place = path.display().to_string();
        let open = |names: &[&str]| {
            let paths: Vec<PathBuf> = names.iter().map(|name| path.join(name)).collect();
            open_shards(&paths, &Beside::Local(path.into()), &place, cache)
        };
        if let Some(set) = by_names_of_shards(&entries, open)? {
            return Ok(set);
        }
    }
    if bins.is_empty() || has_pictures {
        let store = Arc::new(Store::Folder(path.into()));
        let beside = Beside::Local(path.into());
        return by_folder(store, entries, &beside, &path.display().to_string());
    }
    bins.sort_unstable();
    let (test, train): (Vec<&str>, _) = bins.into_iter().partition(|name| name.starts_with("test"));
    let open_all = |names: Vec<&str>| -> Result<Option<Arc<dyn Source>>, DataError> {
        let files: Vec<_> = names.iter().map(|name| path.join(name)).collect();
        if files.is_empty() { Ok(None) } else { Ok(Some(Arc::new(Cifar::open(&files)?))) }
    };
    Ok(DataSet { train: open_all(train)?, test: open_all(test)?, ..DataSet::default() })
}

/// The shards of a folder that has these files, each part by how its files' names begin; or none.
pub(super) fn by_names_of_shards(
    entries: &[Entry],
    open_all: impl Fn(&[&str]) -> Result<DataSet, DataError>,
) -> Result<Option<DataSet>, DataError> {
    let ends = [".tar", ".tar.gz", ".tgz", ".parquet"];
    let is_shard = |entry: &&Entry| {
        !entry.path.contains('/') && ends.iter().any(|end| entry.path.ends_with(end))
    };
    let mut names: Vec<&str> = entries.iter().filter(is_shard).map(|entry| &*entry.path).collect();
    names.sort_unstable();
    let mut set = DataSet::default();
    let of = |part: Option<Part>| -> Vec<&str> {
        let own = |name: &&&str| {
            let word = name.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default();
            Part::named(word) == part
        };
        names.iter().filter(own).copied().collect()
    };
    let mut open = |part: Option<Part>| -> Result<Option<Arc<dyn Source>>, DataError> {
        let names = of(part);
        if names.is_empty() {
            return Ok(None);
        }
        let found = open_all(&names)?;
        set.notices.extend(found.notices);
        Ok(found.train.or(found.val).or(found.test))
    };
    let (mut train, val, test) =
        (open(Some(Part::Train))?, open(Some(Part::Val))?, open(Some(Part::Test))?);
    if train.is_none() {
        train = open(None)?;
    }
    let found = train.is_some() || val.is_some() || test.is_some();
    Ok(found.then_some(DataSet { train, val, test, ..set }))
}

/// Files as one set: Parquet, or archives of pictures in folders by class or with their classes beside them.
pub(super) fn open_shards(
    paths: &[PathBuf],
    beside: &Beside,
    place: &str,
    cache: Option<&Path>,
) -> Result<DataSet, DataError> {
    if let Some(first) = paths.first()
        && Start::of(&start(first)?) == Start::Parquet
    {
        let open = |path: &PathBuf| {
            let content = File::open(path).map_err(io_at(path))?;
            Ok(parquet::Table { name: path.clone(), packed: place::packed_here(path)?, content })
        };
        let tables = paths.iter().map(open).collect::<Result<_, DataError>>()?;
        return parquet::open(tables, beside, cache);
    }
    let (store, entries, notices) = place::list_archives(paths, cache)?;
    Ok(with_notices(notices, by_content(store, entries, beside, place)?))
}

/// A set about which something was to be said before.
pub(super) fn with_notices(mut notices: Vec<String>, set: DataSet) -> DataSet {
    notices.extend(set.notices);
    DataSet { notices, ..set }
}

/// Files of archives, by the classes beside them if they have such, else by their folders.
pub(super) fn by_content(
    store: Store,
    entries: Vec<Entry>,
    beside: &Beside,
    place: &str,
) -> Result<DataSet, DataError> {
    if keyed::is_keyed(&entries) {
        return keyed::samples(&Arc::new(store), entries, beside.class_names());
    }
    by_folder(Arc::new(store), entries, beside, place)
}

/// Files in folders by class; ImageNet's validation pictures need none.
pub(super) fn by_folder(
    store: Arc<Store>,
    entries: Vec<Entry>,
    beside: &Beside,
    place: &str,
) -> Result<DataSet, DataError> {
    let flat = |entry: &Entry| imagenet::number(&entry.path).is_some();
    let (flat, entries): (Vec<Entry>, Vec<Entry>) = entries.into_iter().partition(flat);
    let mut set = layout::by_folder(store.clone(), entries, place);
    if !flat.is_empty() {
        set.val = Some(imagenet::open(&store, flat, beside)?);
    }
    Ok(set)
}

/// What a file is by its first 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// A Parquet file.
    Parquet,
    /// A tar archive.
    Tar,
    /// Something compressed by gzip.
    Gzip,
    /// Anything else.
    Other,
}

impl Start {
    pub(super) fn of(start: &[u8]) -> Start {
        if start.starts_with(&parquet::START) {
            Start::Parquet
        } else if start.get(257..262) == Some(b"ustar") {
            // POSIX and GNU tar both have it there in each header.
            Start::Tar
        } else if start.starts_with(&GZIP_START) {
            Start::Gzip
        } else {
            Start::Other
        }
    }
}

pub(super) fn open_file(path: &Path, cache: Option<&Path>) -> Result<DataSet, DataError> {
    let beside = Beside::file(path);
    if let Start::Parquet | Start::Tar = Start::of(&start(path)?) {
        return open_shards(&[path.into()], &beside, &path.display().to_string(), cache);
    }
    let content = idx::read(path)?;
    if idx::is_idx(&content) {
        let train: Arc<dyn Source> = Arc::new(Idx::open(path)?);
        return Ok(DataSet { train: Some(train), ..DataSet::default() });
    }
    if Kind::of(&content).is_some() {
        let source: Arc<dyn Source> = Arc::new(Cifar::open(&[path])?);
        return Ok(DataSet { train: Some(source), ..DataSet::default() });
    }
    if let Ok(text) = std::str::from_utf8(&content)
        && let Some(set) = list::open(path, text, Store::beside(path), beside.class_names())?
    {
        return Ok(set);
    }
    Err(DataError::NotASet {
        place: path.display().to_string(),
        found: "no archive of images, no list of them, no Parquet, no CIFAR or IDX records"
            .to_string(),
    })
}

/// The first bytes of a file, unpacked if it is compressed by gzip.
fn start(path: &Path) -> Result<Vec<u8>, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let start = |reader: &mut dyn Read| {
        let mut start = Vec::new();
        reader.take(512).read_to_end(&mut start).map(|_bytes| start)
    };
    let mut file = fs::File::open(path).map_err(fail)?;
    let begin = start(&mut file).map_err(fail)?;
    if !begin.starts_with(&GZIP_START) {
        return Ok(begin);
    }
    file.seek(SeekFrom::Start(0)).map_err(fail)?;
    start(&mut GzDecoder::new(file)).map_err(fail)
}

/// The name most like `given`, if one is like it at all.
pub(super) fn nearest(given: &str, known: &[&str]) -> Option<String> {
    let scored = known.iter().map(|&name| (strsim::jaro_winkler(given, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // The usual threshold of Jaro and Winkler's measure for "the same word, misspelt".
    (0.8 < score).then(|| name.to_string())
}
