//! The engine against scalar twins and the reference executor.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod bf16;
mod conformance;
mod conv;
#[allow(dead_code, reason = "the reference's tests read the rest of it")]
#[path = "../../../resnet-core/tests/it/fixture.rs"]
mod fixture;
mod gradients;
mod networks;
mod parity;
