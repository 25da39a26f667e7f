//! The executor: compiles graphs over one shared state and runs them.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use thiserror::Error;

use crate::graph::Graph;

/// A compiled graph, valid for the executor that made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StepId(pub usize);

/// A value for one input of a graph.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// Pixels.
    U8(&'a [u8]),
    /// Class numbers, seeds, counters.
    U32(&'a [u32]),
    /// Real numbers.
    F32(&'a [f32]),
}

/// A tensor's values that others may hold too, such as a mapped file's; nobody changes them.
#[derive(Clone)]
pub struct Values(Arc<dyn AsRef<[f32]> + Send + Sync>);

impl Values {
    /// The values that `owner` keeps.
    pub fn new(owner: impl AsRef<[f32]> + Send + Sync + 'static) -> Values {
        Values(Arc::new(owner))
    }
}

impl Deref for Values {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        (*self.0).as_ref()
    }
}

impl From<Vec<f32>> for Values {
    fn from(values: Vec<f32>) -> Values {
        Values::new(values)
    }
}

impl PartialEq for Values {
    fn eq(&self, other: &Values) -> bool {
        self[..] == other[..]
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.len())
    }
}

/// Why a graph cannot be compiled, or a state not be reached.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum ExecutorError {
    /// The executor has no kernel for a node.
    #[error("{node}: {op} is not supported here: {why}")]
    Unsupported {
        /// The node's name.
        node: String,
        /// Its operation.
        op: &'static str,
        /// What is missing.
        why: String,
    },
    /// The graph breaks an invariant.
    #[error(transparent)]
    Graph(#[from] crate::graph::GraphError),
    /// A state tensor of this name has another shape in an earlier graph or in the import.
    #[error("state {name} has shape {found:?}, expected {expected:?}")]
    StateShape {
        /// The state's name.
        name: String,
        /// The shape given.
        found: Vec<usize>,
        /// The shape that the executor holds.
        expected: Vec<usize>,
    },
    /// No compiled graph has a state tensor of this name.
    #[error("there is no state tensor named {name}")]
    UnknownState {
        /// The name.
        name: String,
    },
    /// The step has no output of this name.
    #[error("there is no output named {name}")]
    UnknownOutput {
        /// The name.
        name: String,
    },
    /// An input has another type or length than the graph's.
    #[error("input {name} needs {expected} elements of its type, found {found}")]
    BadInput {
        /// The input's name.
        name: String,
        /// Elements given.
        found: usize,
        /// Elements that the graph reads.
        expected: usize,
    },
}

/// Compiles graphs over one state and runs them.
///
/// State is named tensors; the first graph that mentions one creates it, zero. Training, its short
/// last batch and evaluation share it, so weights are never copied between steps. `import` and
/// `export` speak the canonical layout (OIHW, contiguous), whatever the executor keeps inside.
pub trait Executor {
    /// Prepares a graph for running.
    ///
    /// # Errors
    /// [`ExecutorError::Unsupported`] where it cannot; running never does.
    fn compile(&mut self, graph: &Graph) -> Result<StepId, ExecutorError>;

    /// Forgets a compiled graph; its state stays.
    fn release(&mut self, step: StepId);

    /// Runs a step: `inputs` in the order of the graph's inputs. Updates take effect at the end.
    ///
    /// # Errors
    /// [`ExecutorError::BadInput`] if an input does not fit.
    fn run(&mut self, step: StepId, inputs: &[Input<'_>]) -> Result<(), ExecutorError>;

    /// A named output of the last run of this step.
    ///
    /// # Errors
    /// [`ExecutorError::UnknownOutput`].
    fn output(&self, step: StepId, name: &str) -> Result<Vec<f32>, ExecutorError>;

    /// Sets a state tensor.
    ///
    /// # Errors
    /// [`ExecutorError::UnknownState`] or [`ExecutorError::StateShape`].
    fn import(&mut self, name: &str, shape: &[usize], values: &[f32]) -> Result<(), ExecutorError>;

    /// The same by values that the executor may keep as they are, where they are only read.
    ///
    /// # Errors
    /// As [`Executor::import`].
    fn import_shared(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &Values,
    ) -> Result<(), ExecutorError> {
        self.import(name, shape, values)
    }

    /// Reads a state tensor.
    ///
    /// # Errors
    /// [`ExecutorError::UnknownState`].
    fn export(&self, name: &str) -> Result<Vec<f32>, ExecutorError>;

    /// Bytes of all state, and of what compiled graphs need to run, as far as that is planned ahead.
    fn memory_bytes(&self) -> usize;

    /// Names and shapes of all state tensors, in the order in which they were created.
    fn states(&self) -> Vec<(String, Vec<usize>)>;
}
