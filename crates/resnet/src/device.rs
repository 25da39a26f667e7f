//! Where things are computed, and with what.

use resnet_core::executor::Executor;
use resnet_core::precision::Precision;
use resnet_cpu::Isa;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};

/// A machine's processor: an instruction set and a number of threads.
#[derive(Clone, Copy, Debug)]
pub struct Device {
    /// The instruction set; results depend on it.
    pub isa: Isa,
    /// Computing threads; results do not depend on them.
    pub threads: usize,
    /// Leaves Winograd's tiles out (`--exact`): direct convolution everywhere.
    pub exact: bool,
    /// Drops in training what is cheap to make again (`--recompute`): less memory, the same bits.
    pub recompute: bool,
}

impl Device {
    /// The widest instruction set there is, and all threads that this process may use.
    pub fn detect() -> Device {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Device { isa: Isa::detect(), threads, exact: false, recompute: false }
    }

    /// What the bits of its results depend on, in words.
    pub fn arithmetic(&self, precision: Precision) -> String {
        let exact = if self.exact { ", exact" } else { "" };
        let stored = match precision {
            // What a model file on bytes says for itself.
            Precision::F32 | Precision::Int8 => "",
            Precision::Bf16 if self.isa.gains_by_bf16_pairs() && !self.exact => {
                " with products of pairs of bf16, activations stored in bf16"
            }
            Precision::Bf16 => " in f32, activations stored in bf16",
        };
        format!("{}{stored}{exact}", self.isa.name())
    }

    /// A fresh executor, without state.
    pub fn executor(&self) -> Box<dyn Executor> {
        let Device { isa, threads, exact, recompute } = *self;
        let options = CpuOptions { exact, recompute, ..CpuOptions::new(isa, threads) };
        Box::new(CpuExecutor::new(options))
    }
}
