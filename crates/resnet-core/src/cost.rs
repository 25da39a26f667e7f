//! Costs: parameters, multiply-adds and activation memory, layer by layer.

use crate::graph::{Graph, Node, Origin};
use crate::op::Op;

/// One row of the layer table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerCost {
    /// The layer's name.
    pub name: String,
    /// The operation's name.
    pub op: &'static str,
    /// Shape of its first output.
    pub output: Vec<usize>,
    /// Trained numbers that it owns.
    pub params: u64,
    /// Multiply-adds for the whole batch; convolutions and the classifier only, as published
    /// tables count them.
    pub macs: u64,
    /// Bytes of its outputs in f32.
    pub activation_bytes: u64,
}

/// Costs of each node of a forward graph, in order.
pub fn layers(graph: &Graph) -> Vec<LayerCost> {
    graph.nodes.iter().map(|node| layer(graph, node)).collect()
}

fn layer(graph: &Graph, node: &Node) -> LayerCost {
    let is_parameter = |id: &&crate::graph::TensorId| match graph.get(**id).origin {
        Origin::State(role) => role.is_parameter(),
        Origin::Input | Origin::Node(..) => false,
    };
    let params = node.inputs.iter().filter(is_parameter).map(|&id| graph.ty(id).len() as u64).sum();
    let bytes = |ty: &crate::graph::TensorType| (ty.len() * ty.dtype.size()) as u64;
    LayerCost {
        name: node.name.clone(),
        op: node.op.name(),
        output: graph.shape(node.outputs[0]).to_vec(),
        params,
        macs: macs(graph, node),
        activation_bytes: node.outputs.iter().map(|&id| bytes(graph.ty(id))).sum(),
    }
}

/// Multiply-adds of one node by direct arithmetic: products of weights with activations, in any
/// direction. What other operations compute is not counted.
pub fn macs(graph: &Graph, node: &Node) -> u64 {
    let len = |i: usize| graph.ty(node.inputs[i]).len() as u64;
    // A weight meets every pixel of the convolution's output once.
    let pixels = |shape: &[usize]| shape[..shape.len() - 1].iter().product::<usize>() as u64;
    match &node.op {
        Op::Conv2d(_) | Op::Int8Conv2d(_) => len(1) * pixels(graph.shape(node.outputs[0])),
        Op::Linear | Op::Int8Linear => len(1) * graph.shape(node.outputs[0])[0] as u64,
        Op::Conv2dInputGrad { .. } | Op::LinearInputGrad => {
            len(1) * pixels(graph.shape(node.inputs[0]))
        }
        Op::Conv2dWeightGrad(_) | Op::LinearWeightGrad => {
            graph.ty(node.outputs[0]).len() as u64 * pixels(graph.shape(node.inputs[1]))
        }
        Op::Normalize { .. }
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
        | Op::Int8MaxPool(_)
        | Op::Int8GlobalAvgPool { .. }
        | Op::Int8SubsamplePad { .. }
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
        | Op::DropoutGrad
        | Op::StochasticDepthGrad
        | Op::CrossEntropyGrad(_)
        | Op::BinaryCrossEntropyGrad(_)
        | Op::ClipFactor { .. }
        | Op::SgdUpdate(_) => 0,
    }
}

/// Trained numbers of the whole graph.
pub fn total_params(graph: &Graph) -> u64 {
    graph.parameters().map(|(id, _)| graph.ty(id).len() as u64).sum()
}

/// Multiply-adds of the whole graph.
pub fn total_macs(graph: &Graph) -> u64 {
    graph.nodes.iter().map(|node| macs(graph, node)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{BuildOptions, Mode, forward};
    use crate::zoo::network;

    #[track_caller]
    fn check(name: &str, params: u64, macs: u64) {
        let spec = network(name).unwrap();
        let graph = forward(&spec, &BuildOptions::imagenet(1, Mode::Evaluation)).unwrap();
        graph.verify().unwrap();
        assert_eq!((total_params(&graph), total_macs(&graph)), (params, macs), "{name}");
    }

    #[test]
    fn parameters_and_multiply_adds_are_the_published_ones() {
        check("resnet18", 11_689_512, 1_814_073_344);
        check("resnet34", 21_797_672, 3_663_761_408);
        check("resnet50", 25_557_032, 4_089_184_256);
        check("resnet101", 44_549_160, 7_801_405_440);
        check("resnet152", 60_192_808, 11_513_626_624);
        check("resnet200", 64_673_832, 15_007_481_856);
        check("resnet20", 269_722, 40_551_040);
        check("resnet32", 464_154, 68_862_592);
        check("resnet44", 658_586, 97_174_144);
        check("resnet56", 853_018, 125_485_696);
        check("resnet110", 1_727_962, 252_887_680);
        check("resnet1202", 19_421_274, 2_829_238_912);
        check("wide_resnet50_2", 68_883_240, 11_398_021_120);
        check("wide_resnet101_2", 126_886_696, 22_753_050_624);
        check("resnext50_32x4d", 25_028_904, 4_230_479_872);
        check("resnext101_32x8d", 88_791_336, 16_414_015_488);
        check("resnext101_64x4d", 83_455_272, 15_460_270_080);
        check("seresnet50", 28_088_024, 4_091_699_200);
        check("resnet50-v2", 25_549_352, 4_089_184_256);
        check("resnet50-d", 25_576_264, 4_328_824_832);
        check("resnet18-d", 11_708_744, 2_053_713_920);
        check("resnet50-v1", 25_557_032, 3_857_973_248);
        check("resnet101-v1", 44_549_160, 7_570_194_432);
        check("resnet152-v1", 60_192_808, 11_282_415_616);
    }
}
