//! A network in an executor: its compiled steps, few at a time, over one state.
//!
//! Training, its short last batch and evaluation are graphs of other shapes over the same named
//! tensors. At most two of training and two of evaluation are compiled at any time, the full batch and
//! one other; the update has no batch and is compiled once.

use std::borrow::Borrow;

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::executor::{Executor, Input, StepId, Values};
use resnet_core::graph::Graph;
use resnet_core::op::DType;
use resnet_core::pass::quantize::Activations;
use resnet_core::spec::NetworkSpec;
use resnet_core::step::{Loss, SgdOptions, Targets, gradient_graph, update_graph, velocity_name};

use crate::error::TrainError;
use crate::int8::int8_graph;
use crate::schedule::Hyper;

/// What is trained, how, and in batches of how many.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The network; its input is what evaluation sees.
    pub spec: NetworkSpec,
    /// Rows and columns of training pictures.
    pub train_size: [usize; 2],
    /// Mean of each input channel.
    pub mean: Vec<f64>,
    /// Standard deviation of each input channel.
    pub std: Vec<f64>,
    /// What is minimised; each batch is divided by its own size.
    pub loss: Loss,
    /// The optimiser's constants.
    pub sgd: SgdOptions,
    /// Whether targets are class numbers, or a number for each class.
    pub targets: Targets,
    /// Seed of dropout and stochastic depth.
    pub seed: u64,
    /// How activations and their gradients are stored: `F32` or `Bf16`.
    pub stored: DType,
    /// For evaluation on bytes what those of each activation stand for; none: in f32.
    pub activations: Option<Activations>,
}

/// A named tensor in canonical layout: a parameter, a statistic, a momentum.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    /// Its name in executors and files.
    pub name: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: Values,
}

/// The targets of a batch.
#[derive(Clone, Copy, Debug)]
pub enum BatchTargets<'a> {
    /// A class a picture.
    Classes(&'a [u32]),
    /// A number from 0 to 1 for each class of a picture, `[n, classes]`.
    Dense(&'a [f32]),
}

/// What the gradients of a batch came with.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    /// Mean loss of the batch.
    pub loss: f32,
    /// `[n, classes]`.
    pub logits: Vec<f32>,
}

/// A compiled graph for one batch size.
#[derive(Clone, Debug)]
struct Compiled {
    batch: usize,
    step: StepId,
    inputs: Vec<String>,
}

/// Compiled graphs of one kind: the first one made, and the last other one.
#[derive(Debug, Default)]
struct Pair {
    main: Option<Compiled>,
    rest: Option<Compiled>,
}

/// A network that can be evaluated, and trained if it was made for it.
pub struct Engine {
    executor: Box<dyn Executor>,
    plan: Plan,
    train: Pair,
    eval: Pair,
    update: Option<Compiled>,
}

impl Engine {
    /// A network for training in batches of `batch`, with its parameters and statistics.
    ///
    /// # Errors
    /// When the network does not fit its input or the executor cannot run it.
    pub fn for_training(
        executor: Box<dyn Executor>,
        plan: Plan,
        batch: usize,
        states: impl Iterator<Item = StateTensor>,
    ) -> Result<Engine, TrainError> {
        let graph = forward(&plan.spec, &plan.build_options(batch, Mode::Training))?;
        let update = update_graph(&graph, &plan.sgd)?;
        let mut engine = Engine::new(executor, plan);
        engine.compiled(Mode::Training, batch)?;
        engine.update = Some(compile(engine.executor.as_mut(), &update, 0)?);
        for (id, _) in graph.parameters() {
            let tensor = graph.get(id);
            let zeros = vec![0.0; tensor.ty.len()];
            engine.executor.import(&velocity_name(&tensor.name), &tensor.ty.shape, &zeros)?;
        }
        engine.import(states)?;
        Ok(engine)
    }

    /// A network for evaluation in batches of `batch`.
    ///
    /// # Errors
    /// When the network does not fit its input or the executor cannot run it.
    pub fn for_evaluation(
        executor: Box<dyn Executor>,
        plan: Plan,
        batch: usize,
        states: &[StateTensor],
    ) -> Result<Engine, TrainError> {
        let mut engine = Engine::new(executor, plan);
        engine.compiled(Mode::Evaluation, batch)?;
        engine.import(states)?;
        Ok(engine)
    }

    fn new(executor: Box<dyn Executor>, plan: Plan) -> Engine {
        Engine { executor, plan, train: Pair::default(), eval: Pair::default(), update: None }
    }

    /// Makes the pictures that are trained on from now on so many rows and columns.
    pub fn set_train_size(&mut self, size: [usize; 2]) {
        if self.plan.train_size == size {
            return;
        }
        self.plan.train_size = size;
        let Pair { main, rest } = std::mem::take(&mut self.train);
        for old in main.into_iter().chain(rest) {
            self.executor.release(old.step);
        }
    }

    /// The executor, which owns all state.
    pub fn executor(&mut self) -> &mut dyn Executor {
        self.executor.as_mut()
    }

    /// What is trained.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sets named tensors, one after the other.
    fn import(
        &mut self,
        states: impl IntoIterator<Item = impl Borrow<StateTensor>>,
    ) -> Result<(), TrainError> {
        for state in states {
            let state = state.borrow();
            self.executor.import_shared(&state.name, &state.shape, &state.values)?;
        }
        Ok(())
    }

    /// The first state, but for gradients, that holds a number that is infinite or none.
    ///
    /// # Errors
    /// None for an executor that keeps its contract.
    pub fn not_finite(&self) -> Result<Option<String>, TrainError> {
        for (name, _) in self.executor.states() {
            let is_lasting = !name.starts_with("grad/");
            if is_lasting && self.executor.export(&name)?.iter().any(|v| !v.is_finite()) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Forward and backward: leaves the gradients in the state and updates the running statistics.
    ///
    /// `step` counts the updates made before; it draws dropout and stochastic depth.
    ///
    /// # Errors
    /// When the executor refuses the batch.
    ///
    /// # Panics
    /// When the targets are not of the plan's kind.
    pub fn gradients(
        &mut self,
        pixels: &[u8],
        targets: BatchTargets<'_>,
        step: u64,
    ) -> Result<Forward, TrainError> {
        let batch = self.batch_of(pixels, Mode::Training);
        let compiled = self.compiled(Mode::Training, batch)?;
        let seed = [self.plan.seed as u32, (self.plan.seed >> 32) as u32];
        // The counter of the streams has 32 bits; so many steps are never made.
        let step = [step as u32];
        let inputs = compiled.inputs.iter().map(|name| match (name.as_str(), targets) {
            ("input", _) => Input::U8(pixels),
            ("seed", _) => Input::U32(&seed),
            ("step", _) => Input::U32(&step),
            ("labels", BatchTargets::Classes(labels)) => Input::U32(labels),
            ("targets", BatchTargets::Dense(values)) => Input::F32(values),
            (other, _) => panic!("a training graph asks for {other}, which {targets:?} has not"),
        });
        let inputs: Vec<Input<'_>> = inputs.collect();
        self.executor.run(compiled.step, &inputs)?;
        let loss = self.executor.output(compiled.step, "loss")?[0];
        let logits = self.executor.output(compiled.step, "logits")?;
        Ok(Forward { loss, logits })
    }

    /// Changes the parameters by the gradients of the last batch. The norm of all gradients before
    /// clipping, if they are clipped.
    ///
    /// # Errors
    /// None for an executor that keeps its contract.
    ///
    /// # Panics
    /// When the engine was not made for training.
    pub fn update(&mut self, hyper: Hyper) -> Result<Option<f32>, TrainError> {
        let update = self.update.as_ref().expect("the engine was made for training");
        let values = [hyper.lr as f32, hyper.momentum as f32];
        self.executor.run(update.step, &[Input::F32(&values)])?;
        match self.plan.sgd.clip_norm {
            None => Ok(None),
            Some(_) => Ok(Some(self.executor.output(update.step, "grad_norm")?[0])),
        }
    }

    /// Logits `[n, classes]` of a batch, by the running statistics.
    ///
    /// # Errors
    /// When the executor refuses the batch.
    pub fn logits(&mut self, pixels: &[u8]) -> Result<Vec<f32>, TrainError> {
        let batch = self.batch_of(pixels, Mode::Evaluation);
        let compiled = self.compiled(Mode::Evaluation, batch)?;
        self.executor.run(compiled.step, &[Input::U8(pixels)])?;
        Ok(self.executor.output(compiled.step, "logits")?)
    }

    fn batch_of(&self, pixels: &[u8], mode: Mode) -> usize {
        let [rows, columns] = self.plan.size(mode);
        pixels.len() / (rows * columns * self.plan.spec.input.channels)
    }

    /// The compiled graph for a batch size; makes it, and forgets another, if there is none.
    fn compiled(&mut self, mode: Mode, batch: usize) -> Result<Compiled, TrainError> {
        let pair = match mode {
            Mode::Training => &mut self.train,
            Mode::Evaluation => &mut self.eval,
        };
        let is_it = |compiled: &&Compiled| compiled.batch == batch;
        if let Some(found) = pair.main.iter().chain(&pair.rest).find(is_it) {
            return Ok(found.clone());
        }
        let graph = self.plan.graph(mode, batch)?;
        if let Some(old) = pair.rest.take() {
            self.executor.release(old.step);
        }
        let compiled = compile(self.executor.as_mut(), &graph, batch)?;
        let place = if pair.main.is_none() { &mut pair.main } else { &mut pair.rest };
        *place = Some(compiled.clone());
        Ok(compiled)
    }
}

impl Plan {
    fn build_options(&self, batch: usize, mode: Mode) -> BuildOptions {
        let (mean, std) = (self.mean.clone(), self.std.clone());
        BuildOptions { batch, mode, mean, std, stored: self.stored, features: false }
    }

    /// Rows and columns of the pictures.
    fn size(&self, mode: Mode) -> [usize; 2] {
        match mode {
            Mode::Training => self.train_size,
            Mode::Evaluation => [self.spec.input.height, self.spec.input.width],
        }
    }

    fn graph(&self, mode: Mode, batch: usize) -> Result<Graph, TrainError> {
        let mut spec = self.spec.clone();
        [spec.input.height, spec.input.width] = self.size(mode);
        let options = self.build_options(batch, mode);
        let loss = self.loss.with_divisor(batch);
        Ok(match mode {
            Mode::Training => gradient_graph(&spec, &options, self.targets, loss)?,
            Mode::Evaluation => match &self.activations {
                None => forward(&spec, &options)?,
                Some(activations) => int8_graph(&spec, &options, activations)?.graph,
            },
        })
    }
}

fn compile(
    executor: &mut dyn Executor,
    graph: &Graph,
    batch: usize,
) -> Result<Compiled, TrainError> {
    let inputs = graph.inputs.iter().map(|&id| graph.get(id).name.clone()).collect();
    Ok(Compiled { batch, step: executor.compile(graph)?, inputs })
}
