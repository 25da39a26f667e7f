//! What a residual network is: specification, graph, shapes, gradients, costs, random numbers,
//! the reference executor, and the `Executor` trait. No I/O, no threads, no unsafe.
#![forbid(unsafe_code)]

pub mod rng;
