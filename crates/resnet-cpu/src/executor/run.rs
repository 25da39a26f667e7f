//! Running: one step of a plan, one arm a kind of work, calls its kernel.

use resnet_core::op::{BinaryCrossEntropy, CrossEntropy};
use resnet_core::rng::Purpose;
use resnet_simd::Isa;

use super::int8;
use super::memory::Operands;
use crate::kernel::conv::{
    Epilogue, GradientEpilogue, GradientSums, Statistics, conv_forward, conv_input_gradient,
    conv_weight_gradient,
};
use crate::kernel::norm::{self, Activation, Affine, Join, Mask};
use crate::kernel::{
    Source, average_pool, bias, channel_scale, dropout, elementwise, global_pool, input, loss,
    max_pool, optimizer, subsample,
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
        Work::TransformWeights { plan, gradient, w, u } => {
            let (w, u) = (at.read(*w), at.write(*u));
            if *gradient {
                plan.transform_gradient(pool, w, u);
            } else {
                plan.transform_forward(pool, w, u);
            }
        }
        Work::Conv { plan, x, w, bias, add, relu, statistics, y, scratch } => {
            let statistics = statistics
                .map(|s| Statistics { pivot: at.read(s.pivot), partials: at.write(s.partials) });
            let [bias, residual] = [bias, add].map(|slot| slot.map(|slot| at.read(slot)));
            let epilogue = Epilogue { bias, residual, relu: *relu, statistics };
            let scratch = at.write_if(*scratch);
            conv_forward(plan, pool, at.read(*x), at.read(*w), epilogue, at.write(*y), scratch);
        }
        Work::ConvInputGrad { plan, dy, w, add, mask, sums, dx, scratch } => {
            let sums = sums.map(|s| GradientSums {
                z: at.read(s.z),
                mean: at.read(s.mean),
                partials: at.write(s.partials),
            });
            let [add, mask] = [add, mask].map(|slot| slot.map(|slot| at.read(slot)));
            let epilogue = GradientEpilogue { add, mask, sums };
            let (dy, w, scratch) = (at.read(*dy), at.read(*w), at.write_if(*scratch));
            conv_input_gradient(plan, pool, dy, w, epilogue, at.write(*dx), scratch);
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
        Work::Int8(work) => int8::work(machine, work, at),
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
            max_pool::max_pool(isa, pool, *windows, at.read(*x), at.write(*y), index);
        }
        Work::MaxPoolGrad { windows, dy, index, dx } => {
            let index = &at.read_bytes(*index)[..windows.output_len()];
            let dy = (at.read(*dy), index);
            max_pool::max_pool_grad(isa, pool, *windows, dy, at.write(*dx));
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
        Work::CrossEntropy { loss_spec, classes, dense, logits, targets, loss, probabilities } => {
            let spec = loss_of(at, *loss_spec, *classes, (*targets, *dense));
            let (logits, probabilities) = (at.read(*logits), at.write(*probabilities));
            at.write(*loss)[0] = loss::cross_entropy(pool, spec, logits, probabilities) as f32;
        }
        Work::CrossEntropyGrad { loss_spec, classes, dense, probabilities, targets, dlogits } => {
            let spec = loss_of(at, *loss_spec, *classes, (*targets, *dense));
            let (probabilities, dlogits) = (at.read(*probabilities), at.write(*dlogits));
            loss::cross_entropy_grad(pool, spec, probabilities, dlogits);
        }
        Work::BinaryCrossEntropy { loss_spec, classes, dense, logits, targets, loss } => {
            let spec = binary_of(at, *loss_spec, *classes, (*targets, *dense));
            at.write(*loss)[0] = loss::binary::cross_entropy(spec, at.read(*logits)) as f32;
        }
        Work::BinaryCrossEntropyGrad { loss_spec, classes, dense, logits, targets, dlogits } => {
            let spec = binary_of(at, *loss_spec, *classes, (*targets, *dense));
            loss::binary::cross_entropy_grad(pool, spec, at.read(*logits), at.write(*dlogits));
        }
        Work::Dropout { p, stream, x, seed, step, y, mask } => {
            let from = dropping(at, Purpose::Dropout, (*seed, *step), (*stream, *p));
            let mask = at.write(*mask);
            dropout::drop_mask(pool, from, mask);
            elementwise::mul(isa, pool, source(at, *x, *y), mask, at.write(*y));
        }
        Work::StochasticDepth { p, stream, samples, x, seed, step, y, keep } => {
            let from = dropping(at, Purpose::StochasticDepth, (*seed, *step), (*stream, *p));
            let keep = &mut at.write(*keep)[..*samples];
            dropout::drop_mask(pool, from, keep);
            let x = source(at, *x, *y);
            channel_scale::picture_scale(isa, pool, x, keep, at.write(*y));
        }
        Work::StochasticDepthGrad { samples, dy, keep, dx } => {
            let (dy, keep) = (source(at, *dy, *dx), &at.read(*keep)[..*samples]);
            channel_scale::picture_scale(isa, pool, dy, keep, at.write(*dx));
        }
        Work::SgdUpdate { sgd, w, dw, velocity, hyper, factor } => {
            let hyper = at.read(*hyper);
            let step = optimizer::Sgd {
                lr: hyper[0] * sgd.rate as f32,
                momentum: hyper[1],
                weight_decay: sgd.weight_decay as f32,
                factor: factor.map_or(1.0, |factor| at.read(factor)[0]),
                nesterov: sgd.nesterov,
            };
            let (w, velocity) = (at.write(*w), at.write(*velocity));
            optimizer::sgd(isa, pool, step, w, at.read(*dw), velocity);
        }
        Work::ClipFactor { max_norm, gradients, factor, norm } => {
            let squares = |&g: &Slot| optimizer::sum_of_squares(isa, pool, at.read(g));
            let total = gradients.iter().map(squares).sum::<f64>().sqrt();
            at.write(*norm)[0] = total as f32;
            at.write(*factor)[0] = optimizer::clip_factor(*max_norm, total) as f32;
        }
        _ => unreachable!("every other work has its arm above"),
    }
}

/// The loss of a step, with its targets where they are.
fn loss_of<'m>(
    at: &Operands<'m>,
    spec: CrossEntropy,
    classes: usize,
    (targets, dense): (Slot, bool),
) -> loss::Loss<'m> {
    let targets = targets_of(at, targets, dense);
    loss::Loss { spec, classes, targets, weights: loss::Weights::default() }
}

/// The loss of a step that takes each class by itself.
fn binary_of<'m>(
    at: &Operands<'m>,
    spec: BinaryCrossEntropy,
    classes: usize,
    (targets, dense): (Slot, bool),
) -> loss::binary::Loss<'m> {
    loss::binary::Loss { spec, classes, targets: targets_of(at, targets, dense) }
}

fn targets_of<'m>(at: &Operands<'m>, targets: Slot, dense: bool) -> loss::Targets<'m> {
    if dense {
        loss::Targets::Dense(at.read(targets))
    } else {
        loss::Targets::Classes(at.read_u32(targets))
    }
}

/// Where the mask of a step comes from.
fn dropping(
    at: &Operands<'_>,
    purpose: Purpose,
    (seed, step): (Slot, Slot),
    (stream, p): (u32, f64),
) -> dropout::Dropping {
    let (seed, step) = (at.read_u32(seed), at.read_u32(step)[0]);
    let seed = u64::from(seed[0]) | u64::from(seed[1]) << 32;
    dropout::Dropping { purpose, seed, step, stream, p }
}
