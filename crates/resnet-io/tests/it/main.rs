//! Tests of `resnet-io` from the outside, in one binary.
#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod ahead;
mod augment;
mod cifar;
mod decode;
mod download;
mod generated;
mod imagenet;
mod lists;
mod loader;
mod mix;
mod operations;
mod parquet;
mod real_data;
#[cfg(feature = "remote")]
mod remote;
mod resize;
mod shards;
mod sources;
mod split;
mod weights;
