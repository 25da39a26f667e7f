//! The real binary in a temporary folder: stdout, stderr and exit status.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bad_input;
mod bench;
mod data;
mod docs;
mod help;
mod info;
mod labels;
mod pictures;
mod quantize;
mod runs;
mod session;
