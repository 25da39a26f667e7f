//! From nodes to steps: one function walks the graph, one arm an operation says its steps.

mod conv;
mod elementary;
mod int8;
mod norm;
mod recompute;

use std::collections::HashMap;

use resnet_core::graph::{Graph, Node, NodeId, Origin, TensorId};
use resnet_core::op::{DType, Op};
use resnet_core::{cost, executor::ExecutorError};
use resnet_simd::{Isa, Stored};

use self::recompute::Recompute;
use super::choose::Purpose;
use super::fuse::{self, Fusion, Group};
use super::{Buffer, Dims, Layout, NormGradient, Output, Plan, Slot, StateUse, Step, Work};
use super::{arena, fuse::Residual as NodeResidual};
use crate::kernel::Rows;
use crate::kernel::conv::ConvPlan;

/// Rows whose sums a pass of its own adds up in f32 before they are combined in f64.
const CHUNK_ROWS: usize = 168;

/// Plans a verified graph. The number of threads decides the size of scratch, and which gradients are
/// computed [together](ConvPlan::fuses_gradients), which changes no bit.
pub(crate) fn lower(
    graph: &Graph,
    isa: Isa,
    threads: usize,
    purpose: Purpose,
    recompute: bool,
) -> Result<Plan, ExecutorError> {
    let mut lowering = Lowering::new(graph, isa, threads);
    lowering.purpose = purpose;
    lowering.recompute.enabled = recompute;
    lowering.find_layouts()?;
    lowering.find_aliases();
    for i in 0..graph.nodes.len() {
        lowering.restore_inputs(NodeId(i as u32))?;
        lowering.node(NodeId(i as u32))?;
    }
    lowering.store_updates();
    Ok(lowering.finish())
}

/// What batch norm leaves for its application and its gradient.
#[derive(Clone, Copy, Debug)]
struct NormSlots {
    coefficients: Slot,
}

pub(super) struct Lowering<'a> {
    pub(super) graph: &'a Graph,
    isa: Isa,
    threads: usize,
    purpose: Purpose,
    fusion: Fusion,
    last_reads: Vec<Option<NodeId>>,
    uses: Vec<u32>,
    readers: Vec<Vec<NodeId>>,
    slots: Vec<Option<Slot>>,
    layouts: Vec<Layout>,
    /// The state that a value is written to directly.
    aliases: Vec<Option<Slot>>,
    norms: Vec<Option<NormSlots>>,
    /// Partial sums that the producer of a tensor made.
    partials: Vec<Option<Slot>>,
    sizes: Vec<usize>,
    preparation: Vec<Step>,
    steps: Vec<Step>,
    states: Vec<StateUse>,
    recompute: Recompute,
    /// By the gradient that is not stored.
    joint: HashMap<TensorId, Joint>,
    name: String,
    stored: Stored,
    macs: u64,
}

/// Both gradients of a convolution, to be computed in one step where the input's stands.
#[derive(Clone, Copy, Debug)]
struct Joint {
    dw: NodeId,
    dy: NormGradient,
}

/// How an engine stores a tensor of real numbers; of others nothing depends on it.
fn stored(dtype: DType) -> Stored {
    match dtype {
        DType::Bf16 => Stored::Bf16,
        DType::F32 | DType::U8 | DType::U32 => Stored::F32,
    }
}

impl<'a> Lowering<'a> {
    fn new(graph: &'a Graph, isa: Isa, threads: usize) -> Lowering<'a> {
        let tensors = graph.tensors.len();
        let fusion = fuse::fuse(graph);
        let mut lowering = Lowering {
            graph,
            isa,
            threads,
            purpose: Purpose::Exact,
            last_reads: fusion.last_reads(graph),
            fusion,
            uses: graph.uses(),
            readers: fuse::readers(graph),
            slots: vec![None; tensors],
            layouts: vec![Layout::Plain; tensors],
            aliases: vec![None; tensors],
            norms: vec![None; graph.nodes.len()],
            partials: vec![None; tensors],
            sizes: Vec::new(),
            preparation: Vec::new(),
            steps: Vec::new(),
            states: Vec::new(),
            recompute: Recompute::default(),
            joint: HashMap::new(),
            name: String::new(),
            stored: Stored::F32,
            macs: 0,
        };
        for (i, input) in graph.inputs.iter().enumerate() {
            lowering.slots[input.0 as usize] = Some(Slot::Input(i as u32));
        }
        for (id, role) in graph.states() {
            let slot = Slot::State(lowering.states.len() as u32);
            lowering.slots[id.0 as usize] = Some(slot);
            lowering.states.push(StateUse {
                name: graph.get(id).name.clone(),
                role,
                shape: graph.shape(id).to_vec(),
                layout: None,
                written: graph.updates.iter().any(|(state, _)| *state == id),
            });
        }
        lowering
    }

    /// Weights live in panels where a convolution reads them, and gradients as it writes them.
    fn find_layouts(&mut self) -> Result<(), ExecutorError> {
        for node in &self.graph.nodes {
            let weight = match &node.op {
                Op::Conv2d(_) | Op::Conv2dInputGrad { .. } | Op::Linear | Op::LinearInputGrad => {
                    node.inputs[1]
                }
                Op::Conv2dWeightGrad(_) | Op::LinearWeightGrad => node.outputs[0],
                _ => continue,
            };
            let layout = Layout::Packed(*self.conv_plan(node)?.layout());
            self.set_layout(weight, layout);
        }
        for &(state, value) in &self.graph.updates {
            if self.layouts[value.0 as usize] != Layout::Plain {
                let layout = self.layouts[value.0 as usize].clone();
                self.set_layout(state, layout);
            }
        }
        // State that no convolution reads is plain, but for what an update passes through.
        for node in &self.graph.nodes {
            if matches!(node.op, Op::SgdUpdate(_) | Op::ClipFactor { .. }) {
                continue;
            }
            for input in &node.inputs {
                if let Some(Slot::State(i)) = self.slots[input.0 as usize] {
                    self.states[i as usize].layout.get_or_insert(Layout::Plain);
                }
            }
        }
        Ok(())
    }

    /// Inputs stay plain: they are packed before use.
    fn set_layout(&mut self, tensor: TensorId, layout: Layout) {
        match self.graph.get(tensor).origin {
            Origin::Input => {}
            Origin::State(_) => {
                let Some(Slot::State(i)) = self.slots[tensor.0 as usize] else { return };
                self.states[i as usize].layout = Some(layout.clone());
                self.layouts[tensor.0 as usize] = layout;
            }
            Origin::Node(node, _) => {
                let op = &self.graph.nodes[node.0 as usize].op;
                if matches!(op, Op::Conv2dWeightGrad(_) | Op::LinearWeightGrad) {
                    self.layouts[tensor.0 as usize] = layout;
                }
            }
        }
    }

    /// A value goes straight into its state where nobody reads the old one after it is written.
    fn find_aliases(&mut self) {
        for &(state, value) in &self.graph.updates {
            let Origin::Node(producer, _) = self.graph.get(value).origin else { continue };
            let node = &self.graph.nodes[producer.0 as usize];
            let readers = self.uses[state.0 as usize];
            let in_place = matches!(node.op, Op::BatchNorm { .. } | Op::SgdUpdate(_))
                && readers == 1
                && node.inputs.contains(&state);
            if readers == 0 || in_place {
                self.aliases[value.0 as usize] = self.slots[state.0 as usize];
            }
        }
    }

    /// The slot that holds a tensor, as it is.
    fn slot(&self, tensor: TensorId) -> Slot {
        self.slots[tensor.0 as usize].expect("nodes are in topological order")
    }

    /// The slot of a tensor in canonical layout.
    fn plain(&mut self, tensor: TensorId) -> Slot {
        let x = self.slot(tensor);
        match self.layouts[tensor.0 as usize].clone() {
            Layout::Plain => x,
            Layout::Packed(layout) => {
                let y = self.buffer(4 * self.graph.ty(tensor).len());
                self.push(Work::Unpack { layout, x, y });
                y
            }
        }
    }

    /// The slot of weights in panels.
    fn packed(&mut self, tensor: TensorId, plan: &ConvPlan) -> Slot {
        let x = self.slot(tensor);
        match self.layouts[tensor.0 as usize] {
            Layout::Packed(_) => x,
            Layout::Plain => {
                let layout = *plan.layout();
                let y = self.buffer(4 * layout.len());
                self.push(Work::Pack { layout, x, y });
                y
            }
        }
    }

    fn buffer(&mut self, bytes: usize) -> Slot {
        self.sizes.push(bytes);
        Slot::Buffer(self.sizes.len() as u32 - 1)
    }

    /// A buffer for a tensor as its type says.
    fn plain_buffer(&mut self, tensor: TensorId) -> Slot {
        let ty = self.graph.ty(tensor);
        self.buffer(ty.len() * ty.dtype.size())
    }

    fn floats(&mut self, count: usize) -> Slot {
        self.buffer(4 * count)
    }

    fn scratch(&mut self, floats: usize) -> Option<Slot> {
        (floats > 0).then(|| self.floats(floats))
    }

    /// Where a tensor is to be written.
    fn out(&mut self, tensor: TensorId) -> Slot {
        let slot = match self.aliases[tensor.0 as usize] {
            Some(state) => state,
            None => match &self.layouts[tensor.0 as usize] {
                Layout::Packed(layout) => {
                    let len = layout.len();
                    self.floats(len)
                }
                Layout::Plain => self.plain_buffer(tensor),
            },
        };
        self.slots[tensor.0 as usize] = Some(slot);
        slot
    }

    /// Where a tensor is to be written that may take the place of `x`: `x` itself if it lies in a
    /// buffer and this is its only reader.
    fn out_over(&mut self, x: TensorId, tensor: TensorId) -> Slot {
        self.out_at(self.slot(x), self.uses[x.0 as usize] == 1, tensor)
    }

    /// Where a tensor is to be written: at `slot` if that is a buffer and `free`.
    fn out_at(&mut self, slot: Slot, free: bool, tensor: TensorId) -> Slot {
        match slot {
            Slot::Buffer(_) if free && self.aliases[tensor.0 as usize].is_none() => {
                self.slots[tensor.0 as usize] = Some(slot);
                slot
            }
            _ => self.out(tensor),
        }
    }

    fn push(&mut self, work: Work) {
        let macs = std::mem::take(&mut self.macs);
        self.steps.push(Step { name: self.name.clone(), work, stored: self.stored, macs });
    }

    fn get(&self, node: NodeId) -> &'a Node {
        &self.graph.nodes[node.0 as usize]
    }

    fn channels(&self, tensor: TensorId) -> usize {
        *self.graph.shape(tensor).last().expect("no scalars have channels")
    }

    fn dims(&self, tensor: TensorId) -> Dims {
        self.graph.shape(tensor).try_into().expect("shape inference: a picture has four sizes")
    }

    fn rows(&self, tensor: TensorId) -> Rows {
        let channels = self.channels(tensor);
        let rows = self.graph.ty(tensor).len() / channels;
        Rows { rows, channels, chunk_rows: CHUNK_ROWS }
    }

    fn node(&mut self, id: NodeId) -> Result<(), ExecutorError> {
        let node = self.get(id);
        self.name.clone_from(&node.name);
        self.macs = cost::macs(self.graph, node);
        let mut tensors = node.inputs.iter().chain(&node.outputs);
        let bf16 = tensors.any(|&id| self.graph.ty(id).dtype == DType::Bf16);
        self.stored = if bf16 { Stored::Bf16 } else { Stored::F32 };
        if matches!(node.op, Op::BatchNorm { .. } | Op::BatchNormInference { .. }) {
            self.norm_coefficients(id);
        }
        if let Some(group) = self.fusion.group_at[id.0 as usize] {
            return self.group(group);
        }
        if self.fusion.is_absorbed(id) {
            return Ok(());
        }
        self.single(id)
    }

    fn group(&mut self, group: Group) -> Result<(), ExecutorError> {
        match group {
            Group::Conv { conv, add, relu, out } => self.conv(conv, add, relu, out),
            Group::Normalize { norm, residual, relu, out } => {
                self.normalize(norm, residual, relu, out);
                Ok(())
            }
            Group::InputGrad { grad, add, mask, out } => self.input_grad(grad, add, mask, out),
            Group::MaskedGrad { dy, mask, out } => {
                self.masked_grad(dy, mask, out);
                Ok(())
            }
        }
    }

    fn sgd_update(&mut self, id: NodeId) {
        let Op::SgdUpdate(sgd) = self.get(id).op else { unreachable!("called for updates only") };
        let node = self.get(id);
        let [dw, hyper] = [1, 3].map(|i| self.slot(node.inputs[i]));
        let factor = node.inputs.get(4).map(|&factor| self.slot(factor));
        let [w, velocity] = [(0, 0), (2, 1)].map(|(input, output)| {
            let old = self.slot(node.inputs[input]);
            let new = self.out(node.outputs[output]);
            if new != old {
                self.push(Work::Store { x: old, y: new });
            }
            new
        });
        self.push(Work::SgdUpdate { sgd, w, dw, velocity, hyper, factor });
    }

    /// The steps of an operation that is part of no group.
    fn single(&mut self, id: NodeId) -> Result<(), ExecutorError> {
        let node = self.get(id);
        let input = |i: usize| node.inputs[i];
        match &node.op {
            Op::Conv2d(_) | Op::Linear => {
                return self.conv(id, None, false, node.outputs[0]);
            }
            Op::Conv2dInputGrad { .. } | Op::LinearInputGrad => {
                return self.input_grad(id, None, None, node.outputs[0]);
            }
            Op::Conv2dWeightGrad(_) | Op::LinearWeightGrad => return self.weight_grad(id),
            Op::Int8Conv2d(_) | Op::Int8Linear => return self.int8_conv(id),
            Op::BatchNorm { .. } | Op::BatchNormInference { .. } => {
                self.normalize(id, NodeResidual::None, false, node.outputs[0]);
            }
            Op::BatchNormGrad => self.norm_grad(id),
            Op::BatchNormInferenceGrad { eps } => self.frozen_norm_grad(id, *eps),
            Op::ReluGrad => self.masked_grad(input(0), input(1), node.outputs[0]),
            Op::SgdUpdate(_) => self.sgd_update(id),
            Op::BiasGrad => {
                let rows = self.rows(input(0));
                let (dy, partials) = (self.slot(input(0)), self.floats(rows.partials_len(1)));
                let db = self.out(node.outputs[0]);
                self.push(Work::BiasGrad { rows, dy, partials, db });
            }
            Op::ClipFactor { max_norm } => {
                let gradients = node.inputs.iter().map(|&g| self.slot(g)).collect();
                let (factor, norm) = (self.out(node.outputs[0]), self.out(node.outputs[1]));
                self.push(Work::ClipFactor { max_norm: *max_norm, gradients, factor, norm });
            }
            Op::Sigmoid | Op::SigmoidGrad | Op::Dropout { .. } | Op::DropoutGrad
                if self.stored == Stored::Bf16 =>
            {
                return Err(ExecutorError::Unsupported {
                    node: node.name.clone(),
                    op: node.op.name(),
                    why: "it is for pooled features, which are stored in f32".into(),
                });
            }
            op => {
                let inputs: Vec<Slot> = node.inputs.iter().map(|&id| self.plain(id)).collect();
                let outputs: Vec<Slot> = node.outputs.iter().map(|&id| self.out(id)).collect();
                let work = self.elementary(op, node, &inputs, &outputs);
                self.push(work);
            }
        }
        Ok(())
    }

    /// Values that were not written into their state directly, at the end: a run reads old state.
    fn store_updates(&mut self) {
        self.stored = Stored::F32;
        for &(state, value) in &self.graph.updates {
            let (target, source) = (self.slot(state), self.slot(value));
            if target == source {
                continue;
            }
            self.name = format!("store.{}", self.graph.get(state).name);
            let (to, from) = (&self.layouts[state.0 as usize], &self.layouts[value.0 as usize]);
            let work = match (from.clone(), to.clone()) {
                (Layout::Plain, Layout::Packed(layout)) => {
                    Work::Pack { layout, x: source, y: target }
                }
                (Layout::Packed(layout), Layout::Plain) => {
                    Work::Unpack { layout, x: source, y: target }
                }
                (Layout::Plain, Layout::Plain) | (Layout::Packed(_), Layout::Packed(_)) => {
                    Work::Store { x: source, y: target }
                }
            };
            self.push(work);
        }
    }

    fn finish(self) -> Plan {
        let outputs: Vec<_> = self
            .graph
            .outputs
            .iter()
            .map(|(name, id)| {
                let slot = self.slots[id.0 as usize].expect("every tensor is computed");
                let layout = self.layouts[id.0 as usize].clone();
                let (ty, name) = (self.graph.ty(*id), name.clone());
                Output { name, slot, layout, stored: stored(ty.dtype), len: ty.len() }
            })
            .collect();
        let mut buffers: Vec<Buffer> = self
            .sizes
            .iter()
            .map(|&bytes| Buffer { bytes, first: usize::MAX, last: 0, offset: 0 })
            .collect();
        let mut touch = |slot: &Slot, step: usize| {
            if let Slot::Buffer(i) = slot {
                let buffer = &mut buffers[*i as usize];
                buffer.first = buffer.first.min(step);
                buffer.last = buffer.last.max(step);
            }
        };
        for (i, step) in self.steps.iter().enumerate() {
            let (reads, writes) = step.work.operands();
            reads.iter().chain(&writes).for_each(|slot| touch(slot, i));
        }
        outputs.iter().for_each(|output| touch(&output.slot, self.steps.len()));
        let lifetimes: Vec<arena::Lifetime> = buffers
            .iter()
            .map(|b| arena::Lifetime { bytes: b.bytes, first: b.first.min(b.last), last: b.last })
            .collect();
        let layout = arena::assign(&lifetimes);
        for (buffer, offset) in buffers.iter_mut().zip(layout.offsets) {
            buffer.offset = offset;
        }
        let inputs = self.graph.inputs.iter().map(|&id| {
            let tensor = self.graph.get(id);
            (tensor.name.clone(), tensor.ty.dtype, tensor.ty.len())
        });
        Plan {
            inputs: inputs.collect(),
            preparation: self.preparation,
            steps: self.steps,
            buffers,
            arena_bytes: layout.bytes,
            states: self.states,
            outputs,
        }
    }
}
