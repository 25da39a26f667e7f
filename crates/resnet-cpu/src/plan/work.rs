//! What steps do: one variant a kind of work, with the slots that it reads and writes.

use resnet_core::op::{BinaryCrossEntropy, CrossEntropy, Sgd, SubsamplePad};

use super::Slot;
use super::int8::Int8Work;
use crate::kernel::Rows;
use crate::kernel::conv::{ConvPlan, PackedLayout};
use crate::kernel::window::Windows;

/// Sizes of a picture tensor: `[n, h, w, c]`.
pub type Dims = [usize; 4];

/// Statistics of a convolution's output for the batch norm that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Statistics {
    /// What is taken off before squaring: the running mean.
    pub pivot: Slot,
    /// Sums of each chunk of rows.
    pub partials: Slot,
}

/// The two sums of batch norm's gradient, made where the gradient is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GradSums {
    /// Batch norm's input.
    pub z: Slot,
    /// The batch's mean.
    pub mean: Slot,
    /// Sums of each chunk of rows.
    pub partials: Slot,
}

/// The gradient by a batch norm's input, `a * g + b * (z - mean) + c`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormGradient {
    /// The gradient by its output.
    pub g: Slot,
    /// Its input.
    pub z: Slot,
    /// The batch's mean.
    pub mean: Slot,
    /// a, b and c of each channel.
    pub coefficients: Slot,
}

/// What a normalising pass adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Residual {
    /// Nothing.
    None,
    /// A tensor.
    Plain(Slot),
    /// Another tensor, normalised on the way.
    Norm {
        /// The tensor.
        z: Slot,
        /// Its scale and shift of each channel.
        coefficients: Slot,
    },
}

/// What a step does. Slots of activations are NHWC.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "operands are named as in the kernels' docs")]
pub enum Work {
    /// Pixels to numbers.
    Normalize {
        x: Slot,
        y: Slot,
        scale: Vec<f32>,
        shift: Vec<f32>,
    },
    /// Canonical weights into panels, and back.
    Pack {
        layout: PackedLayout,
        x: Slot,
        y: Slot,
    },
    Unpack {
        layout: PackedLayout,
        x: Slot,
        y: Slot,
    },
    /// Panels of the transposed weights, for the input gradient.
    Transpose {
        layout: PackedLayout,
        w: Slot,
        y: Slot,
    },
    /// Winograd's transform of weights, of the forward pass or of the input gradient.
    TransformWeights {
        plan: Box<ConvPlan>,
        gradient: bool,
        w: Slot,
        u: Slot,
    },
    /// Convolution with its epilogue.
    Conv {
        plan: Box<ConvPlan>,
        x: Slot,
        w: Slot,
        bias: Option<Slot>,
        add: Option<Slot>,
        relu: bool,
        statistics: Option<Statistics>,
        y: Slot,
        scratch: Option<Slot>,
    },
    /// Input gradient with its epilogue.
    ConvInputGrad {
        plan: Box<ConvPlan>,
        dy: Slot,
        w: Slot,
        add: Option<Slot>,
        mask: Option<Slot>,
        sums: Option<GradSums>,
        dx: Slot,
        scratch: Option<Slot>,
    },
    /// Weight gradient.
    ConvWeightGrad {
        plan: Box<ConvPlan>,
        x: Slot,
        dy: Slot,
        dw: Slot,
        scratch: Option<Slot>,
    },
    /// Both of a convolution, from the gradient by the input of the batch norm behind it, which is not
    /// stored.
    ConvGradients {
        plan: Box<ConvPlan>,
        x: Slot,
        dy: NormGradient,
        w: Slot,
        add: Option<Slot>,
        mask: Option<Slot>,
        sums: Option<GradSums>,
        dw: Slot,
        dx: Slot,
        scratch: Option<Slot>,
    },
    /// Sum over everything but channels.
    BiasGrad {
        rows: Rows,
        dy: Slot,
        partials: Slot,
        db: Slot,
    },
    /// Statistics in a pass of their own.
    NormStatistics {
        rows: Rows,
        z: Slot,
        statistics: Statistics,
    },
    /// From sums to mean, `rstd`, coefficients (scale, shift) and running statistics, in place.
    NormFinish {
        rows: usize,
        eps: f64,
        momentum: f64,
        partials: Slot,
        gamma: Slot,
        beta: Slot,
        running: [Slot; 2],
        mean: Slot,
        rstd: Slot,
        coefficients: Slot,
    },
    /// Coefficients from gamma, beta and the running statistics.
    NormCoefficients {
        eps: f64,
        norm: [Slot; 4],
        coefficients: Slot,
    },
    /// `y = relu?(z * scale + shift + residual)`; `y` may be `z`.
    NormApply {
        z: Slot,
        coefficients: Slot,
        residual: Residual,
        relu: bool,
        y: Slot,
    },
    /// `g = dy where mask > 0`, and sums; with sums, `g` is `dy`.
    MaskedGrad {
        rows: Rows,
        dy: Slot,
        mask: Slot,
        g: Slot,
        sums: Option<GradSums>,
    },
    /// A batch norm gradient's sums in a pass of their own.
    GradSums {
        rows: Rows,
        dy: Slot,
        sums: GradSums,
    },
    /// From sums to the gradients of gamma and beta, and coefficients (a, b, c).
    NormGradFinish {
        rows: usize,
        frozen: bool,
        partials: Slot,
        gamma: Slot,
        rstd: Slot,
        dgamma: Slot,
        dbeta: Slot,
        coefficients: Slot,
    },
    /// Writes the gradient by a batch norm's input; `dz` may be `g`.
    NormGradApply {
        from: NormGradient,
        dz: Slot,
    },
    /// `rstd` of the running variance.
    RunningRstd {
        eps: f64,
        var: Slot,
        rstd: Slot,
    },
    Relu {
        x: Slot,
        y: Slot,
    },
    Sigmoid {
        x: Slot,
        y: Slot,
    },
    SigmoidGrad {
        dy: Slot,
        y: Slot,
        dx: Slot,
    },
    Add {
        a: Slot,
        b: Slot,
        y: Slot,
    },
    /// Elementwise product, for dropout's gradient.
    Multiply {
        a: Slot,
        b: Slot,
        y: Slot,
    },
    ChannelScale {
        dims: Dims,
        x: Slot,
        s: Slot,
        y: Slot,
    },
    ChannelScaleGrad {
        dims: Dims,
        dy: Slot,
        x: Slot,
        ds: Slot,
    },
    MaxPool {
        windows: Windows,
        x: Slot,
        y: Slot,
        index: Slot,
    },
    MaxPoolGrad {
        windows: Windows,
        dy: Slot,
        index: Slot,
        dx: Slot,
    },
    AvgPool {
        windows: Windows,
        x: Slot,
        y: Slot,
    },
    AvgPoolGrad {
        windows: Windows,
        dy: Slot,
        dx: Slot,
    },
    GlobalAvgPool {
        dims: Dims,
        x: Slot,
        y: Slot,
    },
    GlobalAvgPoolGrad {
        dims: Dims,
        dy: Slot,
        dx: Slot,
    },
    SubsamplePad {
        dims: Dims,
        shortcut: SubsamplePad,
        x: Slot,
        y: Slot,
    },
    SubsamplePadGrad {
        dims: Dims,
        shortcut: SubsamplePad,
        dy: Slot,
        dx: Slot,
    },
    Dropout {
        p: f64,
        stream: u32,
        x: Slot,
        seed: Slot,
        step: Slot,
        y: Slot,
        mask: Slot,
    },
    /// One factor a sample.
    StochasticDepth {
        p: f64,
        stream: u32,
        samples: usize,
        x: Slot,
        seed: Slot,
        step: Slot,
        y: Slot,
        keep: Slot,
    },
    StochasticDepthGrad {
        samples: usize,
        dy: Slot,
        keep: Slot,
        dx: Slot,
    },
    CrossEntropy {
        loss_spec: CrossEntropy,
        classes: usize,
        dense: bool,
        logits: Slot,
        targets: Slot,
        loss: Slot,
        probabilities: Slot,
    },
    CrossEntropyGrad {
        loss_spec: CrossEntropy,
        classes: usize,
        dense: bool,
        probabilities: Slot,
        targets: Slot,
        dlogits: Slot,
    },
    BinaryCrossEntropy {
        loss_spec: BinaryCrossEntropy,
        classes: usize,
        dense: bool,
        logits: Slot,
        targets: Slot,
        loss: Slot,
    },
    BinaryCrossEntropyGrad {
        loss_spec: BinaryCrossEntropy,
        classes: usize,
        dense: bool,
        logits: Slot,
        targets: Slot,
        dlogits: Slot,
    },
    ClipFactor {
        max_norm: f64,
        gradients: Vec<Slot>,
        factor: Slot,
        norm: Slot,
    },
    SgdUpdate {
        sgd: Sgd,
        w: Slot,
        dw: Slot,
        velocity: Slot,
        hyper: Slot,
        factor: Option<Slot>,
    },
    /// A copy.
    Store {
        x: Slot,
        y: Slot,
    },
    /// A step on bytes.
    Int8(Int8Work),
}

impl Work {
    /// What the step reads and what it writes. A slot in both is changed in place.
    pub fn operands(&self) -> (Vec<Slot>, Vec<Slot>) {
        let all = |reads: &[Slot], optional: &[Option<Slot>]| {
            reads.iter().copied().chain(optional.iter().flatten().copied()).collect::<Vec<_>>()
        };
        match self {
            Work::Normalize { x, y, .. }
            | Work::Pack { x, y, .. }
            | Work::Unpack { x, y, .. }
            | Work::Transpose { w: x, y, .. }
            | Work::TransformWeights { w: x, u: y, .. }
            | Work::Relu { x, y }
            | Work::Sigmoid { x, y }
            | Work::AvgPool { x, y, .. }
            | Work::AvgPoolGrad { dy: x, dx: y, .. }
            | Work::GlobalAvgPool { x, y, .. }
            | Work::GlobalAvgPoolGrad { dy: x, dx: y, .. }
            | Work::SubsamplePad { x, y, .. }
            | Work::SubsamplePadGrad { dy: x, dx: y, .. }
            | Work::RunningRstd { var: x, rstd: y, .. }
            | Work::Store { x, y } => (vec![*x], vec![*y]),
            Work::Conv { x, w, bias, add, statistics, y, scratch, .. } => (
                all(&[*x, *w], &[*bias, *add, statistics.map(|s| s.pivot)]),
                all(&[*y], &[statistics.map(|s| s.partials), *scratch]),
            ),
            Work::ConvInputGrad { dy, w, add, mask, sums, dx, scratch, .. } => (
                all(&[*dy, *w], &[*add, *mask, sums.map(|s| s.z), sums.map(|s| s.mean)]),
                all(&[*dx], &[sums.map(|s| s.partials), *scratch]),
            ),
            Work::ConvWeightGrad { x, dy, dw, scratch, .. } => {
                (vec![*x, *dy], all(&[*dw], &[*scratch]))
            }
            Work::ConvGradients { x, dy, w, add, mask, sums, dw, dx, scratch, .. } => (
                all(
                    &[*x, dy.g, dy.z, dy.mean, dy.coefficients, *w],
                    &[*add, *mask, sums.map(|s| s.z), sums.map(|s| s.mean)],
                ),
                all(&[*dw, *dx], &[sums.map(|s| s.partials), *scratch]),
            ),
            Work::NormStatistics { z, statistics, .. } => {
                (vec![*z, statistics.pivot], vec![statistics.partials])
            }
            Work::NormFinish {
                partials, gamma, beta, running, mean, rstd, coefficients, ..
            } => (
                vec![*partials, *gamma, *beta, running[0], running[1]],
                vec![running[0], running[1], *mean, *rstd, *coefficients],
            ),
            Work::NormCoefficients { norm, coefficients, .. } => {
                (norm.to_vec(), vec![*coefficients])
            }
            Work::NormApply { z, coefficients, residual, y, .. } => {
                let mut reads = vec![*z, *coefficients];
                match *residual {
                    Residual::None => {}
                    Residual::Plain(r) => reads.push(r),
                    Residual::Norm { z, coefficients } => reads.extend([z, coefficients]),
                }
                (reads, vec![*y])
            }
            Work::MaskedGrad { dy, mask, g, sums, .. } => (
                all(&[*dy, *mask], &[sums.map(|s| s.z), sums.map(|s| s.mean)]),
                all(&[*g], &[sums.map(|s| s.partials)]),
            ),
            Work::BiasGrad { dy, partials, db, .. } => (vec![*dy], vec![*partials, *db]),
            Work::GradSums { dy, sums, .. } => (vec![*dy, sums.z, sums.mean], vec![sums.partials]),
            Work::NormGradFinish { partials, gamma, rstd, dgamma, dbeta, coefficients, .. } => {
                (vec![*partials, *gamma, *rstd], vec![*dgamma, *dbeta, *coefficients])
            }
            Work::NormGradApply { from: NormGradient { g, z, mean, coefficients }, dz } => {
                (vec![*g, *z, *mean, *coefficients], vec![*dz])
            }
            Work::SigmoidGrad { dy: a, y: b, dx: y }
            | Work::Add { a, b, y }
            | Work::Multiply { a, b, y }
            | Work::ChannelScale { x: a, s: b, y, .. }
            | Work::ChannelScaleGrad { dy: a, x: b, ds: y, .. }
            | Work::MaxPoolGrad { dy: a, index: b, dx: y, .. }
            | Work::StochasticDepthGrad { dy: a, keep: b, dx: y, .. }
            | Work::CrossEntropyGrad { probabilities: a, targets: b, dlogits: y, .. }
            | Work::BinaryCrossEntropy { logits: a, targets: b, loss: y, .. }
            | Work::BinaryCrossEntropyGrad { logits: a, targets: b, dlogits: y, .. } => {
                (vec![*a, *b], vec![*y])
            }
            Work::MaxPool { x, y, index, .. } => (vec![*x], vec![*y, *index]),
            Work::Dropout { x, seed, step, y, mask, .. } => {
                (vec![*x, *seed, *step], vec![*y, *mask])
            }
            Work::StochasticDepth { x, seed, step, y, keep, .. } => {
                (vec![*x, *seed, *step], vec![*y, *keep])
            }
            Work::CrossEntropy { logits, targets, loss, probabilities, .. } => {
                (vec![*logits, *targets], vec![*loss, *probabilities])
            }
            Work::ClipFactor { gradients, factor, norm, .. } => {
                (gradients.clone(), vec![*factor, *norm])
            }
            Work::Int8(work) => work.operands(),
            Work::SgdUpdate { w, dw, velocity, hyper, factor, .. } => {
                (all(&[*w, *dw, *velocity, *hyper], &[*factor]), vec![*w, *velocity])
            }
        }
    }
}
