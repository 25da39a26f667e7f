//! The graph: nodes in topological order, tensors beside them, typed indices.
//!
//! Shapes are static, the batch included. Inputs and state are named; state is what lives from
//! step to step (parameters, statistics, gradients, the optimiser's), and a graph says which of it
//! takes a new value ([`Graph::updates`]). Outputs are a named list.

use std::fmt;

use thiserror::Error;

use crate::op::{DType, Op};
use crate::shape::{self, ShapeError};

/// Index of a tensor in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TensorId(pub u32);

/// Index of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u32);

/// Shape and element type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorType {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Element type.
    pub dtype: DType,
}

impl TensorType {
    /// A tensor of real numbers.
    pub fn f32(shape: &[usize]) -> TensorType {
        TensorType { shape: shape.to_vec(), dtype: DType::F32 }
    }

    /// A tensor of another type.
    pub fn new(shape: &[usize], dtype: DType) -> TensorType {
        TensorType { shape: shape.to_vec(), dtype }
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What a state tensor is, which decides how it starts and how it is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StateRole {
    /// Weights of a convolution, OIHW.
    ConvWeight,
    /// Weights of the classifier, `[cout, cin]`.
    LinearWeight,
    /// A bias.
    Bias,
    /// Batch norm's gamma.
    NormWeight,
    /// Batch norm's beta.
    NormBias,
    /// A running mean: starts at 0.
    RunningMean,
    /// A running variance: starts at 1.
    RunningVar,
    /// A parameter's gradient, shaped like it; named `grad/...`.
    Gradient,
    /// A parameter's momentum, shaped like it; named `optim/velocity/...`.
    Velocity,
}

impl StateRole {
    /// Whether the optimiser changes it.
    pub fn is_parameter(self) -> bool {
        match self {
            StateRole::ConvWeight
            | StateRole::LinearWeight
            | StateRole::Bias
            | StateRole::NormWeight
            | StateRole::NormBias => true,
            StateRole::RunningMean
            | StateRole::RunningVar
            | StateRole::Gradient
            | StateRole::Velocity => false,
        }
    }
}

/// Where a tensor's value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Given at each run.
    Input,
    /// Lives in the executor from run to run.
    State(StateRole),
    /// The output of this number of a node.
    Node(NodeId, usize),
}

/// A tensor of the graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Unique for inputs and state; `node.output` otherwise.
    pub name: String,
    /// Shape and element type.
    pub ty: TensorType,
    /// Where its value comes from.
    pub origin: Origin,
}

/// An operation with its inputs and outputs.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The layer it belongs to, such as `layer1.0.conv1`.
    pub name: String,
    /// What it does.
    pub op: Op,
    /// Inputs, in the order that the operation states.
    pub inputs: Vec<TensorId>,
    /// Outputs, in the order that the operation states.
    pub outputs: Vec<TensorId>,
}

/// A computation: nodes in topological order over tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    /// Operations; each reads only inputs, state and outputs of earlier ones.
    pub nodes: Vec<Node>,
    /// All tensors.
    pub tensors: Vec<Tensor>,
    /// Inputs, in the order in which a run is given them.
    pub inputs: Vec<TensorId>,
    /// Named results.
    pub outputs: Vec<(String, TensorId)>,
    /// State tensors and the values that they take after the run.
    pub updates: Vec<(TensorId, TensorId)>,
}

/// What is wrong with a graph.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum GraphError {
    /// A node's inputs do not fit its operation.
    #[error("{node}: {source}")]
    Shape {
        /// The node's name.
        node: String,
        /// What does not fit.
        source: ShapeError,
    },
    /// A node reads what is not there yet.
    #[error("{node}: input {input} is not computed before it")]
    NotTopological {
        /// The node's name.
        node: String,
        /// The input's name.
        input: String,
    },
    /// Two inputs or state tensors have one name.
    #[error("two tensors are named {name}")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The recorded type of an output is not what its operation makes.
    #[error("{node}: output {output} is recorded as {recorded:?}, the operation makes {made:?}")]
    WrongType {
        /// The node's name.
        node: String,
        /// Which output.
        output: usize,
        /// The type in the graph.
        recorded: TensorType,
        /// The type by shape inference.
        made: TensorType,
    },
    /// Gradients start at something that is no loss.
    #[error("{tensor} is not the loss of a cross-entropy")]
    NotALoss {
        /// The tensor's name.
        tensor: String,
    },
    /// A gradient would have to pass through an operation that has none.
    #[error("{node}: {op} has no gradient of its own")]
    NotDifferentiable {
        /// The node's name.
        node: String,
        /// Its operation.
        op: &'static str,
    },
    /// An update's value has another type than its state, or its target is no state.
    #[error("update of {state} does not fit it")]
    BadUpdate {
        /// The state's name.
        state: String,
    },
}

impl Graph {
    /// Adds an input.
    pub fn input(&mut self, name: &str, ty: TensorType) -> TensorId {
        let id = self.tensor(name.into(), ty, Origin::Input);
        self.inputs.push(id);
        id
    }

    /// Adds a state tensor.
    pub fn state(&mut self, name: &str, role: StateRole, shape: &[usize]) -> TensorId {
        self.tensor(name.into(), TensorType::f32(shape), Origin::State(role))
    }

    /// Adds a node and infers its outputs.
    ///
    /// # Errors
    /// [`GraphError::Shape`] if the inputs do not fit.
    pub fn node(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[TensorId],
    ) -> Result<Vec<TensorId>, GraphError> {
        let types: Vec<&TensorType> = inputs.iter().map(|&id| self.ty(id)).collect();
        let made = shape::output_types(&op, &types)
            .map_err(|source| GraphError::Shape { node: name.into(), source })?;
        let node = NodeId(index(self.nodes.len()));
        let outputs = made
            .into_iter()
            .enumerate()
            .map(|(i, ty)| self.tensor(format!("{name}.{i}"), ty, Origin::Node(node, i)))
            .collect::<Vec<_>>();
        let (name, inputs) = (name.into(), inputs.to_vec());
        self.nodes.push(Node { name, op, inputs, outputs: outputs.clone() });
        Ok(outputs)
    }

    /// Adds a node of one output.
    ///
    /// # Errors
    /// As [`Graph::node`].
    pub fn node1(
        &mut self,
        name: &str,
        op: Op,
        inputs: &[TensorId],
    ) -> Result<TensorId, GraphError> {
        Ok(self.node(name, op, inputs)?[0])
    }

    fn tensor(&mut self, name: String, ty: TensorType, origin: Origin) -> TensorId {
        let id = TensorId(index(self.tensors.len()));
        self.tensors.push(Tensor { name, ty, origin });
        id
    }

    /// The tensor of this index.
    pub fn get(&self, id: TensorId) -> &Tensor {
        &self.tensors[id.0 as usize]
    }

    /// Type of a tensor.
    pub fn ty(&self, id: TensorId) -> &TensorType {
        &self.get(id).ty
    }

    /// Shape of a tensor.
    pub fn shape(&self, id: TensorId) -> &[usize] {
        &self.get(id).ty.shape
    }

    /// The output of this name.
    pub fn output(&self, name: &str) -> Option<TensorId> {
        self.outputs.iter().find(|(output, _)| output == name).map(|&(_, id)| id)
    }

    /// The input or state tensor of this name.
    pub fn named(&self, name: &str) -> Option<TensorId> {
        let is_named = |t: &Tensor| !matches!(t.origin, Origin::Node(..)) && t.name == name;
        self.tensors.iter().position(is_named).map(|i| TensorId(index(i)))
    }

    /// All state tensors with their roles, in the order in which they were added.
    pub fn states(&self) -> impl Iterator<Item = (TensorId, StateRole)> {
        self.tensors.iter().enumerate().filter_map(|(i, tensor)| match tensor.origin {
            Origin::State(role) => Some((TensorId(index(i)), role)),
            Origin::Input | Origin::Node(..) => None,
        })
    }

    /// Parameters alone, in the order in which they were added.
    pub fn parameters(&self) -> impl Iterator<Item = (TensorId, StateRole)> {
        self.states().filter(|(_, role)| role.is_parameter())
    }

    /// How many nodes, outputs and updates read each tensor.
    pub fn uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.tensors.len()];
        let read = self.nodes.iter().flat_map(|node| &node.inputs);
        let kept = self.outputs.iter().map(|(_, id)| id);
        let stored = self.updates.iter().map(|(_, value)| value);
        for id in read.chain(kept).chain(stored) {
            uses[id.0 as usize] += 1;
        }
        uses
    }

    /// Checks every invariant: order, shapes, names, updates.
    ///
    /// # Errors
    /// The first violation found.
    pub fn verify(&self) -> Result<(), GraphError> {
        let mut names = std::collections::HashSet::new();
        for tensor in self.tensors.iter().filter(|t| !matches!(t.origin, Origin::Node(..))) {
            if !names.insert(&tensor.name) {
                return Err(GraphError::DuplicateName { name: tensor.name.clone() });
            }
        }
        for (i, node) in self.nodes.iter().enumerate() {
            self.verify_node(i, node)?;
        }
        for &(state, value) in &self.updates {
            let fits = matches!(self.get(state).origin, Origin::State(_))
                && self.ty(state) == self.ty(value);
            if !fits {
                return Err(GraphError::BadUpdate { state: self.get(state).name.clone() });
            }
        }
        Ok(())
    }

    fn verify_node(&self, i: usize, node: &Node) -> Result<(), GraphError> {
        for &input in &node.inputs {
            if let Origin::Node(producer, _) = self.get(input).origin
                && producer.0 as usize >= i
            {
                let input = self.get(input).name.clone();
                return Err(GraphError::NotTopological { node: node.name.clone(), input });
            }
        }
        let types: Vec<&TensorType> = node.inputs.iter().map(|&id| self.ty(id)).collect();
        let made = shape::output_types(&node.op, &types)
            .map_err(|source| GraphError::Shape { node: node.name.clone(), source })?;
        for (output, made) in made.into_iter().enumerate() {
            let recorded = self.ty(node.outputs[output]).clone();
            if recorded != made {
                let node = node.name.clone();
                return Err(GraphError::WrongType { node, output, recorded, made });
            }
        }
        Ok(())
    }
}

fn index(i: usize) -> u32 {
    u32::try_from(i).expect("a graph has fewer than 2^32 tensors")
}

/// The stable text form: one line a node, for snapshots and for people.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |ids: &[TensorId]| {
            let one = |id: &TensorId| format!("{}{:?}", self.get(*id).name, self.shape(*id));
            ids.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "inputs: {}", list(&self.inputs))?;
        for node in &self.nodes {
            let (op, inputs) = (node.op.name(), list(&node.inputs));
            writeln!(f, "{} = {op}({inputs})", list(&node.outputs))?;
        }
        for (name, id) in &self.outputs {
            writeln!(f, "output {name} = {}", self.get(*id).name)?;
        }
        for (state, value) in &self.updates {
            writeln!(f, "update {} = {}", self.get(*state).name, self.get(*value).name)?;
        }
        Ok(())
    }
}
