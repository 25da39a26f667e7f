//! How state starts: torchvision's initialisation for residual networks.

use crate::graph::{Graph, StateRole};
use crate::rng::{Purpose, Stream};
use crate::spec::{BlockKind, BlockOrder, NetworkSpec};

/// A state tensor's first values, in canonical layout.
#[derive(Clone, Debug, PartialEq)]
pub struct Initial {
    /// The state's name.
    pub name: String,
    /// Its role.
    pub role: StateRole,
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

/// First values of every parameter and statistic of a forward graph of `spec`, each made when it is
/// its turn: of a large network all together are much.
///
/// Convolutions: normal with standard deviation `sqrt(2 / (cout * kh * kw))` (He et al. 2015,
/// arXiv:1502.01852, fan-out, not divided by groups, as PyTorch's `kaiming_normal_`); classifier
/// and biases: uniform within `1 / sqrt(fan_in)` (PyTorch's default for `Linear`); batch norm 1
/// and 0, but 0 for each block's last gamma where the specification says so.
pub fn initial_state<'a>(
    spec: &'a NetworkSpec,
    graph: &Graph,
    seed: u64,
) -> impl Iterator<Item = Initial> + use<'a> {
    initial_state_of(spec, graph, seed, |_| true)
}

/// The same with values for the wanted names alone: drawing those of a large network takes longer
/// than reading them from a file.
pub fn initial_state_of<'a, F: Fn(&str) -> bool>(
    spec: &'a NetworkSpec,
    graph: &Graph,
    seed: u64,
    wanted: F,
) -> impl Iterator<Item = Initial> + use<'a, F> {
    let mut fan_in = 1;
    let model = graph.states().filter(|(_, role)| {
        role.is_parameter() || matches!(role, StateRole::RunningMean | StateRole::RunningVar)
    });
    let model: Vec<(String, Vec<usize>, StateRole)> = model
        .map(|(id, role)| (graph.get(id).name.clone(), graph.shape(id).to_vec(), role))
        .collect();
    model.into_iter().enumerate().map(move |(i, (name, shape, role))| {
        let len = shape.iter().product();
        let mut stream = Stream::new(seed, Purpose::Init, 0, i as u64);
        // A bias follows its weight, whose fan-in bounds both.
        if matches!(role, StateRole::ConvWeight | StateRole::LinearWeight) {
            fan_in = shape[1..].iter().product();
        }
        let values = match role {
            _ if !wanted(&name) => Vec::new(),
            StateRole::ConvWeight => {
                let fan_out = shape[0] * shape[2] * shape[3];
                let std = (2.0 / fan_out as f64).sqrt();
                (0..len).map(|_| (std * stream.normal()) as f32).collect()
            }
            StateRole::LinearWeight | StateRole::Bias => {
                let bound = 1.0 / (fan_in as f64).sqrt();
                let draw = |_| (bound * (2.0 * stream.uniform_f64() - 1.0)) as f32;
                (0..len).map(draw).collect()
            }
            StateRole::NormWeight => {
                let zero = spec.zero_init_last && is_last_gamma(spec, &name);
                vec![if zero { 0.0 } else { 1.0 }; len]
            }
            StateRole::RunningVar => vec![1.0; len],
            StateRole::NormBias | StateRole::RunningMean => vec![0.0; len],
            StateRole::Gradient | StateRole::Velocity => unreachable!("filtered out above"),
        };
        Initial { name, role, shape, values }
    })
}

/// Whether this is the gamma that scales a block's branch before the add. A pre-activation block
/// has none: its branch ends in a convolution.
fn is_last_gamma(spec: &NetworkSpec, name: &str) -> bool {
    let last = match spec.block.kind {
        BlockKind::Basic => ".bn2.weight",
        BlockKind::Bottleneck => ".bn3.weight",
    };
    spec.block.order == BlockOrder::PostActivation
        && name.starts_with("layer")
        && name.ends_with(last)
}
