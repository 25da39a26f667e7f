//! Tests of `resnet-io` from the outside, in one binary.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod augment;
mod cifar;
mod decode;
mod generated;
mod lists;
mod loader;
mod mix;
mod operations;
mod real_data;
mod resize;
mod shards;
mod sources;
mod split;
mod weights;
