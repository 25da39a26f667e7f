//! Which files of a place are the pictures of which part and class.
//!
//! The folder that a file lies in, below the split's, names its class; deeper folders belong to it.
//! Files that are no pictures by name, or lie in no class, are kept apart and counted; what a file
//! really is shows when it is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::files::{PictureFiles, Sample, is_picture};
use super::place::{Entry, Store};
use super::{DataSet, Source};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Train,
    Val,
    Test,
}

impl Part {
    /// The part of a name.
    pub(super) fn named(name: &str) -> Option<Part> {
        match name {
            "train" => Some(Part::Train),
            "val" | "valid" | "validation" => Some(Part::Val),
            "test" => Some(Part::Test),
            _ => None,
        }
    }
}

/// Sorts files into `train/`, `val/` and `test/`, or takes all as one list. There may be none.
pub(super) fn by_folder(store: Arc<Store>, entries: Vec<Entry>, place: &str) -> DataSet {
    let below = common_folder(&entries);
    let is_split = entries.iter().any(|entry| {
        let inside = entry.path.strip_prefix(&below).unwrap_or_default();
        is_picture(&entry.path) && split_of(inside) == Some(Part::Train)
    });
    let mut parts: BTreeMap<Part, Vec<Sample>> = BTreeMap::new();
    let mut others = Vec::new();
    for entry in entries {
        // Shards that we packed have folders by class, and classes beside the pictures.
        if store.is_archives() && entry.path.ends_with(".cls") {
            continue;
        }
        // What lies beside the folder of all pictures is none.
        let inside = entry.path.strip_prefix(&below).unwrap_or_default();
        let (part, rest) = match (is_split, inside.split_once('/')) {
            (false, _) => (Some(Part::Train), inside),
            (true, Some((_, rest))) => (split_of(inside), rest),
            (true, None) => (None, inside),
        };
        let name_at = u32::try_from(entry.path.len() - rest.len()).expect("paths are short");
        let part = part.filter(|_| rest.contains('/') && is_picture(&entry.path));
        let sample = Sample { entry, name_at, label: 0, group: None };
        match part {
            Some(part) => parts.entry(part).or_default().push(sample),
            None => others.push(sample),
        }
    }
    let mut take = |part: Part| -> Option<Arc<dyn Source>> {
        let samples = parts.remove(&part)?;
        Some(Arc::new(PictureFiles::by_folder(store.clone(), samples)))
    };
    let (train, val, test) = (take(Part::Train), take(Part::Val), take(Part::Test));
    let mut notices = Vec::new();
    if !others.is_empty() {
        let count = others.len();
        notices.push(format!("{place}: passed over {count} files that are no pictures of a class"));
    }
    let others = unlabelled(&store, others);
    DataSet { train, val, test, others, notices }
}

/// Files without a class, by name.
fn unlabelled(store: &Arc<Store>, mut samples: Vec<Sample>) -> Option<Arc<dyn Source>> {
    if samples.is_empty() {
        return None;
    }
    samples.sort_unstable_by(|a, b| a.entry.path.cmp(&b.entry.path));
    samples.iter_mut().for_each(|sample| sample.name_at = 0);
    Some(Arc::new(PictureFiles::new(store.clone(), vec![String::new()], samples)))
}

/// The part that the first folder of a path names.
fn split_of(path: &str) -> Option<Part> {
    Part::named(path.split_once('/')?.0)
}

/// The folder that all pictures lie in, as archives often have one: `flowers/` of `flowers/rose/1.jpg`.
/// Empty without one, or if it is a split itself.
fn common_folder(entries: &[Entry]) -> String {
    let mut pictures = entries.iter().filter(|entry| is_picture(&entry.path)).peekable();
    let Some((first, _)) = pictures.peek().and_then(|entry| entry.path.split_once('/')) else {
        return String::new();
    };
    let folder = format!("{first}/");
    // A class and the file must remain below it.
    let shared = pictures
        .all(|entry| entry.path.starts_with(&folder) && 2 <= entry.path.matches('/').count());
    if shared && split_of(&folder).is_none() { folder } else { String::new() }
}
