//! A folder of a million files is indexed in seconds, and a change in it is noticed.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, ensure};

use super::{build, last_object};

const CLASSES: usize = 1000;
const FILES_PER_CLASS: usize = 1000;
/// The most seconds of a first run, with the system's caches empty where they can be emptied.
const COLD_SECONDS: f64 = 10.0;
/// The most seconds of the runs after it.
const WARM_SECONDS: f64 = 2.0;

/// Makes the folder, if it is not there, and measures how long the command line takes to open it.
///
/// # Errors
/// When it takes longer than it may, or counts wrong.
pub fn index(root: &Path) -> anyhow::Result<()> {
    let binary = build(root)?;
    let folder = root.join("target/prove/index");
    make(&folder)?;
    // Only the superuser may; the first time is told as it is.
    let emptied = Command::new("sync").status().is_ok_and(|status| status.success())
        && fs::write("/proc/sys/vm/drop_caches", "3").is_ok();
    let whole = CLASSES * FILES_PER_CLASS;
    let first = timed(&binary, &folder, whole)?;
    println!("{whole} files: {first:.2} s at first (caches emptied: {emptied})");
    let mut again = Vec::new();
    for _ in 0..3 {
        again.push(timed(&binary, &folder, whole)?);
    }
    let again = super::median(&mut again);
    println!("{whole} files: {again:.2} s again");
    let (one, other) = (folder.join("c0500/0500.bmp"), folder.join("c0500/new.bmp"));
    fs::copy(&one, &other)?;
    println!("one more: {:.2} s", timed(&binary, &folder, whole + 1)?);
    fs::remove_file(&other)?;
    println!("one less: {:.2} s", timed(&binary, &folder, whole)?);
    fs::rename(&one, &other)?;
    println!("one renamed: {:.2} s", timed(&binary, &folder, whole)?);
    fs::rename(&other, &one)?;
    ensure!(first <= COLD_SECONDS, "{first:.2} s at first, expected {COLD_SECONDS} at most");
    ensure!(again <= WARM_SECONDS, "{again:.2} s again, expected {WARM_SECONDS} at most");
    Ok(())
}

/// Seconds of a run that opens the folder, finds `expected` files and loads two.
fn timed(binary: &Path, folder: &Path, expected: usize) -> anyhow::Result<f64> {
    let start = Instant::now();
    let output = Command::new(binary)
        .args(["bench", "--mode", "data", "--size", "8", "--batch-size", "2"])
        .args(["--seconds", "0", "--threads", "1", "--json", "--data"])
        .arg(folder)
        .output()?;
    let seconds = start.elapsed().as_secs_f64();
    let files = last_object(&output)?["files"].as_u64().context("it counts files")?;
    ensure!(files == expected as u64, "{files} files, expected {expected}");
    Ok(seconds)
}

/// A million pictures of two by two pixels, each with a name of its own.
fn make(folder: &Path) -> anyhow::Result<()> {
    let done = folder.with_extension("made");
    if done.exists() {
        return Ok(());
    }
    println!("making {} files", CLASSES * FILES_PER_CLASS);
    let mut picture = b"BM\x46\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    picture.extend(b"\x02\0\0\0\x02\0\0\0\x01\0\x18\0\0\0\0\0\x10\0\0\0");
    picture.resize(0x36, 0);
    picture.extend([128; 16]);
    for class in 0..CLASSES {
        let folder = folder.join(format!("c{class:04}"));
        fs::create_dir_all(&folder)?;
        for file in 0..FILES_PER_CLASS {
            fs::write(folder.join(format!("{file:04}.bmp")), &picture)?;
        }
    }
    fs::write(done, "")?;
    Ok(())
}
