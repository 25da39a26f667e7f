//! What a residual network is: specification, graph, shapes, gradients, costs, random numbers,
//! the reference executor, and the `Executor` trait. No I/O, no threads, no unsafe.
#![forbid(unsafe_code)]
// A new op must break the build wherever it is not yet handled.
#![warn(clippy::wildcard_enum_match_arm)]

pub mod build;
pub mod conformance;
pub mod cost;
pub mod executor;
pub mod grad;
pub mod graph;
pub mod init;
pub mod int8;
pub mod op;
pub mod oracle;
pub mod pass;
pub mod precision;
pub mod reference;
pub mod rng;
pub mod shape;
pub mod spec;
pub mod step;
pub mod zoo;
