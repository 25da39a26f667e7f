//! Running: one step of a plan, one arm a kind of work, calls its kernel.

use resnet_simd::Isa;

use super::memory::Operands;
use crate::kernel::conv::{
    Epilogue, GradientEpilogue, GradientSums, Statistics, conv_forward, conv_input_gradient,
    conv_weight_gradient,
};
use crate::kernel::norm::{self, Activation, Affine, Join, Mask};
use crate::kernel::{
    Source, average_pool, bias, channel_scale, elementwise, global_pool, input, subsample,
};
use crate::plan::{Residual, Slot, Work};
use crate::threads::ThreadPool;

/// What kernels run on.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) isa: Isa,
    pub(super) pool: &'a ThreadPool,
}

/// A tensor to read that may be the one to write.
fn source<'m>(at: &Operands<'m>, x: Slot, y: Slot) -> Source<'m> {
    if x == y { Source::InPlace } else { Source::From(at.read(x)) }
}

/// Scale and shift of a batch norm, stored one after the other.
fn affine<'m>(at: &Operands<'m>, coefficients: Slot) -> Affine<'m> {
    let both = at.read(coefficients);
    let (scale, shift) = both.split_at(both.len() / 2);
    Affine { scale, shift }
}

/// Runs one step.
pub(super) fn work(machine: Machine<'_>, work: &Work, at: &Operands<'_>) {
    let Machine { isa, pool } = machine;
    match work {
        Work::Pack { layout, x, y } => layout.pack(at.read(*x), at.write(*y)),
        Work::Unpack { layout, x, y } => layout.unpack(at.read(*x), at.write(*y)),
        Work::Transpose { layout, w, y } => layout.transpose(pool, at.read(*w), at.write(*y)),
        Work::Conv { plan, x, w, bias, add, relu, statistics, y, scratch } => {
            let statistics = statistics
                .map(|s| Statistics { pivot: at.read(s.pivot), partials: at.write(s.partials) });
            let [bias, residual] = [bias, add].map(|slot| slot.map(|slot| at.read(slot)));
            let epilogue = Epilogue { bias, residual, relu: *relu, statistics };
            let scratch = at.write_if(*scratch);
            conv_forward(plan, pool, at.read(*x), at.read(*w), epilogue, at.write(*y), scratch);
        }
        Work::ConvInputGrad { plan, dy, w, add, mask, sums, dx } => {
            let sums = sums.map(|s| GradientSums {
                z: at.read(s.z),
                mean: at.read(s.mean),
                partials: at.write(s.partials),
            });
            let [add, mask] = [add, mask].map(|slot| slot.map(|slot| at.read(slot)));
            let epilogue = GradientEpilogue { add, mask, sums };
            conv_input_gradient(plan, pool, at.read(*dy), at.read(*w), epilogue, at.write(*dx));
        }
        Work::ConvWeightGrad { plan, x, dy, dw, scratch } => {
            let scratch = at.write_if(*scratch);
            conv_weight_gradient(plan, pool, at.read(*x), at.read(*dy), at.write(*dw), scratch);
        }
        Work::NormStatistics { .. }
        | Work::NormFinish { .. }
        | Work::NormCoefficients { .. }
        | Work::NormApply { .. }
        | Work::MaskedGrad { .. }
        | Work::GradSums { .. }
        | Work::NormGradFinish { .. }
        | Work::NormGradApply { .. }
        | Work::RunningRstd { .. } => norm_work(machine, work, at),
        Work::Relu { x, y } => elementwise::relu(isa, pool, source(at, *x, *y), at.write(*y)),
        Work::Sigmoid { x, y } => elementwise::sigmoid(pool, source(at, *x, *y), at.write(*y)),
        Work::SigmoidGrad { dy, y, dx } => {
            elementwise::sigmoid_grad(
                isa,
                pool,
                Source::From(at.read(*dy)),
                at.read(*y),
                at.write(*dx),
            );
        }
        Work::Add { a, b, y } => {
            elementwise::add(isa, pool, Source::From(at.read(*a)), &[at.read(*b)], at.write(*y));
        }
        Work::Multiply { a, b, y } => {
            elementwise::mul(isa, pool, Source::From(at.read(*a)), at.read(*b), at.write(*y));
        }
        Work::Store { x, y } => {
            let (x, y) = (at.read(*x), at.write(*y));
            y.copy_from_slice(&x[..y.len()]);
        }
        _ => other_work(machine, work, at),
    }
}

/// Batch norm's pieces.
fn norm_work(machine: Machine<'_>, work: &Work, at: &Operands<'_>) {
    let Machine { isa, pool } = machine;
    match work {
        Work::NormStatistics { rows, z, statistics } => {
            let (pivot, partials) = (at.read(statistics.pivot), at.write(statistics.partials));
            norm::statistics(isa, pool, *rows, at.read(*z), pivot, partials);
        }
        Work::NormFinish {
            rows,
            eps,
            momentum,
            partials,
            gamma,
            beta,
            running,
            mean,
            rstd,
            coefficients,
        } => {
            let (scale, shift) = halves(at.write(*coefficients));
            let stats =
                norm::BatchStats { mean: at.write(*mean), rstd: at.write(*rstd), scale, shift };
            let running = norm::Running {
                mean: at.write(running[0]),
                var: at.write(running[1]),
                bn_momentum: *momentum,
            };
            let parameters =
                norm::Parameters { gamma: at.read(*gamma), beta: at.read(*beta), eps: *eps };
            // The pivot is the running mean as it is before its update.
            let partials = at.read(*partials);
            norm::finish(*rows, partials, Source::InPlace, parameters, stats, running);
        }
        Work::NormCoefficients { eps, norm: [gamma, beta, mean, var], coefficients } => {
            let (scale, shift) = halves(at.write(*coefficients));
            let parameters =
                norm::Parameters { gamma: at.read(*gamma), beta: at.read(*beta), eps: *eps };
            norm::affine_of_running(parameters, (at.read(*mean), at.read(*var)), scale, shift);
        }
        Work::NormApply { z, coefficients, residual, relu, y } => {
            let join = match *residual {
                Residual::None => Join::Nothing,
                Residual::Plain(r) => Join::Plain(at.read(r)),
                Residual::Norm { z, coefficients } => {
                    Join::Normed(at.read(z), affine(at, coefficients))
                }
            };
            let activation = if *relu { Activation::Relu } else { Activation::Identity };
            let input = (source(at, *z, *y), affine(at, *coefficients));
            norm::apply(isa, pool, input, join, activation, at.write(*y));
        }
        Work::MaskedGrad { rows, dy, mask, g, sums: Some(sums) } => {
            assert_eq!(dy, g, "planned in place");
            let input = norm::Centred { z: at.read(sums.z), mean: at.read(sums.mean) };
            let partials = at.write(sums.partials);
            let masked = (at.write(*g), Mask::Output(at.read(*mask)));
            norm::grad_mask_sums(isa, pool, *rows, masked, input, partials);
        }
        Work::MaskedGrad { dy, mask, g, sums: None, .. } => {
            elementwise::relu_grad(isa, pool, source(at, *dy, *g), at.read(*mask), at.write(*g));
        }
        Work::GradSums { rows, dy, sums } => {
            let input = norm::Centred { z: at.read(sums.z), mean: at.read(sums.mean) };
            let masked = (at.read(*dy), Mask::Open);
            norm::grad_sums(isa, pool, *rows, masked, input, at.write(sums.partials));
        }
        Work::NormGradFinish {
            rows,
            frozen,
            partials,
            gamma,
            rstd,
            dgamma,
            dbeta,
            coefficients,
        } => {
            let all = at.write(*coefficients);
            let (a, rest) = all.split_at_mut(all.len() / 3);
            let (b, c) = halves(rest);
            let out =
                norm::Gradients { dgamma: at.write(*dgamma), dbeta: at.write(*dbeta), a, b, c };
            let sums = (at.read(*partials), norm::Sums::Only);
            let parameters = (at.read(*gamma), at.read(*rstd));
            if *frozen {
                norm::grad_finish_frozen(sums, parameters, out);
            } else {
                norm::grad_finish(*rows, sums, parameters, out);
            }
        }
        Work::NormGradApply { g, z, mean, coefficients, dz } => {
            let all = at.read(*coefficients);
            let third = all.len() / 3;
            let (a, b, c) = (&all[..third], &all[third..2 * third], &all[2 * third..]);
            let input = norm::Centred { z: at.read(*z), mean: at.read(*mean) };
            let by = norm::Coefficients { a, b, c };
            let masked = (source(at, *g, *dz), Mask::Open);
            norm::grad_apply(isa, pool, masked, input, by, at.write(*dz));
        }
        Work::RunningRstd { eps, var, rstd } => {
            for (rstd, &var) in at.write(*rstd).iter_mut().zip(at.read(*var)) {
                *rstd = (1.0 / (f64::from(var) + eps).sqrt()) as f32;
            }
        }
        _ => unreachable!("called for batch norm's work only"),
    }
}

fn halves(both: &mut [f32]) -> (&mut [f32], &mut [f32]) {
    both.split_at_mut(both.len() / 2)
}

/// Everything else.
fn other_work(machine: Machine<'_>, work: &Work, at: &Operands<'_>) {
    let Machine { isa, pool } = machine;
    match work {
        Work::Normalize { x, y, scale, shift } => {
            let x = at.read_bytes(*x);
            input::normalise_pixels(isa, pool, x, (scale, shift), at.write(*y));
        }
        Work::BiasGrad { rows, dy, partials, db } => {
            let partials = at.write(*partials);
            bias::bias_grad(isa, pool, *rows, at.read(*dy), partials, at.write(*db));
        }
        Work::ChannelScale { dims: [_, h, w, c], x, s, y } => {
            let (x, s) = (Source::From(at.read(*x)), at.read(*s));
            channel_scale::channel_scale(isa, pool, (h * w, *c), x, s, at.write(*y));
        }
        Work::ChannelScaleGrad { dims: [_, h, w, c], dy, x, ds } => {
            let factors = (at.read(*x), at.read(*dy));
            channel_scale::channel_scale_grad(isa, pool, (h * w, *c), factors, at.write(*ds));
        }
        Work::MaxPool { windows, x, y, index } => {
            let index = &mut at.write_bytes(*index)[..windows.output_len()];
            super::pending::max_pool(windows, at.read(*x), at.write(*y), index);
        }
        Work::MaxPoolGrad { windows, dy, index, dx } => {
            let index = &at.read_bytes(*index)[..windows.output_len()];
            super::pending::max_pool_grad(windows, at.read(*dy), index, at.write(*dx));
        }
        Work::AvgPool { windows, x, y } => {
            average_pool::average_pool(isa, pool, *windows, at.read(*x), at.write(*y));
        }
        Work::AvgPoolGrad { windows, dy, dx } => {
            average_pool::average_pool_grad(isa, pool, *windows, at.read(*dy), at.write(*dx));
        }
        Work::GlobalAvgPool { dims: [_, h, w, c], x, y } => {
            global_pool::global_average_pool(isa, pool, (h * w, *c), at.read(*x), at.write(*y));
        }
        Work::GlobalAvgPoolGrad { dims: [_, h, w, c], dy, dx } => {
            let dy = at.read(*dy);
            global_pool::global_average_pool_grad(isa, pool, (h * w, *c), dy, at.write(*dx));
        }
        Work::SubsamplePad { dims: [_, h, w, c], shortcut, x, y } => {
            subsample::subsample_pad(pool, *shortcut, [*h, *w, *c], at.read(*x), at.write(*y));
        }
        Work::SubsamplePadGrad { dims: [_, h, w, c], shortcut, dy, dx } => {
            let dy = at.read(*dy);
            subsample::subsample_pad_grad(pool, *shortcut, [*h, *w, *c], dy, at.write(*dx));
        }
        Work::CrossEntropy { loss_spec, classes, logits, targets, loss, probabilities, .. } => {
            let (loss, p) = (&mut at.write(*loss)[0], at.write(*probabilities));
            super::pending::cross_entropy(
                loss_spec,
                *classes,
                at.read(*logits),
                at.read_u32(*targets),
                loss,
                p,
            );
        }
        Work::CrossEntropyGrad { loss_spec, classes, probabilities, targets, dlogits, .. } => {
            super::pending::cross_entropy_grad(
                loss_spec,
                *classes,
                at.read(*probabilities),
                at.read_u32(*targets),
                at.write(*dlogits),
            );
        }
        Work::SgdUpdate { sgd, w, dw, velocity, hyper, factor } => {
            let factor = factor.map_or(1.0, |f| at.read(f)[0]);
            super::pending::sgd(
                sgd,
                at.write(*w),
                at.read(*dw),
                at.write(*velocity),
                at.read(*hyper),
                factor,
            );
        }
        Work::ClipFactor { max_norm, gradients, factor, norm } => {
            let square = |&x: &f32| f64::from(x) * f64::from(x);
            let sum = gradients.iter().map(|&g| at.read(g).iter().map(square).sum::<f64>()).sum();
            super::pending::clip(*max_norm, sum, at.write(*factor), at.write(*norm));
        }
        _ => unreachable!("every other work has its arm above"),
    }
}
