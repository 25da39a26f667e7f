//! `resnet bench --layers`: where the time of a step goes.

use std::io::{self, Write};

use resnet::bench::layers::LayersReport;

use super::{ms, object, percent, rate};
use crate::view::table::{Align, Table};

/// Prints each step, sums by kind of work, and the whole.
pub(super) fn print(out: &mut impl Write, report: &LayersReport, json: bool) -> io::Result<()> {
    if json {
        report.layers.iter().try_for_each(|layer| object(out, layer))?;
        report.works.iter().try_for_each(|work| object(out, work))?;
        return object(out, &report.total);
    }
    let mut table = Table::new(&[
        ("layer", Align::Left),
        ("work", Align::Left),
        ("ms", Align::Right),
        ("% time", Align::Right),
        ("GFLOP/s", Align::Right),
        ("% peak", Align::Right),
        ("GB/s", Align::Right),
    ]);
    for layer in &report.layers {
        table.row([
            layer.layer.clone(),
            layer.work.into(),
            ms(layer.seconds),
            percent(layer.time_fraction),
            rate(layer.gflops),
            rate(100.0 * layer.peak_fraction),
            rate(1e-9 * layer.bytes_per_second),
        ]);
    }
    table.write(out)?;
    writeln!(out)?;
    works(out, report)?;
    writeln!(out)?;
    super::print(out, &report.total)
}

fn works(out: &mut impl Write, report: &LayersReport) -> io::Result<()> {
    let mut table = Table::new(&[
        ("work", Align::Left),
        ("steps", Align::Right),
        ("ms", Align::Right),
        ("% time", Align::Right),
        ("GFLOP/s", Align::Right),
        ("% peak", Align::Right),
        ("GB/s", Align::Right),
    ]);
    for work in &report.works {
        table.row([
            work.work.into(),
            work.steps.to_string(),
            ms(work.seconds),
            percent(work.time_fraction),
            rate(work.gflops),
            rate(100.0 * work.peak_fraction),
            rate(1e-9 * work.bytes_per_second),
        ]);
    }
    let seconds: f64 = report.works.iter().map(|work| work.seconds).sum();
    let macs: u64 = report.layers.iter().map(|layer| layer.macs).sum();
    let bytes: u64 = report.layers.iter().map(|layer| layer.bytes).sum();
    let gflops = 2e-9 * macs as f64 / seconds;
    table.total([
        "sum".into(),
        report.layers.len().to_string(),
        ms(seconds),
        percent(1.0),
        rate(gflops),
        rate(100.0 * gflops / report.peak_gflops),
        rate(1e-9 * bytes as f64 / seconds),
    ]);
    table.write(out)
}
