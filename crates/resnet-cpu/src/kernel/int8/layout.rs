//! The packed layout of int8 weights: panels of output channels, as the tiles read them.
//!
//! ```text
//! [panel] of [width] offsets (i32), [width] multipliers (f32), [tap][word][width][4] weights (i8)
//! ```
//!
//! A word is four consecutive bytes of what a tap reads; a rest is filled up with weights of 0, so that
//! it does not matter what bytes a row is followed by. Columns stand in the order of
//! [`resnet_simd::pair_column`]. Small groups are merged, with zeros between them.

use std::ops::Range;

use resnet_simd::{AlignedVec, Isa, pair_column};

use crate::kernel::conv::ConvShape;
use crate::kernel::together;

/// The narrowest panel: a pair of vectors of eight lanes.
const NARROW: usize = 16;

/// Where each number of a layer lies in the packed buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Int8Layout {
    /// Groups after merging.
    pub(super) groups: usize,
    /// Input and output channels of a merged group.
    pub(super) cin: usize,
    pub(super) cout: usize,
    kh: usize,
    kw: usize,
    /// Whether the columns of a kernel row are one tap.
    pub(super) rows_as_taps: bool,
    /// Columns of a panel.
    width: usize,
    /// Input and output channels of a group before merging.
    unmerged: (usize, usize),
}

/// One panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub(super) group: usize,
    /// The first output channel, over all groups, and how many count.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Bytes from the start of the packed buffer.
    pub(super) start: usize,
}

impl Int8Layout {
    /// The layout of a convolution's numbers on `isa`. `rows_as_taps`: see the gather.
    pub(super) fn new(shape: &ConvShape, isa: Isa, rows_as_taps: bool) -> Int8Layout {
        let (cin, cout) = (shape.cin / shape.groups, shape.cout / shape.groups);
        let wide = |merge: &usize| {
            shape.groups.is_multiple_of(*merge)
                && NARROW <= merge * cout
                && (merge * cin).is_multiple_of(4)
        };
        let merge = if shape.groups == 1 {
            1
        } else {
            (1..shape.groups).find(wide).unwrap_or(shape.groups)
        };
        Int8Layout {
            groups: shape.groups / merge,
            cin: merge * cin,
            cout: merge * cout,
            kh: shape.kh,
            kw: shape.kw,
            rows_as_taps,
            width: if merge * cout <= NARROW { NARROW } else { 2 * isa.dot_lanes() },
            unmerged: (cin, cout),
        }
    }

    /// Taps that the tiles know.
    pub(super) fn taps(&self) -> usize {
        if self.rows_as_taps { self.kh } else { self.kh * self.kw }
    }

    /// Words that a tap multiplies.
    pub(super) fn words(&self) -> usize {
        self.run().div_ceil(4)
    }

    /// Bytes that a tap multiplies.
    fn run(&self) -> usize {
        if self.rows_as_taps { self.kw * self.cin } else { self.cin }
    }

    /// Columns of a panel.
    pub(super) fn width(&self) -> usize {
        self.width
    }

    /// Panels that a tile multiplies together, at most: with vectors of 16 lanes two, which are four vectors.
    fn most_together(&self) -> usize {
        if self.width == 32 { 2 } else { 1 }
    }

    /// Whether there are panels that are multiplied together.
    pub(super) fn goes_together(&self) -> bool {
        self.together(0..self.panels()).any(|panels| 1 < panels.len())
    }

    /// What panels can be shared out in: none of these parts two that are multiplied together.
    pub(super) fn shares(&self) -> usize {
        self.panels().div_ceil(self.most_together())
    }

    /// The panels of one of so many parts of the shares.
    pub(super) fn share(&self, index: usize, parts: usize) -> Range<usize> {
        together::share(index, parts, self.panels(), self.most_together())
    }

    /// Some panels, in ranges of one or of two that are multiplied together: all of their channels count.
    pub(super) fn together(
        &self,
        panels: Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let layout = *self;
        together::together(panels, self.most_together(), move |panels| {
            let (first, last) = (layout.panel(panels.start), layout.panel(panels.end - 1));
            first.group == last.group && last.channels == layout.width
        })
    }

    /// Bytes from a panel to the next.
    pub(super) fn panel_bytes(&self) -> usize {
        self.width * (8 + 4 * self.taps() * self.words())
    }

    fn panels_per_group(&self) -> usize {
        self.cout.div_ceil(self.width)
    }

    /// Panels of all groups.
    pub(super) fn panels(&self) -> usize {
        self.groups * self.panels_per_group()
    }

    /// Panel number `index`.
    pub(super) fn panel(&self, index: usize) -> Panel {
        let (group, index) = (index / self.panels_per_group(), index % self.panels_per_group());
        Panel {
            group,
            first: group * self.cout + index * self.width,
            channels: (self.cout - index * self.width).min(self.width),
            start: (group * self.panels_per_group() + index) * self.panel_bytes(),
        }
    }

    /// Bytes of the packed buffer, a multiple of 4.
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.panels() * self.panel_bytes()
    }

    /// Packs weights (OIHW, whole numbers), offsets (whole numbers) and multipliers.
    ///
    /// # Panics
    /// If a slice's length is not the layout's.
    pub fn pack(&self, w: &[f32], offset: &[f32], multiplier: &[f32], packed: &mut [u8]) {
        let channels = self.groups * self.cout;
        assert_eq!(w.len(), channels * self.unmerged.0 * self.kh * self.kw, "weights");
        assert_eq!((offset.len(), multiplier.len()), (channels, channels), "offsets, multipliers");
        assert_eq!(packed.len(), self.len(), "packed");
        packed.fill(0);
        for panel in (0..self.panels()).map(|index| self.panel(index)) {
            let part = &mut packed[panel.start..][..self.panel_bytes()];
            let (constants, weights) = part.split_at_mut(8 * self.width);
            for j in 0..panel.channels {
                let column = pair_column(self.width / 2, j);
                let co = panel.first + j;
                let at = |row: usize| 4 * (row * self.width + column);
                constants[at(0)..][..4].copy_from_slice(&(offset[co] as i32).to_ne_bytes());
                constants[at(1)..][..4].copy_from_slice(&multiplier[co].to_ne_bytes());
                self.pack_channel(w, &panel, co, |place, byte| {
                    weights[place / 4 * 4 * self.width + 4 * column + place % 4] = byte;
                });
            }
        }
    }

    /// Calls `put(byte of the reduction, weight)` for each weight of output channel `co`.
    fn pack_channel(&self, w: &[f32], panel: &Panel, co: usize, mut put: impl FnMut(usize, u8)) {
        let (cin_u, cout_u) = self.unmerged;
        // The channel's own group within the merged one.
        let group = (co - panel.group * self.cout) / cout_u;
        let taps = self.kh * self.kw;
        for tap in 0..taps {
            let start = if self.rows_as_taps {
                tap / self.kw * 4 * self.words() + tap % self.kw * self.cin
            } else {
                tap * 4 * self.words()
            };
            for ci in 0..cin_u {
                let value = w[(co * cin_u + ci) * taps + tap] as i8;
                put(start + group * cin_u + ci, value as u8);
            }
        }
    }

    /// A packed buffer of its own.
    pub fn packed(&self, w: &[f32], offset: &[f32], multiplier: &[f32]) -> AlignedVec<u8> {
        let mut packed = AlignedVec::zeroed(self.len());
        self.pack(w, offset, multiplier, &mut packed);
        packed
    }
}
