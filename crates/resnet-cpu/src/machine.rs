//! What the machine is and can do: its name, caches, measured peaks; what the process has used.

use std::fs;

use crate::threads::available_threads;

mod bandwidth;
mod peak;

pub use bandwidth::{Bandwidth, bandwidth};
pub use peak::{bf16_peak, fma_peak, int8_peak};

/// What numbers measured here should be quoted with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The processor's name as it tells it, or the architecture's.
    pub brand: String,
    /// Threads that this process may use.
    pub threads: usize,
    /// Sizes of the data caches of a core, from the first level on, in bytes.
    pub cache_bytes: Vec<u64>,
}

impl Machine {
    /// Asks the system. What it does not tell (or where it is not Linux) is assumed: 32 KiB, 1 MiB
    /// and 16 MiB of cache.
    pub fn detect() -> Machine {
        let told = caches();
        let cache_bytes = if told.is_empty() { vec![32 << 10, 1 << 20, 16 << 20] } else { told };
        let brand = brand().unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        Machine { brand, threads: available_threads(), cache_bytes }
    }

    /// Bytes of the largest cache that a core has for itself, as it is on most machines: the second.
    pub fn own_cache_bytes(&self) -> usize {
        self.cache_bytes[1.min(self.cache_bytes.len() - 1)] as usize
    }

    /// Bytes of the last cache.
    pub fn last_cache_bytes(&self) -> usize {
        self.cache_bytes[self.cache_bytes.len() - 1] as usize
    }
}

fn brand() -> Option<String> {
    let info = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = info.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// Data and unified caches of the first core, by level.
fn caches() -> Vec<u64> {
    let read = |index: usize, name: &str| {
        let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{name}");
        fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
    };
    let cache = |index| {
        let (kind, level, size) =
            (read(index, "type")?, read(index, "level")?, read(index, "size")?);
        (kind != "Instruction").then_some((level.parse::<u32>().ok()?, parse_size(&size)?))
    };
    let mut found: Vec<(u32, u64)> = (0..8).filter_map(cache).collect();
    found.sort_unstable();
    found.into_iter().map(|(_, bytes)| bytes).collect()
}

/// `48K`, `2M` or a plain number, in bytes.
fn parse_size(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['K', 'M']);
    let shift = match &text[digits.len()..] {
        "" => 0,
        "K" => 10,
        "M" => 20,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_shl(shift)
}

/// Largest resident size of this process so far, in bytes, where the system tells (Linux).
pub fn peak_memory_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_caches_are_read_in_their_units() {
        let sizes = ["48K", "2M", "512", "1G", ""].map(parse_size);
        assert_eq!(sizes, [Some(48 << 10), Some(2 << 20), Some(512), None, None]);
    }

    #[test]
    fn the_machine_has_a_name_threads_and_growing_caches() {
        let machine = Machine::detect();
        assert!(!machine.brand.is_empty() && 0 < machine.threads);
        assert!(machine.cache_bytes.is_sorted() && !machine.cache_bytes.is_empty());
    }
}
