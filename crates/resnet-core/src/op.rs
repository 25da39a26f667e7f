//! Operations of the graph: a closed set, matched exhaustively everywhere.
//!
//! Each fact about operations is one function with one match: shapes here, gradients in `grad`,
//! costs in `cost`, meaning in `reference`. `docs/adding-an-op.md` is the checklist.
//! Shapes: activations are `[n, h, w, c]`, convolution weights `[cout, cin/groups, kh, kw]`,
//! channel vectors `[c]`, scalars `[1]`.

use serde::{Deserialize, Serialize};

/// Element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// Pixels, pooling indices, and activations of int8 inference.
    U8,
    /// Class numbers, seeds and counters.
    U32,
    /// Real numbers: f32 in engines; the reference executor may compute them in f64.
    F32,
    /// Real numbers that are kept as the upper half of an f32, rounded to the nearest, ties to even.
    /// Operations compute on them as on `F32`; what they make is rounded when it is stored.
    Bf16,
}

impl DType {
    /// Bytes of one element in an engine.
    pub fn size(self) -> usize {
        match self {
            DType::U8 => 1,
            DType::Bf16 => 2,
            DType::U32 | DType::F32 => 4,
        }
    }

    /// Whether the elements are real numbers.
    pub fn is_real(self) -> bool {
        match self {
            DType::F32 | DType::Bf16 => true,
            DType::U8 | DType::U32 => false,
        }
    }
}

/// Geometry of a convolution. Square strides, pads and dilations, as in every residual network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// Rows of the kernel.
    pub kh: usize,
    /// Columns of the kernel.
    pub kw: usize,
    /// Step between outputs, in pixels of the input.
    pub stride: usize,
    /// Zeros around the input on each side.
    pub pad: usize,
    /// Distance between the kernel's taps.
    pub dilation: usize,
    /// Independent groups of channels.
    pub groups: usize,
}

impl Conv2d {
    /// A square convolution of one group that keeps the size at stride 1.
    pub fn square(k: usize, stride: usize) -> Conv2d {
        Conv2d { kh: k, kw: k, stride, pad: k / 2, dilation: 1, groups: 1 }
    }

    /// Output rows and columns for an input of `ih` x `iw`, if there are any.
    pub fn output_size(&self, ih: usize, iw: usize) -> Option<(usize, usize)> {
        let along = |size: usize, k: usize| {
            let padded = size + 2 * self.pad;
            let reach = self.dilation * (k - 1) + 1;
            (padded >= reach).then(|| (padded - reach) / self.stride + 1)
        };
        Some((along(ih, self.kh)?, along(iw, self.kw)?))
    }
}

/// Geometry of a square pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pool2d {
    /// Rows and columns of the window.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Border on each side.
    pub pad: usize,
    /// Whether a last, partly covered window counts (PyTorch's `ceil_mode`).
    pub ceil: bool,
}

impl Pool2d {
    /// Output length along a side of `size` pixels, as PyTorch's `pooling_output_shape`.
    pub fn output_len(&self, size: usize) -> Option<usize> {
        let padded = size + 2 * self.pad;
        if !self.ceil {
            return Some(padded.checked_sub(self.kernel)? / self.stride + 1);
        }
        // A window that is larger than the picture counts, too, if a step less would fit.
        let len = (padded + self.stride - 1).checked_sub(self.kernel)? / self.stride + 1;
        // The last window must start inside the picture or its left border.
        let starts_outside = (len - 1) * self.stride >= size + self.pad;
        Some(if starts_outside { len - 1 } else { len })
    }
}

/// Shortcut A: every `stride`-th pixel, zero channels added on both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubsamplePad {
    /// Every how many pixels one is kept.
    pub stride: usize,
    /// Zero channels before.
    pub before: usize,
    /// Zero channels after.
    pub after: usize,
}

/// Softmax cross-entropy's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CrossEntropy {
    /// Weight of the uniform distribution mixed into the targets (PyTorch's `label_smoothing`).
    pub label_smoothing: f64,
    /// What the sum over samples is divided by: the global batch, over all ranks.
    pub divisor: usize,
}

/// Binary cross-entropy's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BinaryCrossEntropy {
    /// Smoothing `s`: targets become `(1 - s) * target + s / classes`, as timm has it.
    pub label_smoothing: f64,
    /// If given, smoothed targets above it become 1 and all others 0.
    pub target_threshold: Option<f64>,
    /// What a class that is there counts beside one that is not (PyTorch's `pos_weight`, one for all
    /// classes).
    pub pos_weight: f64,
    /// What the sum over samples is divided by: the global batch, over all ranks.
    pub divisor: usize,
}

/// One SGD step's constants for a parameter group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// Weight decay of this group, added to the gradient.
    pub weight_decay: f64,
    /// This group's factor on the learning rate.
    pub rate: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
}

/// What the bytes of an activation stand for: `x = scale * (q - zero)`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Affine {
    /// The distance of two neighbouring numbers.
    pub scale: f32,
    /// The byte that stands for 0.
    pub zero: u8,
}

/// A convolution of bytes; see [`Op::Int8Conv2d`].
#[derive(Clone, Debug, PartialEq)]
pub struct Int8Conv2d {
    /// The geometry.
    pub conv: Conv2d,
    /// The byte of each input channel that stands for 0: what lies around the picture.
    pub padding: Vec<u8>,
    /// What a byte of the residual counts in the result, if there is one.
    pub residual: Option<f32>,
}

/// An operation: its inputs and outputs in order stand in each variant's doc.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `x: u8 [n,h,w,c] -> y = (x/255 - mean[c]) / std[c]`.
    Normalize {
        /// Mean of each channel, of pixels in 0..1.
        mean: Vec<f64>,
        /// Standard deviation of each channel.
        std: Vec<f64>,
        /// How `y` is stored, and with it all activations that follow from it up to the pooled ones.
        stored: DType,
    },
    /// `x, w (, b [cout]) -> y`. The bias is there if the node has three inputs.
    Conv2d(Conv2d),
    /// `x, gamma, beta, running_mean, running_var -> y, mean, rstd, new_mean, new_var`.
    ///
    /// Normalises by the batch's mean and biased variance; the new running variance takes the
    /// unbiased one. Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1; constants as
    /// PyTorch's `BatchNorm2d`.
    BatchNorm {
        /// Added to the variance.
        eps: f64,
        /// Weight of the new batch in the running statistics.
        momentum: f64,
    },
    /// `x, gamma, beta, running_mean, running_var -> y`: evaluation, and frozen in training.
    BatchNormInference {
        /// Added to the variance.
        eps: f64,
    },
    /// `x -> max(x, 0)`; NaN stays NaN.
    Relu,
    /// `x -> 1 / (1 + exp(-x))`.
    Sigmoid,
    /// `a, b -> a + b`.
    Add,
    /// `x [n,h,w,c], s [n,1,1,c] -> x * s`: excitation.
    ChannelScale,
    /// `x -> y, index: u8`: the index is the maximum's place in its window, row by row; the first
    /// of equal ones wins, padding never does.
    MaxPool(Pool2d),
    /// `x -> y`: mean over the pixels of the window that lie in the picture.
    AvgPool(Pool2d),
    /// `x [n,h,w,c] -> [n,1,1,c]`: mean over the picture.
    GlobalAvgPool,
    /// `x -> y`: shortcut A.
    SubsamplePad(SubsamplePad),
    /// `x [n,1,1,cin], w [cout,cin], b [cout] -> [n,cout]`.
    Linear,
    /// `x, seed: u32 [2], step: u32 [1] -> y, mask`: mask is 0 or `1/(1-p)`.
    Dropout {
        /// Probability of dropping an element.
        p: f64,
        /// Tells the network's dropouts apart in the random stream.
        stream: u32,
    },
    /// `x, seed: u32 [2], step: u32 [1] -> y, keep [n]`: keep is 0 or `1/(1-p)`, one a sample.
    StochasticDepth {
        /// Probability of dropping a sample's branch.
        p: f64,
        /// Tells the network's blocks apart in the random stream.
        stream: u32,
    },
    /// `logits [n,k], targets (u32 [n] or f32 [n,k]) -> loss [1], probabilities [n,k]`.
    CrossEntropy(CrossEntropy),
    /// `logits [n,k], targets (u32 [n] or f32 [n,k]) -> loss [1]`: each class by itself, there or not.
    ///
    /// `loss = sum of w * q * log(1 + exp(-x)) + (1 - q) * log(1 + exp(x)) / (k * divisor)`, `q` the
    /// targets after smoothing and threshold, `w` the weight of positives: PyTorch's
    /// `BCEWithLogitsLoss`.
    BinaryCrossEntropy(BinaryCrossEntropy),

    /// `x -> u8`: the nearest byte, ties to even ([`crate::int8::quantize`]).
    Quantize(Affine),
    /// `x: u8 -> scale * (x - zero)`.
    Dequantize(Affine),
    /// `x: u8, w, offset [cout], multiplier [cout] (, residual: u8) -> y: u8`: a convolution of bytes
    /// whose sums become bytes again, batch norm, bias, residual and ReLU included.
    ///
    /// `y = requantize(sum of x * w + offset, multiplier, residual)`, see
    /// [`crate::int8::requantize`]; weights are whole numbers of at most
    /// [`crate::int8::MAX_WEIGHT`], offsets whole numbers. One operation, since rounding happens
    /// once. Sums are exact, so that all engines give the same bits.
    Int8Conv2d(Int8Conv2d),
    /// `x: u8 [n,1,1,cin], w [cout,cin], offset [cout], multiplier [cout] -> [n,cout]`:
    /// `(sum of x * w + offset) * multiplier`, rounded to f32 before and after the product.
    Int8Linear,
    /// `x: u8 -> u8`: as [`Op::MaxPool`], without its index.
    Int8MaxPool(Pool2d),
    /// `x: u8 [n,h,w,c] -> u8 [n,1,1,c]`: `requantize(sum of x + offset, multiplier)`.
    Int8GlobalAvgPool {
        /// Added to the sum of all pixels.
        offset: i32,
        /// What one of them counts in the result.
        multiplier: f32,
    },
    /// `x: u8 -> u8`: shortcut A, whose new channels hold the byte that stands for 0.
    Int8SubsamplePad {
        /// The shortcut.
        shortcut: SubsamplePad,
        /// The byte of 0.
        zero: u8,
    },

    /// `dy, w -> dx`.
    Conv2dInputGrad {
        /// The forward convolution.
        conv: Conv2d,
        /// Rows and columns of the forward input.
        input_size: [usize; 2],
    },
    /// `x, dy -> dw`.
    Conv2dWeightGrad(Conv2d),
    /// `dy [..., c] -> [c]`: sum over everything else.
    BiasGrad,
    /// `dy, x, gamma, mean, rstd -> dx, dgamma, dbeta`.
    BatchNormGrad,
    /// `dy, x, gamma, running_mean, running_var -> dx, dgamma, dbeta`.
    BatchNormInferenceGrad {
        /// Added to the variance.
        eps: f64,
    },
    /// `dy, y -> dy where y > 0, else 0`.
    ReluGrad,
    /// `dy, y -> dy * y * (1 - y)`.
    SigmoidGrad,
    /// `dy, x -> ds [n,1,1,c]`: sum of `dy * x` over the picture.
    ChannelScaleGrad,
    /// `dy, index -> dx`.
    MaxPoolGrad {
        /// The forward pool.
        pool: Pool2d,
        /// Rows and columns of the forward input.
        input_size: [usize; 2],
    },
    /// `dy -> dx`.
    AvgPoolGrad {
        /// The forward pool.
        pool: Pool2d,
        /// Rows and columns of the forward input.
        input_size: [usize; 2],
    },
    /// `dy [n,1,1,c] -> dx`.
    GlobalAvgPoolGrad {
        /// Rows and columns of the forward input.
        input_size: [usize; 2],
        /// How the forward input is stored, and `dx`.
        stored: DType,
    },
    /// `dy -> dx`.
    SubsamplePadGrad {
        /// The forward shortcut.
        shortcut: SubsamplePad,
        /// Rows and columns of the forward input.
        input_size: [usize; 2],
    },
    /// `dy [n,cout], w -> dx [n,1,1,cin]`.
    LinearInputGrad,
    /// `x [n,1,1,cin], dy [n,cout] -> dw [cout,cin]`.
    LinearWeightGrad,
    /// `dy, mask -> dy * mask`.
    DropoutGrad,
    /// `dy, keep [n] -> dy * keep`.
    StochasticDepthGrad,
    /// `probabilities, targets -> dlogits`.
    CrossEntropyGrad(CrossEntropy),
    /// `logits, targets -> dlogits`.
    BinaryCrossEntropyGrad(BinaryCrossEntropy),

    /// `gradients... -> factor [1], norm [1]`: `factor = min(1, max_norm / (norm + 1e-6))`, as
    /// PyTorch's `clip_grad_norm_`.
    ClipFactor {
        /// The largest Euclidean norm of all gradients together.
        max_norm: f64,
    },
    /// `w, dw, velocity, hyper [2] = (learning rate, momentum) (, factor [1]) -> w, velocity`.
    ///
    /// `g = dw * factor + weight_decay * w; v = momentum * v + g; w -= lr * rate * (g + momentum *
    /// v if nesterov else v)`: PyTorch's `SGD` with no dampening.
    SgdUpdate(Sgd),
}

impl Op {
    /// Whether it is the gradient of a loss, with which the backward pass begins.
    pub fn is_loss_gradient(&self) -> bool {
        matches!(self, Op::CrossEntropyGrad(_) | Op::BinaryCrossEntropyGrad(_))
    }

    /// The name in tables and error messages.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Normalize { .. } => "normalize",
            Op::Conv2d(_) => "conv2d",
            Op::BatchNorm { .. } => "batch_norm",
            Op::BatchNormInference { .. } => "batch_norm_inference",
            Op::Relu => "relu",
            Op::Sigmoid => "sigmoid",
            Op::Add => "add",
            Op::ChannelScale => "channel_scale",
            Op::MaxPool(_) => "max_pool",
            Op::AvgPool(_) => "avg_pool",
            Op::GlobalAvgPool => "global_avg_pool",
            Op::SubsamplePad(_) => "subsample_pad",
            Op::Linear => "linear",
            Op::Dropout { .. } => "dropout",
            Op::StochasticDepth { .. } => "stochastic_depth",
            Op::CrossEntropy(_) => "cross_entropy",
            Op::BinaryCrossEntropy(_) => "binary_cross_entropy",
            Op::Quantize(_) => "quantize",
            Op::Dequantize(_) => "dequantize",
            Op::Int8Conv2d(_) => "int8_conv2d",
            Op::Int8Linear => "int8_linear",
            Op::Int8MaxPool(_) => "int8_max_pool",
            Op::Int8GlobalAvgPool { .. } => "int8_global_avg_pool",
            Op::Int8SubsamplePad { .. } => "int8_subsample_pad",
            Op::Conv2dInputGrad { .. } => "conv2d_input_grad",
            Op::Conv2dWeightGrad(_) => "conv2d_weight_grad",
            Op::BiasGrad => "bias_grad",
            Op::BatchNormGrad => "batch_norm_grad",
            Op::BatchNormInferenceGrad { .. } => "batch_norm_inference_grad",
            Op::ReluGrad => "relu_grad",
            Op::SigmoidGrad => "sigmoid_grad",
            Op::ChannelScaleGrad => "channel_scale_grad",
            Op::MaxPoolGrad { .. } => "max_pool_grad",
            Op::AvgPoolGrad { .. } => "avg_pool_grad",
            Op::GlobalAvgPoolGrad { .. } => "global_avg_pool_grad",
            Op::SubsamplePadGrad { .. } => "subsample_pad_grad",
            Op::LinearInputGrad => "linear_input_grad",
            Op::LinearWeightGrad => "linear_weight_grad",
            Op::DropoutGrad => "dropout_grad",
            Op::StochasticDepthGrad => "stochastic_depth_grad",
            Op::CrossEntropyGrad(_) => "cross_entropy_grad",
            Op::BinaryCrossEntropyGrad(_) => "binary_cross_entropy_grad",
            Op::ClipFactor { .. } => "clip_factor",
            Op::SgdUpdate(_) => "sgd_update",
        }
    }
}
