//! What bounds each layer: arithmetic or memory.
//!
//! A step of `f` operations on `b` bytes takes at least `max(f / peak, b / bandwidth)`: memory binds
//! where the intensity `f / b` is below the ridge `peak / bandwidth`, arithmetic above. Operations
//! are direct convolution's (Winograd may go past that roof), bytes those of memory (a layer whose
//! operands are still in a cache may go past that one).
//!
//! Source: Williams, Waterman and Patterson 2009, "Roofline: an insightful visual performance model
//! for multicore architectures".

use resnet_core::precision::Precision;
use resnet_cpu::Isa;
use resnet_cpu::machine::{self, Machine};
use serde::Serialize;

use super::layers::{LayerTime, LayersReport, layers};
use super::{BenchError, BenchOptions, BenchReport};

/// What the vector units of some threads can do.
#[derive(Clone, Debug, Serialize)]
pub struct Peak {
    /// Instruction set.
    pub isa: &'static str,
    /// What is multiplied; sums are of 32 bits.
    pub precision: &'static str,
    /// Threads.
    pub threads: usize,
    /// Multiply-adds in registers, 2 for each.
    pub gflops: f64,
}

/// What memory can do.
#[derive(Clone, Debug, Serialize)]
pub struct MemorySpeed {
    /// Threads.
    pub threads: usize,
    /// Reads alone.
    pub read_bytes_per_second: f64,
    /// As many reads as writes, both counted.
    pub copy_bytes_per_second: f64,
    /// Two reads to a write, all counted.
    pub triad_bytes_per_second: f64,
}

/// The machine's limits.
#[derive(Clone, Debug, Serialize)]
pub struct MachineSpeed {
    /// The processor's name.
    pub machine: String,
    /// Data caches of a core, from the first level on.
    pub cache_bytes: Vec<u64>,
    /// In f32, as pairs of bf16 and on bytes, for each instruction set that the machine has, with one
    /// and with all threads.
    pub peaks: Vec<Peak>,
    /// With one and with all threads.
    pub memory: Vec<MemorySpeed>,
    /// The roofs over the layers: the peak of the instruction set and threads they ran with,
    pub roof_gflops: f64,
    /// and the most that those threads moved.
    pub roof_bytes_per_second: f64,
    /// Operations a byte from which on arithmetic binds.
    pub ridge_flops_per_byte: f64,
}

/// What a step waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Bound {
    /// The vector units.
    Arithmetic,
    /// Memory.
    Memory,
}

/// A step of the plan under the roof.
#[derive(Clone, Debug, Serialize)]
pub struct RooflineLayer {
    /// How long it took.
    #[serde(flatten)]
    pub time: LayerTime,
    /// Operations for each byte that must move.
    pub flops_per_byte: f64,
    /// What binds it.
    pub bound: Bound,
    /// The least it could take.
    pub roof_seconds: f64,
    /// Which share of its time that is.
    pub roof_fraction: f64,
}

/// The machine, and a network's layers under its roof.
#[derive(Clone, Debug)]
pub struct RooflineReport {
    /// The limits.
    pub machine: MachineSpeed,
    /// Steps in the plan's order.
    pub layers: Vec<RooflineLayer>,
    /// The whole.
    pub total: BenchReport,
}

/// Measures the machine, then each step of a network's plan.
///
/// # Errors
/// As [`bench()`](super::bench()).
pub fn roofline(options: &BenchOptions) -> Result<RooflineReport, BenchError> {
    let mut machine = machine_speed(options);
    let LayersReport { layers, total, peak_gflops, .. } = layers(options)?;
    // The peak beside the layers is the one that they are compared with.
    machine.set_roof(peak_gflops.max(machine.roof_gflops), machine.roof_bytes_per_second);
    let layers = layers.into_iter().map(|time| under_roof(time, &machine)).collect();
    Ok(RooflineReport { machine, layers, total })
}

fn machine_speed(options: &BenchOptions) -> MachineSpeed {
    let BenchOptions { isa, threads, .. } = *options;
    let Machine { brand, cache_bytes, .. } = Machine::detect();
    let counts = if threads == 1 { vec![1] } else { vec![1, threads] };
    let each =
        || Isa::available().into_iter().flat_map(|isa| counts.iter().map(move |&n| (isa, n)));
    let peaks = [Precision::F32, Precision::Bf16, Precision::Int8]
        .into_iter()
        .flat_map(|precision| {
            each().filter_map(move |(isa, threads)| peak(isa, precision, threads))
        })
        .collect::<Vec<_>>();
    let found: Vec<machine::Bandwidth> =
        counts.iter().map(|&threads| machine::bandwidth(isa, threads)).collect();
    let best = found.last().map_or(0.0, machine::Bandwidth::best);
    let memory = found.iter().map(|found| MemorySpeed {
        threads: found.threads,
        read_bytes_per_second: 1e9 * found.read,
        copy_bytes_per_second: 1e9 * found.copy,
        triad_bytes_per_second: 1e9 * found.triad,
    });
    let roof = (isa.name(), options.peak_precision().name(), threads);
    let of_layers = peaks.iter().find(|peak| (peak.isa, peak.precision, peak.threads) == roof);
    let roof_gflops = of_layers.map_or(0.0, |peak| peak.gflops);
    let mut speed = MachineSpeed {
        machine: brand,
        cache_bytes,
        memory: memory.collect(),
        peaks,
        roof_gflops: 0.0,
        roof_bytes_per_second: 0.0,
        ridge_flops_per_byte: 0.0,
    };
    speed.set_roof(roof_gflops, 1e9 * best);
    speed
}

/// Multiply-adds of numbers stored so, where the instruction set has such products.
pub(super) fn peak(isa: Isa, precision: Precision, threads: usize) -> Option<Peak> {
    let gflops = match precision {
        Precision::F32 => machine::fma_peak(isa, threads),
        Precision::Bf16 => machine::bf16_peak(isa, threads)?,
        Precision::Int8 => machine::int8_peak(isa, threads),
    };
    Some(Peak { isa: isa.name(), precision: precision.name(), threads, gflops })
}

impl MachineSpeed {
    fn set_roof(&mut self, gflops: f64, bytes_per_second: f64) {
        (self.roof_gflops, self.roof_bytes_per_second) = (gflops, bytes_per_second);
        self.ridge_flops_per_byte = 1e9 * gflops / bytes_per_second;
    }
}

fn under_roof(time: LayerTime, machine: &MachineSpeed) -> RooflineLayer {
    let flops = 2.0 * time.macs as f64;
    let flops_per_byte = flops / (time.bytes as f64).max(1.0);
    let bound = if flops_per_byte < machine.ridge_flops_per_byte {
        Bound::Memory
    } else {
        Bound::Arithmetic
    };
    let roof_seconds = match bound {
        Bound::Memory => time.bytes as f64 / machine.roof_bytes_per_second,
        Bound::Arithmetic => flops / (1e9 * machine.roof_gflops),
    };
    let roof_fraction = if 0.0 < time.seconds { roof_seconds / time.seconds } else { 0.0 };
    RooflineLayer { time, flops_per_byte, bound, roof_seconds, roof_fraction }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(macs: u64, bytes: u64) -> RooflineLayer {
        let machine = MachineSpeed {
            machine: String::new(),
            cache_bytes: Vec::new(),
            peaks: Vec::new(),
            memory: Vec::new(),
            roof_gflops: 100.0,
            roof_bytes_per_second: 10e9,
            ridge_flops_per_byte: 10.0,
        };
        let time = LayerTime {
            layer: "conv1".into(),
            work: "conv",
            fused: String::new(),
            seconds: 1e-3,
            time_fraction: 1.0,
            macs,
            bytes,
            gflops: 0.0,
            peak_fraction: 0.0,
            bytes_per_second: 0.0,
        };
        under_roof(time, &machine)
    }

    #[test]
    fn above_the_ridge_arithmetic_binds() {
        // 100 MFLOP on 1 MB: 100 FLOP/B; 1 ms at 100 GFLOP/s.
        let found = layer(50_000_000, 1_000_000);
        assert_eq!((found.bound, found.roof_fraction), (Bound::Arithmetic, 1.0));
    }

    #[test]
    fn below_the_ridge_memory_binds() {
        // 10 MFLOP on 5 MB: 2 FLOP/B; 0.5 ms at 10 GB/s.
        let found = layer(5_000_000, 5_000_000);
        assert_eq!((found.bound, found.flops_per_byte), (Bound::Memory, 2.0));
        assert!(
            (found.roof_seconds - 5e-4).abs() < 1e-9 && (found.roof_fraction - 0.5).abs() < 1e-6
        );
    }

    #[test]
    fn a_step_without_arithmetic_waits_for_memory() {
        assert_eq!(layer(0, 1_000_000).bound, Bound::Memory);
    }
}
