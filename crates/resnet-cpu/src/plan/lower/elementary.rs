//! Operations that are one kernel each, on canonical operands.

use resnet_core::graph::Node;
use resnet_core::op::{Op, Pool2d};

use super::Lowering;
use crate::kernel::window::Windows;
use crate::plan::int8::Int8Work;
use crate::plan::{Dims, Slot, Work};

impl Lowering<'_> {
    /// Operations that are one kernel each, on canonical operands.
    pub(super) fn elementary(
        &self,
        op: &Op,
        node: &Node,
        inputs: &[Slot],
        outputs: &[Slot],
    ) -> Work {
        let x = inputs[0];
        let y = outputs[0];
        let dims = |i: usize| self.dims(node.inputs[i]);
        let dims_out = || self.dims(node.outputs[0]);
        match op {
            Op::Normalize { mean, std, .. } => {
                let scale = std.iter().map(|std| (1.0 / (255.0 * std)) as f32).collect();
                let shift = mean.iter().zip(std).map(|(mean, std)| (-mean / std) as f32).collect();
                Work::Normalize { x, y, scale, shift }
            }
            Op::Relu => Work::Relu { x, y },
            Op::Sigmoid => Work::Sigmoid { x, y },
            Op::SigmoidGrad => Work::SigmoidGrad { dy: x, y: inputs[1], dx: y },
            Op::Add => Work::Add { a: x, b: inputs[1], y },
            Op::DropoutGrad => Work::Multiply { a: x, b: inputs[1], y },
            Op::ChannelScale => Work::ChannelScale { dims: dims(0), x, s: inputs[1], y },
            Op::ChannelScaleGrad => {
                Work::ChannelScaleGrad { dims: dims(0), dy: x, x: inputs[1], ds: y }
            }
            Op::MaxPool(pool) => {
                Work::MaxPool { windows: windows(*pool, dims(0)), x, y, index: outputs[1] }
            }
            Op::MaxPoolGrad { pool, .. } => {
                let windows = windows(*pool, dims_out());
                Work::MaxPoolGrad { windows, dy: x, index: inputs[1], dx: y }
            }
            Op::AvgPool(pool) => Work::AvgPool { windows: windows(*pool, dims(0)), x, y },
            Op::AvgPoolGrad { pool, .. } => {
                Work::AvgPoolGrad { windows: windows(*pool, dims_out()), dy: x, dx: y }
            }
            Op::GlobalAvgPool => Work::GlobalAvgPool { dims: dims(0), x, y },
            Op::GlobalAvgPoolGrad { .. } => {
                Work::GlobalAvgPoolGrad { dims: dims_out(), dy: x, dx: y }
            }
            Op::SubsamplePad(shortcut) => {
                Work::SubsamplePad { dims: dims(0), shortcut: *shortcut, x, y }
            }
            Op::SubsamplePadGrad { shortcut, .. } => {
                Work::SubsamplePadGrad { dims: dims_out(), shortcut: *shortcut, dy: x, dx: y }
            }
            Op::Dropout { p, stream } => {
                let (seed, step, mask) = (inputs[1], inputs[2], outputs[1]);
                Work::Dropout { p: *p, stream: *stream, x, seed, step, y, mask }
            }
            Op::StochasticDepth { p, stream } => {
                let (seed, step, keep) = (inputs[1], inputs[2], outputs[1]);
                let samples = self.graph.shape(node.inputs[0])[0];
                Work::StochasticDepth { p: *p, stream: *stream, samples, x, seed, step, y, keep }
            }
            Op::StochasticDepthGrad => {
                let samples = self.graph.shape(node.inputs[0])[0];
                Work::StochasticDepthGrad { samples, dy: x, keep: inputs[1], dx: y }
            }
            Op::CrossEntropy(loss_spec) => Work::CrossEntropy {
                loss_spec: *loss_spec,
                classes: self.channels(node.inputs[0]),
                dense: self.is_dense(node),
                logits: x,
                targets: inputs[1],
                loss: y,
                probabilities: outputs[1],
            },
            Op::CrossEntropyGrad(loss_spec) => Work::CrossEntropyGrad {
                loss_spec: *loss_spec,
                classes: self.channels(node.inputs[0]),
                dense: self.is_dense(node),
                probabilities: x,
                targets: inputs[1],
                dlogits: y,
            },
            Op::BinaryCrossEntropy(loss_spec) => Work::BinaryCrossEntropy {
                loss_spec: *loss_spec,
                classes: self.channels(node.inputs[0]),
                dense: self.is_dense(node),
                logits: x,
                targets: inputs[1],
                loss: y,
            },
            Op::BinaryCrossEntropyGrad(loss_spec) => Work::BinaryCrossEntropyGrad {
                loss_spec: *loss_spec,
                classes: self.channels(node.inputs[0]),
                dense: self.is_dense(node),
                logits: x,
                targets: inputs[1],
                dlogits: y,
            },
            Op::Quantize(affine) => Work::Int8(Int8Work::Quantize { affine: *affine, x, y }),
            Op::Dequantize(affine) => Work::Int8(Int8Work::Dequantize { affine: *affine, x, y }),
            Op::Int8MaxPool(pool) => {
                Work::Int8(Int8Work::MaxPool { windows: windows(*pool, dims(0)), x, y })
            }
            Op::Int8GlobalAvgPool { offset, multiplier } => {
                let (dims, offset, multiplier) = (dims(0), *offset, *multiplier);
                Work::Int8(Int8Work::GlobalAvgPool { dims, offset, multiplier, x, y })
            }
            Op::Int8SubsamplePad { shortcut, zero } => {
                let (dims, shortcut, zero) = (dims(0), *shortcut, *zero);
                Work::Int8(Int8Work::SubsamplePad { dims, shortcut, zero, x, y })
            }
            Op::Conv2d(_)
            | Op::Linear
            | Op::Int8Conv2d(_)
            | Op::Int8Linear
            | Op::Conv2dInputGrad { .. }
            | Op::LinearInputGrad
            | Op::Conv2dWeightGrad(_)
            | Op::LinearWeightGrad
            | Op::BatchNorm { .. }
            | Op::BatchNormInference { .. }
            | Op::BatchNormGrad
            | Op::BatchNormInferenceGrad { .. }
            | Op::ReluGrad
            | Op::SgdUpdate(_)
            | Op::BiasGrad
            | Op::ClipFactor { .. } => unreachable!("lowered by functions of their own"),
        }
    }

    pub(super) fn is_dense(&self, node: &Node) -> bool {
        self.graph.shape(node.inputs[1]).len() == 2
    }
}

fn windows(pool: Pool2d, input: Dims) -> Windows {
    Windows::new(pool, input).expect("shape inference found windows")
}
