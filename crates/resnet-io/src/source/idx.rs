//! IDX, the format of MNIST and its kin, compressed by gzip or not.
//!
//! Source: Y. LeCun, <http://yann.lecun.com/exdb/mnist/>, "File formats". Big-endian: two zero bytes, the
//! element's type (8: unsigned byte), the number of dimensions, their sizes, the elements.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use flate2::read::GzDecoder;

use super::beside::Beside;
use super::keyed::classes;
use super::place::{Entry, GZIP_START};
use super::{DataSet, Encoded, Source, sample_id};
use crate::error::DataError;
use crate::picture::ImageRef;

/// Types and dimensions of files of pictures and of labels.
const PICTURES: [u8; 4] = [0, 0, 8, 3];
const LABELS: [u8; 4] = [0, 0, 8, 1];
/// The most bytes that a compressed file may unpack to.
const MAX_UNPACKED: u64 = 4 << 30;

/// Pictures of one size, in memory.
pub struct Idx {
    name: String,
    width: usize,
    height: usize,
    /// `[pictures, height, width, 3]`: grey values three times.
    pixels: Vec<u8>,
    labels: Vec<u32>,
    classes: Vec<String>,
}

/// Whether a file holds pictures, by its name as MNIST has it.
pub(super) fn is_pictures(name: &str) -> bool {
    name.contains("images") && name.contains("idx3")
}

/// The IDX files of a folder, or none if it has none. `t10k` and `test` are the test part.
pub(super) fn open_folder(folder: &Path, entries: &[Entry]) -> Result<Option<DataSet>, DataError> {
    let mut names: Vec<&str> = entries.iter().map(|entry| &*entry.path).collect();
    names.retain(|name| is_pictures(name));
    names.sort_unstable();
    let is_test = |name: &&str| name.contains("t10k") || name.contains("test");
    let (test, train): (Vec<&str>, _) = names.into_iter().partition(is_test);
    let open = |names: &[&str]| -> Result<Option<Arc<dyn Source>>, DataError> {
        match names.first() {
            Some(name) => Ok(Some(Arc::new(Idx::open(&folder.join(name))?))),
            None => Ok(None),
        }
    };
    let (train, test) = (open(&train)?, open(&test)?);
    let found = train.is_some() || test.is_some();
    Ok(found.then(|| DataSet { train, test, ..DataSet::default() }))
}

/// Whether a file's content is that of IDX pictures.
pub(super) fn is_idx(content: &[u8]) -> bool {
    content.starts_with(&PICTURES)
}

impl Idx {
    /// Reads a file of pictures and the file of labels that its name leads to: `labels` for `images`,
    /// `idx1` for `idx3`, compressed or not.
    ///
    /// # Errors
    /// When a file cannot be read, is not IDX, or the two do not agree.
    pub fn open(pictures: &Path) -> Result<Idx, DataError> {
        let fail = |path: &Path, found: String| {
            let place = path.display().to_string();
            DataError::NotASet { place, found }
        };
        let content = read(pictures)?;
        let size = |at: usize| {
            content
                .get(at..at + 4)
                .map(|b| u32::from_be_bytes(b.try_into().expect("four bytes")) as usize)
        };
        let (true, Some(count), Some(height), Some(width)) =
            (content.starts_with(&PICTURES), size(4), size(8), size(12))
        else {
            return Err(fail(pictures, "no IDX file of bytes in three dimensions".into()));
        };
        let expected = count.checked_mul(height).and_then(|n| n.checked_mul(width));
        if width == 0 || height == 0 || expected != Some(content.len() - 16) {
            let found = content.len() - 16;
            let says =
                format!("{count} pictures of {width}x{height}, and has {found} bytes of them");
            return Err(fail(pictures, format!("it says {says}")));
        }
        let path = labels_of(pictures);
        let labels = read(&path)?;
        if !labels.starts_with(&LABELS) || labels.len() != 8 + count {
            return Err(fail(&path, format!("no IDX file of {count} labels")));
        }
        let texts: Vec<String> = labels[8..].iter().map(u8::to_string).collect();
        let names = Beside::file(pictures).class_names();
        let (classes, labels) = classes(&texts, names);
        let name = pictures.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let pixels = content[16..].iter().flat_map(|&grey| [grey; 3]).collect();
        Ok(Idx { name, width, height, pixels, labels, classes })
    }
}

/// Where the labels of these pictures are.
fn labels_of(pictures: &Path) -> PathBuf {
    let name = pictures.file_name().unwrap_or_default().to_string_lossy();
    let [path, other] = names_of_labels(&name).map(|name| pictures.with_file_name(name));
    if !path.exists() && other.exists() { other } else { path }
}

/// What the file of labels may be called that belongs to one of pictures: as it, or compressed otherwise.
pub(super) fn names_of_labels(pictures: &str) -> [String; 2] {
    let name = pictures.replace("images", "labels").replace("idx3", "idx1");
    let other = match name.strip_suffix(".gz") {
        Some(plain) => plain.to_string(),
        None => format!("{name}.gz"),
    };
    [name, other]
}

/// A file's bytes, unpacked if it is compressed.
pub(super) fn read(path: &Path) -> Result<Vec<u8>, DataError> {
    let fail = |source| DataError::Io { path: path.into(), source };
    let bytes = fs::read(path).map_err(fail)?;
    if !bytes.starts_with(&GZIP_START) {
        return Ok(bytes);
    }
    let mut unpacked = Vec::new();
    GzDecoder::new(&bytes[..]).take(MAX_UNPACKED).read_to_end(&mut unpacked).map_err(fail)?;
    Ok(unpacked)
}

impl Source for Idx {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> u32 {
        self.labels[index]
    }

    fn name(&self, index: usize) -> String {
        format!("{}:{index}", self.name)
    }

    fn id(&self, index: usize) -> u64 {
        sample_id(&self.name(index))
    }

    fn read(&self, index: usize) -> Result<Encoded<'_>, DataError> {
        let size = 3 * self.width * self.height;
        let pixels = &self.pixels[index * size..(index + 1) * size];
        Ok(Encoded::Pixels(ImageRef { width: self.width, height: self.height, pixels }))
    }
}
