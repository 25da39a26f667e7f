//! `resnet bench`: the keys of its JSON in every mode, and that its sums hold.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::Value;

use crate::session::Session;

/// A network of a moment: two stages of one block, with a projection.
const TINY: &str = "--model cifar-resnet8 --batch-size 2 --seconds 0.1 --json";

fn objects(line: &str) -> Vec<Value> {
    let answer = Session::new().run(&format!("bench {TINY} {line}"));
    // Whether all kernels are well chosen is the machine's to say, and other tests keep it busy.
    let wrong_choice = line.contains("--kernels") && answer.status == Some(1);
    assert!(answer.status == Some(0) || wrong_choice, "{}", answer.stderr);
    answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

fn number(object: &Value, key: &str) -> f64 {
    object[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {object}"))
}

const REPORT: [&str; 16] = [
    "batch_size",
    "deviation",
    "gflops",
    "images_per_second",
    "isa",
    "mode",
    "model",
    "peak_fraction",
    "peak_memory_bytes",
    "plan",
    "precision",
    "seconds_p10",
    "seconds_p50",
    "seconds_p90",
    "steps",
    "threads",
];

const LAYER: [&str; 10] = [
    "bytes",
    "bytes_per_second",
    "fused",
    "gflops",
    "layer",
    "macs",
    "peak_fraction",
    "seconds",
    "time_fraction",
    "work",
];

#[test]
fn a_network_is_timed_as_one_object() {
    let all = objects("--mode infer --threads 2");
    assert_eq!(all.len(), 1);
    assert_eq!(keys(&all[0]), REPORT);
    assert_eq!((&all[0]["mode"], &all[0]["threads"]), (&"infer".into(), &2.into()));
}

#[test]
fn every_line_is_a_turn() {
    let session = Session::new();
    let mut command = session.command(&format!("bench {TINY} --turns"));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    let mut answers = BufReader::new(child.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        writeln!(lines).unwrap();
        let turn: Value = serde_json::from_str(&answers.next().unwrap().unwrap()).unwrap();
        assert_eq!(keys(&turn), REPORT);
        assert!(1.0 <= number(&turn, "steps"), "{turn}");
    }
    drop(lines);
    assert!(child.wait().unwrap().success());
    assert!(answers.next().is_none());
}

#[test]
fn activations_in_bf16_are_timed_in_both_modes() {
    for mode in ["infer", "train"] {
        let all = objects(&format!("--mode {mode} --precision bf16"));
        assert_eq!((keys(&all[0]), &all[0]["precision"]), (REPORT.to_vec(), &"bf16".into()));
        // Logits are near f32's, and not the same.
        let deviation = number(&all[0], "deviation");
        assert!(deviation < 0.05, "{deviation}");
    }
}

#[test]
fn layers_come_in_order_then_sums_then_the_whole() {
    let all = objects("--mode train --layers");
    let (total, rest) = all.split_last().unwrap();
    assert_eq!(keys(total), REPORT);
    let layers: Vec<&Value> = rest.iter().filter(|object| object.get("layer").is_some()).collect();
    assert!(layers.iter().all(|layer| keys(layer) == LAYER));
    assert_eq!((&layers[0]["layer"], &layers[0]["work"]), (&"input".into(), &"normalize".into()));
    let find = |work: &str| layers.iter().position(|layer| layer["work"] == work);
    // The order of a training step: forward, gradients, update.
    assert!(find("conv") < find("conv dw") && find("conv dw") < find("sgd"), "{layers:?}");
    let sums = &rest[layers.len()..];
    // Seven convolutions and the classifier; pixels need no gradient.
    assert!(sums.iter().any(|sum| sum["work"] == "conv" && sum["steps"] == 8));
    assert!(sums.iter().any(|sum| sum["work"] == "conv dx" && sum["steps"] == 7));
    let steps: f64 = sums.iter().map(|sum| number(sum, "steps")).sum();
    assert_eq!(steps as usize, layers.len());
}

#[test]
fn layers_together_take_about_as_long_as_the_step() {
    let all = objects("--mode train --layers --threads 1");
    let total = all.last().unwrap();
    let layers = || all.iter().filter(|object| object.get("layer").is_some());
    let seconds: f64 = layers().map(|layer| number(layer, "seconds")).sum();
    let step = number(total, "seconds_p50");
    // What lies between the steps is little; other programs may make it more.
    assert!(0.7 * step < seconds && seconds < 1.3 * step, "{seconds} of {step}");
    let fractions: f64 = layers().map(|layer| number(layer, "time_fraction")).sum();
    assert!((fractions - 1.0).abs() < 1e-9, "{fractions}");
    let macs: f64 = layers().map(|layer| number(layer, "macs")).sum();
    let expected = number(total, "gflops") * step / 2e-9;
    assert!((macs / expected - 1.0).abs() < 1e-9, "{macs} and {expected}");
}

#[test]
fn the_roof_is_measured_first_and_each_step_stands_under_it() {
    let all = objects("--mode infer --roofline --threads 2");
    let machine = &all[0];
    let expected = [
        "cache_bytes",
        "machine",
        "memory",
        "peaks",
        "ridge_flops_per_byte",
        "roof_bytes_per_second",
        "roof_gflops",
    ];
    assert_eq!(keys(machine), expected);
    let peaks = machine["peaks"].as_array().unwrap();
    assert!(peaks.iter().all(|peak| 0.0 < number(peak, "gflops")));
    let of = |precision: &str| peaks.iter().filter(|peak| peak["precision"] == precision).count();
    // Each instruction set on one and two threads; pairs of bf16 not on all of them.
    assert!(0 < of("f32") && of("f32") == of("int8") && of("bf16") <= of("f32"));
    assert_eq!(of("f32") + of("int8") + of("bf16"), peaks.len());
    let memory = machine["memory"].as_array().unwrap();
    assert_eq!(memory.iter().map(|m| number(m, "threads") as u64).collect::<Vec<_>>(), [1, 2]);
    for kind in ["read_bytes_per_second", "copy_bytes_per_second", "triad_bytes_per_second"] {
        assert!(memory.iter().all(|memory| 0.0 < number(memory, kind)));
    }
    let ridge = number(machine, "ridge_flops_per_byte");
    let layers: Vec<&Value> = all.iter().filter(|object| object.get("layer").is_some()).collect();
    assert!(10 < layers.len());
    for layer in layers {
        let bound = if number(layer, "flops_per_byte") < ridge { "memory" } else { "arithmetic" };
        assert_eq!(layer["bound"], bound, "{layer}");
        assert!(LAYER.iter().all(|key| layer.get(key).is_some()), "{layer}");
        let share = number(layer, "roof_seconds") / number(layer, "seconds");
        assert!((share / number(layer, "roof_fraction") - 1.0).abs() < 1e-6, "{layer}");
    }
    assert_eq!(keys(all.last().unwrap()), REPORT);
}

#[test]
fn every_convolution_is_compared_with_its_other_candidates() {
    let all = objects("--mode train --kernels");
    let (summary, comparisons) = all.split_last().unwrap();
    let wrong = comparisons.iter().filter(|comparison| comparison["wrong"] == true).count();
    assert_eq!((number(summary, "wrong") as usize, number(summary, "rounds") as usize), (wrong, 3));
    for comparison in comparisons {
        let candidates = comparison["candidates"].as_array().unwrap();
        let geometry = &comparison["geometry"];
        let small = (&geometry["kh"], &geometry["stride"]) == (&3.into(), &1.into());
        assert!(!small || 3 <= candidates.len(), "{comparison}");
        let chosen = candidates.iter().filter(|candidate| candidate["chosen"] == true);
        assert!(chosen.map(|candidate| &candidate["algorithm"]).eq([&comparison["chosen"]]));
        assert!(candidates.iter().all(|candidate| 0.0 < number(candidate, "seconds")));
        let tolerance = number(comparison, "tolerance");
        assert!(0.05 <= tolerance && 3.0 * number(comparison, "noise") <= tolerance + 1e-12);
    }
    for work in ["conv", "conv dx", "conv dw"] {
        assert!(comparisons.iter().any(|comparison| comparison["work"] == work), "{work}");
    }
    let exact = objects("--mode infer --exact --kernels");
    let algorithms = exact.iter().filter_map(|comparison| comparison["candidates"].as_array());
    assert!(algorithms.flatten().all(|candidate| candidate["algorithm"] == "direct"));
}

#[test]
fn the_roof_of_a_network_on_bytes_is_that_of_their_products() {
    let machine = &objects("--mode infer --precision int8 --roofline --threads 1")[0];
    let roof = number(machine, "roof_gflops");
    let of_bytes = |peak: &&Value| peak["precision"] == "int8";
    let peaks = machine["peaks"].as_array().unwrap().iter().filter(of_bytes);
    // The widest instruction set's, or one that was found to be faster beside the layers.
    let highest = peaks.map(|peak| number(peak, "gflops")).fold(0.0, f64::max);
    assert!(0.9 * highest <= roof, "{roof} of {highest}");
}

#[test]
fn tables_fit_a_screen_of_a_hundred_columns() {
    for look in ["--layers", "--roofline", "--kernels"] {
        let line = "--model cifar-resnet8 --batch-size 2 --seconds 0.1 --mode train";
        let answer = Session::new().run(&format!("bench {line} {look}"));
        assert!(matches!(answer.status, Some(0 | 1)), "{}", answer.stderr);
        let widest = answer.stdout.lines().map(|line| line.chars().count()).max();
        assert!(widest.is_some_and(|widest| widest <= 100), "{look}:\n{}", answer.stdout);
    }
}

#[test]
fn one_look_at_a_time() {
    insta::assert_snapshot!(Session::new().run("bench --layers --kernels").transcript());
}

/// `resnet` counts the cores that it may use, not those that there are.
#[cfg(target_os = "linux")]
#[test]
fn threads_are_those_of_the_affinity_mask() {
    let found = std::thread::spawn(|| {
        // A child inherits the mask of the thread that starts it; no other test runs on this one.
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let cpus = 0..rustix::thread::CpuSet::MAX_CPU;
        let first = cpus.into_iter().find(|&cpu| allowed.is_set(cpu)).unwrap();
        let mut mask = rustix::thread::CpuSet::new();
        mask.set(first);
        rustix::thread::sched_setaffinity(None, &mask).unwrap();
        objects("--mode infer")
    });
    assert_eq!(found.join().unwrap()[0]["threads"], 1);
}
