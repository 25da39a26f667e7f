//! The engine against scalar twins and the reference executor.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod conv;
mod networks;
