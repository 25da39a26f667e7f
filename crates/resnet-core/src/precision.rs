//! Element types that an engine computes in.

use serde::{Deserialize, Serialize};

use crate::op::DType;

/// The element type of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Activations and their gradients stored in bf16; weights, statistics, sums and the loss in f32.
    Bf16,
    /// Bytes with scales, in inference ([`crate::pass::quantize`]).
    Int8,
}

impl Precision {
    /// The name that flags and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
            Precision::Int8 => "int8",
        }
    }

    /// How activations are stored in a graph that is not quantised.
    pub fn stored(self) -> DType {
        match self {
            Precision::F32 | Precision::Int8 => DType::F32,
            Precision::Bf16 => DType::Bf16,
        }
    }
}
