//! `resnet bench`: how fast a network trains and infers on this machine.

mod kernels;
mod layers;
mod roofline;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use resnet::bench::data::{self, DataOptions, DataReport};
use resnet::bench::kernels::kernels;
use resnet::bench::layers::layers;
use resnet::bench::roofline::roofline;
use resnet::bench::{BenchMode, BenchOptions, BenchReport, Turns, bench, plan};
use resnet::train::TrainError;
use resnet::train::model::network;
use resnet::{Model, ModelRequest};
use serde::Serialize;

use crate::Outcome;
use crate::arguments::{Compute, NetworkChanges, Precision};
use crate::failure::{Failure, Status};
use crate::view::View;

const EXAMPLES: &str = "\
Examples:
  resnet bench --model resnet50 --mode infer --batch-size 1
  resnet bench --model resnet18 --mode train --batch-size 16 --threads 2 --json
  resnet bench --model resnet50 --precision int8
  resnet bench --model mine.toml --plan
  resnet bench --model resnet18 --mode train --layers
  resnet bench --model resnet50 --batch-size 1 --roofline
  resnet bench --model resnet20 --mode train --batch-size 128 --kernels
  resnet bench --mode data --data photos --threads 2
  RESNET_ISA=avx2 resnet bench --model resnet18";

/// Time a network
///
/// Outputs are compared with the portable engine's and the reference's before anything is timed. A
/// training step goes from u8 pixels through loss and all gradients to updated parameters, an
/// inference step from u8 pixels to logits. The rate is that of the median step. Shares of the peak
/// count direct arithmetic: a layer in Winograd tiles may exceed it.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// Network: a name that `resnet info` lists, or a TOML file
    #[arg(long, value_name = "NAME|FILE.toml", default_value = "resnet50")]
    model: String,
    /// Pictures to load in mode `data`: `generated`, a folder (by class), an archive, CIFAR files
    #[arg(long, value_name = "ADDR", required_if_eq("mode", "data"))]
    data: Option<String>,
    /// Weights that `resnet train` or `quantize` wrote, instead of a network with fresh ones
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "recompute"])]
    weights: Option<PathBuf>,
    /// What to time
    #[arg(long, value_name = "MODE", default_value = "infer")]
    mode: Mode,
    /// Pictures a step
    #[arg(long, value_name = "N", default_value_t = 16)]
    batch_size: usize,
    /// Seconds of timed steps, at least
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    seconds: f64,
    /// In training, drop what is cheap to make again: less memory
    #[arg(long)]
    recompute: bool,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    changes: NetworkChanges,
    #[command(flatten)]
    compute: Compute,
}

/// A closer look than at the whole; one at a time.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false)]
struct Look {
    /// Print the plan, step by step, instead of timing it
    #[arg(long)]
    plan: bool,
    /// Time each step of the plan, with sums by kind of work
    #[arg(long)]
    layers: bool,
    /// Measure the machine, and say of each step whether arithmetic or memory binds it
    #[arg(long)]
    roofline: bool,
    /// Time all ways to do each convolution; exit 1 if a chosen one is clearly slower than another
    #[arg(long)]
    kernels: bool,
    /// Time anew for every line that stdin sends, until it ends: for comparisons in turns
    #[arg(long)]
    turns: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// From pixels to updated parameters
    Train,
    /// From pixels to logits
    Infer,
    /// From files to batches: reading, decoding, augmenting
    Data,
}

pub(crate) fn run(options: &Options, view: &View) -> Outcome {
    let mode = match options.mode {
        Mode::Train => BenchMode::Train,
        Mode::Infer => BenchMode::Infer,
        Mode::Data => return loading(options, view),
    };
    let weights = options
        .weights
        .clone()
        .map(|weights| Model::load(&ModelRequest { weights, ..ModelRequest::default() }));
    let weights = weights.transpose()?;
    let mut spec = match &weights {
        Some(model) => model.spec.clone(),
        None => network(&options.model)?,
    };
    options.changes.apply(&mut spec);
    spec.validate().map_err(TrainError::from)?;
    if options.batch_size == 0 {
        return Err(Failure::usage("--batch-size is 0, expected at least 1", "16 is the default"));
    }
    let device = options.compute.any_device()?;
    if options.look.kernels && options.compute.precision() != Default::default() {
        return Err(Failure::usage("--kernels compares kernels in f32", "leave --precision out"));
    }
    if options.compute.precision == Some(Precision::Int8) && options.mode == Mode::Train {
        return Err(Failure::usage("--precision int8 is for inference", "leave --mode train out"));
    }
    let what = BenchOptions {
        spec,
        mode,
        batch_size: options.batch_size,
        weights,
        precision: options.compute.precision(),
        isa: device.isa,
        threads: device.threads,
        exact: device.exact,
        recompute: options.recompute,
        seconds: options.seconds,
    };
    let mut out = view.stdout();
    let look = options.look;
    if look.plan {
        write!(out, "{}", plan(&what)?)?;
    } else if look.layers {
        view.note("checking the outputs, then timing each step");
        layers::print(&mut out, &layers(&what)?, view.json())?;
    } else if look.roofline {
        view.note("measuring the machine, checking the outputs, then timing each step");
        roofline::print(&mut out, &roofline(&what)?, view.json())?;
    } else if look.kernels {
        view.note("timing every way to do each convolution; minutes for large networks");
        return kernels::print(&mut out, &kernels(&what)?, view.json());
    } else if look.turns {
        view.note("checking the outputs, then timing for every line of stdin");
        let mut turns = Turns::new(&what)?;
        for line in io::stdin().lines() {
            line?;
            show(&mut out, &turns.turn()?, view)?;
            out.flush()?;
        }
    } else {
        view.note("checking the outputs, then timing");
        show(&mut out, &bench(&what)?, view)?;
    }
    Ok(Status::Done)
}

fn show(out: &mut impl Write, report: &BenchReport, view: &View) -> io::Result<()> {
    if view.json() { object(out, report) } else { print(out, report) }
}

/// Times the loader alone.
fn loading(options: &Options, view: &View) -> Outcome {
    if options.batch_size < 2 {
        let message = format!("--batch-size is {}, expected at least 2", options.batch_size);
        return Err(Failure::usage(message, "16 is the default"));
    }
    let what = DataOptions {
        address: options.data.clone().unwrap_or_else(|| "generated".into()),
        size: options.changes.size.unwrap_or(224),
        batch_size: options.batch_size,
        workers: options.compute.device_in_f32()?.threads,
        seconds: options.seconds,
    };
    view.note("reading, decoding and augmenting");
    let report = data::data(&what).map_err(TrainError::from)?;
    let mut out = view.stdout();
    if view.json() {
        object(&mut out, &report)?;
        return Ok(Status::Done);
    }
    let DataReport { data, size, batch_size, threads, images_per_second, .. } = &report;
    writeln!(out, "{data}: random parts of {size}x{size}, batch {batch_size}, {threads} threads")?;
    writeln!(
        out,
        "{images_per_second:.1} images/s; one takes {} ms to read, {} to decode, {} to augment",
        ms(report.read_seconds),
        ms(report.decode_seconds),
        ms(report.augment_seconds)
    )?;
    Ok(Status::Done)
}

/// One line of JSON.
fn object(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value).expect("a report is plain data");
    writeln!(out, "{text}")
}

/// Seconds as milliseconds, with as many digits as the smallest kernels need.
fn ms(seconds: f64) -> String {
    format!("{:.3}", 1e3 * seconds)
}

fn percent(fraction: f64) -> String {
    format!("{:.1}", 100.0 * fraction)
}

/// A rate, or nothing where there is none to speak of.
fn rate(value: f64) -> String {
    if value < 0.05 { String::new() } else { format!("{value:.1}") }
}

fn print(out: &mut impl Write, report: &BenchReport) -> io::Result<()> {
    let BenchReport { model, batch_size, precision, threads, isa, .. } = report;
    let mode = match report.mode {
        BenchMode::Train => "training",
        BenchMode::Infer => "inference",
    };
    writeln!(out, "{model} {mode}, batch {batch_size}, {precision}, {threads} threads, {isa}")?;
    writeln!(
        out,
        "{:.1} images/s; {:.1} GFLOP/s, {:.0} % of the measured peak (direct arithmetic counted)",
        report.images_per_second,
        report.gflops,
        100.0 * report.peak_fraction
    )?;
    let ms = |seconds: f64| 1e3 * seconds;
    writeln!(
        out,
        "step {:.2} ms (p10 {:.2}, p90 {:.2}) over {} steps; plan {}",
        ms(report.seconds_p50),
        ms(report.seconds_p10),
        ms(report.seconds_p90),
        report.steps,
        report.plan
    )?;
    if let Some(bytes) = report.peak_memory_bytes {
        writeln!(out, "peak memory {}", crate::view::bytes(bytes))?;
    }
    Ok(())
}
