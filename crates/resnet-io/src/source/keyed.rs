//! Tar shards as WebDataset writes them: files that share a name make a sample.
//!
//! `000123.jpg` and `000123.cls` are a picture and its class, as text; or `000123.json` has it under
//! `label`, `cls` or `class`, or several in an array there or under `labels`. Source: <https://github.com/webdataset/webdataset>, "The WebDataset Format":
//! the name of a sample ends at the first dot behind the last slash.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use super::DataSet;
use super::files::{Sample, is_picture};
use super::labels::{self, Named};
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
) -> Result<DataSet, DataError> {
    let mut labels: HashMap<(u32, String), Named> = HashMap::new();
    for entry in entries.iter().filter(|entry| is_label(&entry.path)) {
        if let Some(label) = store.label(entry)? {
            let key = (entry.archive, key(&entry.path).to_string());
            // A `.json` beside a `.cls` is about other things.
            if entry.path.ends_with(".cls") {
                labels.insert(key, label);
            } else {
                labels.entry(key).or_insert(label);
            }
        }
    }
    let (mut samples, mut named) = (Vec::new(), Vec::new());
    for entry in entries.into_iter().filter(|entry| is_picture(&entry.path)) {
        let own = labels.get(&(entry.archive, key(&entry.path).to_string()));
        let Some(label) = own else {
            let place = store.name(entry.archive, &entry.path);
            let found = "no class beside it, in a .cls or .json file of its name".to_string();
            return Err(DataError::NotASet { place, found });
        };
        named.push(label.clone());
        samples.push(Sample { entry, name_at: 0, label: 0, group: None });
    }
    with_labels(store.clone(), samples, &named, names)
}

/// Files of archives with what was said of their classes.
///
/// # Errors
/// The first file that has one class where those before it have lists of them, or the other way round.
pub(super) fn with_labels(
    store: Arc<Store>,
    samples: Vec<Sample>,
    named: &[Named],
    names: Option<Vec<String>>,
) -> Result<DataSet, DataError> {
    if samples.is_empty() {
        return Ok(DataSet::default());
    }
    let classes = labels::classes((0..).zip(named), Vec::new(), names).map_err(|(at, found)| {
        let Entry { archive, path, .. } = &samples.get(at as usize).unwrap_or(&samples[0]).entry;
        let place = store.name(*archive, path);
        DataError::NotASet { place, found }
    })?;
    let notices = classes.notice.clone().into_iter().collect();
    Ok(DataSet { train: Some(classes.source(store, samples)), notices, ..DataSet::default() })
}

/// What a label file says.
pub(super) fn label(path: &str, bytes: &[u8]) -> Option<Named> {
    let text = std::str::from_utf8(bytes).ok()?;
    if path.ends_with(".cls") {
        return Some(Named::One(text.trim().to_string()));
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let many = |labels: &[Value]| Named::Many(labels.iter().map(text_of).collect());
    match ["label", "cls", "class"].iter().find_map(|key| value.get(key)) {
        Some(Value::Array(labels)) => Some(many(labels)),
        Some(label) => Some(Named::One(text_of(label))),
        None => match value.get("labels")? {
            Value::Array(labels) => Some(many(labels)),
            Value::Null => Some(many(&[])),
            label => Some(many(std::slice::from_ref(label))),
        },
    }
}

/// A JSON value as text: a text without its quotes.
pub(super) fn text_of(value: &Value) -> String {
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
