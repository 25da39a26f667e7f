//! Pictures on servers: a web server on the loopback that can also be a bad one, and a server that speaks S3.
//!
//! The second is moto (<https://github.com/getmoto/moto>), whose program `RESNET_MOTO` names; without it the tests that
//! need it say that they were skipped.

mod s3;
mod web;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use resnet_io::DataError;
use resnet_io::loader::{Batch, Loader, Mode};
use resnet_io::source::{DataSet, OpenOptions, Source, open};

use crate::loader::{batches, spec};

/// Options that leave nothing in the user's folders.
fn options(cache: &Path) -> OpenOptions {
    OpenOptions { cache: Some(cache.into()), ..OpenOptions::default() }
}

#[track_caller]
fn error(address: &str, options: &OpenOptions) -> DataError {
    match open(address, options) {
        Ok(_) => panic!("{address} was opened"),
        Err(error) => error,
    }
}

/// Forty pictures of 8x8 pixels in three classes.
fn pictures(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for i in 0..40u32 {
        let name = format!("{}/{i:02}.png", ["ant", "bee", "fly"][i as usize % 3]);
        let path = folder.join(&name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let pixel = |x: u32, y: u32| image::Rgb([i as u8 * 6, (x * 31) as u8, (y * 29 + i) as u8]);
        image::RgbImage::from_fn(8, 8, pixel).save(path).unwrap();
        names.push(name);
    }
    names.sort();
    names
}

/// A tar file of some files of a folder.
fn tar_of(folder: &Path, names: &[String]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        builder.append_path_with_name(folder.join(name), name).unwrap();
    }
    builder.into_inner().unwrap()
}

/// WebDataset's shard of some pictures: each with a `.cls` beside it.
fn keyed_tar_of(folder: &Path, names: &[String]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for name in names {
        let (class, file) = name.split_once('/').unwrap();
        let label = ["ant", "bee", "fly"].iter().position(|known| *known == class).unwrap();
        let picture = fs::read(folder.join(name)).unwrap();
        let stem = file.strip_suffix(".png").unwrap();
        for (name, bytes) in [
            (format!("{stem}.png"), &picture[..]),
            (format!("{stem}.cls"), format!("{label}\n").as_bytes()),
        ] {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes).unwrap();
        }
    }
    builder.into_inner().unwrap()
}

fn train(set: DataSet) -> Arc<dyn Source> {
    set.train.unwrap()
}

/// The batches of an epoch of training and of one of evaluation.
fn all_batches(source: &Arc<dyn Source>) -> Vec<Batch> {
    [Mode::Train, Mode::Eval]
        .into_iter()
        .flat_map(|mode| {
            batches(&Loader::new(source.clone(), spec(mode, 3)).unwrap(), 1, 0).unwrap()
        })
        .collect()
}

/// The files of a folder, at any depth.
fn files_below(folder: &Path) -> usize {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let count = |entry: fs::DirEntry| match entry.path() {
        path if path.is_dir() => files_below(&path),
        _ => 1,
    };
    entries.map(|entry| count(entry.unwrap())).sum()
}
