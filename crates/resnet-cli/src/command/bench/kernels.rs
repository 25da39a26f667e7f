//! `resnet bench --kernels`: whether the planner chose well.

use std::io::{self, Write};

use resnet::bench::BenchMode;
use resnet::bench::kernels::{CandidateTime, Comparison, Geometry, KernelsReport};

use super::{ms, object, percent};
use crate::Outcome;
use crate::failure::{Failure, Status};
use crate::view::table::{Align, Table};

/// Prints each convolution with its best candidates; a wrong choice is a failure.
pub(super) fn print(out: &mut impl Write, report: &KernelsReport, json: bool) -> Outcome {
    if json {
        report.comparisons.iter().try_for_each(|comparison| object(out, comparison))?;
        object(out, report)?;
    } else {
        table(out, report)?;
    }
    if report.wrong == 0 {
        return Ok(Status::Done);
    }
    let first = report.comparisons.iter().find(|comparison| comparison.verdict.wrong);
    let first = first.map_or(String::new(), |wrong| format!(", {} first", describe(wrong)));
    let error = anyhow::anyhow!(
        "{} of {} convolutions would be faster another way, in {} of {} rounds{first}",
        report.wrong,
        report.comparisons.len(),
        report.rounds,
        report.rounds,
    );
    let hint = "run it again on a quiet machine; what stays is worth an issue, with this table";
    Err(Failure::new(error, Some(hint.into())))
}

fn describe(wrong: &Comparison) -> String {
    let best = &wrong.candidates[wrong.verdict.best_other];
    format!(
        "{} {}: {} is {} % slower than {} (tolerance {} %)",
        wrong.layer,
        wrong.work,
        wrong.chosen,
        percent(wrong.verdict.slower),
        name(best),
        percent(wrong.verdict.tolerance)
    )
}

fn table(out: &mut impl Write, report: &KernelsReport) -> io::Result<()> {
    let mode = match report.mode {
        BenchMode::Train => "training",
        BenchMode::Infer => "inference",
    };
    let KernelsReport { model, batch_size, precision, threads, isa, weights_from, .. } = report;
    writeln!(
        out,
        "{model} {mode}, batch {batch_size}, {precision}, {threads} threads, {isa}, weights from {weights_from}"
    )?;
    let mut table = Table::new(&[
        ("layer", Align::Left),
        ("of", Align::Right),
        ("convolution", Align::Left),
        ("", Align::Left),
        ("chosen", Align::Left),
        ("ms", Align::Right),
        ("best other", Align::Left),
        ("choice", Align::Right),
    ]);
    for comparison in &report.comparisons {
        let [chosen, best] =
            [0, comparison.verdict.best_other].map(|at| &comparison.candidates[at]);
        table.row([
            layer(comparison).into(),
            comparison.layers.to_string(),
            geometry(&comparison.geometry),
            direction(comparison.work).into(),
            comparison.chosen.into(),
            ms(chosen.seconds),
            name(best),
            choice(comparison),
        ]);
    }
    table.write(out)?;
    let candidates: usize = report.comparisons.iter().map(|found| found.candidates.len()).sum();
    writeln!(
        out,
        "{candidates} candidates, {} rounds of {} samples; choice: + faster, - slower than that, ! wrong",
        report.rounds, report.samples
    )
}

/// The layer without the direction, which has its own column.
fn layer(comparison: &Comparison) -> &str {
    let name = comparison.layer.as_str();
    name.strip_suffix(".dx").or_else(|| name.strip_suffix(".dw")).unwrap_or(name)
}

fn direction(work: &str) -> &'static str {
    match work {
        "conv dx" => "dx",
        "conv dw" => "dw",
        _ => "y",
    }
}

/// `3x3/2 64>128 56x56`.
fn geometry(g: &Geometry) -> String {
    let stride = if g.stride == 1 { String::new() } else { format!("/{}", g.stride) };
    let groups = if g.groups == 1 { String::new() } else { format!(" g{}", g.groups) };
    format!("{}x{}{stride} {}>{}{groups} {}x{}", g.kh, g.kw, g.cin, g.cout, g.oh, g.ow)
}

/// `F(4x4) blocks/2`.
fn name(candidate: &CandidateTime) -> String {
    let cut = match candidate.cut {
        "half blocks" => " blocks/2",
        "double blocks" => " blocks*2",
        "half parts" => " parts/2",
        "double parts" => " parts*2",
        _ => "",
    };
    format!("{}{cut}", candidate.algorithm)
}

fn choice(comparison: &Comparison) -> String {
    if comparison.candidates.len() == 1 {
        return "alone".into();
    }
    let mark = if comparison.verdict.wrong { " !" } else { "  " };
    format!("{:+.1} %{mark}", -100.0 * comparison.verdict.slower)
}

#[cfg(test)]
mod tests {
    use resnet::bench::kernels::judge;

    use super::*;

    /// One comparison of the widest kind, whose choice takes twice as long as another.
    fn report() -> KernelsReport {
        let seconds = [0.123_456, 0.061_728].map(|middle| vec![vec![middle; 5]; 3]);
        let candidate = |cut, chosen| CandidateTime {
            algorithm: "F(4x4)",
            cut,
            chosen,
            seconds: if chosen { 0.123_456 } else { 0.061_728 },
            gflops: 1.0,
            peak_fraction: 0.5,
            noise: 0.0,
        };
        let (n, pad, dilation, oh, ow, ih, iw) = (16, 0, 1, 14, 14, 28, 28);
        let (cin, cout, kh, kw, stride, groups) = (1024, 2048, 1, 1, 2, 1);
        let comparison = Comparison {
            layer: "layer4.0.downsample.0.dw".into(),
            layers: 22,
            work: "conv dw",
            geometry: Geometry {
                n,
                ih,
                iw,
                cin,
                oh,
                ow,
                cout,
                kh,
                kw,
                stride,
                pad,
                dilation,
                groups,
            },
            chosen: "F(4x4)",
            candidates: vec![candidate("planned", true), candidate("double blocks", false)],
            verdict: judge(&seconds),
        };
        KernelsReport {
            model: "wide_resnet101_2".into(),
            mode: BenchMode::Train,
            batch_size: 128,
            precision: "f32",
            threads: 128,
            isa: "avx512",
            weights_from: "last cache",
            rounds: 3,
            samples: 50,
            peak_gflops: 1.0,
            wrong: 1,
            comparisons: vec![comparison],
        }
    }

    #[test]
    fn a_wrong_choice_is_marked_named_and_a_failure() {
        let mut out = Vec::new();
        let failure = print(&mut out, &report(), false).expect_err("the choice is wrong");
        let text = String::from_utf8(out).expect("a table is text");
        let text = text.replace("\u{1b}[1m", "").replace("\u{1b}[0m", "");
        assert!(text.contains("-100.0 % !"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let line = failure.line();
        assert!(line.contains("1 of 1 convolutions") && line.contains("F(4x4) blocks*2"), "{line}");
    }

    #[test]
    fn right_choices_are_no_failure() {
        let mut right = report();
        right.wrong = 0;
        let status = print(&mut Vec::new(), &right, true);
        assert!(matches!(status, Ok(Status::Done)));
    }
}
