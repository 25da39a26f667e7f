//! Tests of the whole crate through its public interface.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod fixture;
mod gradients;
mod ops;
mod parity;
