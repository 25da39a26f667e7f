//! The CPU engine: planner, kernels, thread pool.

pub mod threads;
