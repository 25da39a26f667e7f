//! What a product prefetches: the same for floats and for bytes.
//!
//! Fourteen rows and a panel of weights are more streams than a processor foresees. So, while one panel is
//! multiplied with some rows, its tiles ask for what is read next, a few lines at a time between stretches
//! of their steps: all at once, or in every step, requests would take the place of a tile's own loads.

use resnet_simd::Simd;

/// Pixels that multiply with each weight so seldom that its coming from memory shows.
const FEW_PIXELS: usize = 256;
/// Bytes of a cache line.
const LINE: usize = 64;

/// What a product waits for most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coming {
    /// The next panel's weights.
    Weights,
    /// The source's next rows.
    Rows,
    /// Neither: weights are used often, and rows lie scattered.
    Nothing,
}

impl Coming {
    /// What comes at a product of so many pixels, which read all of a stretch of the source or leave gaps.
    pub(super) fn of(pixels: usize, reads_all: bool) -> Coming {
        if pixels <= FEW_PIXELS {
            Coming::Weights
        } else if reads_all {
            Coming::Rows
        } else {
            Coming::Nothing
        }
    }
}

/// A stretch of memory that is read soon; it is never read here, and may end beyond what is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Soon {
    start: *const u8,
    bytes: usize,
}

impl Soon {
    pub(super) const NOTHING: Soon = Soon { start: std::ptr::null(), bytes: 0 };

    /// So many elements.
    pub(super) fn new<T>(start: *const T, len: usize) -> Soon {
        Soon { start: start.cast(), bytes: len * size_of::<T>() }
    }

    /// One of so many equal shares.
    pub(super) fn share(self, at: usize, of: usize) -> Soon {
        Soon { start: self.start.wrapping_add(self.bytes * at / of), bytes: self.bytes / of }
    }

    /// The requests of a tile: its rows' share of the rows that ask for the stretch, spread evenly over the
    /// `steps` of its reduction, with one request each `interval` of them.
    #[inline(always)]
    pub(super) fn requests(self, tile: TileOf, (interval, steps): (usize, usize)) -> Requests {
        if self.bytes == 0 {
            return Requests { next: self.start, lines: 0 };
        }
        // Some gradients have pixels that no tap reaches.
        let all = LINE * tile.all * steps.max(1);
        Requests {
            next: self.start.wrapping_add(self.bytes * tile.before / tile.all),
            lines: (self.bytes * tile.rows * interval).div_ceil(all),
        }
    }
}

/// Which rows a tile has: so many of `all`, `before` of them in tiles before it.
#[derive(Clone, Copy, Debug)]
pub(super) struct TileOf {
    pub(super) before: usize,
    pub(super) rows: usize,
    pub(super) all: usize,
}

/// Requests of one tile, a few lines each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Requests {
    next: *const u8,
    lines: usize,
}

impl Requests {
    /// Makes the next request.
    #[inline(always)]
    pub(super) fn make<S: Simd>(&mut self, s: S) {
        for line in 0..self.lines {
            s.prefetch_far(self.next.wrapping_add(LINE * line).cast());
        }
        self.next = self.next.wrapping_add(LINE * self.lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_requests_of_all_tiles_cover_the_stretch() {
        let memory = [0_f32; 5000];
        let soon = Soon::new(memory.as_ptr(), memory.len()).share(1, 3);
        assert_eq!(soon.start.addr() - memory.as_ptr().addr(), 4 * memory.len() / 3);
        let (interval, steps, all, rows) = (8, 256, 100, 14);
        for before in (0..all).step_by(rows) {
            let requests = soon.requests(TileOf { before, rows, all }, (interval, steps));
            let asked = LINE * requests.lines * (steps / interval);
            let next_tile = soon.bytes * (before + rows).min(all) / all;
            let first = requests.next.addr() - soon.start.addr();
            assert!(first == soon.bytes * before / all && next_tile <= first + asked);
        }
    }

    #[test]
    fn few_pixels_wait_for_weights() {
        assert_eq!(Coming::of(196, true), Coming::Weights);
        assert_eq!(Coming::of(196, false), Coming::Weights);
        assert_eq!(Coming::of(784, true), Coming::Rows);
        assert_eq!(Coming::of(784, false), Coming::Nothing);
    }
}
