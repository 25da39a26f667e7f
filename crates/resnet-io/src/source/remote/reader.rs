//! A file on a server as something to read: from front to back for archives, by places for Parquet.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use object_store::GetRange;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

use super::server::{Fault, Object, Remote, Server};
use crate::error::{DataError, RemoteFault};

/// Up to so far ahead, reading on is taken to be cheaper than another request: what a connection of 100 MB/s
/// brings in the 10 ms that an answer takes.
const NEAR: u64 = 1 << 20;
/// Bodies in a row that may end too early without bringing a byte.
const BREAKS: u32 = 4;

/// Reads a file from front to back; leaps ahead make a new request.
pub(in crate::source) struct Reader {
    server: Arc<Server>,
    object: Object,
    position: u64,
    /// What came and is not read.
    chunk: Bytes,
    body: Option<BoxStream<'static, object_store::Result<Bytes>>>,
    breaks: u32,
}

impl Reader {
    pub(super) fn new(server: Arc<Server>, object: Object) -> Reader {
        Reader { server, object, position: 0, chunk: Bytes::new(), body: None, breaks: 0 }
    }

    /// The next bytes that come, none at the end.
    fn next_chunk(&mut self) -> Result<(), Fault> {
        let server = self.server.clone();
        while self.chunk.is_empty() && self.position < self.object.size {
            let next = server.runtime().block_on(async {
                if self.body.is_none() {
                    // Servers that know no ranges can still be read from the beginning.
                    let rest = GetRange::Bounded(self.position..self.object.size);
                    let range = Some(rest).filter(|_| 0 < self.position);
                    let tag = self.object.tag.as_ref();
                    self.body =
                        Some(server.get(&self.object.path, range, tag).await?.into_stream());
                }
                let body = self.body.as_mut().expect("it was made above");
                Ok::<_, Fault>(body.next().await)
            })?;
            match next {
                Some(Ok(chunk)) => (self.chunk, self.breaks) = (chunk, 0),
                // The next turn asks for the rest.
                Some(Err(error)) => self.breaks_off(error.into())?,
                None => self.breaks_off(Fault {
                    kind: RemoteFault::Failed,
                    reason: format!("ends after {} of {} bytes", self.position, self.object.size),
                })?,
            }
        }
        Ok(())
    }

    fn breaks_off(&mut self, fault: Fault) -> Result<(), Fault> {
        self.body = None;
        self.breaks += 1;
        thread::sleep(Duration::from_millis(100 << self.breaks));
        if self.breaks < BREAKS { Ok(()) } else { Err(fault) }
    }
}

/// Wraps an error so that [`unwrapped`] finds it behind a library that knows errors of the system only.
fn wrapped(error: DataError) -> io::Error {
    io::Error::other(error)
}

/// An error of a library that reads through a [`Reader`].
pub(super) fn unwrapped(error: io::Error, address: &str) -> DataError {
    match error.downcast::<DataError>() {
        Ok(error) => error,
        Err(source) => DataError::Io { path: address.into(), source },
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let address = self.server.address(&self.object.path);
        self.next_chunk().map_err(|fault| wrapped(fault.at(address)))?;
        let count = buffer.len().min(self.chunk.len());
        self.chunk.copy_to_slice(&mut buffer[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Reader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.object.size.checked_add_signed(by),
        };
        let position = position.ok_or(io::ErrorKind::InvalidInput)?;
        let ahead = position.checked_sub(self.position);
        if ahead.is_none_or(|ahead| NEAR < ahead) {
            (self.body, self.chunk, self.position) = (None, Bytes::new(), position);
            return Ok(position);
        }
        while self.position < position.min(self.object.size) {
            let address = self.server.address(&self.object.path);
            self.next_chunk().map_err(|fault| wrapped(fault.at(address)))?;
            let skipped = self.chunk.len().min((position - self.position) as usize);
            self.chunk.advance(skipped);
            self.position += skipped as u64;
        }
        self.position = position;
        Ok(position)
    }
}

/// A file whose parts are asked for one by one.
pub(in crate::source) struct ObjectFile {
    file: Remote,
    object: Object,
}

impl ObjectFile {
    pub(super) fn new(file: Remote, object: Object) -> ObjectFile {
        ObjectFile { file, object }
    }
}

impl Length for ObjectFile {
    fn len(&self) -> u64 {
        self.object.size
    }
}

impl ChunkReader for ObjectFile {
    type T = Reader;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Reader> {
        let mut reader = Reader::new(self.file.server.clone(), self.object.clone());
        reader.seek(SeekFrom::Start(start))?;
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start + length as u64;
        if self.object.size < end {
            return Err(ParquetError::EOF("a part lies behind the end".to_string()));
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        let server = &self.file.server;
        let range = server.bytes(&self.object.path, Some(start..end), self.object.tag.as_ref());
        let bytes = server.runtime().block_on(range);
        bytes.map_err(|fault| ParquetError::External(Box::new(fault.at(self.file.address()))))
    }
}
