//! Weights files: honest ones are read to the value, hostile ones end in one clear line.

mod files;
mod matching;
mod names;
mod real;
mod writing;

use std::path::PathBuf;

/// A file made by `xtask/oracle/pickles.py`.
fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/fixtures/weights", name].iter().collect()
}

/// An error's text with the folder taken out, since it differs from machine to machine.
fn relative(error: &impl std::fmt::Display) -> String {
    let folder = format!("{}{}", fixture("").display(), std::path::MAIN_SEPARATOR);
    error.to_string().replace(&folder, "").replace(&fixture("").display().to_string(), "")
}
