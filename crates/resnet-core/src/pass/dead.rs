//! Drops nodes and state that no output and no update depends on.

use crate::graph::{Graph, GraphError, TensorId};

/// The graph without what nothing depends on. Inputs stay, so that a run is called the same way.
///
/// # Errors
/// None for a verified graph.
pub fn drop_dead_nodes(graph: &Graph) -> Result<Graph, GraphError> {
    let alive = alive_tensors(graph);
    let mut kept = Graph::default();
    let mut new_id: Vec<Option<TensorId>> = vec![None; graph.tensors.len()];
    for &id in &graph.inputs {
        let tensor = graph.get(id);
        new_id[id.0 as usize] = Some(kept.input(&tensor.name, tensor.ty.clone()));
    }
    for (id, role) in graph.states() {
        if alive[id.0 as usize] {
            let tensor = graph.get(id);
            new_id[id.0 as usize] = Some(kept.state(&tensor.name, role, &tensor.ty.shape));
        }
    }
    let moved = |new_id: &[Option<TensorId>], id: &TensorId| {
        new_id[id.0 as usize].expect("what a living node reads is alive")
    };
    for node in &graph.nodes {
        if node.outputs.iter().any(|id| alive[id.0 as usize]) {
            let inputs: Vec<TensorId> = node.inputs.iter().map(|id| moved(&new_id, id)).collect();
            let outputs = kept.node(&node.name, node.op.clone(), &inputs)?;
            for (old, new) in node.outputs.iter().zip(outputs) {
                new_id[old.0 as usize] = Some(new);
            }
        }
    }
    kept.outputs =
        graph.outputs.iter().map(|(name, id)| (name.clone(), moved(&new_id, id))).collect();
    kept.updates = graph
        .updates
        .iter()
        .map(|(state, value)| (moved(&new_id, state), moved(&new_id, value)))
        .collect();
    Ok(kept)
}

fn alive_tensors(graph: &Graph) -> Vec<bool> {
    let mut alive = vec![false; graph.tensors.len()];
    let roots = graph.outputs.iter().map(|(_, id)| *id);
    let updates = graph.updates.iter().flat_map(|&(state, value)| [state, value]);
    for id in roots.chain(updates) {
        alive[id.0 as usize] = true;
    }
    for node in graph.nodes.iter().rev() {
        if node.outputs.iter().any(|id| alive[id.0 as usize]) {
            for id in &node.inputs {
                alive[id.0 as usize] = true;
            }
        }
    }
    alive
}
