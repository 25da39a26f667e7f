//! Tests of `resnet-io` from the outside, in one binary.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod decode;
mod resize;
mod shared;
mod sources;
mod weights;
