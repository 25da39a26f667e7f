//! The bounded queue between workers and consumer.
//!
//! A batch is cut into pieces; workers claim pieces in order, fill free buffers and put them into a table.
//! Whoever brings the last piece of a batch joins them. The consumer takes step after step. One mutex and two
//! condition variables; the lock is held only to move buffers. How many batches lie ready or begun does not
//! depend on the number of workers, and of these there are no more than can be of use, each with a decoded picture:
//! so memory has a bound that is the machine's, whatever number is asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::Batch;
use super::fill::{Filler, Place};
use super::order::{batch_range, share};
use crate::error::DataError;
use crate::source::Asked;

/// Batches that may be ready or begun ahead of the consumer.
const AHEAD: usize = 4;
/// Pieces of a batch, if it has as many pictures: with [`AHEAD`] enough for 64 workers.
const PIECES: usize = 16;
/// Pieces whose pictures are asked for before they are claimed, where pictures come from far away: two batches.
const ASKED: usize = 2 * PIECES;
/// Workers for each processor, at most: while one decodes, another may wait for a disk. More would only wait for each
/// other, each with a picture and what the allocator keeps for its thread.
const WORKERS_PER_PROCESSOR: usize = 2;

/// The batches of one epoch, in order. Dropping it stops and joins the workers.
pub struct Batches {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    waited: Duration,
}

struct Shared {
    filler: Arc<Filler>,
    epoch: u32,
    order: Vec<Place>,
    steps: usize,
    state: Mutex<State>,
    ready: Condvar,
    room: Condvar,
}

struct State {
    /// The piece to be claimed next: step, and which of it.
    next_claim: (usize, usize),
    /// The pieces behind it that were asked for, and what holds their pictures.
    asked: VecDeque<Option<Asked>>,
    next_ask: (usize, usize),
    next_delivery: usize,
    begun: BTreeMap<usize, Begun>,
    done: BTreeMap<usize, Result<Batch, DataError>>,
    /// Buffers of batches, which hold whole ones.
    free: Vec<Batch>,
    /// Buffers of pieces.
    free_pieces: Vec<Batch>,
    stopped: bool,
}

/// A batch some of whose pieces are there.
struct Begun {
    pieces: Vec<Option<Batch>>,
    missing: usize,
    /// The fault of the first piece that has one.
    fault: Option<(usize, DataError)>,
}

/// A piece to be filled.
struct Claim {
    step: usize,
    piece: usize,
    pieces: usize,
    buffer: Batch,
    /// Keeps its pictures until they are read.
    asked: Option<Asked>,
}

impl Batches {
    pub(super) fn start(filler: Arc<Filler>, epoch: u32, first_step: usize) -> Batches {
        let (order, steps) = (filler.order(epoch), filler.steps_per_epoch());
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let most = (WORKERS_PER_PROCESSOR * processors).min(AHEAD * PIECES);
        let count = filler.spec.workers.clamp(1, most);
        let state = State {
            next_claim: (first_step, 0),
            asked: VecDeque::new(),
            next_ask: (first_step, 0),
            next_delivery: first_step,
            begun: BTreeMap::new(),
            done: BTreeMap::new(),
            free: Vec::new(),
            free_pieces: Vec::new(),
            stopped: false,
        };
        let shared = Arc::new(Shared {
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
        // A whole batch of pieces has room now.
        self.shared.room.notify_all();
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
        while let Some(Claim { step, piece, pieces, mut buffer, asked }) = self.claim() {
            let range = self.range(step);
            let part = share(0..range.len(), piece, pieces);
            let result = self.filler.fill(&mut buffer, self.epoch, &self.order, (range, part));
            drop(asked);
            if let Some((begun, batch)) = self.put(step, piece, result.map(|()| buffer)) {
                self.join(step, begun, batch);
            }
        }
    }

    /// Where in the order the samples of a batch are.
    fn range(&self, step: usize) -> std::ops::Range<usize> {
        let spec = &self.filler.spec;
        let (samples, cut) = (self.filler.source.len(), self.filler.cut());
        let range = batch_range(step, samples, spec.batch_size, cut);
        share(range, spec.order.rank, spec.order.ranks)
    }

    /// The next piece to fill and a buffer for it, once the consumer is near enough.
    fn claim(&self) -> Option<Claim> {
        let mut state = self.lock();
        loop {
            let (step, piece) = state.next_claim;
            if state.stopped || step >= self.steps {
                return None;
            }
            if step < state.next_delivery + AHEAD {
                self.ask_ahead(&mut state);
                let pieces = self.pieces(step);
                state.next_claim = next_piece((step, piece), pieces);
                let asked = state.asked.pop_front().flatten();
                let buffer = state.free_pieces.pop().unwrap_or_default();
                state.begun.entry(step).or_insert_with(|| Begun::of(pieces));
                return Some(Claim { step, piece, pieces, buffer, asked });
            }
            state = self.room.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The number of pieces of a batch.
    fn pieces(&self, step: usize) -> usize {
        self.range(step).len().clamp(1, PIECES)
    }

    /// Asks for the pictures of the next pieces. Asking waits for nothing, so that the lock may be held: the piece to
    /// be claimed is always among them.
    fn ask_ahead(&self, state: &mut State) {
        while state.asked.len() < ASKED {
            let (step, piece) = state.next_ask;
            if self.steps <= step || state.next_delivery + AHEAD <= step {
                return;
            }
            let (range, pieces) = (self.range(step), self.pieces(step));
            let part = share(0..range.len(), piece, pieces);
            state.asked.push_back(self.filler.ask(&self.order, (range, part)));
            state.next_ask = next_piece((step, piece), pieces);
        }
    }

    /// Puts a piece to its batch; the pieces and a buffer to join them in, if it was the last.
    fn put(
        &self,
        step: usize,
        piece: usize,
        result: Result<Batch, DataError>,
    ) -> Option<(Begun, Batch)> {
        let mut state = self.lock();
        let begun = state.begun.get_mut(&step).expect("its first claim began it");
        begun.missing -= 1;
        match result {
            Ok(batch) => begun.pieces[piece] = Some(batch),
            Err(error) => {
                if begun.fault.as_ref().is_none_or(|(first, _)| piece < *first) {
                    begun.fault = Some((piece, error));
                }
            }
        }
        if 0 < begun.missing {
            return None;
        }
        let begun = state.begun.remove(&step).expect("it was there above");
        Some((begun, state.free.pop().unwrap_or_default()))
    }

    /// Joins the pieces of a batch and delivers it.
    fn join(&self, step: usize, begun: Begun, mut batch: Batch) {
        batch.clear();
        batch.step = step;
        let mut pieces: Vec<Batch> = begun.pieces.into_iter().flatten().collect();
        let result = match begun.fault {
            Some((_, error)) => Err(error),
            None => {
                pieces.iter_mut().for_each(|piece| batch.append(piece));
                self.filler.finish(&mut batch, self.epoch);
                Ok(batch)
            }
        };
        let mut state = self.lock();
        state.done.insert(step, result);
        state.free_pieces.append(&mut pieces);
        drop(state);
        self.ready.notify_one();
    }
}

/// The piece after one, of a step that has so many.
fn next_piece((step, piece): (usize, usize), pieces: usize) -> (usize, usize) {
    if piece + 1 == pieces { (step + 1, 0) } else { (step, piece + 1) }
}

impl Begun {
    fn of(pieces: usize) -> Begun {
        Begun { pieces: (0..pieces).map(|_| None).collect(), missing: pieces, fault: None }
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
