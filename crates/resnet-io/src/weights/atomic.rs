//! Replacing a file so that at every moment either the old or the new one is there, whole.
//!
//! The order is: write to a temporary name in the same folder, sync the file, rename it over the
//! old one, sync the folder. A crash before the rename leaves the old file (and the temporary one,
//! which [`remove_leftovers`] clears); a crash after it leaves the new one.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// How long a write may grow before it goes to the system.
const BUFFER_BYTES: usize = 1 << 20;

/// Writes a file by `fill`, in place of what was there. A link stays: what it points to is
/// replaced.
///
/// # Errors
/// What `fill` or the system says. The old file is then untouched, and the temporary one is gone.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let path = &destination(path)?;
    let temporary = Temporary::create(path)?;
    {
        let mut writer = BufWriter::with_capacity(BUFFER_BYTES, &temporary.file);
        fill(&mut writer)?;
        writer.flush()?;
    }
    temporary.file.sync_all()?;
    fs::rename(&temporary.path, path)?;
    sync_folder(path)
}

/// Copies a file in place of what was at `to`, as [`write()`] does.
///
/// # Errors
/// What the system says. What was at `to` is then untouched.
pub fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let mut from = File::open(from)?;
    write(to, |file| io::copy(&mut from, file).map(|_bytes| ()))
}

/// Removes from a folder what writes that were killed have left in it.
///
/// Only for the owner of the folder: it would take away the file another process is just writing.
///
/// # Errors
/// What the system says; a folder that is not there is none.
pub fn remove_leftovers(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        if is_temporary(entry.file_name().as_encoded_bytes()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Where links lead. Only files are replaced: a rename would put one in place of a device, too.
fn destination(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(path.into()),
        Err(e) => Err(e),
        Ok(path) if path.is_file() => Ok(path),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "exists, and is not a file")),
    }
}

/// A file that is removed when dropped, unless it has been renamed.
struct Temporary {
    path: PathBuf,
    file: File,
}

impl Temporary {
    /// A new file beside `path`; process id and a count keep two writers of one file apart.
    fn create(path: &Path) -> io::Result<Temporary> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = path.with_file_name(temporary_name(path, count)?);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        // `create_new` follows no link that someone may have put there.
        let file = File::options().write(true).create_new(true).open(&path)?;
        Ok(Temporary { path, file })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After the rename there is nothing under this name. A failure to clean up must not hide
        // the first error.
        let _ = fs::remove_file(&self.path);
    }
}

/// What stands between a file's name and the numbers in its temporary name.
const INFIX: &str = ".tmp-";

/// `.<name>.tmp-<process>-<count>`
fn temporary_name(path: &Path, count: u64) -> io::Result<OsString> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!("{INFIX}{}-{count}", std::process::id()));
    Ok(temporary)
}

/// Whether [`temporary_name`] made it.
fn is_temporary(name: &[u8]) -> bool {
    let numbers = name.iter().rev().take_while(|b| b.is_ascii_digit() || **b == b'-').count();
    let (stem, numbers) = name.split_at(name.len() - numbers);
    // The infix's own dash is among the numbers.
    let infix = INFIX.trim_end_matches('-').as_bytes();
    stem.starts_with(b".") && stem.ends_with(infix) && numbers.starts_with(b"-")
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Makes the rename itself durable.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder(path))?.sync_all()?;
    }
    Ok(())
}
