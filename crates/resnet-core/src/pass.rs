//! Passes: functions from graph to graph. Each is verified and tested to keep what a graph computes.

pub mod dead;
pub mod fold_bn;
pub mod quantize;
