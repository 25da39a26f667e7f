//! The bounded queue between workers and consumer.
//!
//! Workers claim steps in order, fill free buffers and put them into a table; the consumer takes step after step
//! out of it. One mutex and two condition variables; the lock is held only to move buffers.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::fill::Filler;
use super::order::{batch_range, epoch_order, in_order};
use super::{Batch, Mode, steps_per_epoch};
use crate::error::DataError;

/// Batches that may lie ready for each worker, beside the one it fills.
const READY_PER_WORKER: usize = 2;

/// The batches of one epoch, in order. Dropping it stops and joins the workers.
pub struct Batches {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
}

struct Shared {
    filler: Arc<Filler>,
    epoch: u32,
    order: Vec<u32>,
    steps: usize,
    ahead: usize,
    state: Mutex<State>,
    ready: Condvar,
    room: Condvar,
}

struct State {
    next_claim: usize,
    next_delivery: usize,
    done: BTreeMap<usize, Result<Batch, DataError>>,
    free: Vec<Batch>,
    stopped: bool,
}

impl Batches {
    pub(super) fn start(filler: Arc<Filler>, epoch: u32, first_step: usize) -> Batches {
        let (samples, spec) = (filler.source.len(), &filler.spec);
        let order = match spec.mode {
            Mode::Train => epoch_order(samples, spec.seed, epoch, spec.repeats),
            Mode::Eval => in_order(samples),
        };
        let steps = steps_per_epoch(samples, spec.batch_size);
        let count = spec.workers.clamp(1, steps.saturating_sub(first_step).max(1));
        let state = State {
            next_claim: first_step,
            next_delivery: first_step,
            done: BTreeMap::new(),
            free: Vec::new(),
            stopped: false,
        };
        let shared = Arc::new(Shared {
            ahead: READY_PER_WORKER * count,
            filler,
            epoch,
            order,
            steps,
            state: Mutex::new(state),
            ready: Condvar::new(),
            room: Condvar::new(),
        });
        let spawn = |_| {
            let shared = shared.clone();
            thread::spawn(move || shared.work())
        };
        let workers = (0..count).map(spawn).collect();
        Batches { shared, workers, waited: Duration::ZERO }
    }

    /// The next batch, or `None` after the last. In evaluation a batch may have fewer pictures, or none.
    ///
    /// # Errors
    /// When the batch could not be made; the batches end there.
    ///
    /// # Panics
    /// When a worker panicked, which is a fault of this crate.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, DataError> {
        let mut state = self.shared.lock();
        let step = state.next_delivery;
        if step >= self.shared.steps {
            return Ok(None);
        }
        if !state.done.contains_key(&step) {
            let start = Instant::now();
            while !state.done.contains_key(&step) {
                assert!(!state.stopped, "a worker of the loader panicked");
                state = self.shared.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            self.waited += start.elapsed();
        }
        let result = state.done.remove(&step).expect("the loop above waited for it");
        state.next_delivery = if result.is_ok() { step + 1 } else { self.shared.steps };
        state.stopped |= result.is_err();
        drop(state);
        self.shared.room.notify_one();
        result.map(Some)
    }

    /// Hands a batch's buffers back for reuse.
    pub fn recycle(&mut self, batch: Batch) {
        self.shared.lock().free.push(batch);
    }

    /// How long `next_batch` has waited for workers since the epoch began.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.room.notify_all();
        for worker in self.workers.drain(..) {
            // A panic of a worker has been shown by its thread, and `next_batch` reports it.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let _guard = StopOnPanic(self);
        while let Some((step, mut batch)) = self.claim() {
            let samples = self.filler.source.len();
            let spec = &self.filler.spec;
            let range = batch_range(step, samples, spec.batch_size, spec.mode);
            batch.step = step;
            let result = self.filler.fill(&mut batch, self.epoch, &self.order, range);
            self.lock().done.insert(step, result.map(|()| batch));
            self.ready.notify_one();
        }
    }

    /// The next step to fill and a buffer for it, once the consumer is near enough.
    fn claim(&self) -> Option<(usize, Batch)> {
        let mut state = self.lock();
        loop {
            if state.stopped || state.next_claim >= self.steps {
                return None;
            }
            if state.next_claim < state.next_delivery + self.ahead {
                let step = state.next_claim;
                state.next_claim += 1;
                return Some((step, state.free.pop().unwrap_or_default()));
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Wakes the consumer when a worker panics, so that it does not wait for ever.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.lock().stopped = true;
            self.0.ready.notify_all();
            self.0.room.notify_all();
        }
    }
}
