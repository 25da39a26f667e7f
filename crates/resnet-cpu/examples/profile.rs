//! Where the time of a step goes: `profile MODEL train|infer BATCH THREADS [PRINT_STEPS]`.

use std::collections::BTreeMap;

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::executor::{Executor, Input};
use resnet_core::op::CrossEntropy;
use resnet_core::oracle;
use resnet_core::step::{Targets, gradient_graph};
use resnet_core::zoo::network;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_simd::Isa;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let (model, mode) = (args[1].as_str(), args[2].as_str());
    let (batch, threads): (usize, usize) =
        (args[3].parse().expect("batch"), args[4].parse().expect("threads"));
    let spec = network(model).expect("model");
    let isa =
        std::env::var("RESNET_ISA").map_or(Isa::detect(), |isa| Isa::parse(&isa).expect("isa"));
    let mut executor = CpuExecutor::new(CpuOptions { isa, threads, exact: false, checked: false });
    let graph = if mode == "train" {
        let options = BuildOptions::imagenet(batch, Mode::Training);
        let loss = CrossEntropy { label_smoothing: 0.0, divisor: batch };
        gradient_graph(&spec, &options, Targets::Classes, loss)
    } else {
        forward(&spec, &BuildOptions::imagenet(batch, Mode::Evaluation))
    }
    .expect("graph");
    let step = executor.compile(&graph).expect("compile");
    for (name, shape) in executor.states() {
        if !name.contains('/') {
            executor.import(&name, &shape, &oracle::parameter(&name, &shape, 0)).expect("import");
        }
    }
    let pixels = oracle::pixels(batch * spec.input.height * spec.input.width * 3, 0);
    let labels = oracle::labels(batch, spec.classes, 0);
    let inputs = [Input::U8(&pixels), Input::U32(&labels)];
    let inputs = if mode == "train" { &inputs[..] } else { &inputs[..1] };
    let steps = executor.plan(step).steps.len();
    let mut best = vec![f64::INFINITY; steps];
    let mut totals = Vec::new();
    for _ in 0..8 {
        let times = executor.run_timed(step, inputs).expect("run");
        totals.push(times.iter().sum::<f64>());
        for (best, time) in best.iter_mut().zip(times) {
            *best = best.min(time);
        }
    }
    totals.sort_by(f64::total_cmp);
    let plan = executor.plan(step);
    let mut kinds: BTreeMap<&str, (f64, u64, usize)> = BTreeMap::new();
    for (i, (work, time)) in plan.steps.iter().zip(&best).enumerate() {
        let kind = kinds.entry(work.work.name()).or_default();
        (kind.0, kind.1, kind.2) = (kind.0 + time, kind.1 + work.macs, kind.2 + plan.step_bytes(i));
        if args.len() > 5 {
            println!(
                "{:<34} {:<14} {:8.3} ms {:7.1} GF/s {:6.1} GB/s",
                work.name,
                work.work.name(),
                time * 1e3,
                2e-9 * work.macs as f64 / time,
                plan.step_bytes(i) as f64 / time * 1e-9
            );
        }
    }
    for (kind, (time, macs, bytes)) in kinds {
        println!(
            "{kind:<18} {:8.2} ms {:7.1} GF/s {:6.1} GB/s",
            time * 1e3,
            2e-9 * macs as f64 / time,
            bytes as f64 / time * 1e-9
        );
    }
    let sum: f64 = best.iter().sum();
    println!(
        "{model} {mode} {batch}: median {:.2} ms, sum of best {:.2} ms: {:.1} images/s, {:.1} GF/s; arena {:.0} MiB",
        totals[4] * 1e3,
        sum * 1e3,
        batch as f64 / sum,
        2e-9 * plan.macs() as f64 / sum,
        plan.arena_bytes as f64 / 1048576.0
    );
}
