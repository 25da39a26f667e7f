//! Recomputing: what the forward pass normalised is dropped, and made again where the gradients read
//! it first.
//!
//! A batch norm's input is kept for its own gradient anyway; its output, with the ReLU and the added
//! shortcut, follows from it in one pass over memory (the idea is Chen et al. 2016, arXiv:1604.06174).
//! Where a shortcut is added, the sum is dropped only if the shortcut is kept: so along a stage every
//! other block's output is.

use resnet_core::graph::{NodeId, TensorId};

use super::Lowering;
use crate::plan::Work;
use crate::plan::fuse::Residual;

/// What is dropped, and whether the gradients have begun.
#[derive(Default)]
pub(super) struct Recompute {
    pub(super) enabled: bool,
    backward: bool,
    /// Tensors that are dropped after the forward pass, and how each is made again.
    dropped: Vec<(TensorId, Work)>,
}

impl Lowering<'_> {
    /// Notes that `work`, a step of the forward pass, makes `out`, so that it can be made again.
    pub(super) fn may_recompute(&mut self, out: TensorId, added: Residual, work: &Work) {
        let kept = match added {
            Residual::None | Residual::Norm(_) => true,
            Residual::Plain(tensor) => self.recompute.dropped.iter().all(|(id, _)| *id != tensor),
        };
        let shown = self.graph.outputs.iter().any(|(_, id)| *id == out);
        if self.recompute.enabled && !self.recompute.backward && kept && !shown {
            self.recompute.dropped.push((out, work.clone()));
        }
    }

    /// Makes again what node `id` of the backward pass reads, if it was dropped.
    pub(super) fn restore_inputs(&mut self, id: NodeId) {
        let graph = self.graph;
        let node = &graph.nodes[id.0 as usize];
        self.recompute.backward |= node.op.is_loss_gradient();
        if !self.recompute.backward {
            return;
        }
        for input in &node.inputs {
            let dropped = &mut self.recompute.dropped;
            let Some(at) = dropped.iter().position(|(id, _)| id == input) else { continue };
            let (tensor, work) = dropped.swap_remove(at);
            let Work::NormApply { z, coefficients, residual, relu, .. } = work else {
                unreachable!("only what a batch norm makes is dropped")
            };
            let y = self.plain_buffer(tensor);
            self.stored = super::stored(graph.ty(tensor).dtype);
            self.name = format!("{}.again", graph.get(tensor).name);
            self.push(Work::NormApply { z, coefficients, residual, relu, y });
            self.slots[tensor.0 as usize] = Some(y);
        }
    }
}
