//! Average precision and F1 against scikit-learn's (`fixtures/training/scores.json`).

use std::path::Path;

use resnet_core::oracle::uniform;
use resnet_train::score::Quality;
use resnet_train::score::multi_label::{Rankings, average_precision};
use serde::Deserialize;

/// Sums of up to 200 terms in f64.
const NEAR: f64 = 1e-14;

#[derive(Deserialize)]
struct Scores {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    images: usize,
    classes: usize,
    grain: f64,
    share: f64,
    precisions: Vec<Option<f64>>,
    map: f64,
    f1_macro: f64,
    f1_micro: f64,
}

impl Case {
    /// Logits and targets, as `xtask/oracle/scores.py` makes them.
    fn made(&self) -> (Vec<f32>, Vec<f32>) {
        let u = |what: &str| {
            let u = uniform(&format!("{}/{what}", self.name), self.images * self.classes);
            u.into_iter().map(f64::from)
        };
        let logit = |u: f64| match 8.0 * u - 4.0 {
            logit if self.grain == 0.0 => logit,
            logit => (logit * self.grain).floor() / self.grain,
        };
        let there =
            |(i, u): (usize, f64)| f32::from(u8::from(u < self.share * (i % self.classes) as f64));
        // Exact in f32: u is a multiple of 2^-24.
        let logits = u("logits").map(|u| logit(u) as f32).collect();
        (logits, u("there").enumerate().map(there).collect())
    }
}

#[test]
fn average_precision_and_f1_are_scikit_learns() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/training/scores.json");
    let scores: Scores = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert_eq!(scores.cases.len(), 5);
    for case in &scores.cases {
        let (logits, targets) = case.made();
        for (class, expected) in case.precisions.iter().enumerate() {
            let own = |values: &[f32]| {
                values.iter().skip(class).step_by(case.classes).copied().collect::<Vec<_>>()
            };
            let there: Vec<bool> = own(&targets).iter().map(|&t| t == 1.0).collect();
            let found = average_precision(&own(&logits), &there);
            let is_near = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < NEAR,
                (found, expected) => found == *expected,
            };
            assert!(is_near, "{} {class}: {found:?} {expected:?}", case.name);
        }
        let mut rankings = Rankings::default();
        // In two batches, as an evaluation has several.
        let cut = case.images / 3 * case.classes;
        rankings.add(&logits[..cut], &targets[..cut], case.classes);
        rankings.add(&logits[cut..], &targets[cut..], case.classes);
        let Quality::MultiLabel { map, f1_macro, f1_micro } = rankings.score(0).quality else {
            panic!("scores of several labels")
        };
        let expected = [case.map, case.f1_macro, case.f1_micro];
        for (found, expected) in [map, f1_macro, f1_micro].into_iter().zip(expected) {
            assert!((found - expected).abs() < NEAR, "{}: {found} {expected}", case.name);
        }
    }
}
