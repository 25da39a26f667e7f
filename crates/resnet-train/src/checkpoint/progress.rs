//! How far a run has come: what a checkpoint says besides tensors, as JSON.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::score::Sums;

/// A real number that survives a file to the bit: JSON holds its 64 bits in hexadecimal.
#[derive(Clone, Copy, Default)]
pub struct Bits(pub f64);

impl PartialEq for Bits {
    /// Equal in every bit: NaN equals itself, and zero differs from minus zero.
    fn eq(&self, other: &Bits) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl fmt::Debug for Bits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x} ({})", self.0.to_bits(), self.0)
    }
}

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{:016x}", self.0.to_bits()))
    }
}

impl<'de> Deserialize<'de> for Bits {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Bits, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(D::Error::custom(format!("\"{text}\" is not 16 hexadecimal digits")));
        }
        let bits = u64::from_str_radix(&text, 16).map_err(D::Error::custom)?;
        Ok(Bits(f64::from_bits(bits)))
    }
}

/// The best validation result so far.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Epoch after which it was reached, from 1.
    pub epoch: u64,
    /// Validation top-1, a fraction; mAP where pictures have any number of classes.
    #[serde(rename = "top1")]
    pub goal: Bits,
    /// Mean validation loss, which decides between equal fractions.
    pub loss: Bits,
}

/// How far a run has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are done, evaluation included.
    pub epoch: u64,
    /// Steps that are done, over all epochs.
    pub step: u64,
    /// Steps of the epoch in progress that are done.
    pub epoch_step: u64,
    /// What the epoch in progress has summed up.
    pub sums: Sums,
    /// Broken training pictures that it has met so far.
    #[serde(default)]
    pub replaced: u64,
    /// Bytes of `metrics.jsonl` that belong to this checkpoint.
    pub metrics_bytes: u64,
    /// The best so far, if there was an evaluation.
    pub best: Option<Best>,
    /// Validation top-1, or mAP, of the last evaluation.
    #[serde(rename = "final_top1")]
    pub final_goal: Option<Bits>,
    /// Training pictures of an epoch: with another number every order would be another.
    pub train_images: usize,
    /// Seconds spent training and evaluating, over all resumes.
    pub seconds: f64,
    /// Whether all epochs are done.
    pub finished: bool,
    /// Instruction set of the engine, which the bits depend on.
    pub isa: String,
}

impl Progress {
    /// What to warn of when a run goes on elsewhere: results will then not be those bits.
    pub fn warning(&self, written_by: &str, version: &str, isa: &str) -> Option<String> {
        let change = match (self.isa != isa, written_by != version) {
            (false, false) => return None,
            (true, false) => format!("on {}, now on {isa}", self.isa),
            (false, true) => format!("by version {written_by}, now {version}"),
            (true, true) => {
                format!("by version {written_by} on {}, now {version} on {isa}", self.isa)
            }
        };
        Some(format!("the checkpoint was written {change}: results will not be the same bits"))
    }
}
