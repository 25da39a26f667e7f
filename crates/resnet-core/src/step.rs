//! A training step: two graphs over one state, gradients and update.

use crate::build::{self, BuildOptions};
use crate::grad;
use crate::graph::{Graph, GraphError, StateRole, TensorId, TensorType};
use crate::op::{BinaryCrossEntropy, CrossEntropy, DType, Op, Sgd};
use crate::spec::NetworkSpec;

/// What the targets of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Targets {
    /// A class number a sample: input `labels`, u32 `[n]`.
    Classes,
    /// A number from 0 to 1 for each class of a sample: input `targets`, f32 `[n, classes]`.
    Dense,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// Softmax cross-entropy: one class a sample.
    CrossEntropy(CrossEntropy),
    /// Each class by itself: any number of classes a sample.
    BinaryCrossEntropy(BinaryCrossEntropy),
}

impl Loss {
    /// The same loss with another divisor: that of a batch of another size.
    pub fn with_divisor(self, divisor: usize) -> Loss {
        match self {
            Loss::CrossEntropy(loss) => Loss::CrossEntropy(CrossEntropy { divisor, ..loss }),
            Loss::BinaryCrossEntropy(loss) => {
                Loss::BinaryCrossEntropy(BinaryCrossEntropy { divisor, ..loss })
            }
        }
    }
}

impl From<CrossEntropy> for Loss {
    fn from(loss: CrossEntropy) -> Loss {
        Loss::CrossEntropy(loss)
    }
}

impl From<BinaryCrossEntropy> for Loss {
    fn from(loss: BinaryCrossEntropy) -> Loss {
        Loss::BinaryCrossEntropy(loss)
    }
}

/// Which parameters decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// All, as PyTorch's SGD does when not told otherwise.
    All,
    /// Convolution and classifier weights only: no batch norm, no biases.
    WeightsOnly,
}

/// SGD's constants. Learning rate and momentum are inputs of each run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SgdOptions {
    /// Added to the gradient, times the parameter.
    pub weight_decay: f64,
    /// What it applies to.
    pub decay: Decay,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// Gradients are scaled so that their norm is at most this, if given.
    pub clip_norm: Option<f64>,
}

/// The loss graph: the forward graph with targets and the output `loss`; `logits` stays.
///
/// # Errors
/// As [`build::forward`].
pub fn loss_graph(
    spec: &NetworkSpec,
    options: &BuildOptions,
    targets: Targets,
    loss: impl Into<Loss>,
) -> Result<(Graph, LossTensors), GraphError> {
    let mut graph = build::forward(spec, options)?;
    let logits = graph.output("logits").expect("every forward graph has logits");
    let target = match targets {
        Targets::Classes => graph.input("labels", TensorType::new(&[options.batch], DType::U32)),
        Targets::Dense => graph.input("targets", TensorType::f32(&[options.batch, spec.classes])),
    };
    let op = match loss.into() {
        Loss::CrossEntropy(loss) => Op::CrossEntropy(loss),
        Loss::BinaryCrossEntropy(loss) => Op::BinaryCrossEntropy(loss),
    };
    let outputs = graph.node("loss", op, &[logits, target])?;
    graph.outputs.push(("loss".into(), outputs[0]));
    Ok((graph, LossTensors { loss: outputs[0] }))
}

/// Where the loss stands in a loss graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossTensors {
    /// The scalar.
    pub loss: TensorId,
}

/// The gradient graph of a training step: runs forward and backward, stores each parameter's
/// gradient as state `grad/...`, updates the running statistics. Outputs `logits` and `loss`.
///
/// # Errors
/// As [`build::forward`].
pub fn gradient_graph(
    spec: &NetworkSpec,
    options: &BuildOptions,
    targets: Targets,
    loss: impl Into<Loss>,
) -> Result<Graph, GraphError> {
    let (graph, at) = loss_graph(spec, options, targets, loss)?;
    grad::gradients(&graph, at.loss)
}

/// The update graph of a training step: reads `grad/...`, changes parameters and
/// `optim/velocity/...`. Input `hyper`: learning rate and momentum. With clipping, output
/// `grad_norm` is the norm before it.
///
/// # Errors
/// None for a graph made by [`build::forward`].
pub fn update_graph(forward: &Graph, options: &SgdOptions) -> Result<Graph, GraphError> {
    let mut graph = Graph::default();
    let hyper = graph.input("hyper", TensorType::f32(&[2]));
    let parameters: Vec<(String, StateRole, Vec<usize>)> = forward
        .parameters()
        .map(|(id, role)| (forward.get(id).name.clone(), role, forward.shape(id).to_vec()))
        .collect();
    let gradients: Vec<TensorId> = parameters
        .iter()
        .map(|(name, _, shape)| graph.state(&gradient_name(name), StateRole::Gradient, shape))
        .collect();
    let mut factor = Vec::new();
    if let Some(max_norm) = options.clip_norm {
        let outputs = graph.node("clip", Op::ClipFactor { max_norm }, &gradients)?;
        graph.outputs.push(("grad_norm".into(), outputs[1]));
        factor.push(outputs[0]);
    }
    for ((name, role, shape), gradient) in parameters.iter().zip(gradients) {
        let w = graph.state(name, *role, shape);
        let velocity = graph.state(&velocity_name(name), StateRole::Velocity, shape);
        let decays = match options.decay {
            Decay::All => true,
            Decay::WeightsOnly => {
                matches!(role, StateRole::ConvWeight | StateRole::LinearWeight)
            }
        };
        let weight_decay = if decays { options.weight_decay } else { 0.0 };
        let op = Op::SgdUpdate(Sgd { weight_decay, rate: 1.0, nesterov: options.nesterov });
        let inputs = [&[w, gradient, velocity, hyper], factor.as_slice()].concat();
        let outputs = graph.node(&format!("update.{name}"), op, &inputs)?;
        graph.updates.push((w, outputs[0]));
        graph.updates.push((velocity, outputs[1]));
    }
    Ok(graph)
}

/// The state name of a parameter's gradient.
pub fn gradient_name(parameter: &str) -> String {
    format!("grad/{parameter}")
}

/// The state name of a parameter's momentum.
pub fn velocity_name(parameter: &str) -> String {
    format!("optim/velocity/{parameter}")
}
