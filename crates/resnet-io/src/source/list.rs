//! Lists of pictures: CSV, or one JSON object a line, with a path and a class for each.
//!
//! Paths count from the list's folder. Columns are found by their names, in any case: the path is
//! `path`, `file`, `file_name`, `filename`, `image`, `image_path` or `filepath`; a `split`, if there is
//! one, is `train`, `val` or `test`; pictures of one `group` (`group_id`, `patient`) are not torn apart when
//! some are held back. The class is `label`, `class`, `class_name`, `category` or `target`; [`labels`] says
//! how a line names several. Without a header, the first column is the path and the second the class.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use super::files::{PictureFiles, Sample, is_picture};
use super::keyed::text_of;
use super::labels::{self, Classes, LabelColumns, Named};
use super::layout::Part;
use super::place::{Entry, Store};
use super::{DataSet, MultiLabel, Source};
use crate::error::DataError;

const PATHS: [&str; 7] =
    ["path", "file", "file_name", "filename", "image", "image_path", "filepath"];
const SPLITS: [&str; 2] = ["split", "part"];
const GROUPS: [&str; 3] = ["group", "group_id", "patient"];

/// A line of a list.
struct Row {
    line: u64,
    path: String,
    classes: Named,
    part: Part,
    group: Option<Box<str>>,
}

/// Opens a list of pictures in `store`, whose classes are called `names` if they are numbers; none if the
/// text is none.
pub(super) fn open(
    file: &Path,
    text: &str,
    store: Store,
    names: Option<Vec<String>>,
) -> Result<Option<DataSet>, DataError> {
    let is_json = text.trim_start().starts_with('{');
    let (rows, columns) = if is_json { (json(file, text)?, Vec::new()) } else { csv(file, text)? };
    if rows.is_empty() {
        return Ok(None);
    }
    // All parts share one list of classes.
    let named = rows.iter().map(|row| (row.line, &row.classes));
    let Classes { names, labels, is_multi_label, notice } =
        labels::classes(named, columns, names).map_err(|(line, found)| fail(file, line, found))?;
    let store = Arc::new(store);
    let mut parts: BTreeMap<Part, (Vec<Sample>, Vec<Vec<u32>>)> = BTreeMap::new();
    for (row, labels) in rows.into_iter().zip(labels) {
        let entry = Entry { path: row.path.into(), archive: 0, offset: 0, len: 0 };
        let (label, group) = (labels.first().copied().unwrap_or(0), row.group);
        let part = parts.entry(row.part).or_default();
        part.0.push(Sample { entry, name_at: 0, label, group });
        part.1.push(labels);
    }
    let mut take = |part| -> Option<Arc<dyn Source>> {
        let (samples, labels) = parts.remove(&part)?;
        let files: Arc<dyn Source> =
            Arc::new(PictureFiles::new(store.clone(), names.clone(), samples));
        Some(match is_multi_label {
            true => Arc::new(MultiLabel::new(files, names.clone(), labels)),
            false => files,
        })
    };
    let (train, val, test) = (take(Part::Train), take(Part::Val), take(Part::Test));
    let notices = notice.map(|notice| format!("{}: {notice}", file.display()));
    let notices = notices.into_iter().collect();
    Ok(Some(DataSet { train, val, test, notices, ..DataSet::default() }))
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
        let (Some(path), Some(classes)) =
            (find(&PATHS).and_then(Value::as_str), labels::of_object(&value))
        else {
            let expected = "an object without a path and a label";
            return Err(fail(file, line, expected));
        };
        let part = part_of(file, line, find(&SPLITS).and_then(Value::as_str))?;
        let group = find(&GROUPS).filter(|group| !group.is_null());
        let group = group.map(text_of);
        let (path, group) = (path.to_string(), group.map(String::into));
        rows.push(Row { line, path, classes, part, group });
    }
    Ok(rows)
}

/// What separates the columns: the first of these that the first line has.
fn delimiter(text: &str) -> u8 {
    let first = text.lines().next().unwrap_or_default();
    [b'\t', b',', b';', b' '].into_iter().find(|&d| first.contains(d as char)).unwrap_or(b',')
}

/// The rows of a table, and the classes that have a column of their own.
fn csv(file: &Path, text: &str) -> Result<(Vec<Row>, Vec<String>), DataError> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(text))
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(text.trim_start_matches('\u{feff}').as_bytes());
    let (mut rows, mut columns): (Vec<Row>, Option<Columns>) = (Vec::new(), None);
    for record in reader.records() {
        let record = record
            .map_err(|error| fail(file, error.position().map_or(0, csv::Position::line), error))?;
        let line = record.position().map_or(0, csv::Position::line);
        let Some(Columns { path, labels, split, group }) = &columns else {
            columns = Some(match header(&record) {
                Some(columns) => columns,
                None if record.len() == 2 && is_picture(&record[0]) => {
                    let (path, classes) = (record[0].to_string(), Named::One(record[1].into()));
                    rows.push(Row { line, path, classes, part: Part::Train, group: None });
                    Columns { path: 0, labels: LabelColumns::One(1), split: None, group: None }
                }
                // Text of another kind.
                None => return Ok((Vec::new(), Vec::new())),
            });
            continue;
        };
        let split = split.and_then(|column| record.get(column));
        let part = part_of(file, line, split)?;
        let path = record[*path].to_string();
        let classes = labels.read(&record).map_err(|found| fail(file, line, found))?;
        let group = group.and_then(|column| record.get(column)).filter(|group| !group.is_empty());
        rows.push(Row { line, path, classes, part, group: group.map(Box::from) });
    }
    let of_columns = columns.map(|columns| columns.labels.names());
    Ok((rows, of_columns.unwrap_or_default()))
}

/// Which columns have what.
struct Columns {
    path: usize,
    labels: LabelColumns,
    split: Option<usize>,
    group: Option<usize>,
}

/// The columns, if this is a header.
fn header(record: &csv::StringRecord) -> Option<Columns> {
    let find = |names: &[&str]| {
        record.iter().position(|column| names.iter().any(|name| name.eq_ignore_ascii_case(column)))
    };
    let (path, split, group) = (find(&PATHS)?, find(&SPLITS), find(&GROUPS));
    let others = [Some(path), split, group];
    let labels = LabelColumns::find(record, |column| others.contains(&Some(column)))?;
    Some(Columns { path, labels, split, group })
}
