//! Parquet as Hugging Face stores images: a column of pictures' bytes, and one of their classes.
//!
//! Source: <https://huggingface.co/docs/datasets>, "Image" and "ClassLabel" features. A picture is a group of
//! `bytes` and `path`; classes are numbers, whose names stand in the file's metadata under `huggingface`.
//! Pages are compressed and hold many pictures, so that none can be read alone: the pictures are copied once
//! into a temporary file without a name (below `TMPDIR`), and read from there in any order.

use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use parquet::schema::types::Type;
use serde_json::Value;

use super::Source;
use super::beside::Beside;
use super::files::{PictureFiles, Sample};
use super::keyed::classes;
use super::place::{Archive, Entry, Store};
use crate::error::DataError;

/// How a Parquet file begins.
pub(super) const START: [u8; 4] = *b"PAR1";
/// Names of the columns of pictures and of classes, the first that there is.
const PICTURES: [&str; 5] = ["image", "img", "picture", "jpg", "png"];
const LABELS: [&str; 7] = ["label", "labels", "fine_label", "class", "target", "category", "cls"];

/// Opens files as one set, in their order; their names are for messages.
///
/// # Errors
/// When one is no Parquet file, has not the two columns, or a row without a picture.
pub(super) fn open<R: ChunkReader + 'static>(
    files: Vec<(PathBuf, R)>,
    beside: &Beside,
) -> Result<Arc<dyn Source>, DataError> {
    let mut names = None;
    let (mut archives, mut samples, mut texts) = (Vec::new(), Vec::new(), Vec::new());
    for (number, (path, file)) in (0..).zip(files) {
        let fail = |found: String| DataError::NotASet { place: path.display().to_string(), found };
        let unreadable = |error: ParquetError| match error {
            ParquetError::External(error) => match error.downcast::<DataError>() {
                Ok(error) => *error,
                Err(error) => fail(format!("not readable as Parquet: {error}")),
            },
            error => fail(format!("not readable as Parquet: {error}")),
        };
        let io = |source| DataError::Io { path: path.clone(), source };
        let size = file.len();
        let reader = SerializedFileReader::new(file).map_err(unreadable)?;
        check_places(reader.metadata(), size).map_err(fail)?;
        let columns = Columns::find(reader.metadata().file_metadata().schema()).map_err(fail)?;
        names = names.or_else(|| names_of(reader.metadata(), &columns.label));
        let mut copy = BufWriter::new(tempfile::tempfile().map_err(io)?);
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        let rows = reader.get_row_iter(Some(columns.projection.clone())).map_err(unreadable)?;
        let mut offset = 0;
        for (at, row) in rows.enumerate() {
            let row = row.map_err(unreadable)?;
            let in_row = |found: &str| fail(format!("row {at}: {found}"));
            let (bytes, label) = columns.take(&row).map_err(in_row)?;
            copy.write_all(bytes).map_err(io)?;
            let (entry_path, len) = (format!("{stem}/{at}").into(), bytes.len() as u64);
            let entry = Entry { path: entry_path, archive: number, offset, len };
            samples.push(Sample { entry, name_at: 0, label: 0, group: None });
            texts.push(label);
            offset += len;
        }
        let copy = copy.into_inner().map_err(|error| io(error.into_error()))?;
        archives.push(Archive::copied(path.clone(), copy));
    }
    let (classes, labels) = classes(&texts, names.or_else(|| beside.class_names()));
    for (sample, label) in samples.iter_mut().zip(labels) {
        sample.label = label;
    }
    Ok(Arc::new(PictureFiles::new(Arc::new(Store::Archives(archives)), classes, samples)))
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
        let names = (picture.name().to_string(), label.name().to_string());
        let projection = Type::group_type_builder(schema.name())
            .with_fields(vec![picture, label])
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Columns { picture: names.0, label: names.1, projection })
    }

    /// The bytes of a row's picture, and its class as text.
    fn take<'a>(&self, row: &'a Row) -> Result<(&'a [u8], String), &'static str> {
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
        let label = match column(&self.label) {
            Some(Field::Str(text)) => text.clone(),
            Some(
                number @ (Field::Byte(_)
                | Field::Short(_)
                | Field::Int(_)
                | Field::Long(_)
                | Field::UByte(_)
                | Field::UShort(_)
                | Field::UInt(_)
                | Field::ULong(_)
                | Field::Bool(_)),
            ) => number.to_string(),
            _ => return Err("no class in it, neither a number nor a text"),
        };
        Ok((bytes.data(), label))
    }
}

/// The names of the classes, from `{"info": {"features": {LABEL: {"names": [...]}}}}` in the metadata.
fn names_of(metadata: &ParquetMetaData, label: &str) -> Option<Vec<String>> {
    let metadata = metadata.file_metadata().key_value_metadata()?;
    let entry = metadata.iter().find(|entry| entry.key == "huggingface")?;
    let value: Value = serde_json::from_str(entry.value.as_deref()?).ok()?;
    let names = value.get("info")?.get("features")?.get(label)?.get("names")?.as_array()?;
    names.iter().map(|name| name.as_str().map(str::to_string)).collect()
}
