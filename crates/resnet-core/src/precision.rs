//! Element types that an engine computes in.

use serde::{Deserialize, Serialize};

/// The element type of the arithmetic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Single precision.
    #[default]
    F32,
    /// Bytes with scales, in inference ([`crate::pass::quantize`]).
    Int8,
}

impl Precision {
    /// The name that flags and reports use.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Int8 => "int8",
        }
    }
}
