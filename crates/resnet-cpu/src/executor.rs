//! The CPU executor: compiles graphs to plans, keeps the state, runs plans over one arena.

mod derived;
mod int8;
mod memory;
mod run;
mod state;

use std::cell::RefCell;
use std::time::Instant;

use resnet_core::executor::{Executor, ExecutorError, Input, StepId, Values};
use resnet_core::graph::Graph;
use resnet_core::op::DType;
use resnet_core::pass::fold_bn::{Fold, fold_batch_norm};
use resnet_simd::{AlignedVec, Isa};

use self::derived::{Derived, is_derived};
use self::memory::{Access, Memory, StatePlace};
use self::state::{Bound, StateStore, stored_len};
use crate::plan::arena::ALIGNMENT;
use crate::plan::choose::Purpose;
use crate::plan::{Layout, Plan, Slot, StateUse, lower};
use crate::threads::ThreadPool;

/// How an executor computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuOptions {
    /// Instruction set.
    pub isa: Isa,
    /// Computing threads, the calling one included.
    pub threads: usize,
    /// Leaves Winograd's tiles out: direct convolution everywhere.
    pub exact: bool,
    /// Drops what is cheap to make again in the forward pass of training, and makes it again for the
    /// gradients: the same bits, less memory, some time.
    pub recompute: bool,
    /// Fills every buffer with NaN before it is written and after it was last read, and panics if a
    /// NaN reaches an output: a test that no step reads what was not written.
    pub checked: bool,
}

impl CpuOptions {
    /// The defaults for an instruction set and a number of threads.
    pub fn new(isa: Isa, threads: usize) -> CpuOptions {
        CpuOptions { isa, threads, exact: false, recompute: false, checked: false }
    }
}

/// Runs graphs on the CPU in f32, on activations that are stored as the graph says.
pub struct CpuExecutor {
    options: CpuOptions,
    pool: ThreadPool,
    arena: AlignedVec<f32>,
    /// The step that used the arena last.
    arena_of: Option<StepId>,
    states: StateStore,
    compiled: Vec<Option<Compiled>>,
}

/// A plan with what a run of it needs.
struct Compiled {
    plan: Plan,
    /// Whether it has gradients.
    trains: bool,
    /// Where each of the plan's state tensors is.
    states: Vec<Bound>,
    derived: Derived,
    outputs: Vec<Vec<f32>>,
    places: Vec<StatePlace>,
    handed: RefCell<Vec<(Slot, Access)>>,
}

impl CpuExecutor {
    /// An executor with no state yet.
    pub fn new(options: CpuOptions) -> CpuExecutor {
        CpuExecutor {
            options,
            pool: ThreadPool::new(options.threads),
            arena: AlignedVec::zeroed(0),
            arena_of: None,
            states: StateStore::default(),
            compiled: Vec::new(),
        }
    }

    /// How it computes.
    pub fn options(&self) -> CpuOptions {
        self.options
    }

    /// The plan of a compiled step.
    pub fn plan(&self, step: StepId) -> &Plan {
        &self.step(step).plan
    }

    fn step(&self, step: StepId) -> &Compiled {
        self.compiled[step.0].as_ref().expect("the step was released")
    }

    /// Runs a step and gives the seconds of each of its plan's steps.
    ///
    /// # Errors
    /// As [`Executor::run`].
    pub fn run_timed(
        &mut self,
        step: StepId,
        inputs: &[Input<'_>],
    ) -> Result<Vec<f64>, ExecutorError> {
        let mut ends = Vec::with_capacity(self.plan(step).steps.len());
        let start = Instant::now();
        self.run_steps(step, inputs, &mut || ends.push(start.elapsed().as_secs_f64()))?;
        let starts = std::iter::once(0.0).chain(ends.iter().copied());
        Ok(starts.zip(&ends).map(|(start, end)| end - start).collect())
    }

    /// Runs a plan, calling `after_each` after each of its steps.
    fn run_steps(
        &mut self,
        step: StepId,
        inputs: &[Input<'_>],
        after_each: &mut dyn FnMut(),
    ) -> Result<(), ExecutorError> {
        let compiled = self.compiled[step.0].as_mut().expect("the step was released");
        Self::check_inputs(&compiled.plan, inputs)?;
        let Compiled { plan, states, derived, outputs, places, handed, .. } = compiled;
        let (buffers, beside) = self.arena.split_at_mut(plan.arena_bytes / 4);
        let is_beside = |state: &Bound| matches!(state, Bound::Beside { .. });
        let lost = self.arena_of != Some(step) && states.iter().any(is_beside);
        let prepare = derived.refresh(&self.pool, &mut self.states, beside, lost)?;
        self.arena_of = Some(step);
        let beside = beside.as_mut_ptr();
        places.clear();
        places.extend(states.iter().map(|&state| match state {
            Bound::Stored(i) => self.states.place(i),
            Bound::Beside { start, len } => StatePlace { values: beside.wrapping_add(start), len },
        }));
        // SAFETY: the store is borrowed mutably for the run and not touched until `memory` is gone;
        // its tensors are allocations of their own, and `bind` gives each name one tensor. What
        // is beside the buffers is none of theirs, and `bind` gives each name a part of it.
        let mut memory = unsafe { Memory::new(plan, buffers, places, inputs, handed) };
        let machine = run::Machine { isa: self.options.isa, pool: &self.pool };
        for step in plan.preparation.iter().filter(|_| prepare) {
            run::step(machine, step, &memory.step());
        }
        for (i, step) in plan.steps.iter().enumerate() {
            if self.options.checked {
                memory.poison(i);
            }
            run::step(machine, step, &memory.step());
            after_each();
        }
        for (result, output) in plan.outputs.iter().zip(outputs) {
            run::copy_output(result, &memory.step(), output);
            let sound = !self.options.checked || output.iter().all(|x| !x.is_nan());
            assert!(sound, "checked mode: an output holds NaN");
        }
        for (state, &at) in plan.states.iter().zip(states.iter()) {
            if let (true, Bound::Stored(at)) = (state.written, at) {
                self.states.touch(at);
            }
        }
        Ok(())
    }

    /// Finds or creates the state that a plan uses; also gives the floats that it needs beside the plan's
    /// buffers.
    fn bind(&mut self, states: &[StateUse]) -> Result<(Vec<Bound>, usize), ExecutorError> {
        // A training step's arena has room for all that an evaluation makes for itself.
        let in_arena = self.compiled.iter().flatten().any(|compiled| compiled.trains);
        let mut beside = 0;
        let mut bind = |state: &StateUse| {
            if !in_arena || !is_derived(&state.name) {
                return self.states.bind(state).map(Bound::Stored);
            }
            let layout = state.layout.as_ref().unwrap_or(&Layout::Plain);
            let (start, len) = (beside, stored_len(&state.shape, layout));
            beside += len.next_multiple_of(ALIGNMENT / 4);
            Ok(Bound::Beside { start, len })
        };
        let bound = states.iter().map(&mut bind).collect::<Result<_, _>>()?;
        Ok((bound, beside))
    }

    fn check_inputs(plan: &Plan, inputs: &[Input<'_>]) -> Result<(), ExecutorError> {
        for (i, (name, dtype, expected)) in plan.inputs.iter().enumerate() {
            let found = match (inputs.get(i), dtype) {
                (Some(Input::U8(values)), DType::U8) => values.len(),
                (Some(Input::U32(values)), DType::U32) => values.len(),
                (Some(Input::F32(values)), DType::F32) => values.len(),
                _ => 0,
            };
            if found != *expected {
                return Err(ExecutorError::BadInput {
                    name: name.clone(),
                    found,
                    expected: *expected,
                });
            }
        }
        Ok(())
    }
}

impl Executor for CpuExecutor {
    fn compile(&mut self, graph: &Graph) -> Result<StepId, ExecutorError> {
        graph.verify()?;
        let trains = trains(graph);
        let purpose = if self.options.exact {
            Purpose::Exact
        } else if trains {
            Purpose::Training
        } else {
            Purpose::Inference
        };
        let (graph, folds) = fold(graph)?;
        let CpuOptions { isa, threads, recompute, .. } = self.options;
        let mut plan = lower::lower(&graph, isa, threads, purpose, false)?;
        if recompute && trains {
            // Where weights outweigh pictures, gaps in the arena can cost more than is dropped.
            let smaller = lower::lower(&graph, isa, threads, purpose, true)?;
            plan = if smaller.arena_bytes < plan.arena_bytes { smaller } else { plan };
        }
        debug_assert!(plan.places_are_disjoint(), "live buffers overlap");
        let (states, beside) = self.bind(&plan.states)?;
        let derived = Derived::new(folds, &plan, &states, &mut self.states)?;
        let floats = plan.arena_bytes / 4 + beside;
        if self.arena.len() < floats {
            self.arena = AlignedVec::zeroed(floats);
            self.arena_of = None;
        }
        let outputs = plan.outputs.iter().map(|output| vec![0.0; output.len]).collect();
        let places = Vec::with_capacity(states.len());
        let handed = RefCell::new(Vec::with_capacity(plan.states.len() + 16));
        self.compiled.push(Some(Compiled {
            plan,
            trains,
            states,
            derived,
            outputs,
            places,
            handed,
        }));
        Ok(StepId(self.compiled.len() - 1))
    }

    fn release(&mut self, step: StepId) {
        self.compiled[step.0] = None;
    }

    fn run(&mut self, step: StepId, inputs: &[Input<'_>]) -> Result<(), ExecutorError> {
        self.run_steps(step, inputs, &mut || {})
    }

    fn output(&self, step: StepId, name: &str) -> Result<Vec<f32>, ExecutorError> {
        let compiled = self.step(step);
        let at = compiled.plan.outputs.iter().position(|output| output.name == name);
        let at = at.ok_or_else(|| ExecutorError::UnknownOutput { name: name.into() })?;
        Ok(compiled.outputs[at].clone())
    }

    fn import(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), ExecutorError> {
        self.states.import(name, shape, values)
    }

    fn import_shared(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &Values,
    ) -> Result<(), ExecutorError> {
        self.states.import_shared(name, shape, values)
    }

    fn export(&self, name: &str) -> Result<Vec<f32>, ExecutorError> {
        self.states.export(name)
    }

    fn memory_bytes(&self) -> usize {
        4 * self.arena.len() + self.states.bytes()
    }

    fn states(&self) -> Vec<(String, Vec<usize>)> {
        let own = self.states.list().filter(|(name, ..)| !is_derived(name));
        own.map(|(name, _, shape)| (name.into(), shape.to_vec())).collect()
    }
}

/// An evaluation graph gets its batch norms folded; one with gradients needs what is between.
fn fold(graph: &Graph) -> Result<(Graph, Vec<Fold>), ExecutorError> {
    if trains(graph) {
        return Ok((graph.clone(), Vec::new()));
    }
    Ok(fold_batch_norm(graph)?)
}

fn trains(graph: &Graph) -> bool {
    graph.nodes.iter().any(|node| node.op.is_loss_gradient())
}
