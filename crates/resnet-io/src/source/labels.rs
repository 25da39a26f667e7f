//! The classes that a line of a list, a row or a file names: one, or several.
//!
//! One stands in a column `label` (or `class`, `class_name`, `category`, `target`). Several stand in a column
//! `labels` (`tags`, `classes`, `categories`, `finding labels`), between `|` where any line of the list has
//! one, else `;`, else `,`, else blanks; nothing is none. Or each class has a column of its own that holds 0
//! or 1: those are all columns but path, split and group, where none of the above is there. In JSON several
//! are an array, under any of these names.
//!
//! Sources: the NIH's ChestX-ray14 has `|` in `Finding Labels`, fastai's PASCAL blanks in `labels`, Kaggle's
//! Planet blanks in `tags`, its Plant Pathology columns of 0 and 1, Hugging Face's metadata.jsonl arrays.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::files::{PictureFiles, Sample};
use super::keyed::{self, text_of};
use super::place::Store;
use super::{MultiLabel, Source};

const LABEL: [&str; 5] = ["label", "class", "class_name", "category", "target"];
const LABELS: [&str; 6] =
    ["labels", "tags", "classes", "categories", "finding labels", "finding_labels"];

/// What stands between classes: the first of these that any line has, else blanks.
const SEPARATORS: [char; 3] = ['|', ';', ','];

/// The classes of a line, as text.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Named {
    /// Exactly one.
    One(String),
    /// Any number, each by itself.
    Many(Vec<String>),
    /// Any number in one text, with something between them.
    Joined(String),
    /// One by its column, as far as it is there: 0 or 1 for each, under the header's names.
    Flags(Vec<bool>),
}

/// Where a table has the classes.
pub(super) enum LabelColumns {
    One(usize),
    Joined(usize),
    /// A column for each class, with its name.
    Flags(Vec<(usize, String)>),
}

impl LabelColumns {
    /// The columns of a header that have classes; `is_taken` says which ones have something else.
    pub(super) fn find(
        header: &csv::StringRecord,
        is_taken: impl Fn(usize) -> bool,
    ) -> Option<LabelColumns> {
        let find = |names: &[&str]| {
            let is_one = |column: &str| names.iter().any(|name| name.eq_ignore_ascii_case(column));
            header.iter().position(is_one)
        };
        if let Some(column) = find(&LABEL) {
            return Some(LabelColumns::One(column));
        }
        if let Some(column) = find(&LABELS) {
            return Some(LabelColumns::Joined(column));
        }
        let own = header.iter().enumerate().filter(|(column, _)| !is_taken(*column));
        let own: Vec<(usize, String)> = own.map(|(i, name)| (i, name.to_string())).collect();
        (!own.is_empty()).then_some(LabelColumns::Flags(own))
    }

    /// The classes that have a column of their own.
    pub(super) fn names(self) -> Vec<String> {
        match self {
            LabelColumns::One(_) | LabelColumns::Joined(_) => Vec::new(),
            LabelColumns::Flags(columns) => columns.into_iter().map(|(_, name)| name).collect(),
        }
    }

    /// The classes of a line.
    ///
    /// # Errors
    /// A column of a class that holds neither 0 nor 1, in words.
    pub(super) fn read(&self, record: &csv::StringRecord) -> Result<Named, String> {
        match self {
            LabelColumns::One(column) => Ok(Named::One(record[*column].to_string())),
            LabelColumns::Joined(column) => Ok(Named::Joined(record[*column].to_string())),
            LabelColumns::Flags(columns) => {
                let flag = |(column, name): &(usize, String)| match &record[*column] {
                    "0" | "0.0" => Ok(false),
                    "1" | "1.0" => Ok(true),
                    found => Err(format!(
                        "{found:?} in column {name:?}: without a column label or labels, each \
                         column is a class and holds 0 or 1"
                    )),
                };
                columns.iter().map(flag).collect::<Result<_, _>>().map(Named::Flags)
            }
        }
    }
}

/// The classes that a line's object names.
pub(super) fn of_object(object: &Value) -> Option<Named> {
    let find = |names: &[&str]| names.iter().find_map(|name| object.get(name));
    match (find(&LABEL), find(&LABELS)) {
        (Some(Value::Array(names)), _) | (None, Some(Value::Array(names))) => {
            Some(Named::Many(names.iter().map(text_of).collect()))
        }
        (Some(name), _) => Some(Named::One(text_of(name))),
        (None, Some(Value::Null)) => Some(Named::Many(Vec::new())),
        (None, Some(name)) => Some(Named::Many(vec![text_of(name)])),
        (None, None) => None,
    }
}

/// The classes of a list.
pub(super) struct Classes {
    /// All, in their order.
    pub(super) names: Vec<String>,
    /// Of each line.
    pub(super) labels: Vec<Vec<u32>>,
    /// Whether a line may have any number of them.
    pub(super) is_multi_label: bool,
    /// How lines with any number were understood.
    pub(super) notice: Option<String>,
}

impl Classes {
    /// Files with their classes, in the order of the lines.
    pub(super) fn source(self, store: Arc<Store>, mut samples: Vec<Sample>) -> Arc<dyn Source> {
        for (sample, labels) in samples.iter_mut().zip(&self.labels) {
            sample.label = labels.first().copied().unwrap_or(0);
        }
        let files = Arc::new(PictureFiles::new(store, self.names.clone(), samples));
        match self.is_multi_label {
            true => Arc::new(MultiLabel::new(files, self.names, self.labels)),
            false => files,
        }
    }
}

/// Classes and labels of all lines. `columns` are the names of those that have a column of their own; `names`
/// are the classes, where lines have numbers.
///
/// # Errors
/// The first line that has another kind of classes than those before it, in words; a list without any.
pub(super) fn classes<'a>(
    rows: impl Iterator<Item = (u64, &'a Named)> + Clone,
    columns: Vec<String>,
    names: Option<Vec<String>>,
) -> Result<Classes, (u64, String)> {
    let is_one = |named: &Named| matches!(named, Named::One(_));
    let mut kinds = rows.clone();
    let is_multi_label = kinds.next().is_some_and(|(_, first)| !is_one(first));
    if let Some((line, _)) = kinds.find(|(_, named)| is_one(named) == is_multi_label) {
        let (found, before) = match is_multi_label {
            true => ("one class", "lists of classes"),
            false => ("a list of classes", "one class each"),
        };
        return Err((line, format!("{found}, where the lines before it have {before}")));
    }
    if !columns.is_empty() {
        return Ok(flagged(rows, columns));
    }
    let joined = rows.clone().filter_map(|(_, named)| match named {
        Named::Joined(text) => Some(text.as_str()),
        Named::One(_) | Named::Many(_) | Named::Flags(_) => None,
    });
    let separator = SEPARATORS.into_iter().find(|&s| joined.clone().any(|text| text.contains(s)));
    let is_joined = joined.clone().next().is_some();
    let texts: Vec<Vec<String>> = rows.map(|(_, named)| texts(named, separator)).collect();
    let all: Vec<String> = texts.iter().flatten().cloned().collect();
    if all.is_empty() {
        return Err((1, "no line has a class".to_string()));
    }
    let (names, numbers) = keyed::classes(&all, names);
    let mut numbers = numbers.into_iter();
    let labels = texts.iter().map(|texts| numbers.by_ref().take(texts.len()).collect()).collect();
    let how = match (is_joined, separator) {
        (false, _) => String::new(),
        (true, Some(separator)) => format!(", with {separator:?} between them"),
        (true, None) => ", with blanks between them".to_string(),
    };
    let notice = format!("any number of {} classes a picture{how}", names.len());
    Ok(Classes { names, labels, is_multi_label, notice: is_multi_label.then_some(notice) })
}

/// The classes that have a column each, in the order of the columns.
fn flagged<'a>(rows: impl Iterator<Item = (u64, &'a Named)>, names: Vec<String>) -> Classes {
    let labels = rows.map(|(_, named)| match named {
        Named::Flags(flags) => {
            (0..).zip(flags).filter(|(_, flag)| **flag).map(|(i, _)| i).collect()
        }
        Named::One(_) | Named::Many(_) | Named::Joined(_) => Vec::new(),
    });
    let (labels, is_multi_label) = (labels.collect(), true);
    let notice = format!("any number of {} classes a picture, a column each", names.len());
    Classes { names, labels, is_multi_label, notice: Some(notice) }
}

/// The classes of a line, one by one.
fn texts(named: &Named, separator: Option<char>) -> Vec<String> {
    let split = |text: &str| -> Vec<String> {
        let owned = |part: &str| (!part.is_empty()).then(|| part.to_string());
        match separator {
            Some(separator) => text.split(separator).map(str::trim).filter_map(owned).collect(),
            None => text.split_whitespace().filter_map(owned).collect(),
        }
    };
    match named {
        Named::One(name) => vec![name.clone()],
        Named::Many(names) => names.clone(),
        Named::Joined(text) => split(text),
        Named::Flags(_) => Vec::new(),
    }
}
