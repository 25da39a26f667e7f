//! Geometry of pooling windows over an NHWC tensor.

use std::ops::Range;

use resnet_core::op::Pool2d;

/// A pool over pictures of a size, and what follows from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// The pool.
    pub pool: Pool2d,
    /// Pictures.
    pub n: usize,
    /// Rows of the input.
    pub ih: usize,
    /// Columns of the input.
    pub iw: usize,
    /// Channels.
    pub c: usize,
    /// Rows of the output.
    pub oh: usize,
    /// Columns of the output.
    pub ow: usize,
}

impl Windows {
    /// The windows over an input `[n, ih, iw, c]`; None if there are none, or if one would lie wholly
    /// in the border.
    pub fn new(pool: Pool2d, [n, ih, iw, c]: [usize; 4]) -> Option<Windows> {
        if pool.kernel <= pool.pad {
            return None;
        }
        let (oh, ow) = (pool.output_len(ih)?, pool.output_len(iw)?);
        Some(Windows { pool, n, ih, iw, c, oh, ow })
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.n * self.ih * self.iw * self.c
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.n * self.oh * self.ow * self.c
    }

    /// The inputs along a side of `size` that window `o` covers.
    pub(super) fn covered(&self, o: usize, size: usize) -> Range<usize> {
        let Pool2d { kernel, stride, pad, .. } = self.pool;
        (o * stride).saturating_sub(pad)..size.min(o * stride + kernel - pad)
    }

    /// The windows, of `count` along a side, that cover input `i`.
    pub(super) fn covering(&self, i: usize, count: usize) -> Range<usize> {
        let Pool2d { kernel, stride, pad, .. } = self.pool;
        let first = (i + pad + 1).saturating_sub(kernel).div_ceil(stride);
        first..count.min((i + pad) / stride + 1)
    }

    /// The place of input `i` along the side of window `o`, which covers it.
    pub(super) fn place(&self, o: usize, i: usize) -> usize {
        i + self.pool.pad - o * self.pool.stride
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_and_inputs_agree_on_who_covers_whom() {
        for (kernel, stride, pad) in [(3, 2, 1), (2, 2, 0), (3, 1, 1), (2, 3, 1), (5, 2, 2)] {
            for ceil in [false, true] {
                for size in kernel..12 {
                    let pool = Pool2d { kernel, stride, pad, ceil };
                    let windows = Windows::new(pool, [1, size, size, 1]).expect("some window");
                    for o in 0..windows.oh {
                        assert!(!windows.covered(o, size).is_empty());
                        for i in 0..size {
                            let place = (i + pad).wrapping_sub(o * stride);
                            let covers = place < kernel;
                            assert_eq!(covers, windows.covered(o, size).contains(&i));
                            assert_eq!(covers, windows.covering(i, windows.oh).contains(&o));
                            assert!(!covers || windows.place(o, i) == place);
                        }
                    }
                }
            }
        }
    }
}
