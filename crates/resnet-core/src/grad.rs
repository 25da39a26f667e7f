//! Gradients as a graph pass: the forward graph in, the graph with gradient nodes out.

use crate::graph::{Graph, GraphError, TensorId};

/// The graph extended by the gradients of `loss` by every parameter, stored as state `grad/...`.
///
/// # Errors
/// None for a verified graph.
pub fn gradients(_graph: &Graph, _loss: TensorId) -> Result<Graph, GraphError> {
    unimplemented!("the rules are being written")
}
