//! The thread pool of the kernels: fork-join over a range of tasks, microseconds a join.
//!
//! Work is cut into tasks by the problem alone. Each thread has a range of them to itself, which it
//! takes from the front: tasks that lie together, and those at the same place of the next job, then
//! find their data in the thread's own cache. Who has none left takes one from the end of another's
//! range, so that a thread which lost its core delays one task and not the join. A worker takes part in a job only by
//! passing the *gate* while it is open; the caller closes the gate when no task is left to claim, and
//! waits for those that passed. A worker that the system never woke is not waited for.
//!
//! Waiting spins for a few microseconds, then yields, then sleeps: a pool that only spins collapses
//! on shared cores, one that only sleeps pays tens of microseconds for each join.

use std::cell::{Cell, UnsafeCell};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use disjoint::DisjointMut;
use range::AtomicRange;
pub(crate) use range::part;

mod disjoint;
mod parts;
mod pin;
mod range;

/// How long a wait spins before it starts to yield: a little more than the gap between two kernels.
const SPIN: Duration = Duration::from_micros(10);
/// How long a wait spins and yields before it sleeps.
const AWAKE: Duration = Duration::from_micros(100);

/// Set in the gate while tasks of the current job may be claimed.
const OPEN: u64 = 1 << 31;
/// The bits of the gate that count the workers inside the current job.
const INSIDE: u64 = OPEN - 1;
/// The gate's job number starts here.
const JOB_SHIFT: u32 = 32;

thread_local! {
    /// Whether this thread is running a task of some pool.
    static IN_TASK: Cell<bool> = const { Cell::new(false) };
}

/// The number of threads this process may use: its affinity mask and cgroup quota, at least 1.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// A function of (thread, task), as the workers see it.
type Task = dyn Fn(usize, usize) + Sync;

/// The same before its lifetime is put aside.
type BorrowedTask<'f> = dyn Fn(usize, usize) + Sync + 'f;

/// What a job is: its function and the number of its tasks.
#[derive(Clone, Copy)]
struct Job {
    function: *const Task,
    tasks: usize,
}

/// What caller and workers share. Each word that threads fight for has a cache line of its own.
struct Shared {
    gate: Line<AtomicU64>,
    /// The tasks that nobody has claimed, a range for each thread.
    unclaimed: Box<[Line<AtomicRange>]>,
    /// Written only while the gate is closed and nobody is inside.
    job: UnsafeCell<Job>,
    stop: AtomicBool,
    panicked: AtomicBool,
    sleepers: AtomicUsize,
    caller_sleeps: AtomicBool,
    bed: Mutex<()>,
    job_came: Condvar,
    job_done: Condvar,
}

#[repr(align(128))]
struct Line<T>(T);

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written by the one caller that
// holds `ThreadPool::calling` while the gate is closed with nobody inside, and read by workers that
// passed the open gate: opening (release) and passing (acquire) order the two. The function it
// points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: as above; the pointer is only followed between opening and the end of the same job.
unsafe impl Send for Shared {}

/// A pool of `threads - 1` workers; the thread that calls `run` is the remaining one.
pub struct ThreadPool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held while a job runs: jobs of several callers take turns.
    calling: Mutex<()>,
}

impl ThreadPool {
    /// Starts `threads - 1` workers (`threads` is at least 1; 0 counts as 1).
    ///
    /// Workers are pinned to a core each if the pool takes every core this process may use; a pool
    /// that takes a part leaves the choice to the system, as another process may have made the same
    /// one. Where pinning is forbidden, or a thread cannot be started, the pool does without.
    pub fn new(threads: usize) -> ThreadPool {
        let shared = Arc::new(Shared::new(threads.max(1)));
        let cores = pin::cores_to_pin(threads);
        let start = |index: usize| {
            let shared = Arc::clone(&shared);
            let core = cores.get(index).copied();
            std::thread::Builder::new()
                .name(format!("resnet-cpu-{index}"))
                .spawn(move || {
                    core.inspect(|&core| pin::pin_current(core));
                    shared.work(index);
                })
                .ok()
        };
        let workers = (1..threads).map_while(start).collect();
        ThreadPool { shared, workers, calling: Mutex::new(()) }
    }

    /// The number of threads that compute, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `f(0)`, …, `f(tasks - 1)`, each once, on the caller and the workers; returns when all
    /// are done. Allocates nothing.
    ///
    /// Inside a task of this or another pool, everything runs on the calling thread.
    ///
    /// # Panics
    /// If a task panics; tasks not yet begun are then left out. The pool stays usable, with one
    /// thread less if the panic was a worker's.
    pub fn run(&self, tasks: usize, f: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() || IN_TASK.get() {
            (0..tasks).for_each(f);
        } else {
            self.fork_join(tasks, &|_, task| f(task));
        }
    }

    /// As `run`, but tells `f(thread, task)` which thread it is on, `thread < self.threads()`, so that
    /// each can have scratch memory of its own: no two tasks run at once with the same `thread`.
    ///
    /// # Panics
    /// If a task panics, and if called from inside a task: `thread` could not be told truly.
    pub fn run_with_thread(&self, tasks: usize, f: &(dyn Fn(usize, usize) + Sync)) {
        assert!(!IN_TASK.get(), "run_with_thread inside a task");
        if tasks <= 1 || self.workers.is_empty() {
            let _turn = lock(&self.calling);
            let _mark = TaskMark::set();
            (0..tasks).for_each(|task| f(0, task));
        } else {
            self.fork_join(tasks, f);
        }
    }

    fn fork_join<'f>(&self, tasks: usize, f: &'f BorrowedTask<'f>) {
        let _turn = lock(&self.calling);
        // SAFETY: only the lifetime of the pointee changes. `Joined` below waits for every worker
        // that may follow the pointer before this function returns or unwinds, so `f` outlives it.
        let function = unsafe { std::mem::transmute::<*const BorrowedTask<'f>, *const Task>(f) };
        self.shared.open(Job { function, tasks }, self.threads());
        let joined = Joined(&self.shared);
        {
            let _mark = TaskMark::set();
            self.shared.claim(0, |task| f(0, task));
        }
        drop(joined);
        let panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a task of the thread pool panicked");
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        drop(lock(&self.shared.bed));
        self.shared.job_came.notify_all();
        for worker in self.workers.drain(..) {
            // A worker that panicked has been reported by the job it panicked in.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn new(threads: usize) -> Shared {
        let nothing: *const Task = &|_: usize, _: usize| {};
        Shared {
            gate: Line(AtomicU64::new(0)),
            unclaimed: (0..threads).map(|_| Line(AtomicRange::new())).collect(),
            job: UnsafeCell::new(Job { function: nothing, tasks: 0 }),
            stop: AtomicBool::new(false),
            panicked: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            caller_sleeps: AtomicBool::new(false),
            bed: Mutex::new(()),
            job_came: Condvar::new(),
            job_done: Condvar::new(),
        }
    }

    /// Publishes a job for so many threads. The caller holds the turn, and the last job was joined.
    fn open(&self, job: Job, threads: usize) {
        let gate = self.gate.0.load(Ordering::Relaxed);
        debug_assert_eq!(gate & (OPEN | INSIDE), 0);
        // SAFETY: the gate is closed and nobody is inside, so no worker reads `job`.
        unsafe { *self.job.get() = job };
        for (thread, unclaimed) in self.unclaimed[..threads].iter().enumerate() {
            unclaimed.0.set(part(thread, threads, job.tasks));
        }
        let number = (gate >> JOB_SHIFT).wrapping_add(1);
        // Sequentially consistent with `sleepers`: either we see a sleeper or it sees the open gate.
        self.gate.0.store(number << JOB_SHIFT | OPEN, Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers != 0 {
            drop(lock(&self.bed));
            for _ in 0..sleepers.min(job.tasks - 1) {
                self.job_came.notify_one();
            }
        }
    }

    /// Claims and runs tasks until none is left: the thread's own, then others' last ones.
    fn claim(&self, thread: usize, f: impl Fn(usize)) {
        while let Some(task) = self.unclaimed[thread].0.take_first() {
            f(task);
        }
        let (before, after) = self.unclaimed.split_at(thread);
        for other in after.iter().chain(before) {
            while let Some(task) = other.0.take_last() {
                f(task);
            }
        }
    }

    /// Leaves the tasks that nobody has claimed undone.
    fn abandon(&self) {
        self.unclaimed.iter().for_each(|range| range.0.set(0..0));
    }

    /// A worker's life.
    fn work(&self, thread: usize) {
        IN_TASK.set(true);
        let mut seen = 0;
        while let Some(number) = self.pass_gate(seen) {
            seen = number;
            let inside = Inside(self);
            // SAFETY: we passed the open gate, so the job is not written before we leave.
            let job = unsafe { *self.job.get() };
            // SAFETY: the caller keeps the function alive until nobody is inside.
            let function = unsafe { &*job.function };
            self.claim(thread, |task| function(thread, task));
            drop(inside);
        }
    }

    /// Waits for a job other than `seen`, and enters it. None when the pool ends.
    fn pass_gate(&self, seen: u64) -> Option<u64> {
        loop {
            let gate = self.await_open(seen)?;
            let entered = self.gate.0.compare_exchange_weak(
                gate,
                gate + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            );
            if entered.is_ok() {
                return Some(gate >> JOB_SHIFT);
            }
        }
    }

    fn await_open(&self, seen: u64) -> Option<u64> {
        let look = || {
            if self.stop.load(Ordering::SeqCst) {
                return Some(None);
            }
            let gate = self.gate.0.load(Ordering::SeqCst);
            (gate & OPEN != 0 && gate >> JOB_SHIFT != seen).then_some(Some(gate))
        };
        if let Some(found) = wait_awake(look) {
            return found;
        }
        let mut bed = lock(&self.bed);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let found = loop {
            if let Some(found) = look() {
                break found;
            }
            bed = self.job_came.wait(bed).unwrap_or_else(PoisonError::into_inner);
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        found
    }

    /// Waits until nobody is inside the job, whose gate is closed.
    fn await_empty(&self) {
        // Acquire: what the workers wrote is seen by the caller.
        let look = || (self.gate.0.load(Ordering::SeqCst) & INSIDE == 0).then_some(());
        if wait_awake(look).is_some() {
            return;
        }
        let mut bed = lock(&self.bed);
        self.caller_sleeps.store(true, Ordering::SeqCst);
        while look().is_none() {
            bed = self.job_done.wait(bed).unwrap_or_else(PoisonError::into_inner);
        }
        self.caller_sleeps.store(false, Ordering::SeqCst);
    }
}

/// A worker's presence in a job; leaves when dropped, also by a panic.
struct Inside<'a>(&'a Shared);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        if std::thread::panicking() {
            shared.panicked.store(true, Ordering::Relaxed);
            shared.abandon();
        }
        let before = shared.gate.0.fetch_sub(1, Ordering::SeqCst);
        if before & INSIDE == 1 && shared.caller_sleeps.load(Ordering::SeqCst) {
            drop(lock(&shared.bed));
            shared.job_done.notify_one();
        }
    }
}

/// The caller's duty to a job it opened: closes the gate and waits, also on a panic.
struct Joined<'a>(&'a Shared);

impl Drop for Joined<'_> {
    fn drop(&mut self) {
        let shared = self.0;
        if std::thread::panicking() {
            shared.abandon();
        }
        shared.gate.0.fetch_and(!OPEN, Ordering::SeqCst);
        shared.await_empty();
        if std::thread::panicking() {
            // The caller's own panic is on its way; a worker's must not show up in the next job.
            shared.panicked.store(false, Ordering::Relaxed);
        }
    }
}

/// Marks the calling thread as being inside a task, for as long as it lives.
struct TaskMark;

impl TaskMark {
    fn set() -> TaskMark {
        IN_TASK.set(true);
        TaskMark
    }
}

impl Drop for TaskMark {
    fn drop(&mut self) {
        IN_TASK.set(false);
    }
}

/// Asks `look` again and again, spinning and then yielding; None when it is time to sleep.
fn wait_awake<T>(look: impl Fn() -> Option<T>) -> Option<T> {
    const LOOKS_PER_CLOCK: usize = 32;
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        if AWAKE <= waited {
            return None;
        }
        if SPIN <= waited {
            std::thread::yield_now();
        }
        for _ in 0..LOOKS_PER_CLOCK {
            let found = look();
            if found.is_some() {
                return found;
            }
            std::hint::spin_loop();
        }
    }
}

/// Locks a mutex that guards no data, so that a panic elsewhere cannot have left it wrong.
fn lock(mutex: &Mutex<()>) -> MutexGuard<'_, ()> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
