//! Parquet as Hugging Face stores images: a column of pictures' bytes, and one of their classes.
//!
//! Source: <https://huggingface.co/docs/datasets>, "Image", "ClassLabel" and "List" features. A picture is a group of
//! `bytes` and `path`; classes are numbers, whose names stand in the file's metadata under `huggingface`, or lists of
//! such numbers. Pages are compressed and hold many pictures, so that none can be read alone: the pictures are copied
//! into a file that is kept, and read from there in any order.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::DataSet;
use super::beside::Beside;
use super::files::Sample;
use super::kept::{self, Packed};
use super::keyed;
use super::labels::Named;
use super::place::{self, Archive, Entry, Store};
use crate::error::DataError;

/// How a Parquet file begins.
pub(super) const START: [u8; 4] = *b"PAR1";
/// Names of the columns of pictures and of classes, the first that there is.
const PICTURES: [&str; 5] = ["image", "img", "picture", "jpg", "png"];
const LABELS: [&str; 7] = ["label", "labels", "fine_label", "class", "target", "category", "cls"];

/// The form of a copy; another one is made anew.
const FORM: u32 = 1;

/// A file of a set.
pub(super) struct Table<R> {
    /// What it is called in messages.
    pub(super) name: PathBuf,
    /// Which one it is.
    pub(super) packed: Packed,
    pub(super) content: R,
}

/// What a copy says behind the pictures: JSON, whose length stands in the last eight bytes.
#[derive(Serialize, Deserialize)]
struct Contents {
    form: u32,
    /// The names of the classes, if the file has them.
    names: Option<Vec<String>>,
    /// How many bytes each picture has, and its classes.
    rows: Vec<(u64, Named)>,
}

/// Opens files as one set, in their order. Copies of their pictures are kept in the folder `cache`, about which there
/// is a notice.
///
/// # Errors
/// When one is no Parquet file, has not the two columns, or a row without a picture.
pub(super) fn open<R: ChunkReader + 'static>(
    tables: Vec<Table<R>>,
    beside: &Beside,
    cache: Option<&Path>,
) -> Result<DataSet, DataError> {
    let mut names = None;
    let (mut copies, mut paths, mut samples, mut named) = (vec![], vec![], vec![], vec![]);
    for (number, Table { name, packed, content }) in (0..).zip(tables) {
        let mut found = None;
        let is_whole = |file: &mut File| {
            found = contents(file);
            found.is_some()
        };
        let fill = |to: &mut File| copy(&name, content, to);
        let mut unpacked = kept::keep(&packed, ".pictures", cache, is_whole, fill)?;
        let contents = found.or_else(|| contents(&mut unpacked.file)).ok_or_else(|| {
            let source = io::Error::other("a copy that was made just now cannot be read");
            DataError::Io { path: name.clone(), source }
        })?;
        names = names.or(contents.names);
        let stem = name.file_stem().unwrap_or_default().to_string_lossy();
        let mut offset = 0;
        for (at, (len, classes)) in contents.rows.into_iter().enumerate() {
            let path = format!("{stem}/{at}").into();
            let entry = Entry { path, archive: number, offset, len };
            samples.push(Sample { entry, name_at: 0, label: 0, group: None });
            named.push(classes);
            offset += len;
        }
        copies.push(unpacked);
        paths.push(name);
    }
    let made = place::made_notice(&copies, "Parquet file");
    let copies = paths.into_iter().zip(copies);
    let archives = copies.map(|(name, copy)| Archive::copied(name, copy.file)).collect();
    let store = Arc::new(Store::Archives(archives));
    let names = names.or_else(|| beside.class_names());
    let mut set = keyed::with_labels(store, samples, &named, names)?;
    set.notices.extend(made);
    Ok(set)
}

/// What a copy holds, if it is whole.
fn contents(file: &mut File) -> Option<Contents> {
    let end = file.seek(SeekFrom::End(-8)).ok()?;
    let mut tail = [0; 8];
    file.read_exact(&mut tail).ok()?;
    let len = u64::from_le_bytes(tail);
    let start = end.checked_sub(len)?;
    file.seek(SeekFrom::Start(start)).ok()?;
    let contents: Contents = serde_json::from_reader(BufReader::new(file.take(len))).ok()?;
    let pictures = contents.rows.iter().try_fold(0, |sum: u64, (len, _)| sum.checked_add(*len));
    (contents.form == FORM && pictures == Some(start)).then_some(contents)
}

/// Copies the pictures of a file, and what it says about them behind.
fn copy<R: ChunkReader + 'static>(name: &Path, file: R, to: &mut File) -> Result<(), DataError> {
    let fail = |found: String| DataError::NotASet { place: name.display().to_string(), found };
    let unreadable = |error: ParquetError| match error {
        ParquetError::External(error) => match error.downcast::<DataError>() {
            Ok(error) => *error,
            Err(error) => fail(format!("not readable as Parquet: {error}")),
        },
        error => fail(format!("not readable as Parquet: {error}")),
    };
    let io = |source| DataError::Io { path: name.into(), source };
    let size = file.len();
    let reader = SerializedFileReader::new(file).map_err(unreadable)?;
    check_places(reader.metadata(), size).map_err(fail)?;
    let columns = Columns::find(reader.metadata().file_metadata().schema()).map_err(fail)?;
    let names = names_of(reader.metadata(), &columns.label);
    let mut contents = Contents { form: FORM, names, rows: Vec::new() };
    let mut to = BufWriter::new(to);
    let rows = reader.get_row_iter(Some(columns.projection.clone())).map_err(unreadable)?;
    for (at, row) in rows.enumerate() {
        let row = row.map_err(unreadable)?;
        let in_row = |found: &str| fail(format!("row {at}: {found}"));
        let (bytes, classes) = columns.take(&row).map_err(in_row)?;
        to.write_all(bytes).map_err(io)?;
        contents.rows.push((bytes.len() as u64, classes));
    }
    let contents = serde_json::to_vec(&contents).expect("numbers and texts always serialise");
    to.write_all(&contents).map_err(io)?;
    to.write_all(&(contents.len() as u64).to_le_bytes()).map_err(io)?;
    to.flush().map_err(io)
}

/// The library takes it for granted that columns lie within the file, and panics otherwise.
fn check_places(metadata: &ParquetMetaData, size: u64) -> Result<(), String> {
    let columns = metadata.row_groups().iter().flat_map(|group| group.columns());
    for column in columns {
        let begin = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let end = begin.checked_add(column.compressed_size());
        let fits = 0 <= begin
            && 0 <= column.compressed_size()
            && end.is_some_and(|end| end.cast_unsigned() <= size);
        if !fits {
            return Err("not readable as Parquet: a column lies outside of the file".to_string());
        }
    }
    Ok(())
}

/// The two columns of a file.
struct Columns {
    picture: String,
    label: String,
    /// Whether a row has a list of classes.
    is_list: bool,
    /// A schema of them alone.
    projection: Type,
}

impl Columns {
    fn find(schema: &Type) -> Result<Columns, String> {
        let fields = schema.get_fields();
        let find = |names: &[&str], what: &str| {
            let field = names.iter().find_map(|name| fields.iter().find(|f| f.name() == *name));
            field.cloned().ok_or_else(|| {
                let there: Vec<&str> = fields.iter().map(|field| field.name()).collect();
                let (names, there) = (names.join(", "), there.join(", "));
                format!("no column of {what} ({names}) among its columns: {there}")
            })
        };
        let (picture, label) = (find(&PICTURES, "pictures")?, find(&LABELS, "classes")?);
        let (names, is_list) = ((picture.name().into(), label.name().into()), label.is_group());
        let projection = Type::group_type_builder(schema.name())
            .with_fields(vec![picture, label])
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Columns { picture: names.0, label: names.1, is_list, projection })
    }

    /// The bytes of a row's picture, and its classes.
    fn take<'a>(&self, row: &'a Row) -> Result<(&'a [u8], Named), &'static str> {
        let column = |name: &str| {
            row.get_column_iter().find(|(column, _)| *column == name).map(|(_, field)| field)
        };
        let bytes = match column(&self.picture) {
            Some(Field::Bytes(bytes)) => Some(bytes),
            Some(Field::Group(picture)) => {
                picture.get_column_iter().find_map(|(name, field)| match field {
                    Field::Bytes(bytes) if name == "bytes" => Some(bytes),
                    _ => None,
                })
            }
            _ => None,
        };
        let bytes = bytes.ok_or("no picture in it; pictures that lie elsewhere are not fetched")?;
        let classes = match column(&self.label) {
            Some(Field::ListInternal(list)) => {
                list.elements().iter().map(text_of).collect::<Option<_>>().map(Named::Many)
            }
            Some(Field::Null) | None if self.is_list => Some(Named::Many(Vec::new())),
            Some(field) => text_of(field).map(Named::One),
            None => None,
        };
        let classes = classes.ok_or("no class in it, neither a number nor a text, nor a list")?;
        Ok((bytes.data(), classes))
    }
}

/// A class as text.
fn text_of(field: &Field) -> Option<String> {
    match field {
        Field::Str(text) => Some(text.clone()),
        Field::Byte(_)
        | Field::Short(_)
        | Field::Int(_)
        | Field::Long(_)
        | Field::UByte(_)
        | Field::UShort(_)
        | Field::UInt(_)
        | Field::ULong(_)
        | Field::Bool(_) => Some(field.to_string()),
        _ => None,
    }
}

/// The names of the classes, from `{"info": {"features": {LABEL: {"names": [...]}}}}` in the metadata; those of a list
/// stand one deeper, under `feature`.
fn names_of(metadata: &ParquetMetaData, label: &str) -> Option<Vec<String>> {
    let metadata = metadata.file_metadata().key_value_metadata()?;
    let entry = metadata.iter().find(|entry| entry.key == "huggingface")?;
    let value: Value = serde_json::from_str(entry.value.as_deref()?).ok()?;
    let feature = value.get("info")?.get("features")?.get(label)?;
    // Before version 2 of the library, a list was an array of one feature.
    let feature = feature.get("feature").or_else(|| feature.get(0)).unwrap_or(feature);
    let names = feature.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_string)).collect()
}
