//! The CPU engine: planner, kernels, thread pool.

pub mod candidates;
pub mod executor;
pub mod kernel;
pub mod machine;
pub mod plan;
pub mod threads;

pub use resnet_simd::Isa;
