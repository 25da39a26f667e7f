//! State: named tensors that live from run to run, in the layout that kernels want.

use std::collections::HashMap;
use std::ops::Deref;

use resnet_core::executor::{ExecutorError, Values};
use resnet_core::graph::StateRole;
use resnet_simd::AlignedVec;

use super::memory::StatePlace;
use crate::kernel::conv::PackedLayout;
use crate::plan::{Layout, StateUse};
use crate::threads::ThreadPool;

/// A tensor's floats.
enum Floats {
    /// The executor's own.
    Own(AlignedVec<f32>),
    /// Others' too, in canonical layout, for as long as nothing needs them aligned or writes them.
    Shared(Values),
}

impl Deref for Floats {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Floats::Own(values) => values,
            Floats::Shared(values) => values,
        }
    }
}

impl Floats {
    fn zeroed(len: usize) -> Floats {
        Floats::Own(AlignedVec::zeroed(len))
    }

    /// The executor's own, copied if they were others'.
    fn own(&mut self) -> &mut AlignedVec<f32> {
        if let Floats::Shared(values) = self {
            *self = Floats::Own(AlignedVec::from_slice(values));
        }
        match self {
            Floats::Own(values) => values,
            Floats::Shared(_) => unreachable!("just copied"),
        }
    }
}

/// Where one of a plan's state tensors is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bound {
    /// In the store.
    Stored(usize),
    /// In the arena, so many floats behind the plan's buffers.
    Beside { start: usize, len: usize },
}

/// One tensor.
struct Tensor {
    name: String,
    role: StateRole,
    shape: Vec<usize>,
    layout: Layout,
    values: Floats,
    /// Grows with every change, so that what was derived from it knows when it is stale.
    version: u64,
}

/// All state of an executor.
#[derive(Default)]
pub(super) struct StateStore {
    tensors: Vec<Tensor>,
    by_name: HashMap<String, usize>,
    clock: u64,
}

fn canonical_len(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// Floats of a tensor.
pub(super) fn stored_len(shape: &[usize], layout: &Layout) -> usize {
    match layout {
        Layout::Plain => canonical_len(shape),
        Layout::Packed(packed) => packed.len(),
    }
}

/// The parameter whose gradient or momentum this is.
fn followed(name: &str) -> Option<&str> {
    name.strip_prefix("grad/").or_else(|| name.strip_prefix("optim/velocity/"))
}

impl StateStore {
    /// Finds or creates the state that a plan uses; gives its place in the store.
    pub(super) fn bind(&mut self, wanted: &StateUse) -> Result<usize, ExecutorError> {
        let layout = match &wanted.layout {
            Some(layout) => Some(layout.clone()),
            None => followed(&wanted.name)
                .and_then(|name| self.by_name.get(name))
                .map(|&i| self.tensors[i].layout.clone()),
        };
        if let Some(&i) = self.by_name.get(&wanted.name) {
            let held = &self.tensors[i].shape;
            if *held != wanted.shape {
                return Err(ExecutorError::StateShape {
                    name: wanted.name.clone(),
                    found: wanted.shape.clone(),
                    expected: held.clone(),
                });
            }
            if let Some(Layout::Packed(_)) = layout {
                self.relayout(i, layout.unwrap_or(Layout::Plain));
            }
            return Ok(i);
        }
        let layout = layout.unwrap_or(Layout::Plain);
        self.tensors.push(Tensor {
            name: wanted.name.clone(),
            role: wanted.role,
            shape: wanted.shape.clone(),
            values: Floats::zeroed(stored_len(&wanted.shape, &layout)),
            layout,
            version: 0,
        });
        self.by_name.insert(wanted.name.clone(), self.tensors.len() - 1);
        Ok(self.tensors.len() - 1)
    }

    /// Replaces a tensor by what `make` makes of others. `beside` is the arena behind the plan's buffers.
    pub(super) fn remake(
        &mut self,
        at: Bound,
        beside: &mut [f32],
        make: impl FnOnce(&StateStore, &mut [f32]),
    ) {
        match at {
            Bound::Beside { start, len } => make(self, &mut beside[start..start + len]),
            Bound::Stored(i) => {
                let values = self.tensors[i].values.own();
                let mut values = std::mem::replace(values, AlignedVec::zeroed(0));
                make(self, &mut values);
                self.tensors[i].values = Floats::Own(values);
                self.touch(i);
            }
        }
    }

    /// Weights in panels, each output channel times its scale.
    pub(super) fn scale_into(
        &self,
        pool: &ThreadPool,
        source: usize,
        scale: &[f64],
        (layout, target): (&PackedLayout, &mut [f32]),
    ) {
        let weight = &self.tensors[source];
        let canonical = match &weight.layout {
            Layout::Plain => None,
            Layout::Packed(_) => Some(self.canonical(source)),
        };
        layout.pack_scaled(pool, canonical.as_deref().unwrap_or(&weight.values), scale, target);
    }

    /// Changes a tensor's layout, and that of the gradient and momentum that follow it.
    fn relayout(&mut self, i: usize, layout: Layout) {
        let name = self.tensors[i].name.clone();
        let followers = [format!("grad/{name}"), format!("optim/velocity/{name}")];
        let followers = followers.iter().filter_map(|name| self.by_name.get(name)).copied();
        for at in std::iter::once(i).chain(followers.collect::<Vec<_>>()) {
            if self.tensors[at].layout != layout {
                let canonical = self.canonical(at);
                let tensor = &mut self.tensors[at];
                tensor.values = Floats::zeroed(stored_len(&tensor.shape, &layout));
                tensor.layout = layout.clone();
                self.set_canonical(at, &canonical);
            }
        }
    }

    fn canonical(&self, i: usize) -> Vec<f32> {
        let tensor = &self.tensors[i];
        match &tensor.layout {
            Layout::Plain => tensor.values.to_vec(),
            Layout::Packed(layout) => {
                let mut canonical = vec![0.0; canonical_len(&tensor.shape)];
                layout.unpack(&tensor.values, &mut canonical);
                canonical
            }
        }
    }

    fn set_canonical(&mut self, i: usize, values: &[f32]) {
        let tensor = &mut self.tensors[i];
        match &tensor.layout {
            Layout::Plain => tensor.values.own().copy_from_slice(values),
            Layout::Packed(layout) => layout.pack(values, tensor.values.own()),
        }
        self.touch(i);
    }

    /// Notes that a tensor has changed.
    pub(super) fn touch(&mut self, i: usize) {
        self.clock += 1;
        self.tensors[i].version = self.clock;
    }

    /// The newest change among these tensors.
    pub(super) fn newest(&self, tensors: &[usize]) -> u64 {
        tensors.iter().map(|&i| self.tensors[i].version).max().unwrap_or(0)
    }

    /// Whether a tensor has changed after all of these.
    pub(super) fn is_newer<'n>(
        &self,
        i: usize,
        others: impl Iterator<Item = &'n String>,
    ) -> Result<bool, ExecutorError> {
        let own = self.tensors[i].version;
        for other in others {
            if own <= self.tensors[self.find(other)?].version {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Where a tensor's floats are.
    pub(super) fn place(&mut self, i: usize) -> StatePlace {
        let values = self.tensors[i].values.own();
        StatePlace { values: values.as_mut_ptr(), len: values.len() }
    }

    /// Sets a tensor from canonical values.
    pub(super) fn import(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Result<(), ExecutorError> {
        let i = self.find_shaped(name, shape, values)?;
        self.set_canonical(i, values);
        Ok(())
    }

    /// The same, keeping the values as they are where the layout is theirs.
    pub(super) fn import_shared(
        &mut self,
        name: &str,
        shape: &[usize],
        values: &Values,
    ) -> Result<(), ExecutorError> {
        let i = self.find_shaped(name, shape, values)?;
        match self.tensors[i].layout {
            Layout::Packed(_) => self.set_canonical(i, values),
            Layout::Plain => {
                self.tensors[i].values = Floats::Shared(values.clone());
                self.touch(i);
            }
        }
        Ok(())
    }

    fn find_shaped(
        &self,
        name: &str,
        shape: &[usize],
        values: &[f32],
    ) -> Result<usize, ExecutorError> {
        let i = self.find(name)?;
        let expected = &self.tensors[i].shape;
        if expected != shape || canonical_len(shape) != values.len() {
            return Err(ExecutorError::StateShape {
                name: name.into(),
                found: shape.to_vec(),
                expected: expected.clone(),
            });
        }
        Ok(i)
    }

    /// A tensor's canonical values.
    pub(super) fn export(&self, name: &str) -> Result<Vec<f32>, ExecutorError> {
        Ok(self.canonical(self.find(name)?))
    }

    pub(super) fn find(&self, name: &str) -> Result<usize, ExecutorError> {
        let found = self.by_name.get(name).copied();
        found.ok_or_else(|| ExecutorError::UnknownState { name: name.into() })
    }

    /// Names, roles and shapes, in order of creation.
    pub(super) fn list(&self) -> impl Iterator<Item = (&str, StateRole, &[usize])> {
        self.tensors.iter().map(|t| (t.name.as_str(), t.role, t.shape.as_slice()))
    }

    /// Bytes of all tensors but those that others hold.
    pub(super) fn bytes(&self) -> usize {
        let own = |tensor: &Tensor| match &tensor.values {
            Floats::Own(values) => 4 * values.len(),
            Floats::Shared(_) => 0,
        };
        self.tensors.iter().map(own).sum()
    }
}
