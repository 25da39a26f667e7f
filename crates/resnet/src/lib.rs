//! Residual networks as a library: one door to the crates below it.
#![forbid(unsafe_code)]

pub use resnet_core as core;
pub use resnet_cpu as cpu;
pub use resnet_io as io;
pub use resnet_train as train;

pub mod bench;
