//! The bytes of pictures on a server: files below a folder, or within tar archives.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use super::ahead::{Ahead, Answer, Key, Run, Wanted};
use super::server::{Fault, Object, Remote, Server};
use crate::error::DataError;
use crate::source::Asked;
use crate::source::labels::Named;
use crate::source::place::Entry;

/// Where entries are.
pub(in crate::source) struct Objects {
    folder: Remote,
    /// The archives, if they are in some.
    archives: Vec<Object>,
    /// What label files say, by archive and offset.
    labels: HashMap<(u32, u64), Named>,
    ahead: Arc<Ahead>,
}

impl Objects {
    /// Files below a folder, by their paths from it.
    pub(super) fn folder(folder: Remote) -> Objects {
        Objects::archives(folder, Vec::new(), HashMap::new())
    }

    /// Files within archives on the server of `folder`.
    pub(super) fn archives(
        folder: Remote,
        archives: Vec<Object>,
        labels: HashMap<(u32, u64), Named>,
    ) -> Objects {
        Objects { folder, archives, labels, ahead: Arc::new(Ahead::new()) }
    }

    /// Whether they are within archives.
    pub(in crate::source) fn are_archives(&self) -> bool {
        !self.archives.is_empty()
    }

    /// What to call an entry in a message.
    pub(in crate::source) fn name(&self, archive: u32, path: &str) -> String {
        match self.archives.get(archive as usize) {
            Some(object) => format!("{}:{path}", self.folder.server.address(&object.path)),
            None => match self.folder.join(path) {
                Some(file) => file.address(),
                None => format!("{}/{path}", self.folder.address()),
            },
        }
    }

    /// What a file says that has the class of the picture beside it.
    pub(in crate::source) fn label(&self, entry: &Entry) -> Option<Named> {
        self.labels.get(&(entry.archive, entry.offset)).cloned()
    }

    /// The bytes of an entry: those that were asked for, or asked for now.
    pub(in crate::source) fn read(&self, entry: &Entry) -> Result<Vec<u8>, DataError> {
        let answer = self.ahead.take(&key(entry)).unwrap_or_else(|| {
            let run = self.run(entry);
            self.folder.server.runtime().block_on(run)
        });
        answer
            .map(|bytes| bytes.to_vec())
            .map_err(|fault| fault.at(self.name(entry.archive, &entry.path)))
    }

    async fn run(&self, entry: &Entry) -> Result<Bytes, Fault> {
        let (archive, offset) = (entry.archive, entry.offset);
        let part = Part::of(self, archive, &entry.path, offset, offset + entry.len)?;
        part.bring(&self.folder.server).await
    }

    /// Begins to bring entries that will be read soon.
    pub(in crate::source) fn ask<'a>(&self, entries: impl Iterator<Item = &'a Entry>) -> Asked {
        let wanted =
            entries.map(|entry| Wanted { key: key(entry), offset: entry.offset, len: entry.len });
        let (runs, keys) = self.ahead.note(wanted.collect());
        for (Run { archive, begin, end, pictures }, fetch) in runs {
            let path = &pictures[0].key.1;
            let part = match Part::of(self, archive, path, begin, end) {
                Ok(part) => part,
                Err(fault) => {
                    fetch.put(Err(fault));
                    continue;
                }
            };
            let (server, requests) = (self.folder.server.clone(), self.ahead.requests.clone());
            let answer = Answer(fetch);
            self.folder.server.runtime().spawn(async move {
                let _turn = requests.acquire().await;
                answer.0.put(part.bring(&server).await);
            });
        }
        Asked::new(Held { ahead: self.ahead.clone(), keys })
    }
}

fn key(entry: &Entry) -> Key {
    (entry.archive, entry.path.clone())
}

/// A file, or a part of an archive.
struct Part {
    object: Object,
    range: Option<std::ops::Range<u64>>,
}

impl Part {
    fn of(
        objects: &Objects,
        archive: u32,
        path: &str,
        begin: u64,
        end: u64,
    ) -> Result<Part, Fault> {
        if let Some(object) = objects.archives.get(archive as usize) {
            return Ok(Part { object: object.clone(), range: Some(begin..end) });
        }
        let reason = "no path on a server".to_string();
        let fault = Fault { kind: crate::error::RemoteFault::Missing, reason };
        let file = objects.folder.join(path).ok_or(fault)?;
        let object = Object { path: file.path, size: 0, modified: 0, tag: None };
        Ok(Part { object, range: None })
    }

    async fn bring(self, server: &Server) -> Result<Bytes, Fault> {
        if self.range.as_ref().is_some_and(std::ops::Range::is_empty) {
            return Ok(Bytes::new());
        }
        server.bytes(&self.object.path, self.range, self.object.tag.as_ref()).await
    }
}

/// Pictures that are kept until it is dropped.
struct Held {
    ahead: Arc<Ahead>,
    keys: Vec<Key>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.ahead.release(&self.keys);
    }
}
