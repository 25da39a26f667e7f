//! Where the time of a step goes: each step of its plan, and sums by kind of work.

use resnet_cpu::plan::Plan;
use serde::Serialize;

use super::timed::{MIN_STEPS, Timed};
use super::{BenchError, BenchOptions, BenchReport, Turns, report};

/// One step of the plan.
#[derive(Clone, Debug, Serialize)]
pub struct LayerTime {
    /// The layer that it belongs to; `.dx` and `.dw` are its gradients.
    pub layer: String,
    /// What it does.
    pub work: &'static str,
    /// What its kernel does besides.
    pub fused: String,
    /// Mean of the middle half of the runs.
    pub seconds: f64,
    /// Share of the sum over all steps.
    pub time_fraction: f64,
    /// Multiply-adds by direct arithmetic.
    pub macs: u64,
    /// Bytes that it must move: operands, each once.
    pub bytes: u64,
    /// Arithmetic rate, direct convolution counted (2 for a multiply-add).
    pub gflops: f64,
    /// Share of the measured peak.
    pub peak_fraction: f64,
    /// Rate at which operands move.
    pub bytes_per_second: f64,
}

/// All steps of one kind of work.
#[derive(Clone, Debug, Serialize)]
pub struct WorkTime {
    /// What they do.
    pub work: &'static str,
    /// How many there are.
    pub steps: usize,
    /// Sum of their seconds.
    pub seconds: f64,
    /// Share of the sum over all steps.
    pub time_fraction: f64,
    /// Arithmetic rate.
    pub gflops: f64,
    /// Share of the measured peak.
    pub peak_fraction: f64,
    /// Rate at which operands move.
    pub bytes_per_second: f64,
}

/// A step of a network, taken apart.
#[derive(Clone, Debug)]
pub struct LayersReport {
    /// Steps in the plan's order; in training the update's follow.
    pub layers: Vec<LayerTime>,
    /// Sums by kind of work, the longest first.
    pub works: Vec<WorkTime>,
    /// The whole.
    pub total: BenchReport,
    /// The peak that shares are of, in GFLOP/s, as for the [whole](BenchReport::peak_fraction).
    pub peak_gflops: f64,
}

/// Times each step of a network's plan, after the same checks as [`bench()`](super::bench()).
///
/// # Errors
/// As [`bench()`](super::bench()).
pub fn layers(options: &BenchOptions) -> Result<LayersReport, BenchError> {
    let Turns { options, mut timed, deviation, peak } = Turns::new(options)?;
    let mut runs: Vec<Vec<f64>> = Vec::new();
    let seconds = timed.measure(options.seconds, MIN_STEPS, |timed| {
        runs.push(timed.run_timed()?);
        Ok(())
    })?;
    let peak = peak.max(options.peak());
    let layers = take_apart(&timed, &middle_half(runs), peak);
    let works = sum_by_work(&layers, peak);
    let total = report(&options, &timed, deviation, seconds, peak);
    Ok(LayersReport { layers, works, total, peak_gflops: peak })
}

/// For each step the mean over the runs that took neither long nor short as a whole: they add up to
/// a typical run, which medians of the steps do not, and outliers do not count.
fn middle_half(mut runs: Vec<Vec<f64>>) -> Vec<f64> {
    let whole = |run: &Vec<f64>| run.iter().sum::<f64>();
    runs.sort_by(|a, b| whole(a).total_cmp(&whole(b)));
    let outside = runs.len() / 4;
    let middle = &runs[outside..runs.len() - outside];
    let mean = |step: usize| middle.iter().map(|run| run[step]).sum::<f64>() / middle.len() as f64;
    (0..middle[0].len()).map(mean).collect()
}

fn take_apart(timed: &Timed, means: &[f64], peak: f64) -> Vec<LayerTime> {
    let all: f64 = means.iter().sum();
    let plans = std::iter::once(timed.plan()).chain(timed.update_plan());
    let steps = plans.flat_map(|plan: &Plan| (0..plan.steps.len()).map(move |i| (plan, i)));
    let layer = |((plan, i), &seconds): ((&Plan, usize), &f64)| {
        let step = &plan.steps[i];
        let bytes = plan.moved_bytes(i) as u64;
        let rates = Rates::new(step.macs, bytes, seconds, peak);
        LayerTime {
            layer: step.name.clone(),
            work: step.work.name(),
            fused: step.work.fused(),
            seconds,
            time_fraction: ratio(seconds, all),
            macs: step.macs,
            bytes,
            gflops: rates.gflops,
            peak_fraction: rates.peak_fraction,
            bytes_per_second: rates.bytes_per_second,
        }
    };
    steps.zip(means).map(layer).collect()
}

fn sum_by_work(layers: &[LayerTime], peak: f64) -> Vec<WorkTime> {
    let mut names: Vec<&'static str> = layers.iter().map(|layer| layer.work).collect();
    names.sort_unstable();
    names.dedup();
    let sum = |work: &'static str| {
        let of = || layers.iter().filter(move |layer| layer.work == work);
        let seconds = of().map(|layer| layer.seconds).sum();
        let (macs, bytes) =
            (of().map(|layer| layer.macs).sum(), of().map(|layer| layer.bytes).sum());
        let rates = Rates::new(macs, bytes, seconds, peak);
        WorkTime {
            work,
            steps: of().count(),
            seconds,
            time_fraction: of().map(|layer| layer.time_fraction).sum(),
            gflops: rates.gflops,
            peak_fraction: rates.peak_fraction,
            bytes_per_second: rates.bytes_per_second,
        }
    };
    let mut works: Vec<WorkTime> = names.into_iter().map(sum).collect();
    works.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    works
}

struct Rates {
    gflops: f64,
    peak_fraction: f64,
    bytes_per_second: f64,
}

impl Rates {
    fn new(macs: u64, bytes: u64, seconds: f64, peak: f64) -> Rates {
        let gflops = ratio(2e-9 * macs as f64, seconds);
        let bytes_per_second = ratio(bytes as f64, seconds);
        Rates { gflops, peak_fraction: gflops / peak, bytes_per_second }
    }
}

/// A quotient, 0 where a clock has not moved: JSON has no infinity.
fn ratio(part: f64, whole: f64) -> f64 {
    if 0.0 < whole { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_add_up_to_a_typical_run() {
        let runs = vec![vec![1.0, 2.0], vec![90.0, 2.0], vec![2.0, 1.0], vec![0.1, 0.1]];
        assert_eq!(middle_half(runs), [1.5, 1.5]);
    }

    #[test]
    fn a_single_run_is_typical() {
        assert_eq!(middle_half(vec![vec![1.0, 2.0]]), [1.0, 2.0]);
    }
}
