//! The CPU engine: planner, kernels, thread pool.

pub mod executor;
pub mod kernel;
pub mod plan;
pub mod threads;
