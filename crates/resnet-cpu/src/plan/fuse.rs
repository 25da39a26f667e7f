//! Fusion: which nodes of a graph become one step.
//!
//! A group is emitted at its last node, so everything that it reads is there by then. A tensor
//! inside a group never exists in memory, so it must have no other reader.
//!
//! | group | nodes | becomes |
//! |---|---|---|
//! | `Conv` | conv2d (+ add) (+ relu) | a convolution with residual and ReLU in the epilogue |
//! | `Normalize` | batch norm (+ add of a tensor or of another batch norm) (+ relu) | one pass |
//! | `InputGrad` | input gradient (+ add) (+ relu gradient) | masks and adds in the epilogue |
//! | `MaskedGrad` | relu gradient | one pass, that also makes a batch norm's sums |
//!
//! A convolution also makes the statistics of the batch norm that reads its output, and an input
//! gradient the two sums of the batch norm that reads its gradient. Whether it is computed together with
//! the weight gradient depends on the convolution's plan, and is decided in `lower`.

use resnet_core::graph::{Graph, NodeId, Origin, TensorId};
use resnet_core::op::Op;

/// What a normalising pass adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residual {
    /// Nothing.
    None,
    /// A tensor.
    Plain(TensorId),
    /// Another batch norm's output, which is never written.
    Norm(NodeId),
}

/// Nodes that become one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Conv { conv: NodeId, add: Option<TensorId>, relu: bool, out: TensorId },
    Normalize { norm: NodeId, residual: Residual, relu: bool, out: TensorId },
    InputGrad { grad: NodeId, add: Option<TensorId>, mask: Option<TensorId>, out: TensorId },
    MaskedGrad { dy: TensorId, mask: TensorId, out: TensorId },
}

/// The fusion decisions for a graph.
#[derive(Debug)]
pub(crate) struct Fusion {
    /// The group that is emitted at each node, if any.
    pub(crate) group_at: Vec<Option<Group>>,
    /// The node at which each node is emitted: itself, or the last one of its group.
    pub(crate) emitted_at: Vec<NodeId>,
    /// For each tensor: the batch norm whose statistics its producer makes.
    pub(crate) statistics_of: Vec<Option<NodeId>>,
    /// For each tensor: the batch norm gradient whose sums its producer makes.
    pub(crate) sums_of: Vec<Option<NodeId>>,
}

impl Fusion {
    /// Whether a node is part of a group that is emitted elsewhere.
    pub(crate) fn is_absorbed(&self, node: NodeId) -> bool {
        self.emitted_at[node.0 as usize] != node
    }

    /// For each tensor: where the last node that reads it is emitted, if one does and nothing keeps it
    /// longer.
    pub(crate) fn last_reads(&self, graph: &Graph) -> Vec<Option<NodeId>> {
        let uses = graph.uses();
        let last = |(tensor, readers): (usize, Vec<NodeId>)| {
            let kept = readers.len() < uses[tensor] as usize;
            let emitted = readers.iter().map(|reader| self.emitted_at[reader.0 as usize]).max();
            emitted.filter(|_| !kept)
        };
        readers(graph).into_iter().enumerate().map(last).collect()
    }
}

/// Decides all groups of a graph.
pub(crate) fn fuse(graph: &Graph) -> Fusion {
    let nodes = graph.nodes.len();
    let mut fuser = Fuser {
        graph,
        uses: graph.uses(),
        readers: readers(graph),
        fusion: Fusion {
            group_at: vec![None; nodes],
            emitted_at: (0..nodes).map(|node| NodeId(node as u32)).collect(),
            statistics_of: vec![None; graph.tensors.len()],
            sums_of: vec![None; graph.tensors.len()],
        },
    };
    for i in 0..nodes {
        if !fuser.fusion.is_absorbed(NodeId(i as u32)) && fuser.fusion.group_at[i].is_none() {
            fuser.start_group(NodeId(i as u32));
        }
    }
    fuser.fusion
}

/// For each tensor: the nodes that read it.
pub(crate) fn readers(graph: &Graph) -> Vec<Vec<NodeId>> {
    let mut readers = vec![Vec::new(); graph.tensors.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            readers[input.0 as usize].push(NodeId(i as u32));
        }
    }
    readers
}

struct Fuser<'a> {
    graph: &'a Graph,
    uses: Vec<u32>,
    readers: Vec<Vec<NodeId>>,
    fusion: Fusion,
}

impl Fuser<'_> {
    fn op(&self, node: NodeId) -> &Op {
        &self.graph.nodes[node.0 as usize].op
    }

    fn first_output(&self, node: NodeId) -> TensorId {
        self.graph.nodes[node.0 as usize].outputs[0]
    }

    /// The only reader of a tensor that nothing else keeps.
    fn only_reader(&self, tensor: TensorId) -> Option<NodeId> {
        let at = tensor.0 as usize;
        (self.uses[at] == 1 && self.readers[at].len() == 1).then(|| self.readers[at][0])
    }

    fn start_group(&mut self, node: NodeId) {
        let op = self.op(node).clone();
        match op {
            Op::Conv2d(_) => self.conv_group(node),
            Op::BatchNorm { .. } | Op::BatchNormInference { .. } => self.norm_group(node),
            Op::Conv2dInputGrad { .. } => self.input_grad_group(node),
            Op::ReluGrad => self.masked_grad_group(node),
            _ => {}
        }
    }

    /// Follows `tensor` through an add whose other operand is there before `last`, then a ReLU.
    /// Gives the added tensor, whether a ReLU follows, the nodes passed and the final tensor.
    fn conv_group(&mut self, conv: NodeId) {
        let mut out = self.first_output(conv);
        let (mut add, mut last, mut relu) = (None, conv, false);
        if let Some((join, other)) = self.single_add(out) {
            (add, last, out) = (Some(other), join, self.first_output(join));
        }
        if let Some(reader) = self.only_reader(out)
            && matches!(self.op(reader), Op::Relu)
        {
            (relu, last, out) = (true, reader, self.first_output(reader));
        }
        if let Some(added) = add
            && self.starts_later_group(added)
        {
            // The other operand is a batch norm or convolution that takes this add itself.
            (add, last, relu, out) = (None, conv, false, self.first_output(conv));
        }
        self.finish(conv, last, Group::Conv { conv, add, relu, out });
        self.attach_statistics(out);
    }

    /// Whether an add's other operand comes from a batch norm, which fuses the add better.
    fn starts_later_group(&self, tensor: TensorId) -> bool {
        match self.graph.get(tensor).origin {
            Origin::Node(node, 0) => {
                matches!(self.op(node), Op::BatchNorm { .. } | Op::BatchNormInference { .. })
                    && self.only_reader(tensor).is_some()
            }
            Origin::Node(..) | Origin::Input | Origin::State(_) => false,
        }
    }

    fn norm_group(&mut self, norm: NodeId) {
        let mut out = self.first_output(norm);
        let (mut residual, mut last, mut relu) = (Residual::None, norm, false);
        if let Some((join, other)) = self.single_add(out) {
            residual = match self.graph.get(other).origin {
                Origin::Node(node, 0)
                    if matches!(
                        self.op(node),
                        Op::BatchNorm { .. } | Op::BatchNormInference { .. }
                    ) && self.only_reader(other) == Some(join)
                        && other != out =>
                {
                    Residual::Norm(node)
                }
                _ => Residual::Plain(other),
            };
            (last, out) = (join, self.first_output(join));
        }
        if let Some(reader) = self.only_reader(out)
            && matches!(self.op(reader), Op::Relu)
        {
            (relu, last, out) = (true, reader, self.first_output(reader));
        }
        if let Residual::Norm(other) = residual {
            // The other batch norm is applied here too, so it is no group of its own.
            self.fusion.group_at[other.0 as usize] = None;
            self.fusion.emitted_at[other.0 as usize] = last;
        }
        self.finish(norm, last, Group::Normalize { norm, residual, relu, out });
    }

    fn input_grad_group(&mut self, grad: NodeId) {
        let mut out = self.first_output(grad);
        let (mut add, mut last, mut mask) = (None, grad, None);
        // Of two input gradients that are added, the later one takes the add.
        if let Some((join, other)) = self.single_add(out)
            && self.is_before(other, grad)
        {
            (add, last, out) = (Some(other), join, self.first_output(join));
        }
        if let Some(reader) = self.only_reader(out)
            && matches!(self.op(reader), Op::ReluGrad)
            && self.graph.nodes[reader.0 as usize].inputs[0] == out
        {
            mask = Some(self.graph.nodes[reader.0 as usize].inputs[1]);
            (last, out) = (reader, self.first_output(reader));
        }
        self.finish(grad, last, Group::InputGrad { grad, add, mask, out });
        self.attach_sums(out);
    }

    fn masked_grad_group(&mut self, node: NodeId) {
        let inputs = &self.graph.nodes[node.0 as usize].inputs;
        let (dy, mask, out) = (inputs[0], inputs[1], self.first_output(node));
        self.finish(node, node, Group::MaskedGrad { dy, mask, out });
        self.attach_sums(out);
    }

    /// The add that alone reads this tensor, and its other operand.
    fn single_add(&self, tensor: TensorId) -> Option<(NodeId, TensorId)> {
        let reader = self.only_reader(tensor)?;
        let node = &self.graph.nodes[reader.0 as usize];
        if !matches!(node.op, Op::Add) || self.fusion.is_absorbed(reader) {
            return None;
        }
        let other = if node.inputs[0] == tensor { node.inputs[1] } else { node.inputs[0] };
        // An add that another group ends in is taken.
        let taken = self.fusion.group_at[reader.0 as usize].is_some();
        (!taken && other != tensor).then_some((reader, other))
    }

    fn is_before(&self, tensor: TensorId, node: NodeId) -> bool {
        match self.graph.get(tensor).origin {
            Origin::Node(producer, _) => producer < node,
            Origin::Input | Origin::State(_) => true,
        }
    }

    /// Marks every node from `first` to `last` as one group, emitted at `last`.
    fn finish(&mut self, first: NodeId, last: NodeId, group: Group) {
        let mut at = first;
        while at != last {
            self.fusion.emitted_at[at.0 as usize] = last;
            at = self.only_reader(self.first_output(at)).expect("a group is a chain");
        }
        self.fusion.emitted_at[last.0 as usize] = last;
        self.fusion.group_at[last.0 as usize] = Some(group);
    }

    /// Lets the convolution that writes `tensor` make the statistics of a batch norm that reads it.
    fn attach_statistics(&mut self, tensor: TensorId) {
        let reads = |reader: &&NodeId| matches!(self.op(**reader), Op::BatchNorm { .. });
        let norm = self.readers[tensor.0 as usize].iter().find(reads).copied();
        self.fusion.statistics_of[tensor.0 as usize] = norm;
    }

    /// Lets the step that writes gradient `tensor` make the sums of a batch norm that reads it.
    fn attach_sums(&mut self, tensor: TensorId) {
        let reads = |reader: &&NodeId| {
            let node = &self.graph.nodes[reader.0 as usize];
            matches!(node.op, Op::BatchNormGrad) && node.inputs[0] == tensor
        };
        let norm = self.readers[tensor.0 as usize].iter().find(reads).copied();
        self.fusion.sums_of[tensor.0 as usize] = norm;
    }
}
