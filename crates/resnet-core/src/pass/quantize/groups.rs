//! Which nodes become one operation: a convolution, an addition of its result, a ReLU after that.

use crate::graph::{Graph, NodeId, TensorId};
use crate::op::Op;

/// What a node becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Group {
    /// An operation of its own.
    Single,
    /// Part of a group whose operation stands where its last node did.
    Elsewhere,
    /// The last node of a convolution's group.
    Conv { conv: NodeId, add: Option<TensorId>, relu: bool, out: TensorId },
}

/// For each node what it becomes. A tensor inside a group has no other reader.
pub(super) fn groups(graph: &Graph) -> Vec<Group> {
    let mut reader_of: Vec<Option<NodeId>> = vec![None; graph.tensors.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            reader_of[input.0 as usize] = Some(NodeId(i as u32));
        }
    }
    let uses = graph.uses();
    let only_reader = |tensor: TensorId| {
        let at = tensor.0 as usize;
        if uses[at] == 1 { reader_of[at] } else { None }
    };
    let node = |id: NodeId| &graph.nodes[id.0 as usize];
    let mut groups = vec![Group::Single; graph.nodes.len()];
    for i in 0..graph.nodes.len() {
        if !matches!(graph.nodes[i].op, Op::Conv2d(_)) {
            continue;
        }
        let conv = NodeId(i as u32);
        let (mut members, mut out) = (vec![conv], graph.nodes[i].outputs[0]);
        let (mut add, mut relu) = (None, false);
        if let Some(join) = only_reader(out)
            && matches!(node(join).op, Op::Add)
            && groups[join.0 as usize] == Group::Single
        {
            let inputs = &node(join).inputs;
            add = Some(if inputs[0] == out { inputs[1] } else { inputs[0] });
            out = node(join).outputs[0];
            members.push(join);
        }
        if let Some(reader) = only_reader(out)
            && matches!(node(reader).op, Op::Relu)
        {
            relu = true;
            out = node(reader).outputs[0];
            members.push(reader);
        }
        for member in &members {
            groups[member.0 as usize] = Group::Elsewhere;
        }
        let last = members[members.len() - 1];
        groups[last.0 as usize] = Group::Conv { conv, add, relu, out };
    }
    groups
}
