//! Plans as tables, for people and for reviews.

use std::fmt;

use super::{Layout, Plan, Slot, Work, int8};
use crate::kernel::conv::Direction;

impl Plan {
    /// Multiply-adds of all steps, by direct arithmetic.
    pub fn macs(&self) -> u64 {
        self.steps.iter().map(|step| step.macs).sum()
    }

    /// Bytes that a step reads and writes, each operand once.
    pub fn step_bytes(&self, step: usize) -> usize {
        let (mut slots, writes) = self.steps[step].work.operands();
        slots.extend(writes);
        slots.sort_unstable();
        slots.dedup();
        slots.into_iter().map(|slot| self.slot_bytes(slot)).sum()
    }

    /// Bytes that a step must move at least: its operands, each once, without scratch, which a core
    /// keeps in its caches.
    pub fn moved_bytes(&self, step: usize) -> usize {
        let scratch = match &self.steps[step].work {
            Work::Conv { scratch, .. }
            | Work::ConvInputGrad { scratch, .. }
            | Work::ConvWeightGrad { scratch, .. }
            | Work::ConvGradients { scratch, .. } => *scratch,
            Work::Int8(work) => work.scratch(),
            _ => None,
        };
        self.step_bytes(step) - scratch.map_or(0, |slot| self.slot_bytes(slot))
    }

    fn slot_bytes(&self, slot: Slot) -> usize {
        match slot {
            Slot::Buffer(i) => self.buffers[i as usize].bytes,
            Slot::State(i) => {
                let state = &self.states[i as usize];
                match &state.layout {
                    Some(Layout::Packed(layout)) => 4 * layout.len(),
                    Some(Layout::Plain) | None => 4 * state.shape.iter().product::<usize>(),
                }
            }
            Slot::Input(i) => {
                let (_, dtype, len) = &self.inputs[i as usize];
                dtype.size() * len
            }
        }
    }

    /// A number that says which plan this is: equal plans have equal ones, on every machine of one
    /// instruction set with as many threads (FNV-1a of the table).
    pub fn hash(&self) -> u64 {
        self.to_string().bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }

    /// Whether buffers that are alive at the same step never overlap.
    pub(crate) fn places_are_disjoint(&self) -> bool {
        let mut by_place: Vec<_> = self.buffers.iter().collect();
        by_place.sort_by_key(|buffer| buffer.offset);
        by_place.iter().enumerate().all(|(i, a)| {
            by_place[i + 1..].iter().take_while(|b| b.offset < a.offset + a.bytes).all(|b| {
                let together = a.first <= b.last && b.first <= a.last;
                !together
            })
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>5}  {:<34} {:<16} {:>9} {:>9}  fused",
            "step", "layer", "work", "MMACs", "KiB"
        )?;
        for (i, step) in self.steps.iter().enumerate() {
            let (work, fused) = (step.work.name(), step.work.fused());
            let (mmacs, kib) = (step.macs as f64 / 1e6, self.step_bytes(i) / 1024);
            writeln!(f, "{i:>5}  {:<34} {work:<16} {mmacs:>9.1} {kib:>9}  {fused}", step.name)?;
        }
        let arena = self.arena_bytes as f64 / (1 << 20) as f64;
        writeln!(
            f,
            "{} steps, {} buffers, arena {arena:.1} MiB",
            self.steps.len(),
            self.buffers.len()
        )
    }
}

impl Work {
    /// What it is, in a word.
    pub fn name(&self) -> &'static str {
        match self {
            Work::Normalize { .. } => "normalize",
            Work::Pack { .. } => "pack",
            Work::Unpack { .. } => "unpack",
            Work::Transpose { .. } => "transpose",
            Work::TransformWeights { .. } => "transform",
            Work::Conv { .. } => "conv",
            Work::ConvInputGrad { .. } => "conv dx",
            Work::ConvWeightGrad { .. } => "conv dw",
            Work::ConvGradients { .. } => "conv dw dx",
            Work::BiasGrad { .. } => "bias grad",
            Work::NormStatistics { .. } => "bn statistics",
            Work::NormFinish { .. } => "bn finish",
            Work::NormCoefficients { .. } => "bn coefficients",
            Work::NormApply { .. } => "bn apply",
            Work::MaskedGrad { .. } => "relu grad",
            Work::GradSums { .. } => "bn grad sums",
            Work::NormGradFinish { .. } => "bn grad finish",
            Work::NormGradApply { .. } => "bn grad apply",
            Work::RunningRstd { .. } => "bn rstd",
            Work::Relu { .. } => "relu",
            Work::Sigmoid { .. } => "sigmoid",
            Work::SigmoidGrad { .. } => "sigmoid grad",
            Work::Add { .. } => "add",
            Work::Multiply { .. } => "multiply",
            Work::ChannelScale { .. } => "scale",
            Work::ChannelScaleGrad { .. } => "scale grad",
            Work::MaxPool { .. } => "max pool",
            Work::MaxPoolGrad { .. } => "max pool grad",
            Work::AvgPool { .. } => "avg pool",
            Work::AvgPoolGrad { .. } => "avg pool grad",
            Work::GlobalAvgPool { .. } => "global pool",
            Work::GlobalAvgPoolGrad { .. } => "global pool grad",
            Work::SubsamplePad { .. } => "shortcut A",
            Work::SubsamplePadGrad { .. } => "shortcut A grad",
            Work::Dropout { .. } => "dropout",
            Work::StochasticDepth { .. } => "drop path",
            Work::StochasticDepthGrad { .. } => "drop path grad",
            Work::CrossEntropy { .. } | Work::BinaryCrossEntropy { .. } => "loss",
            Work::CrossEntropyGrad { .. } | Work::BinaryCrossEntropyGrad { .. } => "loss grad",
            Work::ClipFactor { .. } => "clip",
            Work::SgdUpdate { .. } => "sgd",
            Work::Store { .. } => "store",
            Work::Int8(work) => work.name(),
        }
    }

    /// What its kernel does besides, in words.
    pub fn fused(&self) -> String {
        let list = |parts: &[(bool, &str)]| {
            let present = parts.iter().filter(|(is, _)| *is).map(|(_, what)| *what);
            present.collect::<Vec<_>>().join(" + ")
        };
        match self {
            Work::Conv { plan, bias, add, relu, statistics, y, .. } => list(&[
                (plan.tiles(Direction::Forward).is_some(), "winograd"),
                (bias.is_some(), "bias"),
                (add.is_some_and(|add| add != *y), "add"),
                (*add == Some(*y), "add in place"),
                (*relu, "relu"),
                (statistics.is_some(), "statistics"),
            ]),
            Work::Int8(int8::Int8Work::Conv { add, y, .. }) => list(&[
                (add.is_some_and(|add| add != *y), "add"),
                (*add == Some(*y), "add in place"),
            ]),
            Work::ConvInputGrad { plan, add, mask, sums, dx, .. } => list(&[
                (plan.tiles(Direction::InputGrad).is_some(), "winograd"),
                (add.is_some_and(|add| add != *dx), "add"),
                (*add == Some(*dx), "add in place"),
                (mask.is_some(), "mask"),
                (sums.is_some(), "bn sums"),
            ]),
            Work::ConvGradients { add, mask, sums, dx, .. } => list(&[
                (true, "bn grad"),
                (add.is_some_and(|add| add != *dx), "add"),
                (*add == Some(*dx), "add in place"),
                (mask.is_some(), "mask"),
                (sums.is_some(), "bn sums"),
            ]),
            Work::NormApply { residual, relu, z, y, .. } => list(&[
                (matches!(residual, super::Residual::Plain(_)), "add"),
                (matches!(residual, super::Residual::Norm { .. }), "bn + add"),
                (*relu, "relu"),
                (z == y, "in place"),
            ]),
            Work::MaskedGrad { sums, .. } => list(&[(sums.is_some(), "bn sums")]),
            Work::NormGradApply { from, dz } => list(&[(from.g == *dz, "in place")]),
            _ => String::new(),
        }
    }
}
