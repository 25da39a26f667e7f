//! The integration tests of `resnet-train`, in one binary.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod checkpoint;
mod event;
mod model;
#[cfg(unix)]
mod multi_label;
mod progressive;
mod recipe;
#[cfg(unix)]
mod resume;
mod schedule;
mod score;
mod tiny;
mod train;
