//! `metrics.jsonl`: one event a line, appended; cut back to the checkpoint when a run is resumed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::checkpoint::{cut_back, sync_metrics};
use crate::error::{TrainError, io_error};
use crate::event::Event;

/// The file, open at its end.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file, cut back to its first `keep` bytes: what lies behind them was written after
    /// the checkpoint, by steps that will be made again.
    ///
    /// # Errors
    /// A file that is shorter; what the system says.
    pub fn open(path: &Path, keep: u64) -> Result<Metrics, TrainError> {
        Ok(Metrics { path: path.into(), file: cut_back(path, keep)? })
    }

    /// Appends an event's line in one write.
    ///
    /// # Errors
    /// What the system says.
    pub fn append(&mut self, event: &Event) -> Result<(), TrainError> {
        let Some(value) = event.to_json() else { return Ok(()) };
        self.file.write_all(format!("{value}\n").as_bytes()).map_err(io_error(&self.path))
    }

    /// Brings all lines safely to the disk and says how many bytes they are.
    ///
    /// # Errors
    /// What the system says.
    pub fn sync(&mut self) -> Result<u64, TrainError> {
        Ok(sync_metrics(&self.path, &self.file)?)
    }
}
