//! Memory: every buffer of a plan gets a place in one arena, by lifetime.
//!
//! Steps are walked in order; a buffer takes the best-fitting free gap when it is first written and
//! gives it back after it was last read. Planning is `O(n log n)` in the number of buffers.

use std::collections::{BTreeMap, BTreeSet};

/// Places start at multiples of this: a cache line, and the widest vector.
pub(crate) const ALIGNMENT: usize = 64;

/// From when to when a buffer is needed, and how large it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// Bytes.
    pub(crate) bytes: usize,
    /// The step that writes it first.
    pub(crate) first: usize,
    /// The last step that touches it.
    pub(crate) last: usize,
}

/// Where each buffer lies, in bytes from the arena's start, and the arena's size.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) offsets: Vec<usize>,
    pub(crate) bytes: usize,
}

/// Assigns offsets. Buffers that live at the same time never overlap.
pub(crate) fn assign(lifetimes: &[Lifetime]) -> Layout {
    let mut order: Vec<usize> = (0..lifetimes.len()).collect();
    order.sort_by_key(|&i| (lifetimes[i].first, std::cmp::Reverse(lifetimes[i].bytes), i));
    let mut ends: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut free = FreeList::default();
    let mut offsets = vec![0; lifetimes.len()];
    for i in order {
        let lifetime = lifetimes[i];
        while let Some(&(last, ended)) = ends.first()
            && last < lifetime.first
        {
            ends.pop_first();
            free.give_back(offsets[ended], rounded(lifetimes[ended].bytes));
        }
        offsets[i] = free.take(rounded(lifetime.bytes));
        ends.insert((lifetime.last, i));
    }
    Layout { offsets, bytes: free.end }
}

fn rounded(bytes: usize) -> usize {
    bytes.max(1).next_multiple_of(ALIGNMENT)
}

/// Gaps in the arena, by place and by size.
#[derive(Default)]
struct FreeList {
    by_place: BTreeMap<usize, usize>,
    by_size: BTreeSet<(usize, usize)>,
    end: usize,
}

impl FreeList {
    fn take(&mut self, bytes: usize) -> usize {
        if let Some(&(size, place)) = self.by_size.range((bytes, 0)..).next() {
            self.remove(place, size);
            if size > bytes {
                self.insert(place + bytes, size - bytes);
            }
            return place;
        }
        // A gap at the very end grows instead of leaving a hole.
        let last = self.by_place.last_key_value().map(|(&place, &size)| (place, size));
        let place = match last {
            Some((place, size)) if place + size == self.end => {
                self.remove(place, size);
                place
            }
            _ => self.end,
        };
        self.end = place + bytes;
        place
    }

    fn give_back(&mut self, mut place: usize, mut size: usize) {
        let before = self.by_place.range(..place).next_back().map(|(&p, &s)| (p, s));
        if let Some((p, s)) = before
            && p + s == place
        {
            self.remove(p, s);
            (place, size) = (p, s + size);
        }
        if let Some(&s) = self.by_place.get(&(place + size)) {
            self.remove(place + size, s);
            size += s;
        }
        self.insert(place, size);
    }

    fn insert(&mut self, place: usize, size: usize) {
        self.by_place.insert(place, size);
        self.by_size.insert((size, place));
    }

    fn remove(&mut self, place: usize, size: usize) {
        self.by_place.remove(&place);
        self.by_size.remove(&(size, place));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn overlaps(lifetimes: &[Lifetime], layout: &Layout) -> Option<(usize, usize)> {
        for i in 0..lifetimes.len() {
            for j in 0..i {
                let (a, b) = (lifetimes[i], lifetimes[j]);
                let together = a.first <= b.last && b.first <= a.last;
                let (x, y) = (layout.offsets[i], layout.offsets[j]);
                if together && x < y + b.bytes && y < x + a.bytes {
                    return Some((i, j));
                }
            }
        }
        None
    }

    proptest! {
        #[test]
        fn buffers_that_live_together_never_overlap(
            raw in prop::collection::vec((1usize..5000, 0usize..40, 0usize..10), 1..60)
        ) {
            let lifetimes: Vec<Lifetime> = raw
                .into_iter()
                .map(|(bytes, first, length)| Lifetime { bytes, first, last: first + length })
                .collect();
            let layout = assign(&lifetimes);
            prop_assert_eq!(overlaps(&lifetimes, &layout), None);
            for (lifetime, offset) in lifetimes.iter().zip(&layout.offsets) {
                prop_assert!(offset + lifetime.bytes <= layout.bytes);
                prop_assert_eq!(offset % ALIGNMENT, 0);
            }
        }
    }

    #[test]
    fn a_chain_needs_two_buffers_only() {
        let lifetimes: Vec<Lifetime> =
            (0..100).map(|i| Lifetime { bytes: 6400, first: i, last: i + 1 }).collect();
        assert_eq!(assign(&lifetimes).bytes, 2 * 6400);
    }
}
