//! State that follows from other state, made anew when its sources have changed: folded weights, and
//! what a plan's preparation makes of them.

use resnet_core::executor::ExecutorError;
use resnet_core::pass::fold_bn::Fold;

use super::state::StateStore;
use crate::plan::Plan;
use crate::threads::ThreadPool;

/// Whether state of this name follows from other state.
pub(super) fn is_derived(name: &str) -> bool {
    ["folded/", "winograd/", "packed/"].iter().any(|prefix| name.starts_with(prefix))
}

/// The folds of a compiled graph and what they were last made from.
#[derive(Default)]
pub(super) struct Derived {
    folds: Vec<Fold>,
    /// Places of all sources in the store.
    sources: Vec<usize>,
    /// The newest source when the folds were made.
    made_from: Option<u64>,
}

impl Derived {
    /// Takes the folds of a graph whose folded state is bound; creates the state that they read.
    pub(super) fn new(
        folds: Vec<Fold>,
        plan: &Plan,
        states: &mut StateStore,
    ) -> Result<Derived, ExecutorError> {
        let mut sources = Vec::new();
        if !plan.preparation.is_empty() {
            for state in plan.states.iter().filter(|state| !is_derived(&state.name)) {
                sources.push(states.bind(state)?);
            }
        }
        for fold in &folds {
            sources.push(states.bind_source(&fold.weight, &fold.folded_weight)?);
            for name in &fold.norm {
                sources.push(states.bind_source(name, &fold.folded_bias)?);
            }
        }
        Ok(Derived { folds, sources, made_from: None })
    }

    /// Makes the folded state anew if a source has changed since; tells whether one has.
    pub(super) fn refresh(
        &mut self,
        pool: &ThreadPool,
        states: &mut StateStore,
    ) -> Result<bool, ExecutorError> {
        let newest = Some(states.newest(&self.sources));
        if self.made_from == newest {
            return Ok(false);
        }
        for fold in &self.folds {
            // Another plan has made it already.
            if states.is_newer(&fold.folded_weight, fold.norm.iter().chain([&fold.weight]))? {
                continue;
            }
            let [gamma, beta, mean, var] = &fold.norm;
            let norm = [
                states.export(gamma)?,
                states.export(beta)?,
                states.export(mean)?,
                states.export(var)?,
            ];
            let (scale, bias) = fold.scale_and_bias([0, 1, 2, 3].map(|i| norm[i].as_slice()));
            let bias: Vec<f32> = bias.iter().map(|&b| b as f32).collect();
            states.scale_into(pool, &fold.weight, &scale, &fold.folded_weight)?;
            states.replace(&fold.folded_bias, &bias)?;
        }
        self.made_from = newest;
        Ok(true)
    }
}
