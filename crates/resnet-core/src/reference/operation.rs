//! What each operation means: one arm each.

use super::elementwise::{self as each, Random};
use super::{Real, Value, View, conv, int8, loss, norm, pool, update};
use crate::op::Op;
use crate::rng::Purpose;

/// The inputs of one node: value and shape of each.
pub(super) struct Operands<'a, R> {
    pub(super) values: Vec<(&'a [usize], &'a Value<R>)>,
}

impl<'a, R: Real> Operands<'a, R> {
    fn value(&self, i: usize) -> &'a Value<R> {
        self.values[i].1
    }

    fn real(&self, i: usize) -> View<'a, R> {
        match self.values[i] {
            (shape, Value::Real(values)) => View { shape, values },
            (_, Value::U8(_) | Value::U32(_)) => {
                unreachable!("shape inference admits real numbers only")
            }
        }
    }

    /// A run of real inputs.
    fn reals<const N: usize>(&self, first: usize) -> [View<'a, R>; N] {
        std::array::from_fn(|i| self.real(first + i))
    }

    fn bytes(&self, i: usize) -> &'a [u8] {
        match self.value(i) {
            Value::U8(values) => values,
            Value::Real(_) | Value::U32(_) => unreachable!("shape inference admits bytes only"),
        }
    }

    fn words(&self, i: usize) -> &'a [u32] {
        match self.value(i) {
            Value::U32(values) => values,
            Value::Real(_) | Value::U8(_) => unreachable!("shape inference admits words only"),
        }
    }

    fn random(&self) -> Random<'a> {
        Random { seed: self.words(1), step: self.words(2) }
    }
}

fn reals<R, const N: usize>(values: [Vec<R>; N]) -> Vec<Value<R>> {
    values.into_iter().map(Value::Real).collect()
}

fn real<R>(values: Vec<R>) -> Vec<Value<R>> {
    vec![Value::Real(values)]
}

/// The outputs of a verified operation.
pub(super) fn evaluate<R: Real>(op: &Op, x: &Operands<'_, R>) -> Vec<Value<R>> {
    match op {
        Op::Normalize { mean, std, .. } => real(each::normalize(mean, std, x.bytes(0))),
        Op::Conv2d(geometry) => {
            let bias = (x.values.len() == 3).then(|| x.real(2));
            real(conv::forward(geometry, x.real(0), x.real(1), bias))
        }
        Op::BatchNorm { eps, momentum } => {
            reals(norm::batch_norm([*eps, *momentum], x.real(0), x.reals(1)))
        }
        Op::BatchNormInference { eps } => {
            real(norm::batch_norm_inference(*eps, x.real(0), x.reals(1)))
        }
        Op::Relu => real(each::map(x.real(0), each::relu)),
        Op::Sigmoid => real(each::map(x.real(0), each::sigmoid)),
        Op::Add => real(each::zip(x.real(0), x.real(1), |a, b| a + b)),
        Op::ChannelScale => real(each::channel_scale(x.real(0), x.real(1))),
        Op::MaxPool(geometry) => {
            let (y, index) = pool::max_pool(geometry, x.real(0));
            vec![Value::Real(y), Value::U8(index)]
        }
        Op::AvgPool(geometry) => real(pool::avg_pool(geometry, x.real(0))),
        Op::GlobalAvgPool => real(pool::global_avg_pool(x.real(0))),
        Op::SubsamplePad(shortcut) => real(pool::subsample_pad(shortcut, x.real(0))),
        Op::Linear => real(conv::linear(x.real(0), x.real(1), x.real(2))),
        Op::Dropout { p, stream } => {
            let len = x.real(0).values.len();
            let mask = each::mask(Purpose::Dropout, *p, *stream, x.random(), len);
            reals([each::scale_runs(x.real(0), &mask), mask])
        }
        Op::StochasticDepth { p, stream } => {
            let samples = x.real(0).shape[0];
            let keep = each::mask(Purpose::StochasticDepth, *p, *stream, x.random(), samples);
            reals([each::scale_runs(x.real(0), &keep), keep])
        }
        Op::CrossEntropy(constants) => {
            let (loss, probabilities) = loss::cross_entropy(constants, x.real(0), x.value(1));
            reals([vec![loss], probabilities])
        }
        Op::BinaryCrossEntropy(constants) => {
            real(vec![loss::binary_cross_entropy(constants, x.real(0), x.value(1))])
        }
        Op::Quantize(affine) => vec![Value::U8(int8::quantize(*affine, x.real(0)))],
        Op::Dequantize(affine) => real(int8::dequantize(*affine, x.bytes(0))),
        Op::Int8Conv2d(op) => {
            let residual = op.residual.map(|factor| (x.bytes(4), factor));
            let y = int8::conv(op, (x.values[0].0, x.bytes(0)), x.reals(1), residual);
            vec![Value::U8(y)]
        }
        Op::Int8Linear => real(int8::linear(x.bytes(0), x.reals(1))),
        Op::Int8MaxPool(geometry) => {
            vec![Value::U8(int8::max_pool(geometry, x.values[0].0, x.bytes(0)))]
        }
        Op::Int8GlobalAvgPool { offset, multiplier } => {
            let x = (x.values[0].0, x.bytes(0));
            vec![Value::U8(int8::global_avg_pool(*offset, *multiplier, x))]
        }
        Op::Int8SubsamplePad { shortcut, zero } => {
            let x = (x.values[0].0, x.bytes(0));
            vec![Value::U8(int8::subsample_pad(shortcut, *zero, x))]
        }
        Op::Conv2dInputGrad { conv: geometry, input_size } => {
            real(conv::input_grad(geometry, *input_size, x.real(0), x.real(1)))
        }
        Op::Conv2dWeightGrad(geometry) => real(conv::weight_grad(geometry, x.real(0), x.real(1))),
        Op::BiasGrad => real(conv::bias_grad(x.real(0))),
        Op::BatchNormGrad => reals(norm::batch_norm_grad(x.real(0), x.real(1), x.reals(2))),
        Op::BatchNormInferenceGrad { eps } => {
            reals(norm::batch_norm_inference_grad(*eps, x.real(0), x.real(1), x.reals(2)))
        }
        Op::ReluGrad => {
            real(each::zip(x.real(0), x.real(1), |dy, y| if y > 0.0 { dy } else { 0.0 }))
        }
        Op::SigmoidGrad => real(each::zip(x.real(0), x.real(1), |dy, y| dy * y * (1.0 - y))),
        Op::ChannelScaleGrad => real(each::channel_scale_grad(x.real(0), x.real(1))),
        Op::MaxPoolGrad { pool: geometry, input_size } => {
            real(pool::max_pool_grad(geometry, *input_size, x.real(0), x.bytes(1)))
        }
        Op::AvgPoolGrad { pool: geometry, input_size } => {
            real(pool::avg_pool_grad(geometry, *input_size, x.real(0)))
        }
        Op::GlobalAvgPoolGrad { input_size, .. } => {
            real(pool::global_avg_pool_grad(*input_size, x.real(0)))
        }
        Op::SubsamplePadGrad { shortcut, input_size } => {
            real(pool::subsample_pad_grad(shortcut, *input_size, x.real(0)))
        }
        Op::LinearInputGrad => real(conv::linear_input_grad(x.real(0), x.real(1))),
        Op::LinearWeightGrad => real(conv::linear_weight_grad(x.real(0), x.real(1))),
        Op::DropoutGrad | Op::StochasticDepthGrad => {
            real(each::scale_runs(x.real(0), x.real(1).values))
        }
        Op::CrossEntropyGrad(constants) => {
            real(loss::cross_entropy_grad(constants, x.real(0), x.value(1)))
        }
        Op::BinaryCrossEntropyGrad(constants) => {
            real(loss::binary_cross_entropy_grad(constants, x.real(0), x.value(1)))
        }
        Op::ClipFactor { max_norm } => {
            let gradients: Vec<_> = (0..x.values.len()).map(|i| x.real(i)).collect();
            let [factor, norm] = update::clip_factor(*max_norm, &gradients);
            reals([vec![factor], vec![norm]])
        }
        Op::SgdUpdate(constants) => {
            let hyper = x.real(3).values;
            let factor = if x.values.len() == 5 { x.real(4).values[0].to_f64() } else { 1.0 };
            let hyper = [hyper[0].to_f64(), hyper[1].to_f64()];
            reals(update::sgd(constants, x.reals(0), hyper, factor))
        }
    }
}
