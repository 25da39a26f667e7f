//! Bringing well-known sets from where their authors keep them.
//!
//! A file comes under another name (`.part`), goes on where it stopped, is compared with the MD5 sum that
//! its authors publish, and only then gets its name. Archives are unpacked beside and renamed, so that a
//! folder that is there is whole.

mod known;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use flate2::read::GzDecoder;
use md5::{Digest, Md5};
use ureq::Agent;
use ureq::http::{Response, StatusCode, header};

pub use self::known::{KNOWN, known};
use crate::error::{DataError, io_at};

/// Connections that may break without bringing a single byte before we give up.
const ATTEMPTS: u32 = 4;
/// How long a server may take to answer, or to go on.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes that are read at a time, and how often before they are written.
const CHUNK: usize = 1 << 16;
const CHUNKS: usize = 16;

/// A set that can be had.
#[derive(Clone, Debug)]
pub struct Known {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it is, in a line.
    pub about: &'static str,
    /// The folder that it becomes: what `--data` takes.
    pub folder: &'static str,
    /// Its files.
    pub files: &'static [Remote],
    /// Whether its one file is a `.tar.gz` that has the folder in it.
    pub is_archive: bool,
}

/// A file on a server.
#[derive(Clone, Debug)]
pub struct Remote {
    /// The folder's address, without a slash at its end.
    pub base: &'static str,
    /// The file's name, also here.
    pub name: &'static str,
    /// The MD5 sum of its bytes, as its authors publish it.
    pub md5: &'static str,
}

/// What was brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// The folder of the set.
    pub folder: PathBuf,
    /// Bytes that came over the net now.
    pub bytes: u64,
}

/// What happens meanwhile.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A file begins, of so many bytes if the server says so, of which some are there.
    File {
        /// Its name.
        name: &'a str,
        /// Bytes that are there.
        have: u64,
        /// Bytes in all.
        of: Option<u64>,
    },
    /// So many bytes came.
    Bytes(u64),
    /// The archive is unpacked.
    Unpack(&'a str),
}

/// Brings a set into a folder below `out`, from `mirror` instead of its own servers if given.
///
/// # Errors
/// When a server does not send a file, or another one; when the disk cannot be written.
pub fn download(
    set: &Known,
    mirror: Option<&str>,
    out: &Path,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<Downloaded, DataError> {
    let folder = out.join(set.folder);
    let mut bytes = 0;
    if !set.is_archive {
        make_folder(&folder)?;
        for file in set.files {
            bytes += fetch(file, mirror, &folder.join(file.name), on_progress)?;
        }
    } else if !folder.exists() {
        make_folder(out)?;
        for file in set.files {
            let archive = out.join(file.name);
            bytes += fetch(file, mirror, &archive, on_progress)?;
            on_progress(Progress::Unpack(file.name));
            unpack(&archive, set.folder, &folder)?;
            fs::remove_file(&archive).map_err(io_at(&archive))?;
        }
    }
    Ok(Downloaded { folder, bytes })
}

fn make_folder(folder: &Path) -> Result<(), DataError> {
    fs::create_dir_all(folder).map_err(io_at(folder))
}

/// Brings one file, unless it is there. Returns the bytes that came now.
fn fetch(
    file: &Remote,
    mirror: Option<&str>,
    path: &Path,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<u64, DataError> {
    if path.exists() && sum(path)? == file.md5 {
        return Ok(0);
    }
    let url = format!("{}/{}", mirror.unwrap_or(file.base).trim_end_matches('/'), file.name);
    let part = path.with_file_name(format!("{}.part", file.name));
    let agent = Agent::new_with_config(
        Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .build(),
    );
    let (mut bytes, mut idle) = (0, 0);
    loop {
        let (came, end) = fetch_once(&agent, &url, &part, file.name, on_progress)?;
        bytes += came;
        match end {
            Ok(()) => break,
            Err(reason) => {
                idle = if came == 0 { idle + 1 } else { 0 };
                if idle == ATTEMPTS {
                    return Err(DataError::Download { url, reason });
                }
                // A server that is overrun wants some rest.
                thread::sleep(Duration::from_millis(100 << idle));
            }
        }
    }
    let found = sum(&part)?;
    if found != file.md5 {
        fs::remove_file(&part).map_err(io_at(&part))?;
        let expected = file.md5.to_string();
        return Err(DataError::WrongSum { url, found, expected });
    }
    fs::rename(&part, path).map_err(io_at(path))?;
    Ok(bytes)
}

/// One connection: asks for what is missing and writes what comes. Returns how much came, and how it
/// ended where another attempt makes sense.
///
/// # Errors
/// When the server has no such file, or ours cannot be written.
fn fetch_once(
    agent: &Agent,
    url: &str,
    part: &Path,
    name: &str,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<(u64, Result<(), String>), DataError> {
    let mut have = fs::metadata(part).map_or(0, |metadata| metadata.len());
    let asked = agent.get(url).header(header::RANGE, format!("bytes={have}-")).call();
    let response = match asked {
        Ok(response) => response,
        Err(error) => return Ok((0, Err(error.to_string()))),
    };
    let status = response.status();
    match status {
        StatusCode::PARTIAL_CONTENT => {}
        // The whole file, whatever was asked for.
        StatusCode::OK => have = 0,
        // There is nothing behind what we have.
        StatusCode::RANGE_NOT_SATISFIABLE => return Ok((0, Ok(()))),
        _ if status.is_server_error() => return Ok((0, Err(status.to_string()))),
        _ => {
            return Err(DataError::Download { url: url.to_string(), reason: status.to_string() });
        }
    }
    let expected = length(&response);
    on_progress(Progress::File { name, have, of: expected.map(|length| have + length) });
    let mut file = OpenOptions::new()
        .create(true)
        .append(0 < have)
        .write(true)
        .truncate(have == 0)
        .open(part)
        .map_err(io_at(part))?;
    let chunks = receive(response.into_body().into_reader());
    let mut came = 0;
    let end = loop {
        match chunks.recv_timeout(PATIENCE) {
            Ok(Ok(chunk)) if chunk.is_empty() => {
                let is_whole = expected.is_none_or(|length| length <= came);
                let reason = "the connection ended before the file did";
                break if is_whole { Ok(()) } else { Err(reason.to_string()) };
            }
            Ok(Ok(chunk)) => {
                file.write_all(&chunk).map_err(io_at(part))?;
                came += chunk.len() as u64;
                on_progress(Progress::Bytes(chunk.len() as u64));
            }
            Ok(Err(error)) => break Err(error.to_string()),
            Err(_) => break Err(format!("nothing came for {} seconds", PATIENCE.as_secs())),
        }
    };
    file.sync_all().map_err(io_at(part))?;
    Ok((came, end))
}

/// What a connection brings, chunk after chunk, an empty one at its end. It is read in a thread of its
/// own, so that one that brings nothing more can be given up: the client has no such limit.
fn receive(mut body: impl Read + Send + 'static) -> Receiver<io::Result<Vec<u8>>> {
    let (sender, receiver) = mpsc::sync_channel(CHUNKS);
    thread::spawn(move || {
        loop {
            let mut chunk = vec![0; CHUNK];
            let read = body.read(&mut chunk);
            let is_last = !matches!(read, Ok(1..));
            let read = read.map(|read| {
                chunk.truncate(read);
                chunk
            });
            if sender.send(read).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

/// Bytes that the server says it sends.
fn length<B>(response: &Response<B>) -> Option<u64> {
    response.headers().get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The MD5 sum of a file, in hexadecimal digits.
fn sum(path: &Path) -> Result<String, DataError> {
    let mut file = File::open(path).map_err(io_at(path))?;
    let (mut hash, mut chunk) = (Md5::new(), vec![0; CHUNK]);
    loop {
        match file.read(&mut chunk).map_err(io_at(path))? {
            0 => break,
            read => hash.update(&chunk[..read]),
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Unpacks an archive that has the folder `inside` in it, and gives that its place.
fn unpack(archive: &Path, inside: &str, folder: &Path) -> Result<(), DataError> {
    let beside = folder.with_file_name(format!(".{inside}.unpacking"));
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(io_at(&beside))?;
    }
    let file = File::open(archive).map_err(io_at(archive))?;
    tar::Archive::new(GzDecoder::new(file)).unpack(&beside).map_err(io_at(archive))?;
    fs::rename(beside.join(inside), folder).map_err(io_at(folder))?;
    fs::remove_dir_all(&beside).map_err(io_at(&beside))
}
