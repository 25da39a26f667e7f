//! From a specification to its forward graph, under torchvision's parameter names.

use crate::graph::{Graph, GraphError, StateRole, TensorId, TensorType};
use crate::op::{Conv2d, DType, Op, Pool2d, SubsamplePad};
use crate::spec::{
    BlockKind, BlockOrder, NetworkSpec, ShortcutKind, StageSpec, StemKind, StrideOn,
};

/// What batch norm does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Normalises by the batch and updates the running statistics; dropout drops.
    Training,
    /// Normalises by the running statistics.
    Evaluation,
}

/// How to build a forward graph.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildOptions {
    /// Pictures a batch.
    pub batch: usize,
    /// Training or evaluation.
    pub mode: Mode,
    /// Mean of each input channel, of pixels in 0..1.
    pub mean: Vec<f64>,
    /// Standard deviation of each input channel.
    pub std: Vec<f64>,
    /// How activations are stored up to the pooled ones, and their gradients: `F32` or `Bf16`.
    pub stored: DType,
    /// Whether the stages' outputs (`c2`, `c3`, ...) and the pooled features (`pooled`) are
    /// outputs of the graph too.
    pub features: bool,
}

/// ImageNet's channel means, of pixels in 0..1 (torchvision's).
pub const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
/// ImageNet's channel standard deviations (torchvision's).
pub const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];

impl BuildOptions {
    /// A batch with ImageNet's mean and standard deviation.
    pub fn imagenet(batch: usize, mode: Mode) -> BuildOptions {
        let (mean, std) = (IMAGENET_MEAN.to_vec(), IMAGENET_STD.to_vec());
        BuildOptions { batch, mode, mean, std, stored: DType::F32, features: false }
    }
}

/// The forward graph: input `input` (u8 `[n,h,w,c]`), output `logits` (`[n,classes]`).
///
/// In training, dropout and stochastic depth add the inputs `seed` (u32 `[2]`) and `step`
/// (u32 `[1]`), and the running statistics are updated.
///
/// # Errors
/// [`GraphError::Shape`] where the picture is too small for a layer.
pub fn forward(spec: &NetworkSpec, options: &BuildOptions) -> Result<Graph, GraphError> {
    let mut net =
        Net { graph: Graph::default(), spec, mode: options.mode, random: None, streams: 0 };
    let input = &spec.input;
    let shape = [options.batch, input.height, input.width, input.channels];
    let pixels = net.graph.input("input", TensorType::new(&shape, DType::U8));
    if options.mode == Mode::Training && (spec.dropout > 0.0 || spec.stochastic_depth > 0.0) {
        let seed = net.graph.input("seed", TensorType::new(&[2], DType::U32));
        let step = net.graph.input("step", TensorType::new(&[1], DType::U32));
        net.random = Some([seed, step]);
    }
    let (mean, std) = (options.mean.clone(), options.std.clone());
    let normalize = Op::Normalize { mean, std, stored: options.stored };
    let mut x = net.graph.node1("input", normalize, &[pixels])?;
    x = net.stem(x)?;
    let total: usize = spec.stages.iter().map(|stage| stage.blocks).sum();
    let mut done = 0;
    for (i, stage) in spec.stages.iter().enumerate() {
        let dilation_before = if i == 0 { 1 } else { spec.stages[i - 1].dilation };
        for block in 0..stage.blocks {
            done += 1;
            let place = Block {
                name: format!("layer{}.{block}", i + 1),
                stage,
                stride: if block == 0 { stage.stride } else { 1 },
                dilation: if block == 0 { dilation_before } else { stage.dilation },
                drop: spec.stochastic_depth * done as f64 / total as f64,
            };
            x = net.block(&place, x)?;
        }
        if options.features {
            net.graph.outputs.push((format!("c{}", i + 2), x));
        }
    }
    net.head(x, options.features)?;
    Ok(net.graph)
}

/// A forward graph that is being built.
struct Net<'a> {
    graph: Graph,
    spec: &'a NetworkSpec,
    mode: Mode,
    random: Option<[TensorId; 2]>,
    streams: u32,
}

/// Where a block stands.
struct Block<'a> {
    name: String,
    stage: &'a StageSpec,
    stride: usize,
    dilation: usize,
    drop: f64,
}

type Built = Result<TensorId, GraphError>;

impl Net<'_> {
    fn channels(&self, x: TensorId) -> usize {
        self.graph.shape(x)[3]
    }

    fn conv(&mut self, name: &str, conv: Conv2d, cout: usize, x: TensorId) -> Built {
        let shape = [cout, self.channels(x) / conv.groups, conv.kh, conv.kw];
        let w = self.graph.state(&format!("{name}.weight"), StateRole::ConvWeight, &shape);
        self.graph.node1(name, Op::Conv2d(conv), &[x, w])
    }

    fn norm(&mut self, name: &str, x: TensorId) -> Built {
        let c = [self.channels(x)];
        let mut state =
            |suffix: &str, role| self.graph.state(&format!("{name}.{suffix}"), role, &c);
        let gamma = state("weight", StateRole::NormWeight);
        let beta = state("bias", StateRole::NormBias);
        let mean = state("running_mean", StateRole::RunningMean);
        let var = state("running_var", StateRole::RunningVar);
        let (eps, inputs) = (self.spec.norm.eps, [x, gamma, beta, mean, var]);
        match self.mode {
            Mode::Evaluation => self.graph.node1(name, Op::BatchNormInference { eps }, &inputs),
            Mode::Training => {
                let op = Op::BatchNorm { eps, momentum: self.spec.norm.momentum };
                let outputs = self.graph.node(name, op, &inputs)?;
                self.graph.updates.push((mean, outputs[3]));
                self.graph.updates.push((var, outputs[4]));
                Ok(outputs[0])
            }
        }
    }

    fn relu(&mut self, name: &str, x: TensorId) -> Built {
        self.graph.node1(&format!("{name}.relu"), Op::Relu, &[x])
    }

    fn norm_relu(&mut self, name: &str, x: TensorId) -> Built {
        let y = self.norm(name, x)?;
        self.relu(name, y)
    }

    fn stem(&mut self, x: TensorId) -> Built {
        let stem = &self.spec.stem;
        let mut y = match stem.kind {
            StemKind::Large => self.conv("conv1", Conv2d::square(7, 2), stem.channels, x)?,
            StemKind::Small => self.conv("conv1", Conv2d::square(3, 1), stem.channels, x)?,
            StemKind::Deep => {
                let half = stem.channels / 2;
                let y = self.conv("conv1.0", Conv2d::square(3, 2), half, x)?;
                let y = self.norm_relu("conv1.1", y)?;
                let y = self.conv("conv1.3", Conv2d::square(3, 1), half, y)?;
                let y = self.norm_relu("conv1.4", y)?;
                self.conv("conv1.6", Conv2d::square(3, 1), stem.channels, y)?
            }
        };
        if self.spec.block.order == BlockOrder::PostActivation {
            y = self.norm_relu("bn1", y)?;
        }
        if stem.pool {
            let pool = Pool2d { kernel: 3, stride: 2, pad: 1, ceil: false };
            y = self.graph.node("maxpool", Op::MaxPool(pool), &[y])?[0];
        }
        Ok(y)
    }

    fn block(&mut self, at: &Block<'_>, x: TensorId) -> Built {
        match self.spec.block.order {
            BlockOrder::PostActivation => {
                let branch = self.post_activation_branch(at, x)?;
                let shortcut = self.shortcut(at, x, x)?;
                let y = self.join(at, branch, shortcut)?;
                self.relu(&at.name, y)
            }
            BlockOrder::PreActivation => {
                let activated = self.norm_relu(&format!("{}.bn1", at.name), x)?;
                let branch = self.pre_activation_branch(at, activated)?;
                let shortcut = self.shortcut(at, x, activated)?;
                self.join(at, branch, shortcut)
            }
        }
    }

    /// The convolutions of a block: name, geometry, output channels.
    fn convolutions(&self, at: &Block<'_>) -> Vec<(String, Conv2d, usize)> {
        let block = &self.spec.block;
        let width = self.spec.block_width(at.stage.channels);
        let cout = at.stage.channels * block.kind.expansion();
        let spatial = |stride, dilation, groups| Conv2d {
            kh: 3,
            kw: 3,
            stride,
            pad: dilation,
            dilation,
            groups,
        };
        let named = |i: usize, conv, cout| (format!("{}.conv{i}", at.name), conv, cout);
        match block.kind {
            BlockKind::Basic => vec![
                named(1, spatial(at.stride, at.dilation, 1), cout),
                named(2, spatial(1, at.stage.dilation, 1), cout),
            ],
            BlockKind::Bottleneck => {
                let (first, second) = match block.stride_on {
                    StrideOn::Conv1 => (at.stride, 1),
                    StrideOn::Conv2 => (1, at.stride),
                };
                vec![
                    named(1, Conv2d::square(1, first), width),
                    named(2, spatial(second, at.dilation, block.groups), width),
                    named(3, Conv2d::square(1, 1), cout),
                ]
            }
        }
    }

    fn post_activation_branch(&mut self, at: &Block<'_>, mut x: TensorId) -> Built {
        let convolutions = self.convolutions(at);
        let last = convolutions.len();
        for (i, (name, conv, cout)) in convolutions.into_iter().enumerate() {
            x = self.conv(&name, conv, cout, x)?;
            let norm = format!("{}.bn{}", at.name, i + 1);
            x = if i + 1 == last { self.norm(&norm, x)? } else { self.norm_relu(&norm, x)? };
        }
        Ok(x)
    }

    fn pre_activation_branch(&mut self, at: &Block<'_>, mut x: TensorId) -> Built {
        for (i, (name, conv, cout)) in self.convolutions(at).into_iter().enumerate() {
            if i > 0 {
                x = self.norm_relu(&format!("{}.bn{}", at.name, i + 1), x)?;
            }
            x = self.conv(&name, conv, cout, x)?;
        }
        Ok(x)
    }

    /// The shortcut's output, if there is one. Where shapes change it reads `changed`, which is the
    /// pre-activated input in a pre-activation block (He et al. 2016, section 3), `x` elsewhere.
    fn shortcut(
        &mut self,
        at: &Block<'_>,
        x: TensorId,
        changed: TensorId,
    ) -> Result<Option<TensorId>, GraphError> {
        let (cin, stride) = (self.channels(x), at.stride);
        let cout = at.stage.channels * self.spec.block.kind.expansion();
        let changes = cin != cout || stride != 1;
        match self.spec.shortcut.kind {
            ShortcutKind::None => Ok(None),
            ShortcutKind::A | ShortcutKind::B if !changes => Ok(Some(x)),
            ShortcutKind::A => {
                let before = (cout - cin) / 2;
                let pad = SubsamplePad { stride, before, after: cout - cin - before };
                let name = format!("{}.shortcut", at.name);
                Ok(Some(self.graph.node1(&name, Op::SubsamplePad(pad), &[changed])?))
            }
            ShortcutKind::B | ShortcutKind::C => self.projection(at, changed, cout).map(Some),
        }
    }

    fn projection(&mut self, at: &Block<'_>, mut x: TensorId, cout: usize) -> Built {
        let name = format!("{}.downsample", at.name);
        // timm counts the average pool as the sequence's first module, even where there is none.
        let first = usize::from(self.spec.shortcut.average_pool);
        let mut stride = at.stride;
        if self.spec.shortcut.average_pool && stride > 1 {
            let pool = Pool2d { kernel: stride, stride, pad: 0, ceil: true };
            x = self.graph.node1(&format!("{name}.0"), Op::AvgPool(pool), &[x])?;
            stride = 1;
        }
        x = self.conv(&format!("{name}.{first}"), Conv2d::square(1, stride), cout, x)?;
        match self.spec.block.order {
            BlockOrder::PostActivation => self.norm(&format!("{name}.{}", first + 1), x),
            BlockOrder::PreActivation => Ok(x),
        }
    }

    fn join(&mut self, at: &Block<'_>, mut branch: TensorId, shortcut: Option<TensorId>) -> Built {
        if let Some(reduction) = self.spec.block.se_reduction {
            branch = self.excite(&format!("{}.se", at.name), reduction, branch)?;
        }
        let Some(shortcut) = shortcut else { return Ok(branch) };
        if let Some([seed, step]) = self.random
            && at.drop > 0.0
        {
            let op = Op::StochasticDepth { p: at.drop, stream: self.next_stream() };
            let name = format!("{}.drop", at.name);
            branch = self.graph.node(&name, op, &[branch, seed, step])?[0];
        }
        self.graph.node1(&format!("{}.add", at.name), Op::Add, &[branch, shortcut])
    }

    fn next_stream(&mut self) -> u32 {
        self.streams += 1;
        self.streams
    }

    /// Squeeze and excitation (Hu et al. 2017, section 3), with timm's names.
    fn excite(&mut self, name: &str, reduction: usize, x: TensorId) -> Built {
        let c = self.channels(x);
        let squeezed = self.graph.node1(&format!("{name}.squeeze"), Op::GlobalAvgPool, &[x])?;
        let hidden = self.biased_conv(&format!("{name}.fc1"), c.div_ceil(reduction), squeezed)?;
        let hidden = self.relu(&format!("{name}.fc1"), hidden)?;
        let scores = self.biased_conv(&format!("{name}.fc2"), c, hidden)?;
        let scale = self.graph.node1(&format!("{name}.sigmoid"), Op::Sigmoid, &[scores])?;
        self.graph.node1(name, Op::ChannelScale, &[x, scale])
    }

    fn biased_conv(&mut self, name: &str, cout: usize, x: TensorId) -> Built {
        let shape = [cout, self.channels(x), 1, 1];
        let w = self.graph.state(&format!("{name}.weight"), StateRole::ConvWeight, &shape);
        let b = self.graph.state(&format!("{name}.bias"), StateRole::Bias, &[cout]);
        self.graph.node1(name, Op::Conv2d(Conv2d::square(1, 1)), &[x, w, b])
    }

    fn head(&mut self, mut x: TensorId, features: bool) -> Result<(), GraphError> {
        if self.spec.block.order == BlockOrder::PreActivation {
            x = self.norm_relu("bn", x)?;
        }
        x = self.graph.node1("avgpool", Op::GlobalAvgPool, &[x])?;
        if features {
            self.graph.outputs.push(("pooled".into(), x));
        }
        if let Some([seed, step]) = self.random
            && self.spec.dropout > 0.0
        {
            let op = Op::Dropout { p: self.spec.dropout, stream: self.next_stream() };
            x = self.graph.node("dropout", op, &[x, seed, step])?[0];
        }
        let (cin, classes) = (self.channels(x), self.spec.classes);
        let w = self.graph.state("fc.weight", StateRole::LinearWeight, &[classes, cin]);
        let b = self.graph.state("fc.bias", StateRole::Bias, &[classes]);
        let logits = self.graph.node1("fc", Op::Linear, &[x, w, b])?;
        self.graph.outputs.insert(0, ("logits".into(), logits));
        Ok(())
    }
}
