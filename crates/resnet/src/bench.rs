//! Timing a network: what it reaches, after its outputs have been checked; as a whole, layer by
//! layer, against the machine's limits, and its kernels against each other.

pub mod data;
pub mod kernels;
pub mod layers;
pub mod roofline;
mod timed;

use resnet_core::executor::{Executor, ExecutorError};
use resnet_core::graph::GraphError;
use resnet_core::precision::Precision;
use resnet_core::spec::NetworkSpec;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_cpu::{Isa, machine};
use resnet_train::TrainError;
use resnet_train::model::Model;
use serde::Serialize;
use thiserror::Error;

use self::timed::{MIN_STEPS, Timed, step_graph};

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
    /// Weights of that network; none: fresh ones.
    pub weights: Option<Model>,
    /// Element type of the arithmetic; weights on bytes decide it.
    pub precision: Precision,
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
    /// Drops in training what is cheap to make again.
    pub recompute: bool,
    /// Seconds of timed steps, at least.
    pub seconds: f64,
}

impl BenchOptions {
    /// How the executor computes.
    fn cpu(&self, isa: Isa) -> CpuOptions {
        let BenchOptions { threads, exact, recompute, .. } = *self;
        CpuOptions { exact, recompute, ..CpuOptions::new(isa, threads) }
    }

    /// What shares of the peak are of: products of bytes in int8, else of f32, in which most machines compute
    /// with bf16 too.
    fn peak_precision(&self) -> Precision {
        match self.precision {
            Precision::Int8 => Precision::Int8,
            Precision::F32 | Precision::Bf16 => Precision::F32,
        }
    }

    /// The peak that shares are of, in GFLOP/s.
    fn peak(&self) -> f64 {
        let peak = roofline::peak(self.isa, self.peak_precision(), self.threads);
        peak.expect("all machines multiply f32 and bytes").gflops
    }
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
    /// Share of the peak that was measured just before and after, with the same threads: of products of bytes
    /// in int8, else of multiply-adds in f32.
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
    /// The weights do not fit, or cannot be quantised.
    #[error(transparent)]
    Model(#[from] TrainError),
    /// The engine cannot run it.
    #[error(transparent)]
    Executor(#[from] ExecutorError),
    /// The fast engine computes something else.
    #[error(
        "{model}: logits deviate from {oracle} by {deviation:.1e} of the largest, at most {limit:.0e} is right"
    )]
    WrongOutput {
        /// The network's name.
        model: String,
        /// What they were compared with.
        oracle: &'static str,
        /// By how much, relative to the largest logit.
        deviation: f64,
        /// How much is right.
        limit: f64,
    },
}

/// Times a network, after its outputs have been compared with the portable engine's on the same
/// batch, and with the reference's on a small picture.
///
/// # Errors
/// If the network cannot run, or computes something else than it should.
pub fn bench(options: &BenchOptions) -> Result<BenchReport, BenchError> {
    let Turns { options, mut timed, deviation, peak } = Turns::new(options)?;
    let seconds = timed.measure(options.seconds, MIN_STEPS, Timed::run)?;
    let peak = peak.max(options.peak());
    Ok(report(&options, &timed, deviation, seconds, peak))
}

/// A network that is timed a little now and again, in turns with others.
pub struct Turns {
    options: BenchOptions,
    timed: Timed,
    deviation: f64,
    /// GFLOP/s of multiply-adds.
    peak: f64,
}

impl Turns {
    /// Compares the outputs as [`bench()`] does, and warms up.
    ///
    /// # Errors
    /// If the network cannot run, or computes something else than it should.
    pub fn new(options: &BenchOptions) -> Result<Turns, BenchError> {
        let options = timed::resolved(options)?;
        let (mut timed, deviation) = timed::checked(&options)?;
        let peak = options.peak();
        timed.warm_up()?;
        Ok(Turns { options, timed, deviation, peak })
    }

    /// Makes a step that does not count, since others have used the caches, then at least one that
    /// does, for the seconds of the options or longer.
    ///
    /// # Errors
    /// If the executor cannot run.
    pub fn turn(&mut self) -> Result<BenchReport, BenchError> {
        self.timed.run()?;
        let seconds = self.timed.measure(self.options.seconds, 1, Timed::run)?;
        Ok(report(&self.options, &self.timed, self.deviation, seconds, self.peak))
    }
}

/// The plan of the step that [`bench()`] would time, as a table.
///
/// # Errors
/// If the network cannot run.
pub fn plan(options: &BenchOptions) -> Result<String, BenchError> {
    let options = &timed::resolved(options)?;
    let mut executor = CpuExecutor::new(options.cpu(options.isa));
    let step = executor.compile(&step_graph(options)?)?;
    Ok(executor.plan(step).to_string())
}

/// What the seconds of the steps, in any order, and a peak in GFLOP/s come to.
fn report(
    options: &BenchOptions,
    timed: &Timed,
    deviation: f64,
    mut seconds: Vec<f64>,
    peak: f64,
) -> BenchReport {
    seconds.sort_by(f64::total_cmp);
    let at = |share: f64| seconds[((seconds.len() - 1) as f64 * share).round() as usize];
    let gflops = 2e-9 * timed.plan().macs() as f64 / at(0.5);
    BenchReport {
        model: options.spec.name.clone(),
        mode: options.mode,
        batch_size: options.batch_size,
        precision: options.precision.name(),
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
        plan: format!("{:016x}", timed.plan().hash()),
        deviation,
    }
}

/// The middle of some numbers, the lower of two.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}
