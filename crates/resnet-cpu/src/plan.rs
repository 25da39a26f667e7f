//! The plan: a list of steps over one arena, made from a graph before anything runs.
//!
//! The planner fuses (`fuse`), turns nodes into steps (`lower`) and gives every buffer a place by
//! its lifetime (`arena`). What it decides depends on the graph and the ISA; on the number of threads only
//! where that changes no bit.

pub(crate) mod arena;
pub(crate) mod choose;
pub(crate) mod fuse;
pub mod int8;
pub(crate) mod lower;
mod table;
mod work;

use resnet_core::graph::StateRole;
use resnet_simd::Stored;

pub use self::work::{Dims, GradSums, NormGradient, Residual, Statistics, Work};
use crate::kernel::conv::PackedLayout;

/// Where a value lives while a plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Slot {
    /// A buffer of the arena.
    Buffer(u32),
    /// A state tensor, by its place in [`Plan::states`].
    State(u32),
    /// An input of the graph, by its place.
    Input(u32),
}

/// How a state tensor or value is laid out.
#[derive(Clone, Debug, PartialEq)]
pub enum Layout {
    /// As its shape says.
    Plain,
    /// Convolution or classifier weights in panels.
    Packed(PackedLayout),
}

/// A state tensor that a plan reads or writes.
#[derive(Clone, Debug, PartialEq)]
pub struct StateUse {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: StateRole,
    /// Its canonical shape.
    pub shape: Vec<usize>,
    /// The layout that kernels need, if the plan knows: an update takes what is there.
    pub layout: Option<Layout>,
    /// Whether the plan changes it.
    pub written: bool,
}

/// A buffer of the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    /// Bytes.
    pub bytes: usize,
    /// The step that writes it first.
    pub first: usize,
    /// The last step that touches it.
    pub last: usize,
    /// Bytes from the arena's start.
    pub offset: usize,
}

/// One step of a plan.
#[derive(Clone, Debug)]
pub struct Step {
    /// The layer that it belongs to.
    pub name: String,
    /// What it does.
    pub work: Work,
    /// How its activations are stored, and their gradients.
    pub stored: Stored,
    /// Multiply-adds by direct arithmetic.
    pub macs: u64,
}

/// A graph made ready to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Steps that make state from other state: to be run first, and when that has changed.
    pub preparation: Vec<Step>,
    /// Steps in order.
    pub steps: Vec<Step>,
    /// Buffers of the arena.
    pub buffers: Vec<Buffer>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// State tensors.
    pub states: Vec<StateUse>,
    /// Inputs: name, element type and number of elements.
    pub inputs: Vec<(String, resnet_core::op::DType, usize)>,
    /// Outputs.
    pub outputs: Vec<Output>,
}

/// A result of a plan.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub slot: Slot,
    /// How it is laid out.
    pub layout: Layout,
    /// How its elements are stored.
    pub stored: Stored,
    /// Elements in canonical layout.
    pub len: usize,
}
