//! Lists of pictures: CSV, or one JSON object a line, with a path and a class for each.
//!
//! Paths count from the list's folder. Columns are found by their names, in any case: the path is
//! `path`, `file`, `file_name`, `filename`, `image`, `image_path` or `filepath`; the class is `label`,
//! `class`, `class_name`, `category` or `target`; a `split`, if there is one, is `train`, `val` or
//! `test`; pictures of one `group` (`group_id`, `patient`) are not torn apart when some are held back.
//! Without a header, the first column is the path and the second the class.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::files::{PictureFiles, Sample, is_picture};
use super::keyed::{classes, names_beside, text_of};
use super::layout::Part;
use super::place::{Entry, Store};
use super::{DataSet, Source};
use crate::error::DataError;

const PATHS: [&str; 7] =
    ["path", "file", "file_name", "filename", "image", "image_path", "filepath"];
const LABELS: [&str; 5] = ["label", "class", "class_name", "category", "target"];
const SPLITS: [&str; 2] = ["split", "part"];
const GROUPS: [&str; 3] = ["group", "group_id", "patient"];

/// A line of a list.
struct Row {
    path: String,
    label: String,
    part: Part,
    group: Option<Box<str>>,
}

/// Opens a list; none if the text is none.
pub(super) fn open(file: &Path, text: &str) -> Result<Option<DataSet>, DataError> {
    let rows = if text.trim_start().starts_with('{') { json(file, text) } else { csv(file, text) };
    let rows = rows?;
    if rows.is_empty() {
        return Ok(None);
    }
    let folder = file.parent().unwrap_or(Path::new("")).to_path_buf();
    let texts: Vec<String> = rows.iter().map(|row| row.label.clone()).collect();
    // All parts share one list of classes.
    let (classes, labels) = classes(&texts, names_beside(&folder));
    let store = Arc::new(Store::Folder(folder));
    let mut parts: BTreeMap<Part, Vec<Sample>> = BTreeMap::new();
    for (row, label) in rows.into_iter().zip(labels) {
        let entry = Entry { path: row.path.into(), archive: 0, offset: 0, len: 0 };
        parts.entry(row.part).or_default().push(Sample {
            entry,
            name_at: 0,
            label,
            group: row.group,
        });
    }
    let mut take = |part| -> Option<Arc<dyn Source>> {
        let samples = parts.remove(&part)?;
        Some(Arc::new(PictureFiles::new(store.clone(), classes.clone(), samples)))
    };
    let (train, val, test) = (take(Part::Train), take(Part::Val), take(Part::Test));
    Ok(Some(DataSet { train, val, test, ..DataSet::default() }))
}

fn fail(file: &Path, line: u64, found: impl std::fmt::Display) -> DataError {
    DataError::NotASet { place: format!("{}:{line}", file.display()), found: found.to_string() }
}

fn part_of(file: &Path, line: u64, word: Option<&str>) -> Result<Part, DataError> {
    match word.map(str::trim) {
        None | Some("") => Ok(Part::Train),
        Some(word) => Part::named(&word.to_ascii_lowercase()).ok_or_else(|| {
            fail(file, line, format!("a split {word:?}, expected train, val or test"))
        }),
    }
}

fn json(file: &Path, text: &str) -> Result<Vec<Row>, DataError> {
    let mut rows = Vec::new();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        let value: Value = serde_json::from_str(text).map_err(|error| fail(file, line, error))?;
        let find = |names: &[&str]| names.iter().find_map(|name| value.get(name));
        let (Some(path), Some(label)) = (find(&PATHS).and_then(Value::as_str), find(&LABELS))
        else {
            let expected = "an object without a path and a label";
            return Err(fail(file, line, expected));
        };
        let label = text_of(label);
        let part = part_of(file, line, find(&SPLITS).and_then(Value::as_str))?;
        let group = find(&GROUPS).filter(|group| !group.is_null());
        let group = group.map(text_of);
        rows.push(Row { path: path.to_string(), label, part, group: group.map(String::into) });
    }
    Ok(rows)
}

/// What separates the columns: the first of these that the first line has.
fn delimiter(text: &str) -> u8 {
    let first = text.lines().next().unwrap_or_default();
    [b'\t', b',', b';', b' '].into_iter().find(|&d| first.contains(d as char)).unwrap_or(b',')
}

fn csv(file: &Path, text: &str) -> Result<Vec<Row>, DataError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let (mut rows, mut columns) = (Vec::new(), None);
    for record in reader.records() {
        let record = record
            .map_err(|error| fail(file, error.position().map_or(0, csv::Position::line), error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let Some(Columns { path, label, split, group }) = columns else {
            columns = Some(match header(&record) {
                Some(columns) => columns,
                None if record.len() == 2 && is_picture(&record[0]) => {
                    let (path, label) = (record[0].to_string(), record[1].to_string());
                    rows.push(Row { path, label, part: Part::Train, group: None });
                    Columns { path: 0, label: 1, split: None, group: None }
                }
                // Text of another kind.
                None => return Ok(Vec::new()),
            });
            continue;
        };
        let split = split.and_then(|column| record.get(column));
        let part = part_of(file, line, split)?;
        let (path, label) = (record[path].to_string(), record[label].to_string());
        let group = group.and_then(|column| record.get(column)).filter(|group| !group.is_empty());
        rows.push(Row { path, label, part, group: group.map(Box::from) });
    }
    Ok(rows)
}

/// Which columns have what.
#[derive(Clone, Copy)]
struct Columns {
    path: usize,
    label: usize,
    split: Option<usize>,
    group: Option<usize>,
}

/// The columns, if this is a header.
fn header(record: &csv::StringRecord) -> Option<Columns> {
    let find = |names: &[&str]| {
        record.iter().position(|column| names.iter().any(|name| name.eq_ignore_ascii_case(column)))
    };
    Some(Columns {
        path: find(&PATHS)?,
        label: find(&LABELS)?,
        split: find(&SPLITS),
        group: find(&GROUPS),
    })
}
