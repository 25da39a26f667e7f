//! Whether the planner chose well: every convolution of a network against all other ways to do it.

use std::collections::HashMap;
use std::time::Instant;

use resnet_core::executor::Executor;
use resnet_cpu::candidates::{Candidate, Purpose, WeightsFrom, Workbench, candidates};
use resnet_cpu::executor::CpuExecutor;
use resnet_cpu::kernel::conv::{ConvPlan, ConvShape, Cut, Direction, Tiles};
use resnet_cpu::machine;
use resnet_cpu::plan::{Plan, Work};
use serde::Serialize;

use super::timed::step_graph;
use super::{BenchError, BenchMode, BenchOptions, median};

/// Rounds over all convolutions; a choice is wrong only if it loses in each.
const ROUNDS: usize = 3;
/// Samples of a candidate in a round, at least and at most.
const SAMPLES: (usize, usize) = (5, 50);
/// What a choice may lose without being wrong, however quiet the machine.
const LEAST_TOLERANCE: f64 = 0.05;
/// What it may lose in units of the noise.
const NOISE_TOLERANCE: f64 = 3.0;
/// Seconds that no choice is wrong by: what starting a job on all threads may cost.
const LEAST_LOSS_SECONDS: f64 = 5e-6;
/// From the median absolute deviation to the deviation of a normal distribution.
const MAD_TO_SIGMA: f64 = 1.4826;

/// The geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the field's words: sizes of the input, the output and the kernel")]
pub struct Geometry {
    pub n: usize,
    pub ih: usize,
    pub iw: usize,
    pub cin: usize,
    pub oh: usize,
    pub ow: usize,
    pub cout: usize,
    pub kh: usize,
    pub kw: usize,
    pub stride: usize,
    pub pad: usize,
    pub dilation: usize,
    pub groups: usize,
}

/// One way to compute a convolution, timed.
#[derive(Clone, Debug, Serialize)]
pub struct CandidateTime {
    /// `direct`, `F(2x2)` or `F(4x4)`.
    pub algorithm: &'static str,
    /// How its work is cut, against the planner's way.
    pub cut: &'static str,
    /// Whether it is what the planner chose.
    pub chosen: bool,
    /// Median of the rounds' medians.
    pub seconds: f64,
    /// Arithmetic rate, direct convolution counted (2 for a multiply-add).
    pub gflops: f64,
    /// Share of the measured FMA peak.
    pub peak_fraction: f64,
    /// Deviation of a sample from its round's median.
    pub noise: f64,
}

/// A convolution in one direction, done in every way.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The first layer of this geometry.
    pub layer: String,
    /// Layers of this geometry.
    pub layers: usize,
    /// `conv`, `conv dx` or `conv dw`.
    pub work: &'static str,
    /// Sizes.
    pub geometry: Geometry,
    /// The algorithm that the planner chose.
    pub chosen: &'static str,
    /// The candidates' times, the chosen one first.
    pub candidates: Vec<CandidateTime>,
    /// What they come to.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How a choice stands against its best rival.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// The fastest of the others, by its place among the candidates; the choice's own if it is alone.
    pub best_other: usize,
    /// By how much the choice is slower than that, as a fraction; negative if it is faster.
    pub slower: f64,
    /// The larger of the two candidates' noise.
    pub noise: f64,
    /// What the choice may lose.
    pub tolerance: f64,
    /// Whether it loses more than that in every round.
    pub wrong: bool,
}

/// What was compared, and with what.
#[derive(Clone, Debug, Serialize)]
pub struct KernelsReport {
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
    /// Where weights were before each run, as in a network of this size: `own caches`, `last cache` or `memory`.
    pub weights_from: &'static str,
    /// Rounds.
    pub rounds: usize,
    /// Samples of a candidate in each.
    pub samples: usize,
    /// The FMA peak that shares are of.
    pub peak_gflops: f64,
    /// Choices that are wrong.
    pub wrong: usize,
    /// Every geometry and direction, in the plan's order.
    #[serde(skip)]
    pub comparisons: Vec<Comparison>,
}

/// Times every candidate of every distinct convolution of a network, in the directions that its mode
/// has.
///
/// # Errors
/// If the network cannot run.
pub fn kernels(options: &BenchOptions) -> Result<KernelsReport, BenchError> {
    let BenchOptions { isa, threads, exact, .. } = *options;
    let mut executor = CpuExecutor::new(options.cpu(isa));
    let step = executor.compile(&step_graph(options)?)?;
    let plan = executor.plan(step);
    let purpose = match (exact, options.mode) {
        (true, _) => Purpose::Exact,
        (false, BenchMode::Train) => Purpose::Training,
        (false, BenchMode::Infer) => Purpose::Inference,
    };
    let mut trials = distinct(plan, purpose);
    let weights_from = WeightsFrom::network_of(bytes(plan), threads);
    drop(executor);
    let mut bench = Workbench::new(threads, purpose, weights_from);
    let before = machine::fma_peak(isa, threads);
    let samples = samples_for(options.seconds, &trials, &mut bench);
    for _ in 0..ROUNDS {
        trials.iter_mut().for_each(|trial| trial.round(&mut bench, samples));
    }
    let peak = before.max(machine::fma_peak(isa, threads));
    let comparisons: Vec<Comparison> =
        trials.into_iter().map(|trial| trial.compare(peak)).collect();
    Ok(KernelsReport {
        model: options.spec.name.clone(),
        mode: options.mode,
        batch_size: options.batch_size,
        precision: "f32",
        threads,
        isa: isa.name(),
        weights_from: match weights_from {
            WeightsFrom::OwnCaches => "own caches",
            WeightsFrom::LastCache => "last cache",
            WeightsFrom::Memory => "memory",
        },
        rounds: ROUNDS,
        samples,
        peak_gflops: peak,
        wrong: comparisons.iter().filter(|comparison| comparison.verdict.wrong).count(),
        comparisons,
    })
}

/// Bytes that a step touches.
fn bytes(plan: &Plan) -> usize {
    let state = |shape: &[usize]| 4 * shape.iter().product::<usize>();
    plan.arena_bytes + plan.states.iter().map(|used| state(&used.shape)).sum::<usize>()
}

/// A convolution in one direction with its candidates and what they took.
struct Trial {
    layer: String,
    layers: usize,
    direction: Direction,
    candidates: Vec<Candidate>,
    /// `[candidate][round][sample]`.
    seconds: Vec<Vec<Vec<f64>>>,
}

/// The convolutions of a plan that differ in geometry, direction or algorithm.
fn distinct(plan: &Plan, purpose: Purpose) -> Vec<Trial> {
    let mut trials: Vec<Trial> = Vec::new();
    let mut known: HashMap<(ConvShape, Direction), usize> = HashMap::new();
    for step in &plan.steps {
        let (chosen, direction): (&ConvPlan, Direction) = match &step.work {
            Work::Conv { plan, .. } => (plan, Direction::Forward),
            Work::ConvInputGrad { plan, .. } => (plan, Direction::InputGrad),
            Work::ConvWeightGrad { plan, .. } => (plan, Direction::WeightGrad),
            _ => continue,
        };
        let at = *known.entry((*chosen.shape(), direction)).or_insert_with(|| {
            let candidates = candidates(chosen, direction, purpose);
            trials.push(Trial {
                layer: step.name.clone(),
                layers: 0,
                direction,
                seconds: vec![Vec::new(); candidates.len()],
                candidates,
            });
            trials.len() - 1
        });
        trials[at].layers += 1;
    }
    trials
}

/// As many samples of each candidate as fit the time. The run that finds out makes the operands,
/// and does not count.
fn samples_for(seconds: f64, trials: &[Trial], bench: &mut Workbench) -> usize {
    let start = Instant::now();
    for trial in trials {
        for candidate in &trial.candidates {
            bench.seconds(&candidate.plan, trial.direction);
        }
    }
    let once = start.elapsed().as_secs_f64().max(1e-6);
    let fit = seconds / (ROUNDS as f64 * once);
    (fit as usize).clamp(SAMPLES.0, SAMPLES.1)
}

impl Trial {
    /// Candidates take turns, so that what else the machine does meets all alike.
    fn round(&mut self, bench: &mut Workbench, samples: usize) {
        for seconds in &mut self.seconds {
            seconds.push(Vec::with_capacity(samples));
        }
        for _ in 0..samples {
            for (candidate, seconds) in self.candidates.iter().zip(&mut self.seconds) {
                let took = bench.seconds(&candidate.plan, self.direction);
                seconds.last_mut().expect("a round was just begun").push(took);
            }
        }
    }

    fn compare(self, peak: f64) -> Comparison {
        let shape = *self.candidates[0].plan.shape();
        let verdict = judge(&self.seconds);
        let time = |(i, (candidate, rounds)): (usize, (&Candidate, &Vec<Vec<f64>>))| {
            let seconds = typical(rounds);
            let gflops = 2e-9 * shape.macs() as f64 / seconds;
            CandidateTime {
                algorithm: algorithm(candidate.tiles),
                cut: cut(candidate.cut),
                chosen: i == 0,
                seconds,
                gflops,
                peak_fraction: gflops / peak,
                noise: noise(rounds),
            }
        };
        let times = self.candidates.iter().zip(&self.seconds).enumerate().map(time);
        Comparison {
            layer: self.layer,
            layers: self.layers,
            work: match self.direction {
                Direction::Forward => "conv",
                Direction::InputGrad => "conv dx",
                Direction::WeightGrad => "conv dw",
            },
            geometry: geometry(&shape),
            chosen: algorithm(self.candidates[0].tiles),
            candidates: times.collect(),
            verdict,
        }
    }
}

fn algorithm(tiles: Option<Tiles>) -> &'static str {
    match tiles {
        None => "direct",
        Some(Tiles::Two) => "F(2x2)",
        Some(Tiles::Three) => "F(3x3)",
        Some(Tiles::Four) => "F(4x4)",
    }
}

fn cut(cut: Cut) -> &'static str {
    match cut {
        Cut::Planned => "planned",
        Cut::HalfBlocks => "half blocks",
        Cut::DoubleBlocks => "double blocks",
        Cut::HalfParts => "half parts",
        Cut::DoubleParts => "double parts",
    }
}

fn geometry(shape: &ConvShape) -> Geometry {
    let ConvShape { n, ih, iw, cin, oh, ow, cout, kh, kw, stride, pad, dilation, groups } = *shape;
    Geometry { n, ih, iw, cin, oh, ow, cout, kh, kw, stride, pad, dilation, groups }
}

/// Median of the rounds' medians.
fn typical(rounds: &[Vec<f64>]) -> f64 {
    median(rounds.iter().cloned().map(median).collect())
}

/// Deviation of a sample from the median of its round, as a fraction; outliers do not count.
fn noise(rounds: &[Vec<f64>]) -> f64 {
    let deviations = rounds.iter().flat_map(|round| {
        let middle = median(round.clone());
        round.iter().map(move |seconds| (seconds / middle - 1.0).abs())
    });
    MAD_TO_SIGMA * median(deviations.collect())
}

/// Judges the choice, the first candidate, by the seconds of all: `[candidate][round][sample]`.
///
/// It is wrong if the fastest of the others beats it in every round, and there are at least three,
/// by more than 5 %, three times the noise and a few microseconds.
pub fn judge(seconds: &[Vec<Vec<f64>>]) -> Verdict {
    let times: Vec<f64> = seconds.iter().map(|rounds| typical(rounds)).collect();
    let best_other = (1..times.len()).min_by(|&a, &b| times[a].total_cmp(&times[b])).unwrap_or(0);
    let noise = noise(&seconds[0]).max(noise(&seconds[best_other]));
    let tolerance = LEAST_TOLERANCE.max(NOISE_TOLERANCE * noise);
    let slower = |chosen: f64, other: f64| chosen / other - 1.0;
    let mut rounds = seconds[0].iter().zip(&seconds[best_other]);
    let loses = rounds.all(|(chosen, other)| {
        let (chosen, other) = (median(chosen.clone()), median(other.clone()));
        tolerance < slower(chosen, other) && LEAST_LOSS_SECONDS < chosen - other
    });
    Verdict {
        best_other,
        slower: slower(times[0], times[best_other]),
        noise,
        tolerance,
        wrong: loses && ROUNDS <= seconds[0].len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three rounds of five samples around each number, which scatter by the fraction `noise`.
    fn candidate(rounds: [f64; 3], noise: f64) -> Vec<Vec<f64>> {
        let round = |middle: f64| [-2.0, -1.0, 0.0, 1.0, 2.0].map(|k| middle * (1.0 + k * noise));
        rounds.map(|middle| round(middle).to_vec()).to_vec()
    }

    fn steady(seconds: f64) -> Vec<Vec<f64>> {
        candidate([seconds; 3], 0.0)
    }

    #[test]
    fn a_choice_that_loses_in_every_round_is_wrong() {
        let verdict = judge(&[steady(1.2), steady(1.5), steady(1.0)]);
        assert_eq!((verdict.best_other, verdict.wrong), (2, true));
        assert!((verdict.slower - 0.2).abs() < 1e-9, "{verdict:?}");
    }

    #[test]
    fn a_choice_that_loses_in_two_rounds_of_three_is_not_wrong() {
        let verdict = judge(&[candidate([1.2, 1.2, 1.0], 0.0), steady(1.0)]);
        assert!(!verdict.wrong && 0.1 < verdict.slower, "{verdict:?}");
    }

    #[test]
    fn five_per_cent_are_within_tolerance() {
        assert!(!judge(&[steady(1.049), steady(1.0)]).wrong);
        assert!(judge(&[steady(1.051), steady(1.0)]).wrong);
    }

    #[test]
    fn noise_widens_the_tolerance() {
        let noisy = candidate([1.2; 3], 0.05);
        let verdict = judge(&[noisy, steady(1.0)]);
        assert!(!verdict.wrong && 0.2 < verdict.tolerance, "{verdict:?}");
    }

    #[test]
    fn one_outlier_is_no_noise() {
        let mut disturbed = steady(1.2);
        disturbed[1][3] = 40.0;
        let verdict = judge(&[disturbed, steady(1.0)]);
        assert!(verdict.wrong && verdict.noise == 0.0, "{verdict:?}");
    }

    #[test]
    fn the_fastest_choice_is_right_and_its_lead_is_told() {
        let verdict = judge(&[steady(1.0), steady(1.25)]);
        assert!(!verdict.wrong && (verdict.slower + 0.2).abs() < 1e-9, "{verdict:?}");
    }

    #[test]
    fn a_choice_without_rivals_is_right() {
        let verdict = judge(&[steady(1.0)]);
        assert_eq!((verdict.best_other, verdict.slower, verdict.wrong), (0, 0.0, false));
    }

    #[test]
    fn a_loss_of_microseconds_is_that_of_starting_a_job() {
        assert!(!judge(&[steady(6e-6), steady(2e-6)]).wrong);
        assert!(judge(&[steady(18e-6), steady(6e-6)]).wrong);
    }

    #[test]
    fn two_rounds_prove_nothing() {
        let mut rounds = [steady(2.0), steady(1.0)];
        rounds.iter_mut().for_each(|rounds| rounds.truncate(2));
        assert!(!judge(&rounds).wrong);
    }
}
