//! Steps of int8 inference. Slots of pictures hold NHWC bytes.

use resnet_core::op::{Affine, SubsamplePad};

use super::{Dims, Slot};
use crate::kernel::int8::{Int8Layout, Int8Plan};
use crate::kernel::window::Windows;

/// What a step on bytes does.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "operands are named as in the kernels' docs")]
pub enum Int8Work {
    /// Weights, offsets and multipliers into panels.
    Pack {
        layout: Int8Layout,
        w: Slot,
        offset: Slot,
        multiplier: Slot,
        packed: Slot,
    },
    /// Convolution or classifier with its epilogue.
    Conv {
        plan: Box<Int8Plan>,
        x: Slot,
        packed: Slot,
        add: Option<Slot>,
        y: Slot,
        scratch: Option<Slot>,
    },
    MaxPool {
        windows: Windows,
        x: Slot,
        y: Slot,
    },
    GlobalAvgPool {
        dims: Dims,
        offset: i32,
        multiplier: f32,
        x: Slot,
        y: Slot,
    },
    SubsamplePad {
        dims: Dims,
        shortcut: SubsamplePad,
        zero: u8,
        x: Slot,
        y: Slot,
    },
    /// Real numbers to bytes, and back.
    Quantize {
        affine: Affine,
        x: Slot,
        y: Slot,
    },
    Dequantize {
        affine: Affine,
        x: Slot,
        y: Slot,
    },
}

impl Int8Work {
    /// What the step reads and what it writes.
    pub(super) fn operands(&self) -> (Vec<Slot>, Vec<Slot>) {
        match self {
            Int8Work::Pack { w, offset, multiplier, packed, .. } => {
                (vec![*w, *offset, *multiplier], vec![*packed])
            }
            Int8Work::Conv { x, packed, add, y, scratch, .. } => {
                let reads = [Some(*x), Some(*packed), *add];
                let writes = [Some(*y), *scratch];
                (reads.into_iter().flatten().collect(), writes.into_iter().flatten().collect())
            }
            Int8Work::MaxPool { x, y, .. }
            | Int8Work::GlobalAvgPool { x, y, .. }
            | Int8Work::SubsamplePad { x, y, .. }
            | Int8Work::Quantize { x, y, .. }
            | Int8Work::Dequantize { x, y, .. } => (vec![*x], vec![*y]),
        }
    }

    /// What it is, in a word.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Int8Work::Pack { .. } => "int8 pack",
            Int8Work::Conv { .. } => "int8 conv",
            Int8Work::MaxPool { .. } => "int8 max pool",
            Int8Work::GlobalAvgPool { .. } => "int8 global pool",
            Int8Work::SubsamplePad { .. } => "int8 shortcut A",
            Int8Work::Quantize { .. } => "quantize",
            Int8Work::Dequantize { .. } => "dequantize",
        }
    }

    /// The slot that a core keeps in its caches, if it has one.
    pub(super) fn scratch(&self) -> Option<Slot> {
        match self {
            Int8Work::Conv { scratch, .. } => *scratch,
            Int8Work::Pack { .. }
            | Int8Work::MaxPool { .. }
            | Int8Work::GlobalAvgPool { .. }
            | Int8Work::SubsamplePad { .. }
            | Int8Work::Quantize { .. }
            | Int8Work::Dequantize { .. } => None,
        }
    }
}
