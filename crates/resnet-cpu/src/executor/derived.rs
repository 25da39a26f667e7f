//! State that follows from other state, made anew when its sources have changed: folded weights, and
//! what a plan's preparation makes of them.
//!
//! It is kept in the store, for all plans and runs. Beside a training step it is kept in the arena
//! instead, behind the plan's own buffers, where it needs no room of its own; then it is made anew
//! when another plan has used that, too.

use std::collections::HashMap;

use resnet_core::executor::ExecutorError;
use resnet_core::pass::fold_bn::Fold;

use super::state::{Bound, StateStore};
use crate::kernel::conv::PackedLayout;
use crate::plan::{Layout, Plan, StateUse};
use crate::threads::ThreadPool;

/// Whether state of this name follows from other state.
pub(super) fn is_derived(name: &str) -> bool {
    ["folded/", "winograd/", "packed/"].iter().any(|prefix| name.starts_with(prefix))
}

/// A fold, and where what it makes is.
struct Folded {
    fold: Fold,
    layout: PackedLayout,
    weight: Bound,
    bias: Bound,
}

/// The folds of a compiled graph and what they were last made from.
#[derive(Default)]
pub(super) struct Derived {
    folds: Vec<Folded>,
    /// Places of all sources in the store.
    sources: Vec<usize>,
    /// The newest source when the folds were made.
    made_from: Option<u64>,
}

impl Derived {
    /// Takes the folds of a graph whose state is `bound`; creates the state that they read.
    pub(super) fn new(
        folds: Vec<Fold>,
        plan: &Plan,
        bound: &[Bound],
        states: &mut StateStore,
    ) -> Result<Derived, ExecutorError> {
        let mut sources = Vec::new();
        if !plan.preparation.is_empty() {
            for state in plan.states.iter().filter(|state| !is_derived(&state.name)) {
                sources.push(states.bind(state)?);
            }
        }
        let places = plan.states.iter().zip(bound);
        let by_name: HashMap<&str, (&StateUse, Bound)> =
            places.map(|(state, &at)| (state.name.as_str(), (state, at))).collect();
        let mut bind = |name: &str, like: &StateUse| {
            let source =
                StateUse { name: name.into(), layout: None, written: false, ..like.clone() };
            states.bind(&source).map(|at| sources.push(at))
        };
        let mut made = Vec::with_capacity(folds.len());
        for fold in folds {
            let [(weights, weight), (biases, bias)] =
                [&fold.folded_weight, &fold.folded_bias].map(|name| by_name[name.as_str()]);
            bind(&fold.weight, weights)?;
            fold.norm.iter().try_for_each(|name| bind(name, biases))?;
            let Some(Layout::Packed(layout)) = weights.layout else {
                unreachable!("a convolution's weights are packed")
            };
            made.push(Folded { fold, layout, weight, bias });
        }
        Ok(Derived { folds: made, sources, made_from: None })
    }

    /// Makes the folded state anew if a source has changed since, or if it is `lost`; tells whether it
    /// has. `beside` is the arena behind the plan's buffers.
    pub(super) fn refresh(
        &mut self,
        pool: &ThreadPool,
        states: &mut StateStore,
        beside: &mut [f32],
        lost: bool,
    ) -> Result<bool, ExecutorError> {
        let newest = Some(states.newest(&self.sources));
        if self.made_from == newest && !lost {
            return Ok(false);
        }
        for Folded { fold, layout, weight, bias } in &self.folds {
            let sources = fold.norm.iter().chain([&fold.weight]);
            // Another plan has made it already.
            if let Bound::Stored(at) = *weight
                && states.is_newer(at, sources)?
            {
                continue;
            }
            let [gamma, beta, mean, var] = &fold.norm;
            let norm = [
                states.export(gamma)?,
                states.export(beta)?,
                states.export(mean)?,
                states.export(var)?,
            ];
            let (scales, biases) = fold.scale_and_bias([0, 1, 2, 3].map(|i| norm[i].as_slice()));
            let source = states.find(&fold.weight)?;
            states.remake(*weight, beside, |states, folded| {
                states.scale_into(pool, source, &scales, (layout, folded));
            });
            states.remake(*bias, beside, |_, folded| {
                folded.iter_mut().zip(&biases).for_each(|(to, &bias)| *to = bias as f32);
            });
        }
        self.made_from = newest;
        Ok(true)
    }
}
