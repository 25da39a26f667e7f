//! The conformance suite: one list of cases that every executor runs against the reference in f64.
//!
//! [`cases`] holds every operation alone, on odd shapes (`operations`), then blocks and small
//! networks in evaluation and in training (`networks`). A new executor gets all of it with a loop
//! over the list; a new operation brings a line. [`rounding`] is for executors that store activations in
//! bf16.

mod int8;
mod networks;
mod operations;
pub mod rounding;

use thiserror::Error;

use crate::executor::{Executor, ExecutorError, Input, StepId};
use crate::graph::Graph;
use crate::reference::ReferenceExecutor;

/// A graph, or two that follow each other on one state, with all that running them needs.
#[derive(Clone, Debug)]
pub struct Case {
    /// Says what is computed, such as `conv2d 3x3/2 of 5x7x3`.
    pub name: String,
    /// Run in this order.
    runs: Vec<Run>,
    /// Names and values of the state at the start; zero where there are none.
    state: Vec<(String, Vec<f32>)>,
    /// How near the results have to be.
    bounds: Bounds,
}

#[derive(Clone, Debug)]
struct Run {
    graph: Graph,
    inputs: Vec<Given>,
}

/// An owned [`Input`].
#[derive(Clone, Debug)]
enum Given {
    U8(Vec<u8>),
    U32(Vec<u32>),
    F32(Vec<f32>),
}

#[derive(Clone, Debug)]
enum Bounds {
    /// For each output of the only graph, in its order.
    Outputs(Vec<Bound>),
    /// [`Near`], by the kind of the result.
    Network,
}

/// How near one result of an operation has to be to that in f64, element by element.
///
/// A sum of `n` terms in any order is off by at most about `n eps sum|terms|`, and by
/// `sqrt(n) eps sum|terms|` where roundings are independent (Higham 2002, "Accuracy and Stability
/// of Numerical Algorithms", section 4.2). The bound is `(4 + sqrt(n)) eps sum|terms|`.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Bound {
    /// Bits: nothing is rounded.
    Exact,
    /// A sum of that many products of inputs: the same graph on their absolute values gives
    /// `sum|terms|`.
    Products(usize),
    /// A sum of that many terms after which something smooth is done: the largest result stands
    /// for `sum|terms|`.
    Largest(usize),
}

/// How near the results of a network have to be, as a share of the largest expected; running
/// statistics of `max(1, |v|)`; gradients, velocities and parameters by relative L2 distance.
///
/// Gradients leave room for nothing that flips a ReLU: such a case needs other pictures.
struct Near;

impl Near {
    const OUTPUT: f64 = 1e-5;
    const RUNNING: f64 = 1e-5;
    const GRADIENT: f64 = 1e-4;
}

/// A result that is too far from the reference's.
#[derive(Clone, Debug, Error)]
pub enum Failure {
    /// The executor refuses the graph.
    #[error("{case}: {source}")]
    Refused {
        /// The case's name.
        case: String,
        /// Why.
        source: ExecutorError,
    },
    /// A number is off.
    #[error("{case}: {what} is {distance:.2e} from the reference, at most {bound:.2e}")]
    Far {
        /// The case's name.
        case: String,
        /// The output or state.
        what: String,
        /// How far it is.
        distance: f64,
        /// How far it may be.
        bound: f64,
    },
}

/// All cases: operations first.
pub fn cases() -> Vec<Case> {
    let mut cases = operations::cases();
    cases.extend(networks::cases());
    cases.extend(int8::cases());
    cases
}

impl Given {
    fn as_input(&self) -> Input<'_> {
        match self {
            Given::U8(values) => Input::U8(values),
            Given::U32(values) => Input::U32(values),
            Given::F32(values) => Input::F32(values),
        }
    }

    /// The absolute values.
    fn absolute(&self) -> Given {
        match self {
            Given::F32(values) => Given::F32(values.iter().map(|v| v.abs()).collect()),
            Given::U8(_) | Given::U32(_) => self.clone(),
        }
    }
}

impl Case {
    /// The graphs, in the order in which they run.
    pub fn graphs(&self) -> impl Iterator<Item = &Graph> {
        self.runs.iter().map(|run| &run.graph)
    }

    /// Runs the case on an executor without state and compares all outputs and all state.
    ///
    /// # Errors
    /// The first result that is too far from the reference's.
    pub fn check(&self, executor: &mut dyn Executor) -> Result<(), Failure> {
        let mut reference = ReferenceExecutor::<f64>::new();
        let refused = |source| Failure::Refused { case: self.name.clone(), source };
        let expected = self.run(&mut reference, &self.runs).map_err(refused)?;
        let found = self.run(executor, &self.runs).map_err(refused)?;
        match &self.bounds {
            Bounds::Outputs(bounds) => {
                self.check_outputs((executor, found[0]), (&reference, expected[0]), bounds)
            }
            Bounds::Network => self.check_network((executor, &found), (&reference, &expected)),
        }
    }

    /// Compiles all graphs, sets the state, then runs them.
    fn run(&self, executor: &mut dyn Executor, runs: &[Run]) -> Result<Vec<StepId>, ExecutorError> {
        let steps = runs.iter().map(|run| executor.compile(&run.graph));
        let steps = steps.collect::<Result<Vec<StepId>, ExecutorError>>()?;
        let shapes = executor.states();
        for (name, values) in &self.state {
            let shape = shapes.iter().find(|(known, _)| known == name);
            let (_, shape) =
                shape.ok_or_else(|| ExecutorError::UnknownState { name: name.clone() })?;
            executor.import(name, shape, values)?;
        }
        for (run, &step) in runs.iter().zip(&steps) {
            let inputs: Vec<Input<'_>> = run.inputs.iter().map(Given::as_input).collect();
            executor.run(step, &inputs)?;
        }
        Ok(steps)
    }

    fn check_outputs(
        &self,
        (executor, found): (&dyn Executor, StepId),
        (reference, expected): (&ReferenceExecutor<f64>, StepId),
        bounds: &[Bound],
    ) -> Result<(), Failure> {
        let refused = |source| Failure::Refused { case: self.name.clone(), source };
        let graph = &self.runs[0].graph;
        let inputs = self.runs[0].inputs.iter().map(Given::absolute).collect();
        let absolute = [Run { graph: graph.clone(), inputs }];
        let mut magnitudes = ReferenceExecutor::<f64>::new();
        let at = self.run(&mut magnitudes, &absolute).map_err(refused)?[0];
        for ((name, _), bound) in graph.outputs.iter().zip(bounds) {
            let found = wide(&executor.output(found, name).map_err(refused)?);
            let expected = reference.output_f64(expected, name).map_err(refused)?;
            let sums = match bound {
                Bound::Exact => vec![0.0; expected.len()],
                Bound::Products(_) => magnitudes.output_f64(at, name).map_err(refused)?,
                Bound::Largest(_) => vec![largest(&expected); expected.len()],
            };
            for ((found, expected), sum) in found.iter().zip(&expected).zip(sums) {
                self.near(name, (found - expected).abs(), bound.of(sum))?;
            }
        }
        Ok(())
    }

    fn check_network(
        &self,
        (executor, found): (&dyn Executor, &[StepId]),
        (reference, expected): (&ReferenceExecutor<f64>, &[StepId]),
    ) -> Result<(), Failure> {
        let refused = |source| Failure::Refused { case: self.name.clone(), source };
        for (i, run) in self.runs.iter().enumerate() {
            for (name, _) in &run.graph.outputs {
                let values = wide(&executor.output(found[i], name).map_err(refused)?);
                let truth = reference.output_f64(expected[i], name).map_err(refused)?;
                let distance = furthest(&values, &truth) / largest(&truth);
                self.near(name, distance, Near::OUTPUT)?;
            }
        }
        for (name, _) in reference.states() {
            let values = wide(&executor.export(&name).map_err(refused)?);
            let truth = reference.export_f64(&name).map_err(refused)?;
            if name.contains("running_") {
                let distance = furthest(&values, &truth) / largest(&truth).max(1.0);
                self.near(&name, distance, Near::RUNNING)?;
            } else {
                self.near(&name, relative_distance(&values, &truth), Near::GRADIENT)?;
            }
        }
        Ok(())
    }

    fn near(&self, what: &str, distance: f64, bound: f64) -> Result<(), Failure> {
        // NaN is near nothing.
        if distance.is_nan() || bound < distance {
            let (case, what) = (self.name.clone(), what.into());
            return Err(Failure::Far { case, what, distance, bound });
        }
        Ok(())
    }
}

impl Bound {
    fn of(self, sum: f64) -> f64 {
        match self {
            Bound::Exact => 0.0,
            Bound::Products(terms) | Bound::Largest(terms) => {
                (4.0 + (terms as f64).sqrt()) * f64::from(f32::EPSILON) * sum
            }
        }
    }
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().copied().map(f64::from).collect()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |m: f64, v| m.max(v.abs()))
}

/// The largest difference; NaN if there is one.
fn furthest(a: &[f64], b: &[f64]) -> f64 {
    let distances = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    distances.fold(0.0, |m, d| if d.is_nan() || m < d { d } else { m })
}

/// By L2, as a share of the truth.
fn relative_distance(values: &[f64], truth: &[f64]) -> f64 {
    let apart = norm(values.iter().zip(truth).map(|(a, b)| a - b));
    if apart == 0.0 { 0.0 } else { apart / norm(truth.iter().copied()) }
}

fn norm(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum::<f64>().sqrt()
}
