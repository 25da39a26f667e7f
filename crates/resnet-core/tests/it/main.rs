//! Tests of the whole crate through its public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod conformance;
#[allow(dead_code, reason = "the engine's tests read the rest of it")]
mod fixture;
mod gradients;
mod init;
mod ops;
mod optimizer;
mod parity;
mod text;
