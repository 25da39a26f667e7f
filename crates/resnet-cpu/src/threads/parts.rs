//! Jobs that cut one output into parts, a task each.

use super::{DisjointMut, ThreadPool};

impl ThreadPool {
    /// Runs `f(i, part)` for every part of `part_len` elements of `whole` (the last may be shorter).
    ///
    /// # Panics
    /// If `part_len` is 0 and `whole` is not empty; as [`ThreadPool::run`].
    pub fn run_parts<T: Send>(
        &self,
        whole: &mut [T],
        part_len: usize,
        f: impl Fn(usize, &mut [T]) + Sync,
    ) {
        let len = whole.len();
        if len == 0 {
            return;
        }
        let parts = DisjointMut::new(whole);
        self.run(len.div_ceil(part_len), &|i| {
            let start = i * part_len;
            // SAFETY: each task has its own `i`, so the ranges do not overlap.
            f(i, unsafe { parts.slice(start..len.min(start + part_len)) });
        });
    }

    /// Runs `f(i, part_a, part_b)` for the parts of two outputs that are cut alike: `part_a_len`
    /// elements of `a` go with `part_b_len` of `b`.
    ///
    /// # Panics
    /// If the two do not have the same number of parts; as [`ThreadPool::run`].
    pub fn run_part_pairs<T: Send, U: Send>(
        &self,
        (a, part_a_len): (&mut [T], usize),
        (b, part_b_len): (&mut [U], usize),
        f: impl Fn(usize, &mut [T], &mut [U]) + Sync,
    ) {
        let (a_len, b_len) = (a.len(), b.len());
        if a_len == 0 && b_len == 0 {
            return;
        }
        let tasks = a_len.div_ceil(part_a_len);
        assert_eq!(tasks, b_len.div_ceil(part_b_len), "outputs with unequal numbers of parts");
        let (a, b) = (DisjointMut::new(a), DisjointMut::new(b));
        self.run(tasks, &|i| {
            let (start_a, start_b) = (i * part_a_len, i * part_b_len);
            // SAFETY: each task has its own `i`, so neither the ranges of `a` nor those of `b`
            // overlap.
            let (part_a, part_b) = unsafe {
                (
                    a.slice(start_a..a_len.min(start_a + part_a_len)),
                    b.slice(start_b..b_len.min(start_b + part_b_len)),
                )
            };
            f(i, part_a, part_b);
        });
    }

    /// Cuts each of the rows of `row_len` elements of `whole` into blocks of `block_len` (the last of
    /// a row may be shorter), and runs `f(row, start, block)` for each, `start` counted in the row.
    ///
    /// # Panics
    /// If `whole` does not consist of whole rows, if `block_len` is 0; as [`ThreadPool::run`].
    pub fn run_row_blocks<T: Send>(
        &self,
        whole: &mut [T],
        (row_len, block_len): (usize, usize),
        f: impl Fn(usize, usize, &mut [T]) + Sync,
    ) {
        if whole.is_empty() {
            return;
        }
        assert!(whole.len().is_multiple_of(row_len), "whole rows of {row_len}");
        let blocks = row_len.div_ceil(block_len);
        let rows = whole.len() / row_len;
        let parts = DisjointMut::new(whole);
        self.run(rows * blocks, &|task| {
            let (row, start) = (task / blocks, task % blocks * block_len);
            let end = row_len.min(start + block_len);
            // SAFETY: tasks are distinct blocks of distinct rows, so the ranges do not overlap.
            f(row, start, unsafe { parts.slice(row * row_len + start..row * row_len + end) });
        });
    }
}
