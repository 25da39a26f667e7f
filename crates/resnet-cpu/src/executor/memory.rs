//! Where values are while a plan runs: one arena, the state, the inputs.
//!
//! Slices are handed out step by step. [`Operands`] keeps account, so that a step can never hold a
//! slice that it writes together with another of the same slot; slots of one step never overlap,
//! since all of them are alive then and [`Memory::new`] checks the plan's places.

use std::cell::RefCell;

use resnet_core::executor::Input;
use resnet_simd::{Element, Stored};

use crate::plan::{Plan, Slot};

/// Everything that a plan's slots can mean, for one run.
pub(super) struct Memory<'a> {
    plan: &'a Plan,
    arena: *mut f32,
    states: &'a [StatePlace],
    inputs: &'a [Input<'a>],
    handed: &'a RefCell<Vec<(Slot, Access)>>,
}

/// A state tensor's floats.
#[derive(Clone, Copy)]
pub(super) struct StatePlace {
    pub(super) values: *mut f32,
    pub(super) len: usize,
}

/// How a slot is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

impl<'a> Memory<'a> {
    /// Binds a plan's slots to memory, which stays borrowed while this lives: `arena` mutably, and
    /// what `states` point to as if mutably.
    ///
    /// # Safety
    /// The pointers in `states` are valid for their lengths, no two overlap, and nobody else touches
    /// what they point to for `'a`.
    ///
    /// # Panics
    /// If the arena is smaller than the plan asks.
    pub(super) unsafe fn new(
        plan: &'a Plan,
        arena: &'a mut [f32],
        states: &'a [StatePlace],
        inputs: &'a [Input<'a>],
        handed: &'a RefCell<Vec<(Slot, Access)>>,
    ) -> Memory<'a> {
        assert!(plan.arena_bytes <= 4 * arena.len(), "the arena is too small for the plan");
        Memory { plan, arena: arena.as_mut_ptr(), states, inputs, handed }
    }

    /// Fills the buffers that `step` writes first, and those that the step before read last, with
    /// NaN.
    pub(super) fn poison(&mut self, step: usize) {
        for buffer in &self.plan.buffers {
            if buffer.first == step || buffer.last + 1 == step {
                // SAFETY: `Memory::new` checked that the arena holds the plan's places, which start
                // and end at multiples of a cache line; `&mut self` says that no slice is out.
                let place = unsafe {
                    let start = self.arena.add(buffer.offset / 4);
                    std::slice::from_raw_parts_mut(start, buffer.bytes.div_ceil(4))
                };
                // NaN in halves too.
                place.fill(f32::from_bits(u32::MAX));
            }
        }
    }

    /// The operands of one step; those of the step before must be gone.
    pub(super) fn step(&mut self) -> Operands<'_> {
        self.handed.borrow_mut().clear();
        Operands { memory: self }
    }
}

/// Hands out one step's slices.
pub(super) struct Operands<'m> {
    memory: &'m Memory<'m>,
}

impl<'m> Operands<'m> {
    fn hand_out(&self, slot: Slot, access: Access) {
        let mut handed = self.memory.handed.borrow_mut();
        let clash = |&(held, how): &(Slot, Access)| {
            held == slot && (how == Access::Write || access == Access::Write)
        };
        assert!(!handed.iter().any(clash), "{slot:?} is held twice, once for writing");
        handed.push((slot, access));
    }

    fn buffer(&self, slot: Slot) -> (*mut f32, usize) {
        let Slot::Buffer(i) = slot else { panic!("{slot:?} is no buffer") };
        let buffer = self.memory.plan.buffers[i as usize];
        // SAFETY: `Memory::new` checked that the arena holds the plan's places.
        (unsafe { self.memory.arena.add(buffer.offset / 4) }, buffer.bytes)
    }

    fn floats(&self, slot: Slot) -> (*mut f32, usize) {
        match slot {
            Slot::Buffer(_) => {
                let (place, bytes) = self.buffer(slot);
                (place, bytes / 4)
            }
            Slot::State(i) => {
                let state = self.memory.states[i as usize];
                (state.values, state.len)
            }
            Slot::Input(_) => panic!("inputs are read only"),
        }
    }

    /// Floats to read.
    pub(super) fn read(&self, slot: Slot) -> &'m [f32] {
        self.hand_out(slot, Access::Read);
        if let Slot::Input(i) = slot {
            let Input::F32(values) = self.memory.inputs[i as usize] else {
                panic!("input {i} was checked to hold floats")
            };
            return values;
        }
        let (place, len) = self.floats(slot);
        // SAFETY: the place is valid for `len` initialised floats (the arena and states start
        // zeroed) and lives as long as `'m`; `hand_out` made sure that nobody writes this slot, and
        // other slots of the step do not overlap it.
        unsafe { std::slice::from_raw_parts(place, len) }
    }

    /// Floats to write.
    pub(super) fn write(&self, slot: Slot) -> &'m mut [f32] {
        self.hand_out(slot, Access::Write);
        let (place, len) = self.floats(slot);
        // SAFETY: as in `read`, and `hand_out` made sure that nobody else holds this slot.
        unsafe { std::slice::from_raw_parts_mut(place, len) }
    }

    /// Floats to write, if there is such an operand.
    pub(super) fn write_if(&self, slot: Option<Slot>) -> &'m mut [f32] {
        slot.map_or(&mut [], |slot| self.write(slot))
    }

    /// Activations to read, or what else is stored as a step's activations are.
    pub(super) fn activations<E: Element>(&self, slot: Slot) -> &'m [E] {
        if E::STORED == Stored::F32 {
            let floats = self.read(slot);
            // SAFETY: `E` is `f32`.
            return unsafe { std::slice::from_raw_parts(floats.as_ptr().cast(), floats.len()) };
        }
        self.hand_out(slot, Access::Read);
        let (place, bytes) = self.buffer(slot);
        // SAFETY: as in `read`; any bits are a valid element.
        unsafe { std::slice::from_raw_parts(place.cast(), bytes / size_of::<E>()) }
    }

    /// Activations to write, or what else is stored as a step's activations are.
    pub(super) fn activations_mut<E: Element>(&self, slot: Slot) -> &'m mut [E] {
        if E::STORED == Stored::F32 {
            let floats = self.write(slot);
            // SAFETY: `E` is `f32`.
            return unsafe {
                std::slice::from_raw_parts_mut(floats.as_mut_ptr().cast(), floats.len())
            };
        }
        self.hand_out(slot, Access::Write);
        let (place, bytes) = self.buffer(slot);
        // SAFETY: as in `write`; any bits are a valid element.
        unsafe { std::slice::from_raw_parts_mut(place.cast(), bytes / size_of::<E>()) }
    }

    /// A buffer's bytes, or those of a state tensor's floats.
    fn bytes(&self, slot: Slot) -> (*mut f32, usize) {
        match slot {
            Slot::Buffer(_) => self.buffer(slot),
            Slot::State(_) | Slot::Input(_) => {
                let (place, len) = self.floats(slot);
                (place, 4 * len)
            }
        }
    }

    /// Bytes to read: pixels, pooling indices, or what int8 inference computes on.
    pub(super) fn read_bytes(&self, slot: Slot) -> &'m [u8] {
        self.hand_out(slot, Access::Read);
        if let Slot::Input(i) = slot {
            let Input::U8(values) = self.memory.inputs[i as usize] else {
                panic!("input {i} was checked to hold bytes")
            };
            return values;
        }
        let (place, bytes) = self.bytes(slot);
        // SAFETY: as in `read`; any float is four valid bytes.
        unsafe { std::slice::from_raw_parts(place.cast(), bytes) }
    }

    /// Bytes to write.
    pub(super) fn write_bytes(&self, slot: Slot) -> &'m mut [u8] {
        self.hand_out(slot, Access::Write);
        let (place, bytes) = self.bytes(slot);
        // SAFETY: as in `write`; any four bytes are a valid float.
        unsafe { std::slice::from_raw_parts_mut(place.cast(), bytes) }
    }

    /// Whole numbers to read: class numbers, seeds, counters.
    pub(super) fn read_u32(&self, slot: Slot) -> &'m [u32] {
        self.hand_out(slot, Access::Read);
        let Slot::Input(i) = slot else { panic!("whole numbers are inputs") };
        let Input::U32(values) = self.memory.inputs[i as usize] else {
            panic!("input {i} was checked to hold whole numbers")
        };
        values
    }
}
