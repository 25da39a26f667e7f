//! Recomputing: what the forward pass can make again cheaply is dropped, and made again where the
//! gradients read it first (the idea is Chen et al. 2016, arXiv:1604.06174).
//!
//! - What a batch norm makes, with the ReLU and the added shortcut, follows from its input in one pass
//!   over memory. Where a shortcut is added, the sum is dropped only if the shortcut is kept: so along
//!   a stage every other block's output is.
//! - What a convolution of short sums makes (a bottleneck's last one, a stem) costs few multiply-adds
//!   a number. It is dropped where its input needs no convolution to be made again, so that nothing
//!   is made again for more than the next few steps.

use std::collections::HashMap;

use resnet_core::executor::ExecutorError;
use resnet_core::graph::{NodeId, TensorId};
use resnet_core::op::Op;

use super::Lowering;
use crate::kernel::conv::ConvPlan;
use crate::plan::Slot;
use crate::plan::fuse::Residual;

/// Terms of a sum that is made again, at most.
const MAX_TERMS: usize = 256;

/// How a dropped tensor is made again.
#[derive(Clone, Copy, Debug)]
enum Again {
    /// By the normalising pass.
    Normalize { norm: NodeId, residual: Residual, relu: bool },
    /// By the convolution.
    Conv(NodeId),
}

/// What is dropped, and whether the gradients have begun.
#[derive(Default)]
pub(super) struct Recompute {
    pub(super) enabled: bool,
    backward: bool,
    dropped: HashMap<TensorId, Again>,
}

impl Lowering<'_> {
    /// Notes that the normalising pass of `norm`, in the forward pass, makes `out`.
    pub(super) fn may_normalize_again(
        &mut self,
        out: TensorId,
        norm: NodeId,
        residual: Residual,
        relu: bool,
    ) {
        let keeps_shortcut = match residual {
            Residual::None | Residual::Norm(_) => true,
            Residual::Plain(tensor) => !self.recompute.dropped.contains_key(&tensor),
        };
        if keeps_shortcut {
            self.drop_tensor(out, Again::Normalize { norm, residual, relu });
        }
    }

    /// Notes that the convolution `id`, with nothing fused, makes `out` of weights `w`.
    pub(super) fn may_convolve_again(
        &mut self,
        out: TensorId,
        id: NodeId,
        (plan, w): (&ConvPlan, Slot),
    ) {
        let node = self.get(id);
        let shape = plan.shape();
        let terms = shape.kh * shape.kw * shape.cin / shape.groups;
        // Other weights than the state's are made for one pass only.
        let cheap = matches!(w, Slot::State(_)) && terms <= MAX_TERMS;
        if cheap && matches!(node.op, Op::Conv2d(_)) && !self.needs_conv(node.inputs[0]) {
            self.drop_tensor(out, Again::Conv(id));
        }
    }

    fn drop_tensor(&mut self, tensor: TensorId, again: Again) {
        let shown = self.graph.outputs.iter().any(|(_, id)| *id == tensor);
        if self.recompute.enabled && !self.recompute.backward && !shown {
            self.recompute.dropped.insert(tensor, again);
        }
    }

    /// Whether a tensor is dropped and a convolution has to run to make it again.
    fn needs_conv(&self, tensor: TensorId) -> bool {
        match self.recompute.dropped.get(&tensor) {
            None => false,
            Some(Again::Conv(_)) => true,
            Some(&again) => self.sources(again).into_iter().any(|source| self.needs_conv(source)),
        }
    }

    /// The activations that a tensor is made of.
    fn sources(&self, again: Again) -> Vec<TensorId> {
        let input = |node: NodeId| self.get(node).inputs[0];
        match again {
            Again::Conv(node) | Again::Normalize { norm: node, residual: Residual::None, .. } => {
                vec![input(node)]
            }
            Again::Normalize { norm, residual: Residual::Plain(tensor), .. } => {
                vec![input(norm), tensor]
            }
            Again::Normalize { norm, residual: Residual::Norm(other), .. } => {
                vec![input(norm), input(other)]
            }
        }
    }

    /// Makes again what node `id` of the backward pass reads, or the sums made with it, if it was
    /// dropped.
    pub(super) fn restore_inputs(&mut self, id: NodeId) -> Result<(), ExecutorError> {
        let graph = self.graph;
        let node = &graph.nodes[id.0 as usize];
        self.recompute.backward |= node.op.is_loss_gradient();
        if !self.recompute.backward {
            return Ok(());
        }
        let summed = node.outputs.iter().filter_map(|out| self.fusion.sums_of[out.0 as usize]);
        let summed: Vec<TensorId> = summed.map(|norm| self.get(norm).inputs[1]).collect();
        node.inputs.iter().chain(&summed).try_for_each(|&tensor| self.restore(tensor))
    }

    fn restore(&mut self, tensor: TensorId) -> Result<(), ExecutorError> {
        let Some(again) = self.recompute.dropped.remove(&tensor) else { return Ok(()) };
        for source in self.sources(again) {
            self.restore(source)?;
        }
        self.stored = super::stored(self.graph.ty(tensor).dtype);
        self.name = format!("{}.again", self.graph.get(tensor).name);
        let y = self.plain_buffer(tensor);
        match again {
            Again::Normalize { norm, residual, relu } => {
                let work = self.norm_apply(norm, residual, relu, y);
                self.push(work);
            }
            Again::Conv(id) => self.conv_again(id, y)?,
        }
        self.slots[tensor.0 as usize] = Some(y);
        Ok(())
    }
}
