//! From an address to splits: what `--data` and `--val` mean.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use super::cifar::Kind;
use super::files;
use super::{Cifar, Generated, GeneratedSpec, GeneratedSplit, Source, split_by_fraction};
use crate::error::DataError;

/// How to open an address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OpenOptions {
    /// Where the validation pictures are, if not at the same address.
    pub val: Option<String>,
    /// The share of the training pictures to hold back for validation.
    pub val_fraction: Option<f64>,
}

/// The splits found at an address. A single list without a name is `train`.
#[derive(Clone)]
pub struct DataSet {
    /// Pictures to learn from.
    pub train: Option<Arc<dyn Source>>,
    /// Pictures to choose by.
    pub val: Option<Arc<dyn Source>>,
    /// Pictures to report on.
    pub test: Option<Arc<dyn Source>>,
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
    let mut set = open_place(address)?;
    if let Some(val) = &options.val {
        let other = open_place(val)?;
        set.val = other.test.or(other.val).or(other.train);
    }
    if let Some(fraction) = options.val_fraction {
        if set.val.is_some() {
            return Err(DataError::SplitTwice { place: address.to_string() });
        }
        if let Some(all) = set.train.take() {
            let (train, val) = split_by_fraction(&all, fraction)?;
            set.train = Some(Arc::new(train));
            set.val = Some(Arc::new(val));
        }
    }
    Ok(set)
}

fn open_place(address: &str) -> Result<DataSet, DataError> {
    if address == "generated" {
        return Ok(open_generated(&GeneratedSpec::default()));
    }
    if let Some(rest) = address.strip_prefix("generated:") {
        return Ok(open_generated(&GeneratedSpec::parse(rest)?));
    }
    let path = Path::new(address);
    let Ok(metadata) = fs::metadata(path) else {
        let suggestion = nearest(address.split(':').next().unwrap_or(address), &["generated"]);
        return Err(DataError::UnknownAddress { address: address.to_string(), suggestion });
    };
    if metadata.is_dir() { open_folder(path) } else { open_file(path) }
}

fn open_generated(spec: &GeneratedSpec) -> DataSet {
    DataSet {
        train: Some(Arc::new(Generated::new(spec, GeneratedSplit::Train))),
        val: Some(Arc::new(Generated::new(spec, GeneratedSplit::Val))),
        test: None,
        notices: Vec::new(),
    }
}

fn open_folder(path: &Path) -> Result<DataSet, DataError> {
    let entries =
        fs::read_dir(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    let mut bins = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| DataError::Io { path: path.into(), source })?;
        if entry.path().extension().is_some_and(|extension| extension == "bin") {
            bins.push(entry.path());
        }
    }
    if bins.is_empty() {
        return files::open_folder(path);
    }
    bins.sort();
    let is_test = |file: &Path| {
        file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("test"))
    };
    let (test, train): (Vec<_>, Vec<_>) = bins.into_iter().partition(|file| is_test(file));
    let open_all = |files: Vec<_>| -> Result<Option<Arc<dyn Source>>, DataError> {
        if files.is_empty() { Ok(None) } else { Ok(Some(Arc::new(Cifar::open(&files)?))) }
    };
    Ok(DataSet { train: open_all(train)?, val: None, test: open_all(test)?, notices: Vec::new() })
}

fn open_file(path: &Path) -> Result<DataSet, DataError> {
    if is_archive(path)? {
        return files::open_archive(path);
    }
    let content = fs::read(path).map_err(|source| DataError::Io { path: path.into(), source })?;
    if Kind::of(&content).is_none() {
        return Err(DataError::NotASet {
            place: path.display().to_string(),
            found: "neither an archive of images nor CIFAR records".to_string(),
        });
    }
    let source: Arc<dyn Source> = Arc::new(Cifar::open(&[path])?);
    Ok(DataSet { train: Some(source), val: None, test: None, notices: Vec::new() })
}

/// Whether a file begins as gzip or tar does.
fn is_archive(path: &Path) -> Result<bool, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let mut start = Vec::new();
    fs::File::open(path).and_then(|file| file.take(512).read_to_end(&mut start)).map_err(fail)?;
    // POSIX and GNU tar both have "ustar" at 257 in each header.
    let is_tar = start.get(257..262) == Some(b"ustar");
    Ok(is_tar || start.starts_with(&[0x1f, 0x8b]))
}

/// The name most like `given`, if one is like it at all.
pub(super) fn nearest(given: &str, known: &[&str]) -> Option<String> {
    let scored = known.iter().map(|&name| (strsim::jaro_winkler(given, name), name));
    let (score, name) = scored.max_by(|a, b| a.0.total_cmp(&b.0))?;
    // The usual threshold of Jaro and Winkler's measure for "the same word, misspelt".
    (0.8 < score).then(|| name.to_string())
}
