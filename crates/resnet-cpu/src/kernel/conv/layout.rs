//! The packed layout of weights: panels of output channels, as the tiles read them.
//!
//! ```text
//! [group][panel][tap][input channel][width]      width floats = output channels of the panel
//! ```
//!
//! Panels are `full` channels wide but for the last of a group, whose width is the rest rounded up to
//! eight; columns beyond the channels hold zero. Small groups are merged until they fill eight
//! channels, and their weights lie block-diagonally between explicit zeros. Zeros stay exactly zero:
//! gradients have zero there too, so an optimiser may run over the whole buffer.

use std::ops::Range;

use resnet_simd::Isa;

use super::ConvShape;
use crate::kernel::blocks::MAX_TAPS;
use crate::kernel::together;
use crate::threads::{DisjointMut, ThreadPool};

/// Panels are multiples of this width.
const WIDTH_STEP: usize = 8;
/// Weights of an output channel that are packed at a time, at most: one of each tap at least.
const PACKED_RUN: usize = if MAX_TAPS < 128 { 128 } else { MAX_TAPS };

/// Where each weight of a convolution lies in the packed buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedLayout {
    /// Groups after merging.
    pub(super) groups: usize,
    /// Input channels of a merged group.
    pub(super) cin: usize,
    /// Output channels of a merged group.
    pub(super) cout: usize,
    /// Taps of the kernel.
    pub(super) taps: usize,
    /// Width of all panels of a group but the last.
    pub(super) full: usize,
    /// Full panels that a tile multiplies together: with vectors of 16 lanes two, which are four vectors.
    together: usize,
    /// Input and output channels of a group before merging.
    unmerged: (usize, usize),
}

/// One panel: `width` columns, of which `channels` count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Panel {
    pub(super) group: usize,
    /// The panel's first output channel, counted over all groups.
    pub(super) first: usize,
    pub(super) channels: usize,
    pub(super) width: usize,
    /// Where it starts in the packed buffer.
    pub(super) start: usize,
}

impl PackedLayout {
    /// The layout of the forward weights of `shape` on `isa`.
    pub fn new(shape: &ConvShape, isa: Isa) -> PackedLayout {
        let (cin, cout) = (shape.cin / shape.groups, shape.cout / shape.groups);
        let wide =
            |merge: &usize| shape.groups.is_multiple_of(*merge) && WIDTH_STEP <= merge * cout;
        let merge = if shape.groups == 1 {
            1
        } else {
            (1..shape.groups).find(wide).unwrap_or(shape.groups)
        };
        PackedLayout {
            groups: shape.groups / merge,
            cin: merge * cin,
            cout: merge * cout,
            taps: shape.kh * shape.kw,
            full: 2 * isa.lanes(),
            together: if isa.lanes() == 16 { 2 } else { 1 },
            unmerged: (cin, cout),
        }
    }

    /// The layout of the transposed weights, in which input and output channels change places.
    #[must_use]
    pub fn transposed(&self) -> PackedLayout {
        PackedLayout {
            cin: self.cout,
            cout: self.cin,
            unmerged: (self.unmerged.1, self.unmerged.0),
            ..*self
        }
    }

    /// The layout of the same weights as pairs of bf16, a word for two input channels; none where these
    /// do not come in pairs, or groups were merged.
    pub(super) fn in_pairs(&self) -> Option<PackedLayout> {
        let paired = self.cin.is_multiple_of(2) && self.unmerged == (self.cin, self.cout);
        paired.then(|| {
            let cin = self.cin / 2;
            PackedLayout { cin, unmerged: (cin, self.cout), ..*self }
        })
    }

    /// Floats in the packed buffer.
    #[expect(clippy::len_without_is_empty, reason = "a layout is never empty")]
    pub fn len(&self) -> usize {
        self.groups * self.group_len()
    }

    fn group_len(&self) -> usize {
        self.taps * self.cin * self.cout.next_multiple_of(WIDTH_STEP)
    }

    fn panels_per_group(&self) -> usize {
        self.cout.div_ceil(self.full)
    }

    /// Panels of all groups.
    pub(super) fn panels(&self) -> usize {
        self.groups * self.panels_per_group()
    }

    /// Panel number `index`.
    pub(super) fn panel(&self, index: usize) -> Panel {
        let (group, index) = (index / self.panels_per_group(), index % self.panels_per_group());
        let channels = (self.cout - index * self.full).min(self.full);
        Panel {
            group,
            first: group * self.cout + index * self.full,
            channels,
            width: channels.next_multiple_of(WIDTH_STEP),
            start: group * self.group_len() + index * self.full * self.taps * self.cin,
        }
    }

    /// What panels can be shared out in: none of these parts two that are multiplied together.
    pub(super) fn shares(&self) -> usize {
        self.panels().div_ceil(self.together)
    }

    /// The panels of one of so many parts of the shares.
    pub(super) fn share(&self, index: usize, parts: usize) -> Range<usize> {
        together::share(index, parts, self.panels(), self.together)
    }

    /// The same, each panel multiplied alone.
    #[must_use]
    pub(super) fn alone(self) -> PackedLayout {
        PackedLayout { together: 1, ..self }
    }

    /// Whether there are panels that are multiplied together.
    pub(super) fn goes_together(&self) -> bool {
        self.together(0..self.panels()).any(|panels| 1 < panels.len())
    }

    /// Some panels, in ranges of one or of two that are multiplied together.
    pub(super) fn together(
        &self,
        panels: Range<usize>,
    ) -> impl Iterator<Item = Range<usize>> + use<> {
        let layout = *self;
        together::together(panels, self.together, move |panels| {
            let (first, last) = (layout.panel(panels.start), layout.panel(panels.end - 1));
            first.group == last.group && last.width == layout.full
        })
    }

    /// The panels of such a range as one, as wide as all of them.
    pub(super) fn joined(&self, panels: &Range<usize>) -> Panel {
        let (first, last) = (self.panel(panels.start), self.panel(panels.end - 1));
        let channels = last.first + last.channels - first.first;
        Panel { channels, width: panels.len() * first.width, ..first }
    }

    /// Floats of a full panel: from one to the next.
    pub(super) fn full_len(&self) -> usize {
        self.taps * self.cin * self.full
    }

    /// The output channels, over all groups, of some panels.
    pub(super) fn columns(&self, panels: &Range<usize>) -> Range<usize> {
        let Panel { first, channels, .. } = self.joined(panels);
        first..first + channels
    }

    /// Calls `f(packed index, OIHW index)` for each packed place, with `None` for those that stay 0.
    fn each_place(&self, mut f: impl FnMut(usize, Option<usize>)) {
        let (cin_u, cout_u) = self.unmerged;
        for panel in (0..self.panels()).map(|index| self.panel(index)) {
            for tap in 0..self.taps {
                for ci in 0..self.cin {
                    let row = panel.start + (tap * self.cin + ci) * panel.width;
                    for j in 0..panel.width {
                        let co = panel.first + j;
                        let same_group = co % self.cout / cout_u == ci / cin_u;
                        let counts = j < panel.channels && same_group;
                        let place = (co * cin_u + ci % cin_u) * self.taps + tap;
                        f(row + j, counts.then_some(place));
                    }
                }
            }
        }
    }

    /// Packed weights from canonical ones (OIHW).
    ///
    /// # Panics
    /// If a slice's length is not the layout's.
    pub fn pack(&self, oihw: &[f32], packed: &mut [f32]) {
        self.check_lengths(oihw, packed);
        for panel in (0..self.panels()).map(|index| self.panel(index)) {
            let part = &mut packed[panel.start..][..self.panel_len(&panel)];
            self.pack_panel(&panel, |weights, _, run| run.copy_from_slice(&oihw[weights]), part);
        }
    }

    /// The same with each output channel times its scale, rounded once.
    ///
    /// # Panics
    /// If a slice's length is not the layout's, or `scale` has not one for each output channel.
    pub fn pack_scaled(&self, pool: &ThreadPool, oihw: &[f32], scale: &[f64], packed: &mut [f32]) {
        self.check_lengths(oihw, packed);
        assert_eq!(scale.len(), self.groups * self.cout, "scales");
        let packed = DisjointMut::new(packed);
        pool.run(self.panels(), &|index| {
            let panel = self.panel(index);
            // SAFETY: panels have ranges of their own.
            let part = unsafe { packed.slice(panel.start..panel.start + self.panel_len(&panel)) };
            let scaled = |weights: Range<usize>, co: usize, run: &mut [f32]| {
                for (to, &w) in run.iter_mut().zip(&oihw[weights]) {
                    *to = (f64::from(w) * scale[co]) as f32;
                }
            };
            self.pack_panel(&panel, scaled, part);
        });
    }

    fn panel_len(&self, panel: &Panel) -> usize {
        self.taps * self.cin * panel.width
    }

    /// Fills one panel with what `read(OIHW range, output channel, run)` writes, and zero where no weight is.
    ///
    /// Weights of some inputs are read as they follow each other, channel after channel: what they
    /// are written to stays in the first cache.
    fn pack_panel(
        &self,
        panel: &Panel,
        read: impl Fn(Range<usize>, usize, &mut [f32]),
        part: &mut [f32],
    ) {
        let (cin_u, cout_u) = self.unmerged;
        if (cin_u, panel.channels) != (self.cin, panel.width) {
            part.fill(0.0);
        }
        let mut run = [0.0; PACKED_RUN];
        let inputs = PACKED_RUN / self.taps;
        for first in (0..cin_u).step_by(inputs) {
            let run = &mut run[..inputs.min(cin_u - first) * self.taps];
            for co in panel.first..panel.first + panel.channels {
                let (group, column) = (co % self.cout / cout_u, co - panel.first);
                let start = (co * cin_u + first) * self.taps;
                read(start..start + run.len(), co, run);
                for tap in 0..self.taps {
                    let row = tap * self.cin + group * cin_u + first;
                    let rows = part[row * panel.width..].chunks_exact_mut(panel.width);
                    for (row, weights) in rows.zip(run.chunks_exact(self.taps)) {
                        row[column] = weights[tap];
                    }
                }
            }
        }
    }

    /// Canonical weights (OIHW) from packed ones.
    ///
    /// # Panics
    /// If a slice's length is not the layout's.
    pub fn unpack(&self, packed: &[f32], oihw: &mut [f32]) {
        self.check_lengths(oihw, packed);
        self.each_place(|at, to| {
            if let Some(to) = to {
                oihw[to] = packed[at];
            }
        });
    }

    fn check_lengths(&self, oihw: &[f32], packed: &[f32]) {
        let canonical = self.groups * self.cout * self.unmerged.0 * self.taps;
        assert_eq!(oihw.len(), canonical, "canonical weights");
        assert_eq!(packed.len(), self.len(), "packed weights");
    }

    /// Packed weights of [`transposed`](PackedLayout::transposed) from packed ones, for the input
    /// gradient.
    ///
    /// # Panics
    /// If a slice's length is not the layout's.
    pub fn transpose(&self, pool: &ThreadPool, packed: &[f32], transposed: &mut [f32]) {
        let to = self.transposed();
        assert_eq!(packed.len(), self.len(), "packed weights");
        assert_eq!(transposed.len(), to.len(), "transposed weights");
        let out = DisjointMut::new(transposed);
        pool.run(to.panels() * to.taps, &|task| {
            let (panel, tap) = (to.panel(task / to.taps), task % to.taps);
            let part = panel.start + tap * to.cin * panel.width;
            // SAFETY: tasks are the pairs (panel, tap), whose parts of the buffer do not overlap.
            let part = unsafe { out.slice(part..part + to.cin * panel.width) };
            self.transpose_part(packed, tap, &panel, part);
        });
    }

    /// One tap of one panel of the transposed weights: `part` is `[co][panel.width]`.
    fn transpose_part(&self, packed: &[f32], tap: usize, to: &Panel, part: &mut [f32]) {
        let first_ci = to.first - to.group * self.cin;
        for from in self.panels_of(to.group).map(|index| self.panel(index)) {
            let first_co = from.first - to.group * self.cout;
            for j in 0..to.width {
                if to.channels <= j {
                    part.iter_mut().skip(j).step_by(to.width).for_each(|w| *w = 0.0);
                    continue;
                }
                let row = from.start + (tap * self.cin + first_ci + j) * from.width;
                let column = part[first_co * to.width + j..].iter_mut().step_by(to.width);
                for (w, &x) in column.zip(&packed[row..row + from.channels]) {
                    *w = x;
                }
            }
        }
    }

    fn panels_of(&self, group: usize) -> Range<usize> {
        group * self.panels_per_group()..(group + 1) * self.panels_per_group()
    }

    /// Zeroes what no weight of `shape` uses: the places between merged groups.
    pub(super) fn clear_between_groups(&self, packed: &mut [f32]) {
        if self.unmerged != (self.cin, self.cout) {
            self.each_place(|at, place| {
                if place.is_none() {
                    packed[at] = 0.0;
                }
            });
        }
    }
}
