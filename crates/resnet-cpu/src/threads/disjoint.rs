//! A mutable slice that several threads write, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// `&mut [T]` in a form that tasks can share. Each task takes its own part by `slice`.
#[derive(Clone, Copy)]
pub struct DisjointMut<'a, T> {
    start: *mut T,
    len: usize,
    whole: PhantomData<&'a mut [T]>,
}

// SAFETY: it gives out `&mut T` to other threads, which is sound for `T: Send` under the rule of
// `slice`; the wrapper itself has no other access.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    /// Lends out `whole` for as long as the wrapper and its copies live.
    pub fn new(whole: &'a mut [T]) -> DisjointMut<'a, T> {
        DisjointMut { start: whole.as_mut_ptr(), len: whole.len(), whole: PhantomData }
    }

    /// The number of elements of the whole.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the whole has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The part `range`.
    ///
    /// # Panics
    /// If `range` does not lie inside the whole.
    ///
    /// # Safety
    /// While the result lives, no other result that overlaps `range` may live, on any thread.
    pub unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part outside the whole");
        // SAFETY: the range lies inside the slice that `new` borrowed mutably for `'a`; the caller
        // warrants that no two live parts overlap.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.add(range.start), range.end - range.start)
        }
    }
}
