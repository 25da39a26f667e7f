//! Schedules against PyTorch's (`fixtures/training/schedules.json`), and what holds for all of them.

use std::path::Path;

use resnet_train::recipe::{Anneal, Schedule, ScheduleKind, Unit};
use resnet_train::schedule::{Hyper, Position, hyper};
use serde_json::Value;

/// PyTorch computes most schedules step by step, ours in closed form: some tens of roundings.
const RELATIVE: f64 = 1e-12;

const BASE: Hyper = Hyper { lr: 0.3, momentum: 0.9 };

fn number(case: &Value, key: &str) -> f64 {
    case[key].as_f64().unwrap_or_else(|| panic!("{key} in {case}"))
}

fn count(case: &Value, key: &str) -> u64 {
    case[key].as_u64().unwrap_or_else(|| panic!("{key} in {case}"))
}

/// The schedule that a case describes, and its length after the warm-up.
fn schedule(case: &Value) -> Schedule {
    let mut schedule = Schedule { unit: Unit::Step, ..Schedule::default() };
    let kind = case["schedule"].as_str().unwrap();
    if let Some(rest) = kind.strip_prefix("warm-up-") {
        (schedule.warmup, schedule.warmup_factor) =
            (count(case, "warmup"), number(case, "start_factor"));
        return Schedule { kind: kind_of(rest), ..with_keys(schedule, case, rest) };
    }
    Schedule { kind: kind_of(kind), ..with_keys(schedule, case, kind) }
}

fn kind_of(name: &str) -> ScheduleKind {
    match name {
        "constant" => ScheduleKind::Constant,
        "step" => ScheduleKind::Step,
        "multi-step" => ScheduleKind::MultiStep,
        "cosine" => ScheduleKind::Cosine,
        "one-cycle" => ScheduleKind::OneCycle,
        other => panic!("{other}"),
    }
}

fn with_keys(mut schedule: Schedule, case: &Value, kind: &str) -> Schedule {
    match kind {
        "step" => {
            (schedule.every, schedule.gamma) = (count(case, "every"), number(case, "gamma"));
        }
        "multi-step" => {
            let milestones = case["milestones"].as_array().unwrap();
            schedule.milestones = milestones.iter().map(|m| m.as_u64().unwrap()).collect();
            schedule.gamma = number(case, "gamma");
        }
        "cosine" => schedule.min_lr = number(case, "min_lr"),
        "one-cycle" => {
            schedule.warmup_fraction = number(case, "warmup_fraction");
            (schedule.div, schedule.final_div) = (number(case, "div"), number(case, "final_div"));
            schedule.anneal = if case["anneal"] == "cos" { Anneal::Cos } else { Anneal::Linear };
        }
        _ => {}
    }
    schedule
}

#[track_caller]
fn assert_close(what: &str, found: f64, expected: f64) {
    assert!((found - expected).abs() <= RELATIVE * expected.abs(), "{what}: {found} {expected}");
}

#[test]
fn every_schedule_equals_pytorchs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/training/schedules.json");
    let fixture: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    for case in fixture["cases"].as_array().unwrap() {
        let schedule = schedule(case);
        let rates = case["rates"].as_array().unwrap();
        let total = case["total"].as_u64().map_or(rates.len() as u64, |t| t + schedule.warmup);
        let base = Hyper { lr: number(case, "lr"), ..BASE };
        let mut cycling = schedule.clone();
        cycling.cycle_momentum = true;
        for (step, rate) in rates.iter().enumerate() {
            let at = Position { step: step as u64, steps_per_epoch: 1, epochs: total };
            let what = format!("{} at {step}", case["schedule"]);
            assert_close(&what, hyper(&schedule, base, at).lr, rate.as_f64().unwrap());
            if let Some(momenta) = case["momenta"].as_array() {
                let expected = momenta[step].as_f64().unwrap();
                assert_close(&what, hyper(&cycling, base, at).momentum, expected);
                assert_eq!(hyper(&schedule, base, at).momentum, base.momentum);
            }
        }
    }
}

fn all_kinds() -> Vec<Schedule> {
    let kinds = [
        ScheduleKind::Constant,
        ScheduleKind::Step,
        ScheduleKind::MultiStep,
        ScheduleKind::Cosine,
        ScheduleKind::OneCycle,
    ];
    let mut all = Vec::new();
    for kind in kinds {
        for unit in [Unit::Epoch, Unit::Step] {
            for warmup in [0, 1, 3, 100] {
                let milestones = vec![2, 4];
                all.push(Schedule { kind, unit, warmup, milestones, ..Schedule::default() });
            }
        }
    }
    all
}

#[test]
fn a_rate_is_never_negative_above_the_peak_or_not_a_number() {
    for schedule in all_kinds() {
        for (epochs, steps_per_epoch) in [(1, 1), (1, 7), (2, 1), (6, 5)] {
            for step in 0..=epochs * steps_per_epoch + 3 {
                let Hyper { lr, momentum } =
                    hyper(&schedule, BASE, Position { step, steps_per_epoch, epochs });
                let what = format!("{schedule:?} at {step} of {epochs} x {steps_per_epoch}");
                assert!((0.0..=BASE.lr * (1.0 + RELATIVE)).contains(&lr), "{what}: {lr}");
                assert_eq!(momentum, BASE.momentum, "{what}");
            }
        }
    }
}

#[test]
fn by_epoch_the_rate_changes_between_epochs_only() {
    for schedule in all_kinds() {
        if schedule.unit == Unit::Step || schedule.kind == ScheduleKind::OneCycle {
            continue;
        }
        let at = |step| hyper(&schedule, BASE, Position { step, steps_per_epoch: 5, epochs: 6 });
        for step in 0..30 {
            assert_eq!(at(step), at(step - step % 5), "{schedule:?} at {step}");
        }
    }
}
