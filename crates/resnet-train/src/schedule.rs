//! Learning rate and momentum as pure functions of the step.
//!
//! The meanings are PyTorch's: `StepLR`, `MultiStepLR`, `CosineAnnealingLR`, `OneCycleLR`, and
//! `LinearLR` or `ConstantLR` before them through `SequentialLR`, each in closed form. There is nothing
//! to save and nothing to restore.

use std::f64::consts::PI;

use crate::recipe::{Anneal, Schedule, ScheduleKind, Unit, WarmupKind};

/// Where training stands, and how long it will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Updates done, from 0.
    pub step: u64,
    /// Steps of an epoch, at least 1.
    pub steps_per_epoch: u64,
    /// Epochs in all.
    pub epochs: u64,
}

/// What the optimiser is given at a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
}

/// Learning rate and momentum for the update at a position; `base` holds the recipe's own.
pub fn hyper(schedule: &Schedule, base: Hyper, at: Position) -> Hyper {
    if schedule.kind == ScheduleKind::OneCycle {
        return one_cycle(schedule, base, at);
    }
    let (now, total) = match schedule.unit {
        Unit::Step => (at.step, at.epochs * at.steps_per_epoch),
        Unit::Epoch => (at.step / at.steps_per_epoch, at.epochs),
    };
    let lr = match now.checked_sub(schedule.warmup) {
        None => base.lr * warmup_factor(schedule, now),
        Some(after) => decayed(schedule, base.lr, after, total.saturating_sub(schedule.warmup)),
    };
    Hyper { lr, momentum: base.momentum }
}

fn warmup_factor(schedule: &Schedule, now: u64) -> f64 {
    let start = schedule.warmup_factor;
    match schedule.warmup_kind {
        WarmupKind::Constant => start,
        WarmupKind::Linear => start + (1.0 - start) * now as f64 / schedule.warmup as f64,
    }
}

/// The rate when `now` of `total` have passed since the warm-up.
fn decayed(schedule: &Schedule, lr: f64, now: u64, total: u64) -> f64 {
    let falls = match schedule.kind {
        ScheduleKind::Constant | ScheduleKind::OneCycle => 0,
        ScheduleKind::Step => now / schedule.every,
        ScheduleKind::MultiStep => {
            schedule.milestones.iter().filter(|&&milestone| milestone <= now).count() as u64
        }
        ScheduleKind::Cosine => {
            // A schedule of no length is at its end.
            let part = if total == 0 { 1.0 } else { now.min(total) as f64 / total as f64 };
            return schedule.min_lr + (lr - schedule.min_lr) * 0.5 * (1.0 + (PI * part).cos());
        }
    };
    lr * schedule.gamma.powf(falls as f64)
}

/// Smith and Topin 2017 (arXiv:1708.07120) in the two phases of PyTorch's `OneCycleLR`.
fn one_cycle(schedule: &Schedule, base: Hyper, at: Position) -> Hyper {
    let total = (at.epochs * at.steps_per_epoch) as f64;
    let first = base.lr / schedule.div;
    let last = first / schedule.final_div;
    let (low, high) = match schedule.cycle_momentum {
        true => (schedule.base_momentum, schedule.max_momentum),
        false => (base.momentum, base.momentum),
    };
    let between = |from: f64, to: f64, part: f64| match schedule.anneal {
        Anneal::Linear => from + (to - from) * part,
        Anneal::Cos => to + (from - to) * 0.5 * (1.0 + (PI * part).cos()),
    };
    // PyTorch's phases end at these steps, the first of them mostly between two.
    let (step, top, end) = (at.step as f64, schedule.warmup_fraction * total - 1.0, total - 1.0);
    // One step alone makes both phases empty: it is at the top.
    let part =
        |passed: f64, length: f64| if length > 0.0 { (passed / length).min(1.0) } else { 0.0 };
    if step <= top {
        let part = if top > 0.0 { step / top } else { 1.0 };
        Hyper { lr: between(first, base.lr, part), momentum: between(high, low, part) }
    } else {
        let part = part(step - top, end - top);
        Hyper { lr: between(base.lr, last, part), momentum: between(low, high, part) }
    }
}
