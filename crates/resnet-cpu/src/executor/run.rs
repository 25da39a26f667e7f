//! Running: one step of a plan, one arm a kind of work, calls its kernel.

use resnet_core::op::{BinaryCrossEntropy, CrossEntropy};
use resnet_core::rng::Purpose;
use resnet_simd::{Element, Isa, Stored, bf16};

use super::int8;
use super::memory::Operands;
use crate::kernel::conv::{
    Epilogue, GradientEpilogue, GradientSums, Statistics, conv_forward, conv_input_gradient,
    conv_norm_gradients, conv_weight_gradient,
};
use crate::kernel::norm::{self, Activation, Affine, Join, Mask};
use crate::kernel::{
    Source, average_pool, bias, channel_scale, dropout, elementwise, global_pool, input, loss,
    max_pool, optimizer, subsample,
};
use crate::plan::{GradSums, Layout, NormGradient, Output, Residual, Slot, Step, Work};
use crate::threads::ThreadPool;

/// What kernels run on.
#[derive(Clone, Copy)]
pub(super) struct Machine<'a> {
    pub(super) isa: Isa,
    pub(super) pool: &'a ThreadPool,
}

/// A tensor to read that may be the one to write.
fn source<'m, E: Element>(at: &Operands<'m>, x: Slot, y: Slot) -> Source<'m, E> {
    if x == y { Source::InPlace } else { Source::From(at.activations(x)) }
}

/// Scale and shift of a batch norm, stored one after the other.
fn affine<'m>(at: &Operands<'m>, coefficients: Slot) -> Affine<'m> {
    let both = at.read(coefficients);
    let (scale, shift) = both.split_at(both.len() / 2);
    Affine { scale, shift }
}

/// What an input gradient does with its sums.
fn gradient_epilogue<'m, E: Element>(
    at: &Operands<'m>,
    dx: Slot,
    add: Option<Slot>,
    mask: Option<Slot>,
    sums: Option<GradSums>,
) -> GradientEpilogue<'m, E> {
    let sums = sums.map(|s| GradientSums {
        z: at.activations(s.z),
        mean: at.read(s.mean),
        partials: at.write(s.partials),
    });
    let add = add.map(|slot| source::<E>(at, slot, dx));
    GradientEpilogue { add, mask: mask.map(|slot| at.activations::<E>(slot)), sums }
}

/// What the gradient by a batch norm's input is made of besides `g`, in whose place it may be written.
fn norm_gradient<'m, E: Element>(
    at: &Operands<'m>,
    from: NormGradient,
) -> (norm::Centred<'m, E>, norm::Coefficients<'m>) {
    let all = at.read(from.coefficients);
    let third = all.len() / 3;
    let (a, b, c) = (&all[..third], &all[third..2 * third], &all[2 * third..]);
    let input = norm::Centred { z: at.activations(from.z), mean: at.read(from.mean) };
    (input, norm::Coefficients { a, b, c })
}

/// Runs one step.
pub(super) fn step(machine: Machine<'_>, step: &Step, at: &Operands<'_>) {
    match step.stored {
        Stored::F32 => work::<f32>(machine, &step.work, at),
        Stored::Bf16 => work::<bf16>(machine, &step.work, at),
    }
}

/// Copies a result as f32 in canonical layout.
pub(super) fn copy_output(result: &Output, at: &Operands<'_>, output: &mut [f32]) {
    match (&result.layout, result.stored) {
        (Layout::Plain, Stored::F32) => output.copy_from_slice(&at.read(result.slot)[..result.len]),
        (Layout::Plain, Stored::Bf16) => {
            let values = at.activations::<bf16>(result.slot);
            output.iter_mut().zip(values).for_each(|(output, value)| *output = value.to_f32());
        }
        (Layout::Packed(layout), _) => layout.unpack(at.read(result.slot), output),
    }
}

/// Runs one step on activations that are stored so.
fn work<E: Element>(machine: Machine<'_>, work: &Work, at: &Operands<'_>) {
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
            let bias = bias.map(|slot| at.read(slot));
            let residual = add.map(|slot| source::<E>(at, slot, *y));
            let epilogue = Epilogue { bias, residual, relu: *relu, statistics };
            let scratch = at.write_if(*scratch);
            let (x, w, y) = (at.activations(*x), at.read(*w), at.activations_mut(*y));
            conv_forward(plan, pool, x, w, epilogue, y, scratch);
        }
        Work::ConvInputGrad { plan, dy, w, add, mask, sums, dx, scratch } => {
            let epilogue = gradient_epilogue::<E>(at, *dx, *add, *mask, *sums);
            let (dy, w, scratch) = (at.activations(*dy), at.read(*w), at.write_if(*scratch));
            conv_input_gradient(plan, pool, dy, w, epilogue, at.activations_mut(*dx), scratch);
        }
        Work::ConvWeightGrad { plan, x, dy, dw, scratch } => {
            let (x, dy) = (at.activations::<E>(*x), at.activations(*dy));
            conv_weight_gradient(plan, pool, x, dy, at.write(*dw), at.write_if(*scratch));
        }
        Work::ConvGradients { plan, x, dy, w, add, mask, sums, dw, dx, scratch } => {
            let epilogue = gradient_epilogue::<E>(at, *dx, *add, *mask, *sums);
            let (input, by) = norm_gradient(at, *dy);
            let dy = norm::InputGradient { g: at.activations(dy.g), input, by };
            let operands = (at.activations(*x), dy);
            let (results, scratch) =
                ((at.write(*dw), at.activations_mut(*dx)), at.write_if(*scratch));
            conv_norm_gradients(plan, pool, operands, at.read(*w), epilogue, results, scratch);
        }
        Work::NormStatistics { .. }
        | Work::NormFinish { .. }
        | Work::NormCoefficients { .. }
        | Work::NormApply { .. }
        | Work::MaskedGrad { .. }
        | Work::GradSums { .. }
        | Work::NormGradFinish { .. }
        | Work::NormGradApply { .. }
        | Work::RunningRstd { .. } => norm_work::<E>(machine, work, at),
        Work::Relu { x, y } => {
            let (x, y) = (source::<E>(at, *x, *y), at.activations_mut(*y));
            elementwise::relu(isa, pool, x, y);
        }
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
            let (a, b) = (at.activations::<E>(*a), at.activations(*b));
            elementwise::add(isa, pool, Source::From(a), &[b], at.activations_mut(*y));
        }
        Work::Multiply { a, b, y } => {
            elementwise::mul(isa, pool, Source::From(at.read(*a)), at.read(*b), at.write(*y));
        }
        Work::Store { x, y } => {
            let (x, y) = (at.activations::<E>(*x), at.activations_mut(*y));
            y.copy_from_slice(&x[..y.len()]);
        }
        Work::Int8(work) => int8::work(machine, work, at),
        _ => other_work::<E>(machine, work, at),
    }
}

/// Batch norm's pieces.
fn norm_work<E: Element>(machine: Machine<'_>, work: &Work, at: &Operands<'_>) {
    let Machine { isa, pool } = machine;
    match work {
        Work::NormStatistics { rows, z, statistics } => {
            let (pivot, partials) = (at.read(statistics.pivot), at.write(statistics.partials));
            norm::statistics(isa, pool, *rows, at.activations::<E>(*z), pivot, partials);
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
                Residual::Plain(r) => Join::Plain(at.activations(r)),
                Residual::Norm { z, coefficients } => {
                    Join::Normed(at.activations(z), affine(at, coefficients))
                }
            };
            let activation = if *relu { Activation::Relu } else { Activation::Identity };
            let input = (source::<E>(at, *z, *y), affine(at, *coefficients));
            norm::apply(isa, pool, input, join, activation, at.activations_mut(*y));
        }
        Work::MaskedGrad { rows, dy, mask, g, sums: Some(sums) } => {
            assert_eq!(dy, g, "planned in place");
            let input = norm::Centred { z: at.activations(sums.z), mean: at.read(sums.mean) };
            let partials = at.write(sums.partials);
            let mask = Mask::Output(at.activations(*mask));
            let masked = (at.activations_mut::<E>(*g), mask);
            norm::grad_mask_sums(isa, pool, *rows, masked, input, partials);
        }
        Work::MaskedGrad { dy, mask, g, sums: None, .. } => {
            let (dy, mask) = (source::<E>(at, *dy, *g), at.activations(*mask));
            elementwise::relu_grad(isa, pool, dy, mask, at.activations_mut(*g));
        }
        Work::GradSums { rows, dy, sums } => {
            let input = norm::Centred { z: at.activations(sums.z), mean: at.read(sums.mean) };
            let masked = (at.activations::<E>(*dy), Mask::Open);
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
        Work::NormGradApply { from, dz } => {
            let (input, by) = norm_gradient::<E>(at, *from);
            let masked = (source::<E>(at, from.g, *dz), Mask::Open);
            norm::grad_apply(isa, pool, masked, input, by, at.activations_mut(*dz));
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
fn other_work<E: Element>(machine: Machine<'_>, work: &Work, at: &Operands<'_>) {
    let Machine { isa, pool } = machine;
    match work {
        Work::Normalize { x, y, scale, shift } => {
            let x = at.read_bytes(*x);
            let y = at.activations_mut::<E>(*y);
            input::normalise_pixels(isa, pool, x, (scale, shift), y);
        }
        Work::BiasGrad { rows, dy, partials, db } => {
            let partials = at.write(*partials);
            let dy = at.activations::<E>(*dy);
            bias::bias_grad(isa, pool, *rows, dy, partials, at.write(*db));
        }
        Work::ChannelScale { dims: [_, h, w, c], x, s, y } => {
            let (x, s) = (Source::From(at.activations::<E>(*x)), at.read(*s));
            channel_scale::channel_scale(isa, pool, (h * w, *c), x, s, at.activations_mut(*y));
        }
        Work::ChannelScaleGrad { dims: [_, h, w, c], dy, x, ds } => {
            let factors = (at.activations::<E>(*x), at.activations(*dy));
            channel_scale::channel_scale_grad(isa, pool, (h * w, *c), factors, at.write(*ds));
        }
        Work::MaxPool { windows, x, y, index } => {
            let index = &mut at.write_bytes(*index)[..windows.output_len()];
            let (x, y) = (at.activations::<E>(*x), at.activations_mut(*y));
            max_pool::max_pool(isa, pool, *windows, x, y, index);
        }
        Work::MaxPoolGrad { windows, dy, index, dx } => {
            let index = &at.read_bytes(*index)[..windows.output_len()];
            let dy = (at.activations::<E>(*dy), index);
            max_pool::max_pool_grad(isa, pool, *windows, dy, at.activations_mut(*dx));
        }
        Work::AvgPool { windows, x, y } => {
            let (x, y) = (at.activations::<E>(*x), at.activations_mut(*y));
            average_pool::average_pool(isa, pool, *windows, x, y);
        }
        Work::AvgPoolGrad { windows, dy, dx } => {
            let (dy, dx) = (at.activations::<E>(*dy), at.activations_mut(*dx));
            average_pool::average_pool_grad(isa, pool, *windows, dy, dx);
        }
        Work::GlobalAvgPool { dims: [_, h, w, c], x, y } => {
            let (x, y) = (at.activations::<E>(*x), at.write(*y));
            global_pool::global_average_pool(isa, pool, (h * w, *c), x, y);
        }
        Work::GlobalAvgPoolGrad { dims: [_, h, w, c], dy, dx } => {
            let (dy, dx) = (at.read(*dy), at.activations_mut::<E>(*dx));
            global_pool::global_average_pool_grad(isa, pool, (h * w, *c), dy, dx);
        }
        Work::SubsamplePad { dims: [_, h, w, c], shortcut, x, y } => {
            let (x, y) = (at.activations::<E>(*x), at.activations_mut(*y));
            subsample::subsample_pad(pool, *shortcut, [*h, *w, *c], x, y);
        }
        Work::SubsamplePadGrad { dims: [_, h, w, c], shortcut, dy, dx } => {
            let (dy, dx) = (at.activations::<E>(*dy), at.activations_mut(*dx));
            subsample::subsample_pad_grad(pool, *shortcut, [*h, *w, *c], dy, dx);
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
            let x = source::<E>(at, *x, *y);
            channel_scale::picture_scale(isa, pool, x, keep, at.activations_mut(*y));
        }
        Work::StochasticDepthGrad { samples, dy, keep, dx } => {
            let (dy, keep) = (source::<E>(at, *dy, *dx), &at.read(*keep)[..*samples]);
            channel_scale::picture_scale(isa, pool, dy, keep, at.activations_mut(*dx));
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
