//! The CPU engine: planner, kernels, thread pool.

pub mod kernel;
pub mod threads;
