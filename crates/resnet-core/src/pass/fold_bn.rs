//! Folds evaluation's batch norms into the convolutions before them.
//!
//! `gamma * (conv(x, w) - mean) / sqrt(var + eps) + beta` is a convolution with weights
//! `w * gamma / sqrt(var + eps)` for each output channel and bias
//! `beta - mean * gamma / sqrt(var + eps)`. The folded numbers are state that follows from other
//! state: the pass says how ([`Fold`]), an executor makes them when their sources have changed.

use crate::graph::{Graph, GraphError, NodeId, Origin, StateRole, TensorId};
use crate::op::Op;

use super::dead::drop_dead_nodes;

/// How one convolution's folded weights and bias follow from other state, all by name.
#[derive(Clone, Debug, PartialEq)]
pub struct Fold {
    /// The convolution's weights, OIHW.
    pub weight: String,
    /// Batch norm's gamma, beta, running mean and running variance.
    pub norm: [String; 4],
    /// Added to the variance.
    pub eps: f64,
    /// Where the folded weights go.
    pub folded_weight: String,
    /// Where the folded bias goes.
    pub folded_bias: String,
}

/// The state name of what is folded from a parameter.
pub fn folded_name(parameter: &str) -> String {
    format!("folded/{parameter}")
}

impl Fold {
    /// Scale of each output channel, and the bias: `[gamma, beta, mean, var]` as in `norm`.
    pub fn scale_and_bias(&self, norm: [&[f32]; 4]) -> (Vec<f64>, Vec<f64>) {
        let [gamma, beta, mean, var] = norm;
        let real = |x: &[f32], c: usize| f64::from(x[c]);
        let scale: Vec<f64> =
            (0..gamma.len()).map(|c| real(gamma, c) / (real(var, c) + self.eps).sqrt()).collect();
        let bias = (0..gamma.len()).map(|c| real(beta, c) - real(mean, c) * scale[c]).collect();
        (scale, bias)
    }
}

/// The graph with each batch norm folded that alone reads a convolution without bias, and the folds.
///
/// # Errors
/// None for a verified graph.
pub fn fold_batch_norm(graph: &Graph) -> Result<(Graph, Vec<Fold>), GraphError> {
    let uses = graph.uses();
    let mut folded = graph.clone();
    let mut folds = Vec::new();
    for i in 0..graph.nodes.len() {
        let Some((conv, eps)) = foldable(graph, &uses, i) else { continue };
        let (conv_node, norm_node) = (&graph.nodes[conv.0 as usize], &graph.nodes[i]);
        let weight = conv_node.inputs[1];
        let name = |id: TensorId| graph.get(id).name.clone();
        let fold = Fold {
            weight: name(weight),
            norm: [1, 2, 3, 4].map(|input| name(norm_node.inputs[input])),
            eps,
            folded_weight: folded_name(&name(weight)),
            folded_bias: folded_name(&name(norm_node.inputs[2])),
        };
        let shape = graph.shape(weight).to_vec();
        let w = folded.state(&fold.folded_weight, StateRole::ConvWeight, &shape);
        let b = folded.state(&fold.folded_bias, StateRole::Bias, &shape[..1]);
        // The convolution takes the batch norm's place and output; its own old output dies.
        let node = &mut folded.nodes[i];
        node.op = conv_node.op.clone();
        node.inputs = vec![conv_node.inputs[0], w, b];
        node.name.clone_from(&conv_node.name);
        folds.push(fold);
    }
    let folded = drop_dead_nodes(&folded)?;
    debug_assert_eq!(folded.verify(), Ok(()));
    Ok((folded, folds))
}

/// The convolution that batch norm `i` can be folded into, and its eps.
fn foldable(graph: &Graph, uses: &[u32], i: usize) -> Option<(NodeId, f64)> {
    let norm = &graph.nodes[i];
    let Op::BatchNormInference { eps } = norm.op else { return None };
    let x = norm.inputs[0];
    let conv = match graph.get(x).origin {
        Origin::Node(conv, 0) if uses[x.0 as usize] == 1 => conv,
        Origin::Node(..) | Origin::Input | Origin::State(_) => return None,
    };
    let node = &graph.nodes[conv.0 as usize];
    let is_state = |id: &TensorId| matches!(graph.get(*id).origin, Origin::State(_));
    let folds = matches!(node.op, Op::Conv2d(_))
        && node.inputs.len() == 2
        && is_state(&node.inputs[1])
        && norm.inputs[1..].iter().all(is_state);
    folds.then_some((conv, eps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{BuildOptions, Mode, forward};
    use crate::executor::{Executor, Input};
    use crate::oracle;
    use crate::reference::ReferenceExecutor;
    use crate::zoo::network;

    fn logits(graph: &Graph, folds: &[Fold], pixels: &[u8]) -> Vec<f32> {
        let mut executor = ReferenceExecutor::<f64>::new();
        let step = executor.compile(graph).unwrap();
        let parameter = |name: &str, shape: &[usize]| oracle::parameter(name, shape, 0);
        for (name, shape) in executor.states() {
            if !name.starts_with("folded/") {
                executor.import(&name, &shape, &parameter(&name, &shape)).unwrap();
            }
        }
        for fold in folds {
            let shape = |name: &str| graph.shape(graph.named(name).unwrap()).to_vec();
            let (w_shape, c) = (shape(&fold.folded_weight), shape(&fold.folded_bias));
            let norm = fold.norm.clone().map(|name| parameter(&name, &c));
            let (scale, bias) = fold.scale_and_bias([0, 1, 2, 3].map(|i| norm[i].as_slice()));
            let mut w = parameter(&fold.weight, &w_shape);
            for (channel, w) in w.chunks_mut(w_shape[1..].iter().product()).enumerate() {
                w.iter_mut().for_each(|w| *w = (f64::from(*w) * scale[channel]) as f32);
            }
            let bias: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
            executor.import(&fold.folded_weight, &w_shape, &w).unwrap();
            executor.import(&fold.folded_bias, &c, &bias).unwrap();
        }
        executor.run(step, &[Input::U8(pixels)]).unwrap();
        executor.output(step, "logits").unwrap()
    }

    #[track_caller]
    fn check(name: &str, expected_folds: usize) {
        let mut spec = network(name).unwrap();
        (spec.input.height, spec.input.width, spec.classes) = (32, 32, 10);
        let graph = forward(&spec, &BuildOptions::imagenet(2, Mode::Evaluation)).unwrap();
        let (folded, folds) = fold_batch_norm(&graph).unwrap();
        folded.verify().unwrap();
        assert_eq!(folds.len(), expected_folds, "{name}");
        let pixels = oracle::pixels(2 * 32 * 32 * 3, 0);
        let (before, after) = (logits(&graph, &[], &pixels), logits(&folded, &folds, &pixels));
        let largest = before.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        for (x, y) in before.iter().zip(&after) {
            // Folded weights are rounded to f32; all else is f64.
            assert!((x - y).abs() <= 1e-6 * largest, "{name}: {x} became {y}");
        }
    }

    #[test]
    fn folding_keeps_what_a_network_computes() {
        check("resnet20", 19);
        check("resnet18", 20);
        check("resnet18-d", 22);
        check("seresnet18", 20);
    }

    #[test]
    fn a_pre_activation_network_folds_only_norms_that_follow_a_convolution() {
        // Each block's second norm reads its first convolution alone.
        check("cifar-resnet20-v2", 9);
    }
}
