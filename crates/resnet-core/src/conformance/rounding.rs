//! Networks whose activations are stored in bf16: what the rounding does to their training.
//!
//! Two executors that are both right differ: sums that are off by anything fall to the other side of a
//! tie, one that fuses operations rounds less often, and each rounding may flip a ReLU. So both are
//! compared with the same training in f64 without any rounding: an executor may not be further from it
//! than the reference, which rounds what every operation stores.

use super::{Case, Failure, networks, relative_distance, wide};
use crate::executor::Executor;
use crate::op::DType;
use crate::reference::ReferenceExecutor;
use crate::spec::NetworkSpec;

/// How much further an executor may be than the reference, in the median of the pictures.
const RATIO: f64 = 1.5;
/// Different pictures that a network is trained on.
const PICTURES: u64 = 5;

/// Two steps of training of one network, for several sets of pictures.
#[derive(Clone, Debug)]
pub struct Rounding {
    /// Which network.
    pub name: String,
    trials: Vec<Trial>,
}

#[derive(Clone, Debug)]
struct Trial {
    rounded: Case,
    exact: Case,
}

/// Every kind of block, in small networks.
pub fn roundings() -> Vec<Rounding> {
    let of_network = |(name, spec): (String, NetworkSpec)| {
        let in_bf16 = format!("{name} in bf16");
        let trial = |pictures| Trial {
            rounded: networks::training(&in_bf16, &spec, DType::Bf16, pictures),
            exact: networks::training(&name, &spec, DType::F32, pictures),
        };
        Rounding { trials: (0..PICTURES).map(trial).collect(), name: in_bf16 }
    };
    networks::specs().into_iter().map(of_network).collect()
}

impl Rounding {
    /// Trains on executors without state, one for each set of pictures.
    ///
    /// # Errors
    /// A refused graph, or the median of the ratios of the two distances.
    pub fn check<E: Executor>(&self, mut executor: impl FnMut() -> E) -> Result<(), Failure> {
        let ratios = self.trials.iter().map(|trial| trial.ratio(&mut executor()));
        let ratio = median(ratios.collect::<Result<Vec<f64>, Failure>>()?);
        self.trials[0].rounded.near("distance from f64, in the reference's", ratio, RATIO)
    }
}

impl Trial {
    /// The executor's distance from exact results over the reference's, each the median of the relative
    /// distances of all state.
    fn ratio(&self, executor: &mut dyn Executor) -> Result<f64, Failure> {
        let case = self.rounded.name.clone();
        let refused = |source| Failure::Refused { case: case.clone(), source };
        let [mut reference, mut exact] = [(); 2].map(|()| ReferenceExecutor::<f64>::new());
        self.rounded.run(executor, &self.rounded.runs).map_err(refused)?;
        self.rounded.run(&mut reference, &self.rounded.runs).map_err(refused)?;
        self.exact.run(&mut exact, &self.exact.runs).map_err(refused)?;
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        for (name, _) in reference.states() {
            let truth = exact.export_f64(&name).map_err(refused)?;
            let values = wide(&executor.export(&name).map_err(refused)?);
            found.push(relative_distance(&values, &truth));
            let rounded = reference.export_f64(&name).map_err(refused)?;
            expected.push(relative_distance(&rounded, &truth));
        }
        Ok(median(found) / median(expected))
    }
}

/// NaN if one is.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let nan = values.iter().any(|value| value.is_nan());
    if nan { f64::NAN } else { values[values.len() / 2] }
}
