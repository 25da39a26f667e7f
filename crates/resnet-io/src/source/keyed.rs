//! Tar shards as WebDataset writes them: files that share a name make a sample.
//!
//! `000123.jpg` and `000123.cls` are a picture and its class, as text; or `000123.json` has it under
//! `label`, `cls` or `class`. Source: <https://github.com/webdataset/webdataset>, "The WebDataset Format":
//! the name of a sample ends at the first dot behind the last slash.

use std::collections::HashMap;
use std::sync::Arc;

use super::Source;
use super::files::{PictureFiles, Sample, is_picture};
use super::place::{Entry, Store};
use crate::error::DataError;

/// Whether classes stand beside the pictures, and not in the names of folders.
pub(super) fn is_keyed(entries: &[Entry]) -> bool {
    let mut folders = entries
        .iter()
        .filter(|entry| is_picture(&entry.path))
        .map(|entry| entry.path.rsplit_once('/').map_or("", |(folder, _)| folder));
    let first = folders.next();
    let one_folder = folders.all(|folder| Some(folder) == first);
    one_folder && entries.iter().any(|entry| is_label(&entry.path))
}

/// Whether a file holds the class of the picture beside it.
pub(super) fn is_label(path: &str) -> bool {
    path.ends_with(".cls") || path.ends_with(".json")
}

/// The name that a sample's files share.
fn key(path: &str) -> &str {
    let file = path.rfind('/').map_or(0, |slash| slash + 1);
    let dot = path[file..].find('.').map_or(path.len(), |dot| file + dot);
    &path[..dot]
}

/// The samples of some shards, in their order. `names` are the classes, where the labels are numbers.
///
/// # Errors
/// A picture without a class, a class that cannot be read.
pub(super) fn samples(
    store: &Arc<Store>,
    entries: Vec<Entry>,
    names: Option<Vec<String>>,
) -> Result<Option<Arc<dyn Source>>, DataError> {
    let mut labels = HashMap::new();
    for entry in entries.iter().filter(|entry| is_label(&entry.path)) {
        if let Some(label) = store.label(entry)? {
            labels.insert((entry.archive, key(&entry.path).to_string()), label);
        }
    }
    let (mut samples, mut texts) = (Vec::new(), Vec::new());
    for entry in entries.into_iter().filter(|entry| is_picture(&entry.path)) {
        let own = labels.get(&(entry.archive, key(&entry.path).to_string()));
        let Some(label) = own else {
            let place = store.name(entry.archive, &entry.path);
            let found = "no class beside it, in a .cls or .json file of its name".to_string();
            return Err(DataError::NotASet { place, found });
        };
        texts.push(label.clone());
        samples.push(Sample { entry, name_at: 0, label: 0, group: None });
    }
    if samples.is_empty() {
        return Ok(None);
    }
    let (classes, labels) = classes(&texts, names);
    for (sample, label) in samples.iter_mut().zip(labels) {
        sample.label = label;
    }
    Ok(Some(Arc::new(PictureFiles::new(store.clone(), classes, samples))))
}

/// What a label file says.
pub(super) fn label(path: &str, bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    if path.ends_with(".cls") {
        return Some(text.trim().to_string());
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let label = ["label", "cls", "class"].iter().find_map(|key| value.get(key))?;
    Some(text_of(label))
}

/// A JSON value as text: a text without its quotes.
pub(super) fn text_of(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

/// Classes and labels from their texts: numbers are positions in `names`, or are called by themselves;
/// other words are sorted by their bytes.
pub(super) fn classes(texts: &[String], names: Option<Vec<String>>) -> (Vec<String>, Vec<u32>) {
    /// Beyond this, numbers are taken as words: they are no positions in a list.
    const MAX_CLASSES: u32 = 1_000_000;
    let numbers: Option<Vec<u32>> =
        texts.iter().map(|text| text.parse().ok().filter(|&number| number < MAX_CLASSES)).collect();
    if let Some(numbers) = numbers {
        let count = 1 + numbers.iter().copied().max().unwrap_or(0);
        let named = names.filter(|names| count as usize <= names.len());
        let classes = named.unwrap_or_else(|| (0..count).map(|n| n.to_string()).collect());
        return (classes, numbers);
    }
    let mut classes = texts.to_vec();
    classes.sort_unstable();
    classes.dedup();
    let place = |text: &String| {
        let place = classes.binary_search(text).expect("every class is listed");
        u32::try_from(place).expect("fewer than 2^32 classes")
    };
    let labels = texts.iter().map(place).collect();
    (classes, labels)
}
