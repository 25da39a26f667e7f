//! Pinning workers to cores, where the system has it and allows it.

/// The core of each thread of a pool, or none if the pool should not be pinned: only a pool that
/// takes all cores of the process's affinity mask is.
#[cfg(target_os = "linux")]
pub(super) fn cores_to_pin(threads: usize) -> Vec<usize> {
    let Ok(mask) = rustix::thread::sched_getaffinity(None) else { return Vec::new() };
    let allowed = mask.count() as usize;
    if threads != allowed || threads != super::available_threads() {
        return Vec::new();
    }
    (0..rustix::thread::CpuSet::MAX_CPU).filter(|&cpu| mask.is_set(cpu)).collect()
}

/// Pins the calling thread. A refusal is no fault: the thread is as right on any core.
#[cfg(target_os = "linux")]
pub(super) fn pin_current(core: usize) {
    let mut mask = rustix::thread::CpuSet::new();
    mask.set(core);
    let _ = rustix::thread::sched_setaffinity(None, &mask);
}

#[cfg(not(target_os = "linux"))]
pub(super) fn cores_to_pin(_threads: usize) -> Vec<usize> {
    Vec::new()
}

#[cfg(not(target_os = "linux"))]
pub(super) fn pin_current(_core: usize) {}
