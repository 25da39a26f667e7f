//! The reference executor: any graph by plain loops that read like the definitions.
//!
//! It is the oracle between other engines and PyTorch; nothing but loop order is tuned for speed.
//! Values are stored as `R` (f64, or f32 to see what storage alone costs), and rounded to bf16 where
//! the graph says so; every sum is made in f64.

mod conv;
mod elementwise;
mod int8;
mod loss;
mod norm;
mod operation;
mod pool;
mod update;

use std::collections::HashMap;

use half::bf16;

use crate::executor::{Executor, ExecutorError, Input, StepId};
use crate::graph::{Graph, Origin, TensorId};
use crate::op::DType;
use operation::{Operands, evaluate};

/// What real numbers are stored as.
pub trait Real: Copy + std::fmt::Debug {
    /// Rounds to the nearest.
    fn from_f64(value: f64) -> Self;
    /// Exact.
    fn to_f64(self) -> f64;
}

impl Real for f64 {
    fn from_f64(value: f64) -> f64 {
        value
    }

    fn to_f64(self) -> f64 {
        self
    }
}

impl Real for f32 {
    fn from_f64(value: f64) -> f32 {
        value as f32
    }

    fn to_f64(self) -> f64 {
        f64::from(self)
    }
}

/// The elements of a tensor.
#[derive(Clone, Debug)]
enum Value<R> {
    Real(Vec<R>),
    U8(Vec<u8>),
    U32(Vec<u32>),
}

impl<R: Real> Value<R> {
    fn to_f64(&self) -> Vec<f64> {
        match self {
            Value::Real(values) => values.iter().map(|v| v.to_f64()).collect(),
            Value::U8(values) => values.iter().map(|&v| f64::from(v)).collect(),
            Value::U32(values) => values.iter().map(|&v| f64::from(v)).collect(),
        }
    }

    /// What is left of the value where it is stored so.
    fn stored_as(mut self, dtype: DType) -> Value<R> {
        if let (DType::Bf16, Value::Real(values)) = (dtype, &mut self) {
            values.iter_mut().for_each(|v| *v = round_bf16(v.to_f64()));
        }
        self
    }
}

/// Rounds as an engine does: its arithmetic is in f32.
fn round_bf16<R: Real>(value: f64) -> R {
    R::from_f64(bf16::from_f32(value as f32).to_f64())
}

/// A tensor of real numbers.
#[derive(Clone, Copy)]
struct View<'a, R> {
    shape: &'a [usize],
    values: &'a [R],
}

impl<'a, R: Real> View<'a, R> {
    fn dims<const N: usize>(self) -> [usize; N] {
        self.shape.try_into().expect("shape inference checked the rank")
    }

    fn channels(self) -> usize {
        *self.shape.last().expect("no tensor is without dimensions")
    }

    /// The channels of one pixel.
    fn pixel(self, [n, y, x]: [usize; 3]) -> &'a [R] {
        let [_, h, w, c] = self.dims();
        &self.values[((n * h + y) * w + x) * c..][..c]
    }
}

/// A named tensor that lives from run to run.
#[derive(Debug)]
struct State<R> {
    name: String,
    shape: Vec<usize>,
    value: Value<R>,
}

/// A graph with what running it needs.
#[derive(Debug)]
struct Step<R> {
    graph: Graph,
    /// For each tensor of the graph, its place in the state, if it is state.
    state_of: Vec<Option<usize>>,
    /// For each node, tensors that nothing reads after it.
    last_read: Vec<Vec<TensorId>>,
    /// Outputs of the last run.
    outputs: Vec<(String, Value<R>)>,
}

/// Runs graphs in f64 or f32. See [`Executor`] for the contract.
#[derive(Debug)]
pub struct ReferenceExecutor<R> {
    states: Vec<State<R>>,
    by_name: HashMap<String, usize>,
    steps: Vec<Option<Step<R>>>,
}

impl<R: Real> Default for ReferenceExecutor<R> {
    fn default() -> Self {
        ReferenceExecutor::new()
    }
}

impl<R: Real> ReferenceExecutor<R> {
    /// An executor without state.
    pub fn new() -> ReferenceExecutor<R> {
        ReferenceExecutor { states: Vec::new(), by_name: HashMap::new(), steps: Vec::new() }
    }

    /// A named output of the last run, unrounded. Integer outputs come as numbers.
    ///
    /// # Errors
    /// [`ExecutorError::UnknownOutput`].
    pub fn output_f64(&self, step: StepId, name: &str) -> Result<Vec<f64>, ExecutorError> {
        let output = self.step(step).outputs.iter().find(|(output, _)| output == name);
        let (_, value) =
            output.ok_or_else(|| ExecutorError::UnknownOutput { name: name.into() })?;
        Ok(value.to_f64())
    }

    /// Reads a state tensor, unrounded.
    ///
    /// # Errors
    /// [`ExecutorError::UnknownState`].
    pub fn export_f64(&self, name: &str) -> Result<Vec<f64>, ExecutorError> {
        Ok(self.states[self.find(name)?].value.to_f64())
    }

    /// Sets a state tensor, rounding to `R`.
    ///
    /// # Errors
    /// [`ExecutorError::UnknownState`] or [`ExecutorError::StateShape`].
    pub fn import_f64(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f64],
    ) -> Result<(), ExecutorError> {
        let at = self.find(name)?;
        let state = &mut self.states[at];
        if state.shape != shape || values.len() != shape.iter().product::<usize>() {
            let (found, expected) = (shape.to_vec(), state.shape.clone());
            return Err(ExecutorError::StateShape { name: name.into(), found, expected });
        }
        state.value = Value::Real(values.iter().map(|&v| R::from_f64(v)).collect());
        Ok(())
    }

    fn find(&self, name: &str) -> Result<usize, ExecutorError> {
        let found = self.by_name.get(name).copied();
        found.ok_or_else(|| ExecutorError::UnknownState { name: name.into() })
    }

    fn step(&self, step: StepId) -> &Step<R> {
        self.steps[step.0].as_ref().expect("the step was compiled here and not released")
    }

    /// Looks all state tensors of a graph up, creating new ones, zero.
    fn bind(&mut self, graph: &Graph) -> Result<Vec<Option<usize>>, ExecutorError> {
        for (id, _) in graph.states() {
            let (name, shape) = (&graph.get(id).name, graph.shape(id));
            if let Some(&at) = self.by_name.get(name)
                && self.states[at].shape != shape
            {
                let (found, expected) = (shape.to_vec(), self.states[at].shape.clone());
                return Err(ExecutorError::StateShape { name: name.clone(), found, expected });
            }
        }
        let mut state_of = vec![None; graph.tensors.len()];
        for (id, _) in graph.states() {
            let (name, shape) = (graph.get(id).name.clone(), graph.shape(id).to_vec());
            let at = *self.by_name.entry(name.clone()).or_insert(self.states.len());
            if at == self.states.len() {
                let value = Value::Real(vec![R::from_f64(0.0); graph.ty(id).len()]);
                self.states.push(State { name, shape, value });
            }
            state_of[id.0 as usize] = Some(at);
        }
        Ok(state_of)
    }
}

/// For each node, the node results that are neither read later nor kept as output or update.
fn last_reads(graph: &Graph) -> Vec<Vec<TensorId>> {
    let mut kept = vec![false; graph.tensors.len()];
    let outputs = graph.outputs.iter().map(|(_, id)| id);
    for id in outputs.chain(graph.updates.iter().map(|(_, value)| value)) {
        kept[id.0 as usize] = true;
    }
    let mut last_read = vec![Vec::new(); graph.nodes.len()];
    for (i, node) in graph.nodes.iter().enumerate().rev() {
        for &id in node.inputs.iter().chain(&node.outputs) {
            let is_result = matches!(graph.get(id).origin, Origin::Node(..));
            if is_result && !std::mem::replace(&mut kept[id.0 as usize], true) {
                last_read[i].push(id);
            }
        }
    }
    last_read
}

/// Checks an input against the graph and copies it.
fn read_input<R: Real>(
    graph: &Graph,
    id: TensorId,
    input: Input<'_>,
) -> Result<Value<R>, ExecutorError> {
    let (ty, len) = (graph.ty(id), graph.ty(id).len());
    let (value, found) = match (ty.dtype, input) {
        (DType::U8, Input::U8(v)) => (Some(Value::U8(v.to_vec())), v.len()),
        (DType::U32, Input::U32(v)) => (Some(Value::U32(v.to_vec())), v.len()),
        (DType::F32, Input::F32(v)) => {
            let values = v.iter().map(|&v| R::from_f64(f64::from(v))).collect();
            (Some(Value::Real(values)), v.len())
        }
        (DType::Bf16, Input::F32(v)) => {
            let values = v.iter().map(|&v| round_bf16(f64::from(v))).collect();
            (Some(Value::Real(values)), v.len())
        }
        (DType::U8 | DType::U32 | DType::F32 | DType::Bf16, _) => (None, 0),
    };
    let bad = || {
        let name = graph.get(id).name.clone();
        ExecutorError::BadInput { name, found, expected: len }
    };
    value.filter(|_| found == len).ok_or_else(bad)
}

impl<R: Real> Step<R> {
    /// Runs all nodes; gives the values of outputs and updates.
    fn evaluate(
        &self,
        states: &[State<R>],
        inputs: &[Input<'_>],
    ) -> Result<Vec<Option<Value<R>>>, ExecutorError> {
        let graph = &self.graph;
        let mut values: Vec<Option<Value<R>>> = vec![None; graph.tensors.len()];
        if inputs.len() < graph.inputs.len() {
            let missing = graph.inputs[inputs.len()];
            let (name, expected) = (graph.get(missing).name.clone(), graph.ty(missing).len());
            return Err(ExecutorError::BadInput { name, found: 0, expected });
        }
        for (&id, &input) in graph.inputs.iter().zip(inputs) {
            values[id.0 as usize] = Some(read_input(graph, id, input)?);
        }
        for (node, dead) in graph.nodes.iter().zip(&self.last_read) {
            let operand = |id: &TensorId| {
                (graph.shape(*id), self.value(states, &values, *id).expect("nodes are in order"))
            };
            let operands = Operands { values: node.inputs.iter().map(operand).collect() };
            for (&id, value) in node.outputs.iter().zip(evaluate(&node.op, &operands)) {
                values[id.0 as usize] = Some(value.stored_as(graph.ty(id).dtype));
            }
            for id in dead {
                values[id.0 as usize] = None;
            }
        }
        Ok(values)
    }

    fn value<'a>(
        &self,
        states: &'a [State<R>],
        values: &'a [Option<Value<R>>],
        id: TensorId,
    ) -> Option<&'a Value<R>> {
        match self.state_of[id.0 as usize] {
            Some(at) => Some(&states[at].value),
            None => values[id.0 as usize].as_ref(),
        }
    }
}

impl<R: Real> Executor for ReferenceExecutor<R> {
    fn compile(&mut self, graph: &Graph) -> Result<StepId, ExecutorError> {
        graph.verify()?;
        let state_of = self.bind(graph)?;
        let (graph, last_read) = (graph.clone(), last_reads(graph));
        self.steps.push(Some(Step { graph, state_of, last_read, outputs: Vec::new() }));
        Ok(StepId(self.steps.len() - 1))
    }

    fn release(&mut self, step: StepId) {
        self.steps[step.0] = None;
    }

    fn run(&mut self, step: StepId, inputs: &[Input<'_>]) -> Result<(), ExecutorError> {
        let states = &mut self.states;
        let step = self.steps[step.0].as_mut().expect("the step was compiled here");
        let values = step.evaluate(states, inputs)?;
        let kept = |id| step.value(states, &values, id).expect("outputs are kept").clone();
        let outputs = step.graph.outputs.iter().map(|(name, id)| (name.clone(), kept(*id)));
        let outputs = outputs.collect();
        let place = |id: TensorId| step.state_of[id.0 as usize].expect("only state is updated");
        let updates = step.graph.updates.iter();
        let updates: Vec<_> = updates.map(|&(state, id)| (place(state), kept(id))).collect();
        step.outputs = outputs;
        for (at, value) in updates {
            states[at].value = value;
        }
        Ok(())
    }

    fn output(&self, step: StepId, name: &str) -> Result<Vec<f32>, ExecutorError> {
        Ok(self.output_f64(step, name)?.into_iter().map(|v| v as f32).collect())
    }

    fn import(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), ExecutorError> {
        let values: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
        self.import_f64(name, shape, &values)
    }

    fn export(&self, name: &str) -> Result<Vec<f32>, ExecutorError> {
        Ok(self.export_f64(name)?.into_iter().map(|v| v as f32).collect())
    }

    /// Of the state alone.
    fn memory_bytes(&self) -> usize {
        let elements = self.states.iter().map(|state| state.shape.iter().product::<usize>());
        elements.sum::<usize>() * size_of::<R>()
    }

    fn states(&self) -> Vec<(String, Vec<usize>)> {
        self.states.iter().map(|state| (state.name.clone(), state.shape.clone())).collect()
    }
}
