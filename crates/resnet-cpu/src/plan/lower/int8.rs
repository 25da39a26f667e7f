//! Int8 inference: each operation is one step; weights are packed before the first run.

use resnet_core::executor::ExecutorError;
use resnet_core::graph::{NodeId, TensorId};
use resnet_core::op::Op;
use resnet_core::{cost, graph::Node};
use resnet_simd::Stored;

use super::Lowering;
use super::conv::conv_shape;
use crate::kernel::conv::ConvShape;
use crate::kernel::int8::{Int8Output, Int8Plan};
use crate::plan::int8::Int8Work;
use crate::plan::{Layout, Slot, StateUse, Step, Work};

impl Lowering<'_> {
    fn int8_plan(&self, node: &Node) -> Result<Box<Int8Plan>, ExecutorError> {
        let shape = |i: TensorId| self.graph.shape(i);
        let (x, w, y) = (shape(node.inputs[0]), shape(node.inputs[1]), shape(node.outputs[0]));
        let plan = match &node.op {
            Op::Int8Conv2d(op) => {
                let shape = conv_shape(&op.conv, x, y);
                Int8Plan::new(&shape, self.isa, &op.padding, op.residual, Int8Output::Bytes)
            }
            _ => {
                let shape = ConvShape::linear(x[0], w[1], w[0]);
                Int8Plan::new(&shape, self.isa, &vec![0; w[1]], None, Int8Output::Floats)
            }
        };
        plan.map(Box::new).map_err(|why| ExecutorError::Unsupported {
            node: node.name.clone(),
            op: node.op.name(),
            why: why.to_string(),
        })
    }

    /// A convolution or classifier on bytes.
    pub(super) fn int8_conv(&mut self, id: NodeId) -> Result<(), ExecutorError> {
        let node = self.get(id);
        let plan = self.int8_plan(node)?;
        let packed = self.int8_packed(node, &plan);
        self.macs = cost::macs(self.graph, node);
        let x = self.slot(node.inputs[0]);
        let add = node.inputs.get(4).copied();
        let (y, add) = self.out_over_added(id, node.outputs[0], add, &[Some(x)]);
        let scratch = plan.scratch_len(self.threads);
        let scratch = (0 < scratch).then(|| self.buffer(scratch));
        self.push(Work::Int8(Int8Work::Conv { plan, x, packed, add, y, scratch }));
        Ok(())
    }

    /// The slot of a layer's numbers in panels. Made of state they are state of their own, made when
    /// that has changed.
    fn int8_packed(&mut self, node: &Node, plan: &Int8Plan) -> Slot {
        let [w, offset, multiplier] = [1, 2, 3].map(|i| self.slot(node.inputs[i]));
        let layout = *plan.layout();
        let pack = |packed| Work::Int8(Int8Work::Pack { layout, w, offset, multiplier, packed });
        let (Slot::State(of), Slot::State(_), Slot::State(_)) = (w, offset, multiplier) else {
            self.macs = 0;
            let packed = self.buffer(layout.len());
            self.push(pack(packed));
            return packed;
        };
        let packed = Slot::State(self.states.len() as u32);
        self.states.push(StateUse {
            name: format!("packed/{}", self.graph.get(node.inputs[1]).name),
            role: self.states[of as usize].role,
            shape: vec![layout.len() / 4],
            layout: Some(Layout::Plain),
            written: false,
        });
        let (name, stored) = (self.name.clone(), Stored::F32);
        self.preparation.push(Step { name, work: pack(packed), stored, macs: 0 });
        packed
    }
}
