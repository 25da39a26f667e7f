//! The CPU engine: planner, kernels, thread pool.
