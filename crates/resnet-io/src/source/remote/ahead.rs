//! Pictures that are on their way before they are read.
//!
//! The loader asks for the pictures of its next pieces of batches and holds on to what it is handed until they are
//! read. Neighbours in an archive, as evaluation reads them, come by one request.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::server::Fault;
use crate::error::RemoteFault;

/// Requests under way at once.
const REQUESTS: usize = 32;
/// The most bytes that are asked for ahead; whatever is beyond comes when it is read.
const MOST_BYTES: u64 = 256 << 20;
/// Bytes between two pictures that are brought along rather than asked around, and the most of one request.
const GAP: u64 = 64 << 10;
const MOST_OF_REQUEST: u64 = 8 << 20;

/// A picture: the number of its archive, and its path.
pub(super) type Key = (u32, Box<str>);

/// A picture to be asked for, and where it is.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) key: Key,
    pub(super) offset: u64,
    pub(super) len: u64,
}

/// Pictures that one request brings: neighbours within an archive, or one file.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) archive: u32,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) pictures: Vec<Wanted>,
}

/// What was asked for.
pub(super) struct Ahead {
    slots: Mutex<Slots>,
    pub(super) requests: Arc<Semaphore>,
}

#[derive(Default)]
struct Slots {
    by_key: HashMap<Key, Slot>,
    bytes: u64,
}

/// A picture within what a request brings.
struct Slot {
    /// How many hold on to it.
    holders: usize,
    fetch: Arc<Fetch>,
    /// Where it begins in it, and its bytes.
    begin: u64,
    len: u64,
    /// Whether it is the whole answer, of whatever length.
    whole: bool,
}

/// A request and its answer.
#[derive(Default)]
pub(super) struct Fetch {
    answer: Mutex<Option<Result<Bytes, Fault>>>,
    came: Condvar,
}

impl Fetch {
    pub(super) fn put(&self, answer: Result<Bytes, Fault>) {
        let mut place = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        place.get_or_insert(answer);
        self.came.notify_all();
    }

    fn wait(&self) -> Result<Bytes, Fault> {
        let mut place = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(answer) = &*place {
                return answer.clone();
            }
            place = self.came.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Answers a request that its task did not: nobody may wait for ever.
pub(super) struct Answer(pub(super) Arc<Fetch>);

impl Drop for Answer {
    fn drop(&mut self) {
        let reason = "the request was given up".to_string();
        self.0.put(Err(Fault { kind: RemoteFault::Failed, reason }));
    }
}

impl Ahead {
    pub(super) fn new() -> Ahead {
        Ahead { slots: Mutex::default(), requests: Arc::new(Semaphore::new(REQUESTS)) }
    }

    fn lock(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes pictures as asked for. Returns the requests to be made for them, and what is to be given to
    /// [`Ahead::release`] when they are no longer wanted.
    pub(super) fn note(&self, wanted: Vec<Wanted>) -> (Vec<(Run, Arc<Fetch>)>, Vec<Key>) {
        let mut slots = self.lock();
        let (mut keys, mut new, mut new_keys) = (Vec::new(), Vec::new(), HashSet::new());
        for picture in wanted {
            if let Some(slot) = slots.by_key.get_mut(&picture.key) {
                slot.holders += 1;
                keys.push(picture.key);
            } else if slots.bytes + picture.len <= MOST_BYTES
                && new_keys.insert(picture.key.clone())
            {
                slots.bytes += picture.len;
                keys.push(picture.key.clone());
                new.push(picture);
            }
        }
        let mut runs = Vec::new();
        for run in runs_of(new) {
            let fetch = Arc::new(Fetch::default());
            for picture in &run.pictures {
                let slot = Slot {
                    holders: 1,
                    fetch: fetch.clone(),
                    begin: picture.offset - run.begin,
                    len: picture.len,
                    whole: run.begin == 0,
                };
                slots.by_key.insert(picture.key.clone(), slot);
            }
            runs.push((run, fetch));
        }
        (runs, keys)
    }

    /// What came for a picture, or will; none if it was not asked for.
    pub(super) fn take(&self, key: &Key) -> Option<Result<Bytes, Fault>> {
        let (fetch, begin, len, whole) = {
            let slots = self.lock();
            let slot = slots.by_key.get(key)?;
            (slot.fetch.clone(), slot.begin as usize, slot.len as usize, slot.whole)
        };
        let answer = fetch.wait();
        Some(answer.map(|all| if whole { all } else { all.slice(begin..begin + len) }))
    }

    /// Forgets what nobody else holds.
    pub(super) fn release(&self, keys: &[Key]) {
        let mut slots = self.lock();
        for key in keys {
            let Some(slot) = slots.by_key.get_mut(key) else { continue };
            slot.holders -= 1;
            if slot.holders == 0 {
                let slot = slots.by_key.remove(key).expect("it was there above");
                slots.bytes -= slot.len;
            }
        }
    }
}

/// Pictures by the request that brings them. Files that are no part of an archive begin at 0, and come alone.
fn runs_of(mut pictures: Vec<Wanted>) -> Vec<Run> {
    pictures.sort_unstable_by_key(|picture| (picture.key.0, picture.offset));
    let mut runs: Vec<Run> = Vec::new();
    for picture in pictures {
        let (archive, begin, end) = (picture.key.0, picture.offset, picture.offset + picture.len);
        match runs.last_mut() {
            Some(run)
                if run.archive == archive
                    && 0 < begin
                    && begin <= run.end.saturating_add(GAP)
                    && end <= run.begin.saturating_add(MOST_OF_REQUEST) =>
            {
                run.end = run.end.max(end);
                run.pictures.push(picture);
            }
            _ => runs.push(Run { archive, begin, end, pictures: vec![picture] }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(archive: u32, offset: u64, len: u64) -> Wanted {
        Wanted { key: (archive, format!("{archive}/{offset}").into()), offset, len }
    }

    #[test]
    fn neighbours_come_together_and_others_alone() {
        let runs = runs_of(vec![
            wanted(0, 512 + (1 << 20), 100),
            wanted(0, 512, 1000),
            wanted(0, 2048, 1000),
            wanted(1, 3072, 1000),
            wanted(1, 4608, MOST_OF_REQUEST),
            // Whole files have no place in an archive.
            wanted(2, 0, 10),
            wanted(2, 0, 10),
        ]);
        let spans: Vec<_> = runs.iter().map(|r| (r.archive, r.begin, r.pictures.len())).collect();
        assert_eq!(
            spans,
            [
                (0, 512, 2),
                (0, 512 + (1 << 20), 1),
                (1, 3072, 1),
                (1, 4608, 1),
                (2, 0, 1),
                (2, 0, 1)
            ]
        );
    }

    #[test]
    fn pictures_are_kept_as_long_as_someone_holds_them() {
        let ahead = Ahead::new();
        let (runs, first) = ahead.note(vec![wanted(0, 512, 3), wanted(0, 1024, 2)]);
        let (again, second) = ahead.note(vec![wanted(0, 1024, 2)]);
        assert_eq!((runs.len(), again.len()), (1, 0), "what is on its way is not asked for twice");
        let mut bytes = vec![0; 514];
        bytes[512..].copy_from_slice(&[7, 8]);
        runs[0].1.put(Ok(bytes.into()));
        let key = (0, "0/1024".into());
        ahead.release(&first);
        assert_eq!(ahead.take(&key).unwrap().unwrap(), [7, 8][..]);
        assert!(ahead.take(&(0, "0/512".into())).is_none());
        ahead.release(&second);
        assert!(ahead.take(&key).is_none());
        assert_eq!(ahead.lock().bytes, 0);
    }

    #[test]
    fn a_request_that_nobody_answers_is_a_fault_and_too_much_is_not_asked_for() {
        let ahead = Ahead::new();
        let (runs, keys) = ahead.note(vec![wanted(0, 512, 3), wanted(1, 512, MOST_BYTES)]);
        assert_eq!((runs.len(), keys.len()), (1, 1));
        drop(Answer(runs[0].1.clone()));
        assert!(ahead.take(&keys[0]).unwrap().is_err());
    }
}
