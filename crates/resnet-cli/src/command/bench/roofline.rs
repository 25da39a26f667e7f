//! `resnet bench --roofline`: what the machine can do, and what binds each step.

use std::io::{self, Write};

use resnet::bench::roofline::{Bound, MachineSpeed, RooflineReport};

use super::{ms, object, percent};
use crate::view::table::{Align, Table};

/// Prints the machine's limits, each step under them, and the whole.
pub(super) fn print(out: &mut impl Write, report: &RooflineReport, json: bool) -> io::Result<()> {
    if json {
        object(out, &report.machine)?;
        report.layers.iter().try_for_each(|layer| object(out, layer))?;
        return object(out, &report.total);
    }
    machine(out, &report.machine)?;
    writeln!(out)?;
    let mut table = Table::new(&[
        ("layer", Align::Left),
        ("work", Align::Left),
        ("FLOP/B", Align::Right),
        ("bound by", Align::Left),
        ("ms", Align::Right),
        ("roof ms", Align::Right),
        ("% roof", Align::Right),
    ]);
    for layer in &report.layers {
        table.row([
            layer.time.layer.clone(),
            layer.time.work.into(),
            format!("{:.1}", layer.flops_per_byte),
            match layer.bound {
                Bound::Arithmetic => "arithmetic".into(),
                Bound::Memory => "memory".into(),
            },
            ms(layer.time.seconds),
            ms(layer.roof_seconds),
            percent(layer.roof_fraction),
        ]);
    }
    table.write(out)?;
    writeln!(out, "over 100 %: fewer products than direct convolution's, or operands in a cache")?;
    writeln!(out)?;
    bounds(out, report)?;
    writeln!(out)?;
    super::print(out, &report.total)
}

fn machine(out: &mut impl Write, machine: &MachineSpeed) -> io::Result<()> {
    let caches: Vec<String> =
        machine.cache_bytes.iter().map(|bytes| format!("{} KiB", bytes >> 10)).collect();
    writeln!(out, "{}; caches {}", machine.machine, caches.join(", "))?;
    let mut table = Table::new(&[
        ("limit", Align::Left),
        ("threads", Align::Right),
        ("GFLOP/s", Align::Right),
        ("GB/s", Align::Right),
    ]);
    for peak in &machine.peaks {
        table.row([
            format!("multiply-add, {}, {}", peak.precision, peak.isa),
            peak.threads.to_string(),
            format!("{:.1}", peak.gflops),
            String::new(),
        ]);
    }
    for memory in &machine.memory {
        let kinds = [
            ("read", memory.read_bytes_per_second),
            ("copy", memory.copy_bytes_per_second),
            ("triad", memory.triad_bytes_per_second),
        ];
        for (kind, rate) in kinds {
            table.row([
                format!("memory, {kind}"),
                memory.threads.to_string(),
                String::new(),
                format!("{:.1}", 1e-9 * rate),
            ]);
        }
    }
    table.write(out)?;
    writeln!(
        out,
        "roof {:.1} GFLOP/s and {:.1} GB/s: arithmetic binds from {:.1} FLOP/B on",
        machine.roof_gflops,
        1e-9 * machine.roof_bytes_per_second,
        machine.ridge_flops_per_byte
    )
}

/// How much of the time each limit binds.
fn bounds(out: &mut impl Write, report: &RooflineReport) -> io::Result<()> {
    for (bound, name) in [(Bound::Arithmetic, "arithmetic"), (Bound::Memory, "memory")] {
        let of = || report.layers.iter().filter(|layer| layer.bound == bound);
        let seconds: f64 = of().map(|layer| layer.time.seconds).sum();
        let roof: f64 = of().map(|layer| layer.roof_seconds).sum();
        let share: f64 = of().map(|layer| layer.time.time_fraction).sum();
        writeln!(
            out,
            "{name} binds {} steps: {} ms, {} % of the time; {} ms at the roof",
            of().count(),
            ms(seconds),
            percent(share),
            ms(roof)
        )?;
    }
    Ok(())
}
