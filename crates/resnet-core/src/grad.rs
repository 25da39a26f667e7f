//! Gradients as a graph pass: the forward graph in, the graph with gradient nodes out.
//!
//! `rule` is the table: one arm an operation, the formula beside it. [`gradients`] is the driver:
//! reverse order, accumulation, and skipping what no parameter depends on.
//!
//! Order is part of the contract, since sums are not associative and planners match chains:
//! - Gradient nodes stand in the reverse order of their forward nodes. A convolution gives its bias
//!   gradient, then its weight gradient, then its input gradient, so that the chain
//!   `conv2d_input_grad, (add,) relu_grad, batch_norm_grad` stands in one piece.
//! - A tensor read by several nodes sums their gradients from the last reader to the first, as
//!   `((last + last but one) + ...)`, each sum right after the gradient that it takes in.

use crate::graph::{Graph, GraphError, Origin, StateRole, TensorId};
use crate::op::Op;
use crate::step::gradient_name;

/// The graph extended by the gradients of `loss` by every parameter.
///
/// `loss` is the first output of an [`Op::CrossEntropy`] or [`Op::BinaryCrossEntropy`]. The gradient
/// of parameter `p` becomes the new value of state `grad/p` ([`StateRole::Gradient`]); a parameter that
/// the loss does not depend on has none. Inputs, outputs and updates of the forward graph stay.
///
/// # Errors
/// [`GraphError::NotALoss`] if `loss` is something else, [`GraphError::NotDifferentiable`] where a
/// gradient would have to pass through a gradient, an update, or a value saved for backward.
pub fn gradients(graph: &Graph, loss: TensorId) -> Result<Graph, GraphError> {
    let mut backward = Backward {
        graph: graph.clone(),
        depends: depends_on_parameters(graph),
        sums: vec![None; graph.tensors.len()],
    };
    backward.start(loss)?;
    for i in (0..graph.nodes.len()).rev() {
        let node = &graph.nodes[i];
        let Some(dy) = backward.arrived(i)? else { continue };
        let depends = node.inputs.iter().any(|&input| backward.depends[input.0 as usize]);
        if depends {
            rule(&mut backward, i, dy)?;
        }
    }
    Ok(backward.finish())
}

/// For each tensor, whether its value depends on a parameter.
fn depends_on_parameters(graph: &Graph) -> Vec<bool> {
    let mut depends = vec![false; graph.tensors.len()];
    for (id, _) in graph.parameters() {
        depends[id.0 as usize] = true;
    }
    for node in &graph.nodes {
        let any = node.inputs.iter().any(|input| depends[input.0 as usize]);
        for output in &node.outputs {
            depends[output.0 as usize] = any;
        }
    }
    depends
}

/// What arrives at a node's first output.
#[derive(Clone, Copy)]
enum Upstream {
    /// The gradient of the loss by it.
    Gradient(TensorId),
    /// It is the loss, whose gradient by itself is one.
    Loss,
}

/// A graph that is being extended.
struct Backward {
    graph: Graph,
    depends: Vec<bool>,
    /// For each forward tensor, what is known of its gradient so far.
    sums: Vec<Option<Upstream>>,
}

/// The rules: the gradient of each input from that of the first output.
///
/// In the formulas `dv` is the gradient of the loss by `v`.
fn rule(b: &mut Backward, node: usize, upstream: Upstream) -> Result<(), GraphError> {
    let (op, x) = (b.graph.nodes[node].op.clone(), b.graph.nodes[node].inputs.clone());
    let y = b.graph.nodes[node].outputs.clone();
    let dy = match (&op, upstream) {
        // dlogits = (p * sum(q) - q) / divisor, q the smoothed targets.
        (Op::CrossEntropy(loss), Upstream::Loss) => {
            return b.pass(node, 0, "dx", Op::CrossEntropyGrad(*loss), &[y[1], x[1]]);
        }
        // dlogits = ((1 - q) * sigmoid(x) - w * q * sigmoid(-x)) / (k * divisor).
        (Op::BinaryCrossEntropy(loss), Upstream::Loss) => {
            return b.pass(node, 0, "dx", Op::BinaryCrossEntropyGrad(*loss), &[x[0], x[1]]);
        }
        (_, Upstream::Loss) => return Err(b.not_differentiable(node)),
        (_, Upstream::Gradient(dy)) => dy,
    };
    let input_size = || match *b.graph.shape(x[0]) {
        [_, h, w, _] => [h, w],
        _ => unreachable!("shape inference admits pictures only"),
    };
    match op {
        // Pixels are no function of parameters.
        Op::Normalize { .. } => Ok(()),
        // dw = correlation of x with dy; dx = dy spread by w; db = sum of dy over all pixels.
        Op::Conv2d(conv) => {
            let input_grad = Op::Conv2dInputGrad { conv, input_size: input_size() };
            if let Some(_bias) = x.get(2) {
                b.pass(node, 2, "db", Op::BiasGrad, &[dy])?;
            }
            b.pass(node, 1, "dw", Op::Conv2dWeightGrad(conv), &[x[0], dy])?;
            b.pass(node, 0, "dx", input_grad, &[dy, x[1]])
        }
        // dx = gamma * rstd * (dy - mean(dy) - xhat * mean(dy * xhat)), xhat = (x - mean) * rstd;
        // dgamma = sum(dy * xhat); dbeta = sum(dy). Ioffe and Szegedy 2015, section 3.
        Op::BatchNorm { .. } => {
            b.pass_three(node, Op::BatchNormGrad, &[dy, x[0], x[1], y[1], y[2]])
        }
        // As above with constant statistics: dx = gamma * rstd * dy.
        Op::BatchNormInference { eps } => {
            let op = Op::BatchNormInferenceGrad { eps };
            b.pass_three(node, op, &[dy, x[0], x[1], x[3], x[4]])
        }
        // dx = dy where y > 0.
        Op::Relu => b.pass(node, 0, "dx", Op::ReluGrad, &[dy, y[0]]),
        // dx = dy * y * (1 - y).
        Op::Sigmoid => b.pass(node, 0, "dx", Op::SigmoidGrad, &[dy, y[0]]),
        // da = dy; db = dy.
        Op::Add => {
            b.add_gradient(node, x[0], dy)?;
            b.add_gradient(node, x[1], dy)
        }
        // ds = sum of dy * x over the picture; dx = dy * s.
        Op::ChannelScale => {
            b.pass(node, 1, "ds", Op::ChannelScaleGrad, &[dy, x[0]])?;
            b.pass(node, 0, "dx", Op::ChannelScale, &[dy, x[1]])
        }
        // Each dy goes to the pixel that was its window's maximum.
        Op::MaxPool(pool) => {
            let op = Op::MaxPoolGrad { pool, input_size: input_size() };
            b.pass(node, 0, "dx", op, &[dy, y[1]])
        }
        // Each dy is shared evenly by its window's pixels.
        Op::AvgPool(pool) => {
            let op = Op::AvgPoolGrad { pool, input_size: input_size() };
            b.pass(node, 0, "dx", op, &[dy])
        }
        // dx = dy / (h * w) at every pixel.
        Op::GlobalAvgPool => {
            let stored = b.graph.ty(x[0]).dtype;
            let op = Op::GlobalAvgPoolGrad { input_size: input_size(), stored };
            b.pass(node, 0, "dx", op, &[dy])
        }
        // dx = dy at the pixels and channels that were kept, 0 elsewhere.
        Op::SubsamplePad(shortcut) => {
            let op = Op::SubsamplePadGrad { shortcut, input_size: input_size() };
            b.pass(node, 0, "dx", op, &[dy])
        }
        // db = sum of dy over samples; dw = dy' x; dx = dy w.
        Op::Linear => {
            b.pass(node, 2, "db", Op::BiasGrad, &[dy])?;
            b.pass(node, 1, "dw", Op::LinearWeightGrad, &[x[0], dy])?;
            b.pass(node, 0, "dx", Op::LinearInputGrad, &[dy, x[1]])
        }
        // dx = dy * mask.
        Op::Dropout { .. } => b.pass(node, 0, "dx", Op::DropoutGrad, &[dy, y[1]]),
        // dx = dy * keep of the sample.
        Op::StochasticDepth { .. } => b.pass(node, 0, "dx", Op::StochasticDepthGrad, &[dy, y[1]]),
        // A loss ends a graph; gradients and updates have no second derivatives here. Rounding to
        // bytes has no useful derivative: a network is trained before it is quantised.
        Op::CrossEntropy(_)
        | Op::BinaryCrossEntropy(_)
        | Op::Quantize(_)
        | Op::Dequantize(_)
        | Op::Int8Conv2d(_)
        | Op::Int8Linear
        | Op::Int8MaxPool(_)
        | Op::Int8GlobalAvgPool { .. }
        | Op::Int8SubsamplePad { .. }
        | Op::Conv2dInputGrad { .. }
        | Op::Conv2dWeightGrad(_)
        | Op::BiasGrad
        | Op::BatchNormGrad
        | Op::BatchNormInferenceGrad { .. }
        | Op::ReluGrad
        | Op::SigmoidGrad
        | Op::ChannelScaleGrad
        | Op::MaxPoolGrad { .. }
        | Op::AvgPoolGrad { .. }
        | Op::GlobalAvgPoolGrad { .. }
        | Op::SubsamplePadGrad { .. }
        | Op::LinearInputGrad
        | Op::LinearWeightGrad
        | Op::DropoutGrad
        | Op::StochasticDepthGrad
        | Op::CrossEntropyGrad(_)
        | Op::BinaryCrossEntropyGrad(_)
        | Op::ClipFactor { .. }
        | Op::SgdUpdate(_) => Err(b.not_differentiable(node)),
    }
}

impl Backward {
    fn start(&mut self, loss: TensorId) -> Result<(), GraphError> {
        let is_loss = match self.graph.get(loss).origin {
            Origin::Node(node, 0) => {
                let op = &self.graph.nodes[node.0 as usize].op;
                matches!(op, Op::CrossEntropy(_) | Op::BinaryCrossEntropy(_))
            }
            Origin::Node(..) | Origin::Input | Origin::State(_) => false,
        };
        if !is_loss {
            return Err(GraphError::NotALoss { tensor: self.graph.get(loss).name.clone() });
        }
        self.sums[loss.0 as usize] = Some(Upstream::Loss);
        Ok(())
    }

    /// The gradient of a node's first output, complete since all its readers come later. The other
    /// outputs are saved values, through which nothing is differentiated.
    fn arrived(&self, node: usize) -> Result<Option<Upstream>, GraphError> {
        let outputs = &self.graph.nodes[node].outputs;
        if outputs[1..].iter().any(|output| self.sums[output.0 as usize].is_some()) {
            return Err(self.not_differentiable(node));
        }
        Ok(self.sums[outputs[0].0 as usize])
    }

    fn not_differentiable(&self, node: usize) -> GraphError {
        let node = &self.graph.nodes[node];
        GraphError::NotDifferentiable { node: node.name.clone(), op: node.op.name() }
    }

    /// Emits a gradient node of one output for one input, unless no parameter needs it.
    fn pass(
        &mut self,
        node: usize,
        input: usize,
        suffix: &str,
        op: Op,
        inputs: &[TensorId],
    ) -> Result<(), GraphError> {
        let to = self.graph.nodes[node].inputs[input];
        if !self.depends[to.0 as usize] {
            return Ok(());
        }
        let name = format!("{}.{suffix}", self.graph.nodes[node].name);
        let gradient = self.graph.node1(&name, op, inputs)?;
        self.add_gradient(node, to, gradient)
    }

    /// Emits a gradient node whose three outputs belong to the first three inputs: batch norm's.
    fn pass_three(&mut self, node: usize, op: Op, inputs: &[TensorId]) -> Result<(), GraphError> {
        let name = format!("{}.grad", self.graph.nodes[node].name);
        let to = self.graph.nodes[node].inputs.clone();
        let gradients = self.graph.node(&name, op, inputs)?;
        for (to, gradient) in to.into_iter().zip(gradients) {
            self.add_gradient(node, to, gradient)?;
        }
        Ok(())
    }

    /// Adds one reader's contribution to a tensor's gradient.
    fn add_gradient(&mut self, node: usize, to: TensorId, new: TensorId) -> Result<(), GraphError> {
        let to = to.0 as usize;
        if !self.depends[to] {
            return Ok(());
        }
        let sum = match self.sums[to] {
            None => new,
            Some(Upstream::Gradient(earlier)) => {
                let name = format!("{}.sum", self.graph.nodes[node].name);
                self.graph.node1(&name, Op::Add, &[earlier, new])?
            }
            // Something reads the loss itself and is differentiated: there are two losses.
            Some(Upstream::Loss) => return Err(self.not_differentiable(node)),
        };
        self.sums[to] = Some(Upstream::Gradient(sum));
        Ok(())
    }

    /// Stores each parameter's gradient, in the parameters' order.
    fn finish(mut self) -> Graph {
        let parameters: Vec<TensorId> = self.graph.parameters().map(|(id, _)| id).collect();
        for parameter in parameters {
            if let Some(Upstream::Gradient(gradient)) = self.sums[parameter.0 as usize] {
                let name = gradient_name(&self.graph.get(parameter).name);
                let shape = self.graph.shape(parameter).to_vec();
                let state = self.graph.state(&name, StateRole::Gradient, &shape);
                self.graph.updates.push((state, gradient));
            }
        }
        self.graph
    }
}
