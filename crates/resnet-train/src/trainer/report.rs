//! Where events go: to the caller, to `metrics.jsonl`, to `log.txt`.

use crate::error::TrainError;
use crate::event::Event;
use crate::metrics::Metrics;
use crate::run_folder::RunFolder;

pub(super) struct Reporter<'a> {
    run: &'a RunFolder,
    metrics: Metrics,
    on_event: &'a mut dyn FnMut(&Event),
}

impl<'a> Reporter<'a> {
    /// Opens the files, the metrics cut back to what the checkpoint knows of.
    pub(super) fn open(
        run: &'a RunFolder,
        metrics_bytes: u64,
        on_event: &'a mut dyn FnMut(&Event),
    ) -> Result<Reporter<'a>, TrainError> {
        let metrics = Metrics::open(&run.metrics(), metrics_bytes)?;
        Ok(Reporter { run, metrics, on_event })
    }

    /// Tells the caller.
    pub(super) fn show(&mut self, event: &Event) {
        (self.on_event)(event);
    }

    /// Tells the caller and the log.
    pub(super) fn note(&mut self, event: Event) -> Result<(), TrainError> {
        self.run.log(&event.to_string())?;
        self.show(&event);
        Ok(())
    }

    /// Appends a line to the metrics.
    pub(super) fn measure(&mut self, event: &Event) -> Result<(), TrainError> {
        self.metrics.append(event)
    }

    /// Brings the metrics to the disk; their number of bytes.
    pub(super) fn sync(&mut self) -> Result<u64, TrainError> {
        self.metrics.sync()
    }
}
