//! Packing a set into tar shards: fewer, larger files, optionally of smaller pictures.
//!
//! A shard `train-000007.tar` holds `class/file` of so many samples in the source's order, and beside each
//! picture its class as a number, as WebDataset has it; `classes.txt` names them. Where pictures have any number
//! of classes, there are no folders, and a `.json` beside each picture has an array of numbers. A shard is written under
//! another name, synced, read back and compared, then renamed: so one that is there is whole, and a packing
//! that was stopped goes on behind the last. `pack.json` says what the shards were made from and how.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::decode::{Exif, decode_by};
use crate::encode;
use crate::error::{DataError, io_at};
use crate::readable::{for_each, pool};
use crate::resize::{Filter, resize, shorter_side};
use crate::source::{DataSet, Encoded, Labels, Source};
use crate::weights::atomic;

/// How to pack.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// The folder of the shards.
    pub out: PathBuf,
    /// Pixels of the shorter side of larger pictures; smaller ones stay as they are. Without it, files are copied
    /// byte by byte.
    pub side: Option<usize>,
    /// Quality of the JPEGs that scaled pictures become.
    pub quality: u8,
    /// Samples of a shard.
    pub shard_images: usize,
    /// Threads that read, decode and encode.
    pub threads: usize,
}

/// What was packed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PackReport {
    /// Shards in all.
    pub shards: usize,
    /// Those that were there already.
    pub kept: usize,
    /// Pictures of the shards written now.
    pub images: usize,
    /// Bytes of the shards written now.
    pub bytes: u64,
    /// Pictures of them that could not be read and were left out, with the reason.
    pub broken: Vec<String>,
}

/// What the shards of a folder were made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Plan {
    side: Option<usize>,
    quality: u8,
    shard_images: usize,
    /// For each part its name, its samples, and a hash of their identities and classes.
    parts: Vec<(String, usize, String)>,
}

/// Packs all parts of a set. `on_sample` is called after each picture, also those packed before.
///
/// # Errors
/// When the folder holds shards of other pictures or another plan, or the disk is full.
pub fn pack(
    set: &DataSet,
    options: &PackOptions,
    on_sample: &(dyn Fn(usize) + Sync),
) -> Result<PackReport, DataError> {
    let named = [("train", &set.train), ("val", &set.val), ("test", &set.test)];
    let parts: Vec<(&str, &dyn Source)> = named
        .into_iter()
        .filter_map(|(name, source)| source.as_ref().map(|source| (name, source.as_ref())))
        .collect();
    prepare(options, &parts)?;
    let pool = pool(options.threads);
    let mut report = PackReport::default();
    for (name, source) in parts {
        let count = source.len().div_ceil(options.shard_images);
        for shard in 0..count {
            let range = shard * options.shard_images
                ..((shard + 1) * options.shard_images).min(source.len());
            let path = options.out.join(format!("{name}-{shard:06}.tar"));
            report.shards += 1;
            if path.exists() {
                report.kept += 1;
                on_sample(range.len());
                continue;
            }
            let files = pool.install(|| {
                let one = |index| {
                    let packed = packed(source, index, options);
                    on_sample(1);
                    packed
                };
                for_each(source, range, one)
            });
            write_shard(&path, files, &mut report)?;
        }
    }
    Ok(report)
}

/// Makes the folder, or checks that its shards are of this plan.
fn prepare(options: &PackOptions, parts: &[(&str, &dyn Source)]) -> Result<(), DataError> {
    let out = &options.out;
    fs::create_dir_all(out).map_err(io_at(out))?;
    atomic::remove_leftovers(out).map_err(io_at(out))?;
    let describe = |&(name, source): &(&str, &dyn Source)| {
        let mut hash = xxhash_rust::xxh64::Xxh64::new(0);
        for index in 0..source.len() {
            hash.update(&source.id(index).to_le_bytes());
            match source.labels(index) {
                Labels::One(label) => hash.update(&label.to_le_bytes()),
                Labels::Many(labels) => {
                    hash.update(&(labels.len() as u64).to_le_bytes());
                    labels.iter().for_each(|label| hash.update(&label.to_le_bytes()));
                }
            }
        }
        (name.to_string(), source.len(), format!("{:016x}", hash.digest()))
    };
    let plan = Plan {
        side: options.side,
        quality: options.quality,
        shard_images: options.shard_images,
        parts: parts.iter().map(describe).collect(),
    };
    let path = out.join("pack.json");
    if path.exists() {
        let text = fs::read_to_string(&path).map_err(io_at(&path))?;
        if serde_json::from_str::<Plan>(&text).is_ok_and(|found| found == plan) {
            return Ok(());
        }
        return Err(DataError::OtherPack { place: path });
    }
    let classes = parts.first().map_or(&[][..], |(_, source)| source.classes());
    let names: String = classes.iter().map(|class| format!("{class}\n")).collect();
    let write = |path: &Path, text: &str| {
        atomic::write(path, |file| file.write_all(text.as_bytes())).map_err(io_at(path))
    };
    write(&out.join("classes.txt"), &names)?;
    let text = serde_json::to_string_pretty(&plan).expect("numbers and texts always serialise");
    // Last: a folder with a plan has everything but shards.
    write(&path, &text)
}

/// A picture of a shard, and the file beside it that says its class.
struct Packed {
    /// The name of both without the ending.
    stem: String,
    extension: String,
    bytes: Vec<u8>,
    label_extension: &'static str,
    label: String,
}

fn packed(source: &dyn Source, index: usize, options: &PackOptions) -> Result<Packed, DataError> {
    let labels = source.labels(index);
    let class = match labels {
        Labels::One(label) => Some(&source.classes()[label as usize]),
        Labels::Many(_) => None,
    };
    let key = source.key(index);
    let inside = class.and_then(|class| key.strip_prefix(&format!("{class}/")));
    // Without folders in its name, a sample is called by its name or record.
    let inside = inside.map_or_else(|| key.replace(['/', ':', '\\'], "-"), str::to_string);
    let (stem, extension) = match inside.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('-') => (stem, extension),
        _ => (inside.as_str(), "png"),
    };
    let (bytes, extension) = match source.read(index)? {
        Encoded::Pixels(picture) => (encode::png(picture)?, "png"),
        Encoded::File(bytes) => {
            // Decoded even where it is only copied: what is packed can be read.
            // A smaller copy carries no EXIF: it is turned upright itself.
            let image = decode_by(&source.name(index), &bytes, Exif::Apply)?;
            match options.side.filter(|&side| side < image.width.min(image.height)) {
                None => (bytes.into_owned(), extension),
                Some(side) => {
                    let (width, height) = shorter_side(image.width, image.height, side);
                    let small = resize(image.view(), width, height, Filter::Bilinear);
                    (encode::jpeg(small.view(), options.quality)?, "jpg")
                }
            }
        }
    };
    let (stem, label_extension, label) = match (class, labels) {
        (Some(class), _) => (format!("{class}/{stem}"), "cls", source.label(index).to_string()),
        // A sample's name ends at its first dot: what is left may be another's too.
        (None, labels) => {
            let label = serde_json::json!({ "labels": labels.as_slice() });
            (format!("{index:08}-{}", stem.replace('.', "-")), "json", label.to_string())
        }
    };
    Ok(Packed { stem, extension: extension.to_string(), bytes, label_extension, label })
}

fn write_shard(
    path: &Path,
    files: Vec<Result<Packed, DataError>>,
    report: &mut PackReport,
) -> Result<(), DataError> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut images = 0;
    for file in files {
        let Packed { stem, extension, bytes, label_extension, label } = match file {
            Ok(file) => file,
            Err(error) => {
                report.broken.push(error.to_string());
                continue;
            }
        };
        let appended =
            append(&mut builder, &format!("{stem}.{extension}"), &bytes).and_then(|()| {
                append(&mut builder, &format!("{stem}.{label_extension}"), label.as_bytes())
            });
        appended.map_err(io_at(path))?;
        images += 1;
    }
    let bytes = builder.into_inner().map_err(io_at(path))?;
    let temporary = path.with_extension("tar.part");
    let mut file = fs::File::create(&temporary).map_err(io_at(&temporary))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(io_at(&temporary))?;
    let back = fs::read(&temporary).map_err(io_at(&temporary))?;
    if Sha256::digest(&back) != Sha256::digest(&bytes) {
        let source = io::Error::other("the disk gives back other bytes than were written");
        return Err(DataError::Io { path: temporary, source });
    }
    fs::rename(&temporary, path).map_err(io_at(path))?;
    report.images += images;
    report.bytes += bytes.len() as u64;
    Ok(())
}

/// Adds a file without owner or time: equal pictures give equal shards.
fn append(builder: &mut tar::Builder<Vec<u8>>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    header.set_mtime(0);
    builder.append_data(&mut header, name, bytes)
}
