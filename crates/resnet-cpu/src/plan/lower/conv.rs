//! Convolutions' steps: weights in the form that kernels take, the three directions, their scratch.

use resnet_core::cost;
use resnet_core::executor::ExecutorError;
use resnet_core::graph::{Node, NodeId, TensorId};
use resnet_core::op::{Conv2d, Op};
use resnet_simd::Stored;

use super::{Joint, Lowering, stored};
use crate::kernel::conv::{ConvPlan, ConvShape, Direction};
use crate::plan::choose::{Purpose, tiles};
use crate::plan::{Layout, Slot, StateUse, Statistics, Step, Work};

impl Lowering<'_> {
    /// The convolution that a node is or differentiates; a classifier is one of a single pixel.
    pub(super) fn conv_plan(&self, node: &Node) -> Result<Box<ConvPlan>, ExecutorError> {
        let shape = |i: TensorId| self.graph.shape(i);
        let (input, output, weight) = match &node.op {
            Op::Conv2d(_) | Op::Linear => (node.inputs[0], node.outputs[0], node.inputs[1]),
            Op::Conv2dInputGrad { .. } | Op::LinearInputGrad => {
                (node.outputs[0], node.inputs[0], node.inputs[1])
            }
            _ => (node.inputs[0], node.inputs[1], node.outputs[0]),
        };
        let shape = match &node.op {
            Op::Conv2d(conv) | Op::Conv2dInputGrad { conv, .. } | Op::Conv2dWeightGrad(conv) => {
                conv_shape(conv, shape(input), shape(output))
            }
            _ => ConvShape::linear(shape(input)[0], shape(weight)[1], shape(weight)[0]),
        };
        let tiles = |direction| tiles(&shape, self.isa, self.purpose, direction);
        let stored = stored(self.graph.ty(node.inputs[0]).dtype);
        let plan = ConvPlan::new(&shape, self.isa, tiles(Direction::Forward), stored);
        let boxed = |plan: ConvPlan| {
            let plan = plan.with_gradient_tiles(tiles(Direction::InputGrad));
            let plan = plan.with_weight_tiles(tiles(Direction::WeightGrad));
            let pairs = self.isa.gains_by_bf16_pairs() && self.purpose != Purpose::Exact;
            Box::new(if pairs { plan.with_bf16_pairs() } else { plan })
        };
        plan.map(boxed).map_err(|why| ExecutorError::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            why: why.to_string(),
        })
    }

    pub(super) fn conv(
        &mut self,
        id: NodeId,
        add: Option<TensorId>,
        relu: bool,
        out: TensorId,
    ) -> Result<(), ExecutorError> {
        let node = self.get(id);
        let plan = self.conv_plan(node)?;
        self.name.clone_from(&node.name);
        self.macs = 0;
        let (x, packed) = (self.slot(node.inputs[0]), self.packed(node.inputs[1], &plan));
        let w = self.forward_weights(node.inputs[1], packed, &plan);
        self.macs = cost::macs(self.graph, node);
        let bias = node.inputs.get(2).map(|&bias| self.slot(bias));
        if (add, relu, bias) == (None, false, None) {
            self.may_convolve_again(out, id, (&plan, w));
        }
        let statistics = self.fusion.statistics_of[out.0 as usize].map(|norm| {
            let pivot = self.slot(self.get(norm).inputs[3]);
            let partials = self.floats(plan.forward_chunks() * 2 * plan.shape().cout);
            self.partials[out.0 as usize] = Some(partials);
            Statistics { pivot, partials }
        });
        let (y, add) = self.out_over_added(id, out, add, &[Some(x)]);
        let scratch = self.scratch(plan.forward_scratch_len(self.threads));
        self.push(Work::Conv { plan, x, w, bias, add, relu, statistics, y, scratch });
        Ok(())
    }

    /// The same convolution once more, of the same input: its statistics are known.
    pub(super) fn conv_again(&mut self, id: NodeId, y: Slot) -> Result<(), ExecutorError> {
        let node = self.get(id);
        let plan = self.conv_plan(node)?;
        self.macs = cost::macs(self.graph, node);
        let [x, w] = [0, 1].map(|i| self.slot(node.inputs[i]));
        let scratch = self.scratch(plan.forward_scratch_len(self.threads));
        let (bias, add, relu, statistics) = (None, None, false, None);
        self.push(Work::Conv { plan, x, w, bias, add, relu, statistics, y, scratch });
        Ok(())
    }

    /// Weights as the forward pass takes them. In inference, transformed ones are state of their
    /// own, made when the weights have changed.
    fn forward_weights(&mut self, tensor: TensorId, packed: Slot, plan: &ConvPlan) -> Slot {
        if !plan.transforms_forward() {
            return packed;
        }
        let (plan, gradient, w) = (Box::new(plan.clone()), false, packed);
        let len = plan.forward_weights_len();
        let (Slot::State(of), Purpose::Inference | Purpose::Exact) = (packed, self.purpose) else {
            let u = self.floats(len);
            self.push(Work::TransformWeights { plan, gradient, w, u });
            return u;
        };
        let u = Slot::State(self.states.len() as u32);
        self.states.push(StateUse {
            name: format!("winograd/{}", self.graph.get(tensor).name),
            role: self.states[of as usize].role,
            shape: vec![len],
            layout: Some(Layout::Plain),
            written: false,
        });
        let work = Work::TransformWeights { plan, gradient, w, u };
        let (name, stored) = (self.name.clone(), Stored::F32);
        self.preparation.push(Step { name, work, stored, macs: 0 });
        u
    }

    pub(super) fn input_grad(
        &mut self,
        id: NodeId,
        add: Option<TensorId>,
        mask: Option<TensorId>,
        out: TensorId,
    ) -> Result<(), ExecutorError> {
        let node = self.get(id);
        let plan = self.conv_plan(node)?;
        self.name.clone_from(&node.name);
        self.macs = 0;
        let w = self.packed(node.inputs[1], &plan);
        let transposed = self.floats(plan.transposed_layout().len());
        self.push(Work::Transpose { layout: *plan.layout(), w, y: transposed });
        let mut w = transposed;
        if plan.transforms_gradient() {
            let u = self.floats(plan.gradient_weights_len());
            let plan = plan.clone();
            self.push(Work::TransformWeights { plan, gradient: true, w, u });
            w = u;
        }
        self.macs = cost::macs(self.graph, node);
        let mask = mask.map(|tensor| self.slot(tensor));
        let sums = self.fusion.sums_of[out.0 as usize]
            .map(|norm| self.grad_sums(norm, out, plan.gradient_chunks() * 2 * plan.shape().cin));
        if let Some(Joint { dw, dy }) = self.joint.get(&node.inputs[0]).copied() {
            let dw = self.get(dw);
            self.macs += cost::macs(self.graph, dw);
            let x = self.slot(dw.inputs[0]);
            let others = [Some(x), Some(dy.g), Some(dy.z), mask, sums.map(|sums| sums.z)];
            let (dx, add) = self.out_over_added(id, out, add, &others);
            let dw = self.out(dw.outputs[0]);
            let scratch = self.scratch(plan.weight_gradient_scratch_len(self.threads));
            self.push(Work::ConvGradients { plan, x, dy, w, add, mask, sums, dw, dx, scratch });
            return Ok(());
        }
        let dy = self.slot(node.inputs[0]);
        let others = [Some(dy), mask, sums.map(|sums| sums.z)];
        let (dx, add) = self.out_over_added(id, out, add, &others);
        let scratch = self.scratch(plan.gradient_scratch_len(self.threads));
        self.push(Work::ConvInputGrad { plan, dy, w, add, mask, sums, dx, scratch });
        Ok(())
    }

    /// Where a convolution's result is to be written, and what is added to it: in place, where the
    /// convolution at `node` reads `added` last, and not as one of its other operands. What it reads
    /// there is in the caches when it writes.
    pub(super) fn out_over_added(
        &mut self,
        node: NodeId,
        out: TensorId,
        added: Option<TensorId>,
        others: &[Option<Slot>],
    ) -> (Slot, Option<Slot>) {
        let Some(added) = added else { return (self.out(out), None) };
        let last =
            self.last_reads[added.0 as usize] == Some(self.fusion.emitted_at[node.0 as usize]);
        let slot = self.slot(added);
        // To compute again is to read again, which no graph shows.
        let free = last && !others.contains(&Some(slot)) && !self.recompute.enabled;
        (self.out_at(slot, free, out), Some(slot))
    }

    /// The weight gradient that is computed together with the input gradient of the same convolution, of a
    /// gradient `dz` that only these two read: it need not be stored then.
    pub(super) fn joint_weight_grad(&self, dz: TensorId) -> Option<NodeId> {
        let &[dw, dx] = &self.readers[dz.0 as usize][..] else { return None };
        let (of_weights, of_input) = (self.get(dw), self.get(dx));
        let both = matches!(of_weights.op, Op::Conv2dWeightGrad(_))
            && matches!(of_input.op, Op::Conv2dInputGrad { .. });
        let emitted = self.fusion.emitted_at[dx.0 as usize];
        let read_later = |tensor: TensorId| {
            self.readers[tensor.0 as usize].iter().all(|&reader| emitted < reader)
        };
        // What is computed again is there only up to the node that reads it.
        let kept = !self.recompute.enabled && self.uses[dz.0 as usize] == 2;
        let fuses = || self.conv_plan(of_input).is_ok_and(|p| p.fuses_gradients(self.threads));
        (both && kept && read_later(of_weights.outputs[0]) && fuses()).then_some(dw)
    }

    pub(super) fn weight_grad(&mut self, id: NodeId) -> Result<(), ExecutorError> {
        let node = self.get(id);
        if self.joint.contains_key(&node.inputs[1]) {
            return Ok(());
        }
        let plan = self.conv_plan(node)?;
        let (x, dy) = (self.slot(node.inputs[0]), self.slot(node.inputs[1]));
        let dw = self.out(node.outputs[0]);
        let scratch = self.scratch(plan.weight_gradient_scratch_len(self.threads));
        self.push(Work::ConvWeightGrad { plan, x, dy, dw, scratch });
        Ok(())
    }
}

pub(super) fn conv_shape(conv: &Conv2d, x: &[usize], y: &[usize]) -> ConvShape {
    ConvShape {
        n: x[0],
        ih: x[1],
        iw: x[2],
        cin: x[3],
        oh: y[1],
        ow: y[2],
        cout: y[3],
        kh: conv.kh,
        kw: conv.kw,
        stride: conv.stride,
        pad: conv.pad,
        dilation: conv.dilation,
        groups: conv.groups,
    }
}
