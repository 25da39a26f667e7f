//! Ranges that several threads take from, at both ends.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which of `len` things are part `part` of `parts`: a range, as long as the others but for one.
pub(crate) fn part(part: usize, parts: usize, len: usize) -> Range<usize> {
    part * len / parts..(part + 1) * len / parts
}

/// A range of numbers below 2³².
///
/// The order of memory is that of the job whose tasks these are: whoever takes one has passed the
/// job's gate.
pub(super) struct AtomicRange(AtomicU64);

impl AtomicRange {
    /// An empty one.
    pub(super) fn new() -> AtomicRange {
        AtomicRange(AtomicU64::new(0))
    }

    /// Puts a range in place of what is left.
    ///
    /// # Panics
    /// If it ends above 2³² − 1.
    pub(super) fn set(&self, range: Range<usize>) {
        self.0.store(packed(&range), Ordering::Relaxed);
    }

    /// Takes the first number.
    pub(super) fn take_first(&self) -> Option<usize> {
        self.shrink(|range| range.next())
    }

    /// Takes the last number.
    pub(super) fn take_last(&self) -> Option<usize> {
        self.shrink(|range| range.next_back())
    }

    fn shrink(&self, take: impl Fn(&mut Range<usize>) -> Option<usize>) -> Option<usize> {
        let mut old = self.0.load(Ordering::Relaxed);
        loop {
            let mut range = (old >> 32) as usize..(old & u64::from(u32::MAX)) as usize;
            let taken = take(&mut range)?;
            let new = packed(&range);
            match self.0.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Some(taken),
                Err(found) => old = found,
            }
        }
    }
}

fn packed(range: &Range<usize>) -> u64 {
    let end = u32::try_from(range.end).expect("fewer than 2^32 tasks");
    (range.start as u64) << 32 | u64::from(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_whole_and_even() {
        for (parts, len) in [(1, 7), (3, 10), (7, 3), (4, 0)] {
            let all: Vec<_> = (0..parts).map(|at| part(at, parts, len)).collect();
            assert_eq!(
                all.iter().flat_map(Clone::clone).collect::<Vec<_>>(),
                Vec::from_iter(0..len)
            );
            let lengths = || all.iter().map(Range::len);
            assert!(lengths().max().unwrap() <= lengths().min().unwrap() + 1);
        }
    }

    #[test]
    fn threads_at_both_ends_take_each_number_once() {
        const LEN: usize = 10_000;
        let range = AtomicRange::new();
        range.set(5..LEN);
        let drain = |take: fn(&AtomicRange) -> Option<usize>| {
            std::iter::from_fn(|| take(&range)).collect::<Vec<_>>()
        };
        let mut taken = std::thread::scope(|scope| {
            let others = [AtomicRange::take_first, AtomicRange::take_last, AtomicRange::take_last]
                .map(|take| scope.spawn(move || drain(take)));
            others.into_iter().flat_map(|other| other.join().unwrap()).collect::<Vec<_>>()
        });
        taken.sort_unstable();
        assert_eq!(taken, Vec::from_iter(5..LEN));
        assert_eq!((range.take_first(), range.take_last()), (None, None));
    }
}
