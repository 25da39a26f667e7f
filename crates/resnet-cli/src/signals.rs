//! Signals: a wish to stop becomes a flag, a file-size limit an error of the write.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::failure::Failure;

/// A flag that becomes true when the user (Ctrl-C) or the system asks to stop. Asked twice, the
/// process ends at once.
///
/// # Errors
/// When the system refuses.
pub(crate) fn watch() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    register(&stop).map_err(|error| {
        Failure::new(anyhow::Error::new(error).context("watching signals"), None)
    })?;
    Ok(stop)
}

#[cfg(unix)]
fn register(stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
    use signal_hook::flag;
    for signal in [SIGINT, SIGTERM] {
        // In this order: the second time the flag is set already.
        flag::register_conditional_shutdown(signal, 130, stop.clone())?;
        flag::register(signal, stop.clone())?;
    }
    // Unhandled, it kills the process; handled, the write fails with "File too large".
    flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?;
    Ok(())
}

#[cfg(not(unix))]
fn register(_stop: &Arc<AtomicBool>) -> std::io::Result<()> {
    Ok(())
}
