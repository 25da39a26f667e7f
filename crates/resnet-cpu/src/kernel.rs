//! The engine's kernels: slices and integers in, slices out; no graph, no arena, no allocation.
//!
//! All work on NHWC tensors of `f32`, or of what activations are stored as (`resnet_simd::Element`), and
//! take the instruction set and the pool first. Work is cut by the problem alone, and sums are combined
//! in a fixed order, so that results are the same bits for any number of threads. Elementwise kernels
//! round every product and every sum, so that they give the same bits on every instruction set, and
//! those of their scalar twins.

pub use lane::Source;
pub use sums::Rows;

pub mod average_pool;
pub mod bias;
mod blocks;
pub mod channel_scale;
pub mod conv;
pub mod dropout;
pub mod elementwise;
pub mod global_pool;
pub mod input;
pub mod int8;
mod lane;
pub mod loss;
mod map;
pub mod max_pool;
pub mod norm;
pub mod optimizer;
mod prefetch;
pub mod subsample;
mod sums;
#[cfg(test)]
mod testing;
mod together;
pub mod window;
