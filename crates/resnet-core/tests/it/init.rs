//! Initialisation: torchvision's distributions, and the optional zero of each block's last gamma.

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::graph::StateRole;
use resnet_core::init::{Initial, initial_state};
use resnet_core::zoo;

fn initial(name: &str, zero_init_last: bool, seed: u64) -> Vec<Initial> {
    let mut spec = zoo::network(name).unwrap();
    spec.zero_init_last = zero_init_last;
    let graph = forward(&spec, &BuildOptions::imagenet(1, Mode::Training)).unwrap();
    initial_state(&spec, &graph, seed).collect()
}

fn moments(values: &[f32]) -> (f64, f64) {
    let count = values.len() as f64;
    let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / count;
    let variance = values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / count;
    (mean, variance.sqrt())
}

#[test]
fn convolutions_are_normal_with_he_s_fan_out_and_the_classifier_uniform() {
    for state in initial("resnet50", false, 3) {
        let (mean, std) = moments(&state.values);
        // Four standard errors of a mean and of a standard deviation.
        let error = 4.0 / (state.values.len() as f64).sqrt();
        let expected = match state.role {
            StateRole::ConvWeight => {
                (2.0 / (state.shape[0] * state.shape[2] * state.shape[3]) as f64).sqrt()
            }
            StateRole::LinearWeight | StateRole::Bias => {
                let bound = 1.0 / 2048f64.sqrt();
                assert!(
                    state.values.iter().all(|&v| f64::from(v).abs() <= bound),
                    "{}",
                    state.name
                );
                bound / 3f64.sqrt()
            }
            StateRole::NormWeight | StateRole::RunningVar => {
                assert_eq!((mean, std), (1.0, 0.0), "{}", state.name);
                continue;
            }
            StateRole::NormBias | StateRole::RunningMean => {
                assert_eq!((mean, std), (0.0, 0.0), "{}", state.name);
                continue;
            }
            StateRole::Gradient | StateRole::Velocity => panic!("{} is no model state", state.name),
        };
        assert!(mean.abs() < error * expected, "{}: mean {mean}", state.name);
        assert!((std / expected - 1.0).abs() < error, "{}: std {std}", state.name);
    }
}

#[test]
fn a_seed_changes_every_random_tensor_and_the_same_one_none() {
    let (first, other) = (initial("resnet20", false, 1), initial("resnet20", false, 2));
    assert_eq!(first, initial("resnet20", false, 1));
    for (a, b) in first.iter().zip(&other) {
        let random =
            a.role.is_parameter() && !matches!(a.role, StateRole::NormWeight | StateRole::NormBias);
        assert_eq!(a.values != b.values, random, "{}", a.name);
    }
}

#[test]
fn the_last_gamma_of_each_block_can_start_at_zero() {
    for (name, last, blocks) in [("resnet18", "bn2", 8), ("resnet50", "bn3", 16)] {
        let zeros: Vec<String> = initial(name, true, 0)
            .into_iter()
            .filter(|s| s.role == StateRole::NormWeight && s.values.iter().all(|&v| v == 0.0))
            .map(|s| s.name)
            .collect();
        assert_eq!(zeros.len(), blocks);
        assert!(zeros.iter().all(|name| name.ends_with(&format!(".{last}.weight"))), "{zeros:?}");
    }
}
