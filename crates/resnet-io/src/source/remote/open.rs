//! From a server's address to splits.
//!
//! What can be read in parts is: archives and Parquet. Lists are read whole, and their pictures from where they
//! say. What must be read whole anyway (CIFAR, IDX, compressed archives) is copied once and kept.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::index::{at_once, indices};
use super::objects::Objects;
use super::reader::{ObjectFile, Reader, unwrapped};
use super::server::{Fault, Object, Remote, Server};
use crate::error::{DataError, RemoteFault, io_at};
use crate::source::beside::Beside;
use crate::source::kept::{Packed, Unpacked};
use crate::source::labels::Named;
use crate::source::open::{self as local, Start};
use crate::source::place::{self, Entry, Store, is_hidden_path};
use crate::source::{DataSet, OpenOptions, files, idx, kept, list, parquet, shards};

/// The most bytes of a list, and of a small file that is read whole where a server sends no parts.
const MAX_LIST: u64 = 1 << 30;

/// Opens what is at a server's address.
pub(in crate::source) fn open(address: &str, options: &OpenOptions) -> Result<DataSet, DataError> {
    let place = Place {
        address: address.to_string(),
        cache: options.cache.clone().or_else(kept::standard_folder),
    };
    if let Some(addresses) = shards::expand(address) {
        let mut files: Vec<Remote> = Vec::new();
        for address in &addresses {
            let file = match files.first() {
                None => Server::connect(address, &options.settings)?,
                Some(first) => first.sibling(address)?,
            };
            files.push(file);
        }
        return place.open_shards(&files);
    }
    let at = Server::connect(address, &options.settings)?;
    if at.file_name().is_empty() || address.ends_with('/') {
        return place.open_folder(&at);
    }
    match at.look() {
        Ok(object) => place.open_file(&at, &object),
        Err(missing @ DataError::Remote { kind: RemoteFault::Missing, .. }) => {
            // Without a listing there is nothing more to be known.
            place.open_folder(&at).map_err(|error| match error {
                DataError::Remote { kind: RemoteFault::NoListing, .. } => missing,
                other => other,
            })
        }
        Err(error) => Err(error),
    }
}

/// What is opened, and where things are kept.
struct Place {
    address: String,
    cache: Option<PathBuf>,
}

impl Place {
    fn open_file(&self, file: &Remote, object: &Object) -> Result<DataSet, DataError> {
        let start = match file.start(512, object) {
            Err(DataError::Remote { kind: RemoteFault::NoRanges, .. })
                if object.size <= MAX_LIST =>
            {
                file.read()?
            }
            start => start?,
        };
        match Start::of(&start) {
            Start::Parquet | Start::Tar => return self.open_shards(std::slice::from_ref(file)),
            Start::Gzip if !idx::is_pictures(file.file_name()) => {
                return self.open_shards(std::slice::from_ref(file));
            }
            Start::Gzip | Start::Other => {}
        }
        let copy = self.copy(file, object)?;
        if idx::is_pictures(file.file_name()) {
            for name in idx::names_of_labels(file.file_name()) {
                let Some(labels) = file.parent().and_then(|folder| folder.join(&name)) else {
                    continue;
                };
                if let Ok(object) = labels.look() {
                    self.copy_to(&copy.with_file_name(name), &labels, &object)?;
                }
            }
        }
        if let Start::Other = Start::of(&start)
            && object.size <= MAX_LIST
            && let Ok(text) = fs::read_to_string(&copy)
            && let Some(folder) = file.parent()
        {
            let names = Beside::Remote(folder.clone()).class_names();
            let store = Store::Remote(Objects::folder(folder));
            if let Some(set) = list::open(Path::new(&self.address), &text, store, names)? {
                return Ok(set);
            }
        }
        local::open_file(&copy, self.cache.as_deref()).map_err(|error| match error {
            // The user knows the address, and not where its copy is.
            DataError::NotASet { found, .. } => {
                DataError::NotASet { place: self.address.clone(), found }
            }
            other => other,
        })
    }

    fn open_folder(&self, folder: &Remote) -> Result<DataSet, DataError> {
        let objects = folder.list()?;
        let below = folder.path.as_ref();
        let inside = |object: &Object| -> Option<Box<str>> {
            let path = object.path.as_ref().strip_prefix(below)?.trim_start_matches('/');
            // Some programs write an empty file to stand for a folder.
            let is_file = 0 < object.size || path.contains('.');
            (is_file && !path.is_empty() && !is_hidden_path(path)).then(|| path.into())
        };
        let mut entries: Vec<Entry> = Vec::new();
        for object in &objects {
            if let Some(path) = inside(object) {
                entries.push(Entry { path, archive: 0, offset: 0, len: object.size });
            }
        }
        if entries.is_empty() {
            let reason = "nothing is there".to_string();
            return Err(Fault { kind: RemoteFault::Missing, reason }.at(self.address.clone()));
        }
        let has_pictures = entries.iter().any(|entry| files::is_picture(&entry.path));
        let flat = |end: &str| -> Vec<&Entry> {
            let is = |entry: &&Entry| !entry.path.contains('/') && entry.path.ends_with(end);
            entries.iter().filter(is).collect()
        };
        let has_idx = entries.iter().any(|entry| idx::is_pictures(&entry.path));
        if !has_pictures && (has_idx || !flat(".bin").is_empty()) {
            return self.open_copied(folder, &objects);
        }
        let at = |name: &str| folder.join(name).expect("a name that was listed");
        if !has_pictures {
            let open = |names: &[&str]| {
                self.open_shards(&names.iter().map(|name| at(name)).collect::<Vec<_>>())
            };
            if let Some(set) = local::by_names_of_shards(&entries, open)? {
                return Ok(set);
            }
        }
        let store = Store::Remote(Objects::folder(folder.clone()));
        local::by_folder(Arc::new(store), entries, &Beside::Remote(folder.clone()), &self.address)
    }

    /// Files whose records are read whole: a folder of them here.
    fn open_copied(&self, folder: &Remote, objects: &[Object]) -> Result<DataSet, DataError> {
        let is_near = |object: &&Object| {
            let inside = object.path.as_ref().strip_prefix(folder.path.as_ref());
            inside.is_some_and(|path| !path.trim_start_matches('/').contains('/'))
        };
        let mut at = None;
        for object in objects.iter().filter(is_near) {
            let file = Remote { server: folder.server.clone(), path: object.path.clone() };
            let copies = self.folder_for(&folder.address())?;
            self.copy_to(&copies.join(file.file_name()), &file, object)?;
            at = Some(copies);
        }
        let copies = at.ok_or_else(|| DataError::Empty { place: self.address.clone() })?;
        local::open_folder(&copies, self.cache.as_deref())
    }

    fn open_shards(&self, shards: &[Remote]) -> Result<DataSet, DataError> {
        let Some(first) = shards.first() else {
            return Err(DataError::Empty { place: self.address.clone() });
        };
        let folder = first.parent().unwrap_or_else(|| first.clone());
        let beside = Beside::Remote(folder.clone());
        let looked = first.look()?;
        match Start::of(&first.start(512, &looked)?) {
            Start::Parquet => {
                let tables = at_once(shards, |file| {
                    let (object, address) = (file.look()?, file.address());
                    let packed = Packed { address: address.clone(), version: object.version() };
                    let content = ObjectFile::new(file.clone(), object);
                    Ok(parquet::Table { name: address.into(), packed, content })
                })?;
                parquet::open(tables, &beside, self.cache.as_deref())
            }
            Start::Gzip => {
                let names: Vec<PathBuf> = shards.iter().map(|file| file.address().into()).collect();
                let opened = at_once(shards, |file| self.unpacked(file))?;
                let (store, entries, notices) = place::list_opened(&names, opened)?;
                let set = local::by_content(store, entries, &beside, &self.address)?;
                Ok(local::with_notices(notices, set))
            }
            Start::Tar | Start::Other => {
                let indices = indices(shards, self.cache.as_ref())?;
                let (mut objects, mut entries) = (Vec::new(), Vec::new());
                let mut labels = HashMap::new();
                for (number, (object, index)) in (0..).zip(indices) {
                    entries.extend(index.entries(number));
                    let of = |(offset, label): &(u64, Named)| ((number, *offset), label.clone());
                    labels.extend(index.labels.iter().map(of));
                    objects.push(object);
                }
                let store = Store::Remote(Objects::archives(folder, objects, labels));
                local::by_content(store, entries, &beside, &self.address)
            }
        }
    }

    /// What is in a compressed archive on a server.
    fn unpacked(&self, file: &Remote) -> Result<Unpacked, DataError> {
        let (object, address) = (file.look()?, file.address());
        let packed = Packed { address: address.clone(), version: object.version() };
        let open = || Ok(Reader::new(file.server.clone(), object.clone()));
        let fail = |error| unwrapped(error, &address);
        kept::unpacked(&packed, self.cache.as_deref(), open, fail)
    }

    /// The file here that is a copy of one on a server.
    fn copy(&self, file: &Remote, object: &Object) -> Result<PathBuf, DataError> {
        let version = object.version().unwrap_or_default();
        let folder = self.folder_for(&format!("{} {version}", file.address()))?;
        let copy = folder.join(file.file_name());
        self.copy_to(&copy, file, object)?;
        Ok(copy)
    }

    fn folder_for(&self, address: &str) -> Result<PathBuf, DataError> {
        let cache =
            self.cache.as_ref().ok_or_else(|| DataError::NoCache { place: address.to_string() })?;
        Ok(cache.join(kept::name_of(address)))
    }

    /// Copies a file, unless it is there as it is on the server now.
    fn copy_to(&self, copy: &Path, file: &Remote, object: &Object) -> Result<(), DataError> {
        let is_there = fs::metadata(copy).is_ok_and(|here| {
            let age = here
                .modified()
                .ok()
                .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
            object.version().is_some()
                && here.len() == object.size
                && age.is_some_and(|age| age.as_secs().cast_signed() == object.modified)
        });
        if is_there {
            return Ok(());
        }
        kept::write(copy, |to| {
            let mut reader = Reader::new(file.server.clone(), object.clone());
            std::io::copy(&mut reader, to).map_err(|error| unwrapped(error, &file.address()))?;
            // Its time says which one it is a copy of.
            let time = std::time::UNIX_EPOCH
                + std::time::Duration::from_secs(object.modified.max(0).cast_unsigned());
            to.as_file().set_modified(time).map_err(io_at(copy))
        })
    }
}
