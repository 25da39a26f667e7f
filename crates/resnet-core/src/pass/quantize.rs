//! Int8 inference: from a folded evaluation graph to one that computes on bytes.
//!
//! A convolution takes its bias, a residual addition and a ReLU into one operation that rounds once.
//! Pixels enter the first convolution as they are: its weights and offsets take the normalisation.
//! What has no form on bytes (squeeze and excitation, average pools, norms before convolutions) stays
//! in f32 between `dequantize` and `quantize`.
//!
//! The numbers of a layer follow from its f32 weights and from what the bytes of its input, residual
//! and output stand for ([`QuantizedLayer`]); those follow from a calibration
//! ([`calibrate`], [`range`]).

pub mod calibrate;
mod groups;
pub mod layer;
pub mod range;

use std::collections::{BTreeMap, HashSet};

use thiserror::Error;

use self::groups::{Group, groups};
pub use self::layer::{Int8Weights, LayerInput, QuantizedLayer};
use crate::graph::{Graph, GraphError, Node, NodeId, Origin, StateRole, TensorId};
use crate::op::{Affine, Int8Conv2d, Op};

/// What the bytes of each activation stand for, by the name of what makes it.
pub type Activations = BTreeMap<String, Affine>;

/// Why a graph cannot be quantised.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum QuantizeError {
    /// The calibration lacks an activation.
    #[error("the quantisation says nothing of the activation of {name}")]
    NoActivation {
        /// The layer.
        name: String,
    },
    /// The graph breaks an invariant.
    #[error(transparent)]
    Graph(#[from] GraphError),
}

/// A graph on bytes, and how its state follows from that of the graph before.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantized {
    /// The graph.
    pub graph: Graph,
    /// Its convolutions and classifiers.
    pub layers: Vec<QuantizedLayer>,
}

/// An activation that needs a scale.
#[derive(Clone, Debug, PartialEq)]
pub struct Activation {
    /// The layer that makes it.
    pub name: String,
    /// Its tensor in the graph before.
    pub tensor: TensorId,
}

/// The activations of a folded evaluation graph that become bytes.
///
/// # Errors
/// None for a verified graph.
pub fn activations(graph: &Graph) -> Result<Vec<Activation>, GraphError> {
    let any = |_: &str| Some(Affine { scale: 1.0, zero: 128 });
    match Pass::run(graph, &any) {
        Ok(pass) => Ok(pass.wanted),
        Err(QuantizeError::Graph(error)) => Err(error),
        Err(QuantizeError::NoActivation { .. }) => unreachable!("every activation is given one"),
    }
}

/// The graph on bytes. `graph` is one of evaluation whose batch norms are folded.
///
/// # Errors
/// If `activations` lacks one of [`activations`].
pub fn quantize(graph: &Graph, activations: &Activations) -> Result<Quantized, QuantizeError> {
    let affine = |name: &str| activations.get(name).copied();
    let pass = Pass::run(graph, &affine)?;
    debug_assert_eq!(pass.made.verify(), Ok(()));
    Ok(Quantized { graph: pass.made, layers: pass.layers })
}

/// What a tensor of the old graph is in the new one, as far as it is there.
#[derive(Clone, Debug, Default)]
struct Forms {
    real: Option<TensorId>,
    bytes: Option<(TensorId, LayerInput)>,
}

struct Pass<'a> {
    old: &'a Graph,
    affine: &'a dyn Fn(&str) -> Option<Affine>,
    forms: Vec<Forms>,
    made: Graph,
    layers: Vec<QuantizedLayer>,
    wanted: Vec<Activation>,
    names: HashSet<String>,
}

type Made = Result<(), QuantizeError>;

impl<'a> Pass<'a> {
    fn run(
        old: &'a Graph,
        affine: &'a dyn Fn(&str) -> Option<Affine>,
    ) -> Result<Pass<'a>, QuantizeError> {
        let mut pass = Pass {
            old,
            affine,
            forms: vec![Forms::default(); old.tensors.len()],
            made: Graph::default(),
            layers: Vec::new(),
            wanted: Vec::new(),
            names: HashSet::new(),
        };
        for &id in &old.inputs {
            let tensor = old.get(id);
            let input = pass.made.input(&tensor.name, tensor.ty.clone());
            pass.forms[id.0 as usize].real = Some(input);
        }
        for (i, group) in groups(old).into_iter().enumerate() {
            match group {
                Group::Elsewhere => {}
                Group::Conv { conv, add, relu, out } => pass.conv(conv, add, relu, out)?,
                Group::Single => pass.single(&old.nodes[i])?,
            }
        }
        for (name, id) in &old.outputs {
            let real = pass.real(*id)?;
            pass.made.outputs.push((name.clone(), real));
        }
        Ok(pass)
    }

    /// The scale of the activation `tensor`, under a name of its own.
    fn affine(&mut self, name: &str, tensor: TensorId) -> Result<Affine, QuantizeError> {
        debug_assert!(self.names.insert(name.into()), "{name} makes one activation");
        self.wanted.push(Activation { name: name.into(), tensor });
        (self.affine)(name).ok_or_else(|| QuantizeError::NoActivation { name: name.into() })
    }

    /// The new graph's tensor for one that operations in f32 read (or state, or an input).
    fn real(&mut self, id: TensorId) -> Result<TensorId, GraphError> {
        if let Some(real) = self.forms[id.0 as usize].real {
            return Ok(real);
        }
        let old = self.old.get(id);
        let real = match (old.origin, &self.forms[id.0 as usize].bytes) {
            (Origin::State(role), _) => self.made.state(&old.name, role, &old.ty.shape),
            (_, Some((bytes, LayerInput::Bytes(affine)))) => {
                let name = format!("{}.dequantize", old.name);
                self.made.node1(&name, Op::Dequantize(*affine), &[*bytes])?
            }
            (_, Some((pixels, LayerInput::Pixels { mean, std }))) => {
                let op =
                    Op::Normalize { mean: mean.clone(), std: std.clone(), stored: old.ty.dtype };
                self.made.node1("input", op, &[*pixels])?
            }
            (_, None) => unreachable!("nodes are in topological order"),
        };
        self.forms[id.0 as usize].real = Some(real);
        Ok(real)
    }

    /// The bytes of a tensor, and what they stand for. `name` names a new activation.
    fn bytes(&mut self, id: TensorId, name: &str) -> Result<(TensorId, LayerInput), QuantizeError> {
        if let Some(bytes) = &self.forms[id.0 as usize].bytes {
            return Ok(bytes.clone());
        }
        let real = self.real(id)?;
        let affine = self.affine(name, id)?;
        let bytes = self.made.node1(&format!("{name}.quantize"), Op::Quantize(affine), &[real])?;
        let made = (bytes, LayerInput::Bytes(affine));
        self.forms[id.0 as usize].bytes = Some(made.clone());
        Ok(made)
    }

    /// Bytes that all stand for the same, whatever the channel.
    fn plain_bytes(
        &mut self,
        id: TensorId,
        name: &str,
    ) -> Result<(TensorId, Affine), QuantizeError> {
        match self.bytes(id, name)? {
            (bytes, LayerInput::Bytes(affine)) => Ok((bytes, affine)),
            (_, LayerInput::Pixels { .. }) => {
                let real = self.real(id)?;
                let affine = self.affine(name, id)?;
                let op = Op::Quantize(affine);
                Ok((self.made.node1(&format!("{name}.quantize"), op, &[real])?, affine))
            }
        }
    }

    fn set_bytes(&mut self, id: TensorId, bytes: TensorId, affine: Affine) {
        self.forms[id.0 as usize].bytes = Some((bytes, LayerInput::Bytes(affine)));
    }

    fn conv(&mut self, conv: NodeId, add: Option<TensorId>, relu: bool, out: TensorId) -> Made {
        let node = &self.old.nodes[conv.0 as usize];
        let Op::Conv2d(geometry) = node.op else { unreachable!("a group starts at one") };
        let (x, input) = self.bytes(node.inputs[0], &format!("{}.input", node.name))?;
        let residual = match add {
            None => None,
            Some(add) => Some(self.plain_bytes(add, &format!("{}.residual", node.name))?),
        };
        let mut output = self.affine(&node.name, out)?;
        if relu {
            // Clamping at byte 0 is the ReLU.
            output.zero = 0;
        }
        let mut layer = self.layer(node, input);
        layer.residual = residual.map(|(_, affine)| affine);
        layer.output = Some(output);
        let op = Op::Int8Conv2d(Int8Conv2d {
            conv: geometry,
            padding: layer.input.padding(self.old.shape(node.inputs[0])[3]),
            residual: layer.residual_factor(),
        });
        let mut inputs = vec![x];
        inputs.extend(self.layer_state(&layer, node));
        inputs.extend(residual.map(|(bytes, _)| bytes));
        let y = self.made.node1(&node.name, op, &inputs)?;
        self.set_bytes(out, y, output);
        self.layers.push(layer);
        Ok(())
    }

    /// What is known of a layer from its node.
    fn layer(&self, node: &Node, input: LayerInput) -> QuantizedLayer {
        let weight = self.old.get(node.inputs[1]);
        QuantizedLayer {
            name: node.name.clone(),
            weight: weight.name.clone(),
            bias: node.inputs.get(2).map(|&bias| self.old.get(bias).name.clone()),
            shape: weight.ty.shape.clone(),
            input,
            residual: None,
            output: None,
        }
    }

    fn layer_state(&mut self, layer: &QuantizedLayer, node: &Node) -> [TensorId; 3] {
        let role = match self.old.get(node.inputs[1]).origin {
            Origin::State(role) => role,
            Origin::Input | Origin::Node(..) => StateRole::ConvWeight,
        };
        let channels = &layer.shape[..1];
        let [weight, offset, multiplier] = layer.state_names();
        [
            self.made.state(&weight, role, &layer.shape),
            self.made.state(&offset, StateRole::Bias, channels),
            self.made.state(&multiplier, StateRole::Bias, channels),
        ]
    }

    /// A node that stands alone: on bytes where there is such an operation.
    fn single(&mut self, node: &Node) -> Made {
        let x = node.inputs[0];
        let has_bytes = matches!(&self.forms[x.0 as usize].bytes, Some((_, LayerInput::Bytes(_))));
        match &node.op {
            Op::Normalize { mean, std, .. } => {
                let pixels = self.real(x)?;
                let input = LayerInput::Pixels { mean: mean.clone(), std: std.clone() };
                self.forms[node.outputs[0].0 as usize].bytes = Some((pixels, input));
            }
            Op::MaxPool(pool) if has_bytes => {
                let (bytes, affine) = self.plain_bytes(x, &node.name)?;
                let y = self.made.node1(&node.name, Op::Int8MaxPool(*pool), &[bytes])?;
                self.set_bytes(node.outputs[0], y, affine);
            }
            Op::SubsamplePad(shortcut) if has_bytes => {
                let (bytes, affine) = self.plain_bytes(x, &node.name)?;
                let op = Op::Int8SubsamplePad { shortcut: *shortcut, zero: affine.zero };
                let y = self.made.node1(&node.name, op, &[bytes])?;
                self.set_bytes(node.outputs[0], y, affine);
            }
            Op::GlobalAvgPool if has_bytes => self.global_avg_pool(node)?,
            Op::Linear => {
                let (bytes, input) = self.bytes(x, &format!("{}.input", node.name))?;
                let layer = self.layer(node, input);
                let mut inputs = vec![bytes];
                inputs.extend(self.layer_state(&layer, node));
                let y = self.made.node1(&node.name, Op::Int8Linear, &inputs)?;
                self.forms[node.outputs[0].0 as usize].real = Some(y);
                self.layers.push(layer);
            }
            op @ (Op::Conv2d(_)
            | Op::BatchNorm { .. }
            | Op::BatchNormInference { .. }
            | Op::Relu
            | Op::Sigmoid
            | Op::Add
            | Op::ChannelScale
            | Op::MaxPool(_)
            | Op::AvgPool(_)
            | Op::GlobalAvgPool
            | Op::SubsamplePad(_)
            | Op::Dropout { .. }
            | Op::StochasticDepth { .. }
            | Op::CrossEntropy(_)
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
            | Op::SgdUpdate(_)) => {
                let inputs = node.inputs.iter().map(|&id| self.real(id));
                let inputs = inputs.collect::<Result<Vec<TensorId>, GraphError>>()?;
                let outputs = self.made.node(&node.name, op.clone(), &inputs)?;
                for (old, new) in node.outputs.iter().zip(outputs) {
                    self.forms[old.0 as usize].real = Some(new);
                }
            }
        }
        Ok(())
    }

    /// The mean of bytes has a finer scale of its own.
    fn global_avg_pool(&mut self, node: &Node) -> Made {
        let x = node.inputs[0];
        let (bytes, from) = self.plain_bytes(x, &node.name)?;
        let to = self.affine(&node.name, node.outputs[0])?;
        let shape = self.old.shape(x);
        let pixels = (shape[1] * shape[2]) as f64;
        let multiplier = (f64::from(from.scale) / (pixels * f64::from(to.scale))) as f32;
        let offset = f64::from(to.zero) / f64::from(multiplier) - pixels * f64::from(from.zero);
        let op = Op::Int8GlobalAvgPool { offset: offset.round() as i32, multiplier };
        let y = self.made.node1(&node.name, op, &[bytes])?;
        self.set_bytes(node.outputs[0], y, to);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
