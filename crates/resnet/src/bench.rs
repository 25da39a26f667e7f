//! Timing a network: what it reaches, after its outputs have been checked.

use std::time::Instant;

use resnet_core::build::{self, BuildOptions, Mode};
use resnet_core::executor::{Executor, ExecutorError, Input, StepId};
use resnet_core::graph::{Graph, GraphError};
use resnet_core::op::CrossEntropy;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::spec::NetworkSpec;
use resnet_core::step::{self, Decay, SgdOptions, Targets};
use resnet_core::{init, oracle};
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_cpu::{Isa, machine};
use serde::Serialize;
use thiserror::Error;

/// What a timed step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BenchMode {
    /// From u8 pixels through loss and all gradients to updated parameters.
    Train,
    /// From u8 pixels to logits.
    Infer,
}

/// What to time.
#[derive(Clone, Debug)]
pub struct BenchOptions {
    /// The network.
    pub spec: NetworkSpec,
    /// Training or inference.
    pub mode: BenchMode,
    /// Pictures a step.
    pub batch_size: usize,
    /// Instruction set.
    pub isa: Isa,
    /// Computing threads.
    pub threads: usize,
    /// Leaves Winograd's tiles out.
    pub exact: bool,
    /// Seconds of timed steps, at least.
    pub seconds: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct BenchReport {
    /// The network's name.
    pub model: String,
    /// Training or inference.
    pub mode: BenchMode,
    /// Pictures a step.
    pub batch_size: usize,
    /// Element type of the arithmetic.
    pub precision: &'static str,
    /// Computing threads.
    pub threads: usize,
    /// Instruction set.
    pub isa: &'static str,
    /// Batch size over the median step.
    pub images_per_second: f64,
    /// Arithmetic rate, direct convolution counted (2 for a multiply-add).
    pub gflops: f64,
    /// Share of the FMA peak that was measured just before, with the same threads.
    pub peak_fraction: f64,
    /// Largest resident size of the process so far, if the system tells.
    pub peak_memory_bytes: Option<u64>,
    /// Fast tenth of the steps.
    pub seconds_p10: f64,
    /// Median step.
    pub seconds_p50: f64,
    /// Slow tenth of the steps.
    pub seconds_p90: f64,
    /// Timed steps.
    pub steps: usize,
    /// Which plan was timed, as hexadecimal text.
    pub plan: String,
    /// Largest deviation of the logits from the portable engine's, relative to the largest logit.
    pub deviation: f64,
}

/// Why nothing was timed.
#[derive(Debug, Error)]
pub enum BenchError {
    /// The network does not fit its input.
    #[error(transparent)]
    Graph(#[from] GraphError),
    /// The engine cannot run it.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The fast engine computes something else.
    #[error(
        "{model}: logits deviate from {oracle} by {deviation:.1e} of the largest, at most {LIMIT:.0e} is right"
    )]
    WrongOutput {
        /// The network's name.
        model: String,
        /// What they were compared with.
        oracle: &'static str,
        /// By how much, relative to the largest logit.
        deviation: f64,
    },
}

/// Largest deviation of logits that rounding explains: f32 through a deep network in training mode,
/// whose batch norms divide by deviations of few values, stays within some 1e-4.
const LIMIT: f64 = 1e-3;
/// Seconds of steps before any is timed.
const WARM_UP_SECONDS: f64 = 1.0;
/// Side of the picture for the comparison with the reference executor.
const SMALL_SIDE: usize = 64;

/// Times a network, after its outputs have been compared with the portable engine's on the same
/// batch, and with the reference's on a small picture.
///
/// # Errors
/// If the network cannot run, or computes something else than it should.
pub fn bench(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    let peak = machine::fma_peak(options.isa, options.threads);
    check_against_reference(options)?;
    let mut timed = Timed::new(options, options.isa)?;
    let deviation = check_against_portable(options, &mut timed)?;
    let seconds = timed.measure(options.seconds)?;
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
    let gflops = 2e-9 * timed.macs as f64 / at(0.5);
    Ok(BenchReport {
        model: options.spec.name.clone(),
        mode: options.mode,
        batch_size: options.batch_size,
        precision: "f32",
        threads: options.threads,
        isa: options.isa.name(),
        images_per_second: options.batch_size as f64 / at(0.5),
        gflops,
        peak_fraction: gflops / peak,
        peak_memory_bytes: machine::peak_memory_bytes(),
        seconds_p10: at(0.1),
        seconds_p50: at(0.5),
        seconds_p90: at(0.9),
        steps: seconds.len(),
        plan: format!("{:016x}", timed.executor.plan(timed.step).hash()),
        deviation,
    })
}

/// The plan of the step that [`bench()`] would time, as a table.
///
/// # Errors
/// If the network cannot run.
pub fn plan(options: &BenchOptions) -> Result<String, BenchError> {
    let BenchOptions { isa, threads, exact, .. } = *options;
    let mut executor = CpuExecutor::new(CpuOptions { isa, threads, exact, checked: false });
    let step = executor.compile(&step_graph(options)?)?;
    Ok(executor.plan(step).to_string())
}

/// A compiled step with its batch.
struct Timed {
    executor: CpuExecutor,
    step: StepId,
    update: Option<StepId>,
    pixels: Vec<u8>,
    labels: Vec<u32>,
    macs: u64,
}

impl Timed {
    fn new(options: &BenchOptions, isa: Isa) -> Result<Timed, BenchError> {
        let (spec, batch) = (&options.spec, options.batch_size);
        let BenchOptions { threads, exact, .. } = *options;
        let mut executor = CpuExecutor::new(CpuOptions { isa, threads, exact, checked: false });
        let graph = step_graph(options)?;
        let step = executor.compile(&graph)?;
        let macs = executor.plan(step).macs();
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
        for state in init::initial_state(spec, &graph, 0) {
            executor.import(&state.name, &state.shape, &state.values)?;
        }
        let pixels =
            oracle::pixels(batch * spec.input.height * spec.input.width * spec.input.channels, 0);
        let labels = oracle::labels(batch, spec.classes, 0);
        Ok(Timed { executor, step, update, pixels, labels, macs })
    }

    fn run(&mut self) -> Result<(), ExecutorError> {
        let inputs = [Input::U8(&self.pixels), Input::U32(&self.labels)];
        match self.update {
            None => self.executor.run(self.step, &inputs[..1]),
            Some(update) => {
                self.executor.run(self.step, &inputs)?;
                self.executor.run(update, &[Input::F32(&[1e-3, 0.9])])
            }
        }
    }

    /// Seconds of each step, sorted.
    fn measure(&mut self, seconds: f64) -> Result<Vec<f64>, ExecutorError> {
        let warm_up = Instant::now();
        let mut warm_steps = 0;
        while warm_steps < 3 || warm_up.elapsed().as_secs_f64() < WARM_UP_SECONDS {
            self.run()?;
            warm_steps += 1;
        }
        let mut times = Vec::new();
        let start = Instant::now();
        while times.len() < 5 || start.elapsed().as_secs_f64() < seconds {
            let step = Instant::now();
            self.run()?;
            times.push(step.elapsed().as_secs_f64());
        }
        times.sort_by(f64::total_cmp);
        Ok(times)
    }
}

fn step_graph(options: &BenchOptions) -> Result<Graph, GraphError> {
    let (spec, batch) = (&options.spec, options.batch_size);
    match options.mode {
        BenchMode::Infer => build::forward(spec, &build_options(spec, batch, Mode::Evaluation)),
        BenchMode::Train => {
            let loss = CrossEntropy { label_smoothing: 0.0, divisor: batch };
            let options = build_options(spec, batch, Mode::Training);
            step::gradient_graph(spec, &options, Targets::Classes, loss)
        }
    }
}

/// ImageNet's mean and deviation, or the middle for other numbers of channels.
fn build_options(spec: &NetworkSpec, batch: usize, mode: Mode) -> BuildOptions {
    let mut options = BuildOptions::imagenet(batch, mode);
    if spec.input.channels != options.mean.len() {
        options.mean = vec![0.5; spec.input.channels];
        options.std = vec![0.25; spec.input.channels];
    }
    options
}

/// One run of the same step on the portable engine, from the same state.
fn check_against_portable(options: &BenchOptions, timed: &mut Timed) -> Result<f64, BenchError> {
    let mut portable = Timed::new(options, Isa::Portable)?;
    portable.run()?;
    timed.run()?;
    let expected = portable.executor.output(portable.step, "logits")?;
    let found = timed.executor.output(timed.step, "logits")?;
    within_limit(options, "the portable engine", &found, &expected)
}

/// An evaluation of one small picture on the reference executor.
fn check_against_reference(options: &BenchOptions) -> Result<f64, BenchError> {
    let mut spec = options.spec.clone();
    spec.input.height = spec.input.height.min(SMALL_SIDE);
    spec.input.width = spec.input.width.min(SMALL_SIDE);
    let graph = build::forward(&spec, &build_options(&spec, 1, Mode::Evaluation))?;
    let pixels = oracle::pixels(spec.input.height * spec.input.width * spec.input.channels, 0);
    let BenchOptions { isa, threads, exact, .. } = *options;
    let mut executor = CpuExecutor::new(CpuOptions { isa, threads, exact, checked: false });
    let found = logits(&mut executor, &spec, &graph, &pixels)?;
    let expected = logits(&mut ReferenceExecutor::<f32>::new(), &spec, &graph, &pixels)?;
    within_limit(options, "the reference executor", &found, &expected)
}

fn logits(
    executor: &mut dyn Executor,
    spec: &NetworkSpec,
    graph: &Graph,
    pixels: &[u8],
) -> Result<Vec<f32>, ExecutorError> {
    let step = executor.compile(graph)?;
    for state in init::initial_state(spec, graph, 0) {
        executor.import(&state.name, &state.shape, &state.values)?;
    }
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
    if deviation <= LIMIT {
        return Ok(deviation);
    }
    Err(BenchError::WrongOutput { model: options.spec.name.clone(), oracle, deviation })
}
