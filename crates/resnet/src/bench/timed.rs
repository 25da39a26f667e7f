//! A step of a network with its batch, checked against other executors and timed.

use std::time::Instant;

use resnet_core::build::{self, BuildOptions, Mode};
use resnet_core::executor::{Executor, ExecutorError, Input, StepId};
use resnet_core::graph::Graph;
use resnet_core::op::CrossEntropy;
use resnet_core::pass::quantize::range::RangeMethod;
use resnet_core::precision::Precision;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::spec::NetworkSpec;
use resnet_core::step::{self, Decay, SgdOptions, Targets};
use resnet_core::{init, oracle};
use resnet_cpu::Isa;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_cpu::plan::Plan;
use resnet_train::int8::{self, Watched};
use resnet_train::preprocess::Preprocess;

use super::{BenchError, BenchMode, BenchOptions};

/// Largest deviation of logits that rounding explains: f32 through a deep network in training mode,
/// whose batch norms divide by deviations of few values, stays within some 1e-4.
const LIMIT: f64 = 1e-3;
/// On bytes results are the same bits, but where parts of a network stay in f32: a last bit there may
/// round to the next byte, of some 100 that the logits' range has.
const INT8_LIMIT: f64 = 3e-2;
/// In bf16 a sum that is off by a last bit may be rounded the other way, by 1/256 of itself; in training
/// mode a deep network makes up to 0.06 of many such.
const BF16_LIMIT: f64 = 0.2;
/// Seconds of steps before any is timed.
const WARM_UP_SECONDS: f64 = 1.0;
/// Side of the picture for the comparison with the reference executor.
const SMALL_SIDE: usize = 64;
/// Timed steps, at least.
pub(super) const MIN_STEPS: usize = 5;
/// Learning rate and momentum.
const HYPER: Input<'static> = Input::F32(&[1e-3, 0.9]);

/// The options with weights on bytes where that is asked for: fresh ones, calibrated on the batch's
/// first picture, are as good for time as any.
pub(super) fn resolved(options: &BenchOptions) -> Result<BenchOptions, BenchError> {
    let mut resolved = options.clone();
    if resolved.weights.as_ref().is_some_and(|model| model.int8.is_some()) {
        resolved.precision = Precision::Int8;
    }
    let is_there = resolved.weights.as_ref().is_some_and(|model| model.int8.is_some());
    if resolved.precision != Precision::Int8 || is_there {
        return Ok(resolved);
    }
    let model = match resolved.weights.take() {
        Some(model) => model,
        None => {
            let BuildOptions { mean, std, .. } = build_options(options, 1, Mode::Evaluation);
            let preprocess = Preprocess { mean, std, ..Preprocess::of_family(&options.spec) };
            int8::fresh(&options.spec, preprocess)?
        }
    };
    let mut executor = CpuExecutor::new(CpuOptions::new(options.isa, options.threads));
    let mut watched = Watched::new(&mut executor, &model, 1)?;
    watched.add(&mut executor, &pixels(&options.spec, 1))?;
    resolved.weights = Some(watched.quantize(&model, RangeMethod::Largest, 1)?);
    Ok(resolved)
}

/// Made pictures.
fn pixels(spec: &NetworkSpec, batch: usize) -> Vec<u8> {
    oracle::pixels(batch * spec.input.height * spec.input.width * spec.input.channels, 0)
}

/// Sets the state of a graph of the network: that of the weights, or a fresh one.
fn import(
    options: &BenchOptions,
    graph: &Graph,
    executor: &mut dyn Executor,
) -> Result<(), ExecutorError> {
    let Some(model) = &options.weights else {
        let mut fresh = init::initial_state(&options.spec, graph, 0);
        return fresh.try_for_each(|s| executor.import(&s.name, &s.shape, &s.values));
    };
    let mut states = model.states.iter();
    states.try_for_each(|s| executor.import_shared(&s.name, &s.shape, &s.values))
}

/// A step that is ready to be timed, and by how much its logits deviate from the portable engine's.
pub(super) fn checked(options: &BenchOptions) -> Result<(Timed, f64), BenchError> {
    check_against_reference(options)?;
    // One after the other, so that the peak of memory is that of the timed step.
    let expected = first_logits(&mut Timed::new(options, Isa::Portable)?)?;
    let mut timed = Timed::new(options, options.isa)?;
    let found = first_logits(&mut timed)?;
    let deviation = within_limit(options, "the portable engine", &found, &expected)?;
    Ok((timed, deviation))
}

/// A compiled step with its batch.
pub(super) struct Timed {
    executor: CpuExecutor,
    step: StepId,
    update: Option<StepId>,
    pixels: Vec<u8>,
    labels: Vec<u32>,
}

impl Timed {
    pub(super) fn new(options: &BenchOptions, isa: Isa) -> Result<Timed, BenchError> {
        let (spec, batch) = (&options.spec, options.batch_size);
        let mut executor = CpuExecutor::new(options.cpu(isa));
        let graph = step_graph(options)?;
        let step = executor.compile(&graph)?;
        let update = match options.mode {
            BenchMode::Infer => None,
            BenchMode::Train => {
                let sgd = SgdOptions {
                    weight_decay: 1e-4,
                    decay: Decay::All,
                    nesterov: false,
                    clip_norm: None,
                };
                Some(executor.compile(&step::update_graph(&graph, &sgd)?)?)
            }
        };
        import(options, &graph, &mut executor)?;
        let pixels = pixels(spec, batch);
        let labels = oracle::labels(batch, spec.classes, 0);
        Ok(Timed { executor, step, update, pixels, labels })
    }

    /// The plan of the forward pass and the gradients.
    pub(super) fn plan(&self) -> &Plan {
        self.executor.plan(self.step)
    }

    /// The plan of the update, in training.
    pub(super) fn update_plan(&self) -> Option<&Plan> {
        self.update.map(|update| self.executor.plan(update))
    }

    /// One step.
    pub(super) fn run(&mut self) -> Result<(), ExecutorError> {
        let inputs = [Input::U8(&self.pixels), Input::U32(&self.labels)];
        match self.update {
            None => self.executor.run(self.step, &inputs[..1]),
            Some(update) => {
                self.executor.run(self.step, &inputs)?;
                self.executor.run(update, &[HYPER])
            }
        }
    }

    /// One step, and the seconds of each step of its plans: the gradients', then the update's.
    pub(super) fn run_timed(&mut self) -> Result<Vec<f64>, ExecutorError> {
        let inputs = [Input::U8(&self.pixels), Input::U32(&self.labels)];
        match self.update {
            None => self.executor.run_timed(self.step, &inputs[..1]),
            Some(update) => {
                let mut seconds = self.executor.run_timed(self.step, &inputs)?;
                seconds.extend(self.executor.run_timed(update, &[HYPER])?);
                Ok(seconds)
            }
        }
    }

    /// Steps that do not count, until caches, threads and clocks are in their stride.
    pub(super) fn warm_up(&mut self) -> Result<(), ExecutorError> {
        let start = Instant::now();
        let mut steps = 0;
        while steps < 3 || start.elapsed().as_secs_f64() < WARM_UP_SECONDS {
            self.run()?;
            steps += 1;
        }
        Ok(())
    }

    /// Seconds of each run of a step, in order: `seconds` in all and `least` steps, or more.
    pub(super) fn measure(
        &mut self,
        seconds: f64,
        least: usize,
        mut run: impl FnMut(&mut Timed) -> Result<(), ExecutorError>,
    ) -> Result<Vec<f64>, ExecutorError> {
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < least || start.elapsed().as_secs_f64() < seconds {
            let step = Instant::now();
            run(self)?;
            times.push(step.elapsed().as_secs_f64());
        }
        Ok(times)
    }
}

pub(super) fn step_graph(options: &BenchOptions) -> Result<Graph, BenchError> {
    let (spec, batch) = (&options.spec, options.batch_size);
    match options.mode {
        BenchMode::Infer => inference_graph(options, spec, batch),
        BenchMode::Train => {
            let loss = CrossEntropy { label_smoothing: 0.0, divisor: batch };
            let options = build_options(options, batch, Mode::Training);
            Ok(step::gradient_graph(spec, &options, Targets::Classes, loss)?)
        }
    }
}

/// The forward graph of the network with pictures of the size in `spec`.
fn inference_graph(
    options: &BenchOptions,
    spec: &NetworkSpec,
    batch: usize,
) -> Result<Graph, BenchError> {
    let mut build = build_options(options, batch, Mode::Evaluation);
    if let Some(model) = &options.weights {
        (build.mean, build.std) = (model.preprocess.mean.clone(), model.preprocess.std.clone());
        if let Some(int8) = &model.int8 {
            return Ok(int8::int8_graph(spec, &build, &int8.quantization.activations)?.graph);
        }
    }
    Ok(build::forward(spec, &build)?)
}

/// ImageNet's mean and deviation, or the middle for other numbers of channels.
fn build_options(options: &BenchOptions, batch: usize, mode: Mode) -> BuildOptions {
    let (channels, stored) = (options.spec.input.channels, options.precision.stored());
    let mut build = BuildOptions { stored, ..BuildOptions::imagenet(batch, mode) };
    if channels != build.mean.len() {
        (build.mean, build.std) = (vec![0.5; channels], vec![0.25; channels]);
    }
    build
}

/// The logits of one step from the initial state.
fn first_logits(timed: &mut Timed) -> Result<Vec<f32>, ExecutorError> {
    timed.run()?;
    timed.executor.output(timed.step, "logits")
}

/// An evaluation of one small picture on the reference executor.
fn check_against_reference(options: &BenchOptions) -> Result<f64, BenchError> {
    let mut spec = options.spec.clone();
    spec.input.height = spec.input.height.min(SMALL_SIDE);
    spec.input.width = spec.input.width.min(SMALL_SIDE);
    let graph = inference_graph(options, &spec, 1)?;
    let pixels = pixels(&spec, 1);
    let mut executor = CpuExecutor::new(options.cpu(options.isa));
    let found = logits(&mut executor, options, &graph, &pixels)?;
    let expected = logits(&mut ReferenceExecutor::<f32>::new(), options, &graph, &pixels)?;
    within_limit(options, "the reference executor", &found, &expected)
}

fn logits(
    executor: &mut dyn Executor,
    options: &BenchOptions,
    graph: &Graph,
    pixels: &[u8],
) -> Result<Vec<f32>, ExecutorError> {
    let step = executor.compile(graph)?;
    import(options, graph, executor)?;
    executor.run(step, &[Input::U8(pixels)])?;
    executor.output(step, "logits")
}

fn within_limit(
    options: &BenchOptions,
    oracle: &'static str,
    found: &[f32],
    expected: &[f32],
) -> Result<f64, BenchError> {
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |a, x| a.max(x.abs()));
    let far = found.iter().zip(expected).map(|(x, y)| (x - y).abs() / largest);
    // NaN must not pass: `max` would drop it.
    let deviation =
        f64::from(far.fold(0.0_f32, |a, x| if x.is_nan() { f32::INFINITY } else { a.max(x) }));
    let limit = match options.precision {
        Precision::F32 => LIMIT,
        Precision::Bf16 => BF16_LIMIT,
        Precision::Int8 => INT8_LIMIT,
    };
    if deviation <= limit {
        return Ok(deviation);
    }
    Err(BenchError::WrongOutput { model: options.spec.name.clone(), oracle, deviation, limit })
}
