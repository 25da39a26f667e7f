//! The weight gradient: sums over pixels, of a block of pixels at a time.
//!
//! Pixels are cut into chunks by geometry; each chunk has a private gradient, and those are added in
//! order. Where chunks are too few for the threads, tasks share out inputs, panels and taps too, which
//! changes no sum. `tile` has the inner product.

mod tile;

use std::ops::Range;

use resnet_simd::{Element, Kernel, Simd, Stored, bf16};

use self::tile::{ASK_EVERY, INPUTS};
pub(super) use self::tile::{EvenRows, Operands, accumulate};
use super::gather::Table;
use super::{ConvPlan, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool, part};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Tasks for each thread, where chunks are fewer.
const TASKS_PER_THREAD: usize = 4;
/// Bytes of a task's sums: they are read and written once a block, from the second-level cache.
const MAX_SUMS_BYTES: usize = 512 << 10;
/// Inputs are shared out in multiples of this.
const DEPTH_STEP: usize = 16;
/// Floats that one task reduces.
const REDUCE_LEN: usize = 8192;

/// `dw = the convolution's gradient by w`, packed by `plan.layout()`, from `x` and `dy` (NHWC).
///
/// `scratch`: `plan.weight_gradient_scratch_len(threads)`.
///
/// # Panics
/// If a slice's length does not fit the plan.
pub fn conv_weight_gradient<E: Element>(
    plan: &ConvPlan,
    pool: &ThreadPool,
    x: &[E],
    dy: &[E],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    assert_eq!(plan.stored, E::STORED, "the plan's activations");
    assert_eq!(x.len(), plan.shape.input_len(), "x");
    assert_eq!(dy.len(), plan.shape.output_len(), "dy");
    assert_eq!(dw.len(), plan.layout.len(), "packed gradient");
    assert!(plan.weight_gradient_scratch_len(pool.threads()) <= scratch.len(), "scratch");
    if let Some(winograd) = &plan.winograd_weights {
        let operands = (x.as_ptr().cast(), dy.as_ptr().cast(), E::STORED);
        // SAFETY: the lengths were checked above; both are borrowed for the run.
        unsafe { winograd.run(plan.isa, pool, operands, dw, scratch) };
        return;
    }
    let (chunks, len) = (plan.weights.chunks, dw.len());
    let parts = Parts::new(plan, pool.threads());
    let own = plan.weight_thread_len(pool.threads());
    let (owns, partials) = scratch.split_at_mut(pool.threads() * own);
    let partials = if chunks == 1 { &mut *dw } else { &mut partials[..chunks * len] };
    let gradient = Gradient {
        plan,
        parts,
        own,
        x: x.as_ptr().cast(),
        dy: dy.as_ptr().cast(),
        partials: DisjointMut::new(partials),
        scratch: DisjointMut::new(owns),
    };
    pool.run_with_thread(chunks * parts.count(), &|thread, task| {
        plan.isa.run(Task { gradient: &gradient, thread, task });
    });
    if 1 < chunks {
        reduce(plan, pool, partials_of(scratch, pool, plan), dw);
    }
    plan.layout.clear_between_groups(dw);
}

fn partials_of<'a>(scratch: &'a [f32], pool: &ThreadPool, plan: &ConvPlan) -> &'a [f32] {
    let own = pool.threads() * plan.weight_thread_len(pool.threads());
    &scratch[own..own + plan.weights.chunks * plan.layout.len()]
}

/// Parts that each chunk is shared out in.
#[derive(Clone, Copy, Debug)]
struct Parts {
    /// Of the inputs: 1 where there are several taps or groups.
    depth: usize,
    panels: usize,
    taps: usize,
}

impl Parts {
    /// As many as so many threads need.
    fn new(plan: &ConvPlan, threads: usize) -> Parts {
        let (gather, layout) = (&plan.weights.gather, &plan.layout);
        let for_threads = (TASKS_PER_THREAD * threads).div_ceil(plan.weights.chunks);
        let parts = for_threads.max((4 * layout.len()).div_ceil(MAX_SUMS_BYTES));
        let panels = |depth: usize| parts.div_ceil(depth).min(layout.shares());
        // Each part of the inputs reads all of `dy`, each part of the panels all of `x`.
        let read = |depth: &usize| depth * layout.cout + panels(*depth) * gather.depth;
        let single = gather.taps.len() == 1 && layout.groups == 1;
        let most = if single { parts.min(gather.depth.div_ceil(DEPTH_STEP)) } else { 1 };
        let depth = (1..=most).min_by_key(read).unwrap_or(1);
        let taps = parts.div_ceil(depth * panels(depth)).min(gather.taps.len());
        Parts { depth, panels: panels(depth), taps }
    }

    fn count(self) -> usize {
        self.depth * self.panels * self.taps
    }
}

impl ConvPlan {
    /// Floats of a thread's own scratch in the weight gradient: a copied band of `x`, and a task's
    /// panels of `dy`.
    pub(super) fn weight_thread_len(&self, threads: usize) -> usize {
        let split = &self.weights;
        let parts = Parts::new(self, threads);
        let panels = (0..parts.panels).map(|index| self.layout.share(index, parts.panels).len());
        let panels = panels.max().unwrap_or(0);
        self.weight_band_len() + panels * split.blocks.longest() * self.layout.full
    }

    fn weight_band_len(&self) -> usize {
        self.weights.gather.scratch_len(&self.weights.blocks).next_multiple_of(16)
    }
}

/// `dw = partials[0] + partials[1] + …`, in this order.
fn reduce(plan: &ConvPlan, pool: &ThreadPool, partials: &[f32], dw: &mut [f32]) {
    let len = dw.len();
    let out = DisjointMut::new(dw);
    pool.run(len.div_ceil(REDUCE_LEN), &|task| {
        let range = task * REDUCE_LEN..((task + 1) * REDUCE_LEN).min(len);
        // SAFETY: tasks have ranges of their own.
        let sums = unsafe { out.slice(range.clone()) };
        plan.isa.run(Reduce { partials, len, range, sums });
    });
}

/// One range of the gradient.
struct Reduce<'a> {
    partials: &'a [f32],
    len: usize,
    range: Range<usize>,
    sums: &'a mut [f32],
}

impl Kernel for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let chunks = self.partials.len() / self.len;
        for (at, sums) in self.sums.chunks_mut(S::LANES).enumerate() {
            let from = self.range.start + at * S::LANES;
            let mut sum = s.load_partial(&self.partials[from..][..sums.len()]);
            for chunk in 1..chunks {
                let part = &self.partials[chunk * self.len + from..][..sums.len()];
                sum = s.add(sum, s.load_partial(part));
            }
            s.store_partial(sum, sums);
        }
    }
}

/// The operands, as the tasks share them.
struct Gradient<'a> {
    plan: &'a ConvPlan,
    parts: Parts,
    /// Floats of each thread's own scratch.
    own: usize,
    /// Both stored as the plan says.
    x: *const (),
    dy: *const (),
    /// `[chunk][packed]`.
    partials: DisjointMut<'a, f32>,
    scratch: DisjointMut<'a, f32>,
}

// SAFETY: tasks read `x` and `dy`, which the caller of `conv_weight_gradient` lends for the whole run.
unsafe impl Sync for Gradient<'_> {}

impl<'a> Gradient<'a> {
    /// Some sums of the partials, zero where they start.
    ///
    /// # Safety
    /// Nobody else has them.
    #[inline(always)]
    unsafe fn sums(&self, range: Range<usize>, start: bool) -> &'a mut [f32] {
        // SAFETY: passed on.
        let sums = unsafe { self.partials.slice(range) };
        if start {
            sums.fill(0.0);
        }
        sums
    }
}

/// One chunk of pixels, some panels, some taps.
struct Task<'a> {
    gradient: &'a Gradient<'a>,
    thread: usize,
    task: usize,
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Gradient { plan, parts, own, .. } = *self.gradient;
        let (split, layout) = (&plan.weights, &plan.layout);
        let gather = &split.gather;
        let (chunk, rest) = (self.task / parts.count(), self.task % parts.count());
        let (rest, tap_part) = (rest / parts.taps, rest % parts.taps);
        let (depth_part, panel_part) = (rest / parts.panels, rest % parts.panels);
        let panels = layout.share(panel_part, parts.panels);
        let taps = part(tap_part, parts.taps, gather.taps.len());
        let units = part(depth_part, parts.depth, gather.depth.div_ceil(DEPTH_STEP));
        let depth = units.start * DEPTH_STEP..(units.end * DEPTH_STEP).min(gather.depth);
        // SAFETY: no two tasks run at once on the same thread.
        let scratch =
            unsafe { self.gradient.scratch.slice(self.thread * own..(self.thread + 1) * own) };
        let panel_len = split.blocks.longest() * layout.full;
        let (band, packed_dy) = scratch.split_at_mut(plan.weight_band_len());
        let packed_dy = &mut packed_dy[..panels.len() * panel_len];
        let mut table = Table::new();
        let blocks = part(chunk, split.chunks, split.blocks.count);
        for block in blocks.clone() {
            let range = split.blocks.range(block);
            let x = (self.gradient.x, plan.stored);
            // SAFETY: `x` has the shape's length, checked at entry, and outlives the table.
            unsafe { gather.fill(s, x, range.clone(), band, &mut table) };
            let mut ahead = if block + 1 < blocks.end {
                let tiles = panels.len() * taps.len() * depth.len().div_ceil(INPUTS);
                let requests = tiles * range.len().div_ceil(ASK_EVERY);
                let columns = (depth.clone(), layout.columns(&panels));
                Ahead::new(self.gradient, split.blocks.range(block + 1), columns, requests)
            } else {
                Ahead::default()
            };
            let (dy, cut) = (self.gradient.dy, (panels.clone(), range.clone()));
            // SAFETY: `dy` has the shape's length, checked at entry.
            unsafe {
                match plan.stored {
                    Stored::F32 => pack_panels::<S, f32>(s, dy.cast(), layout, cut, packed_dy),
                    Stored::Bf16 => pack_panels::<S, bf16>(s, dy.cast(), layout, cut, packed_dy),
                }
            }
            for together in layout.together(panels.clone()) {
                let panel = layout.panel(together.start);
                let dy = packed_dy[(together.start - panels.start) * panel_len..].as_ptr();
                let (len, offset) =
                    (depth.len() * panel.width, panel.group * layout.cin + depth.start);
                for tap in taps.clone() {
                    let row = gather.taps[tap].index * gather.depth + depth.start;
                    let start = chunk * layout.len() + panel.start + row * panel.width;
                    let sums = |index: usize| {
                        let start = start + (index - together.start) * layout.full_len();
                        // SAFETY: a task is alone with its chunk, inputs, panels and taps.
                        unsafe { self.gradient.sums(start..start + len, block == blocks.start) }
                    };
                    let pointers = &table.tap(tap)[..range.len()];
                    let operands = Operands { rows: pointers, offset, dy, apart: panel_len };
                    let dw = (panel.width, together.clone().map(sums));
                    // SAFETY: the pointers are valid for a row of the source, of which the group's
                    // and the part's channels are a part; `packed_dy` has a row for each, `dw` one
                    // for each input.
                    unsafe {
                        match gather.even_pitch() {
                            None => accumulate(s, operands, dw, &mut ahead),
                            Some(pitch) => {
                                let rows = EvenRows::new(pointers, pitch);
                                accumulate(s, operands.with_rows(rows), dw, &mut ahead);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What the next block will read, asked for bit by bit while this one is computed.
#[derive(Default)]
pub(super) struct Ahead {
    /// Columns of rows of `x` and of `dy`.
    regions: [Region; 2],
}

/// Rows of cache lines.
#[derive(Default)]
struct Region {
    /// Address of the next row's first line.
    row: usize,
    /// Bytes from row to row.
    stride: usize,
    /// Rows left.
    rows: usize,
    /// Lines of a row, and which of them is next.
    lines: usize,
    line: usize,
    /// Lines at every request.
    at_once: usize,
}

impl Region {
    /// `columns` of the rows `range`, each `len` elements of `size` bytes, over so many requests.
    fn new(
        (start, size): (*const (), usize),
        len: usize,
        range: &Range<usize>,
        columns: &Range<usize>,
        requests: usize,
    ) -> Region {
        let row = start.addr() + size * (range.start * len + columns.start);
        let lines = (size * columns.len()).div_ceil(LINE);
        let at_once = (range.len() * lines).div_ceil(requests);
        Region { row, stride: size * len, rows: range.len(), lines, line: 0, at_once }
    }
}

impl Ahead {
    /// The pixels `range` of both operands, of each some columns, over so many requests.
    fn new(
        gradient: &Gradient<'_>,
        range: Range<usize>,
        columns: (Range<usize>, Range<usize>),
        requests: usize,
    ) -> Ahead {
        let (shape, size) = (&gradient.plan.shape, gradient.plan.stored.size());
        // What several taps read is in the cache already, but for the first of them.
        let x = if gradient.plan.weights.gather.is_contiguous() {
            Region::new((gradient.x, size), shape.cin, &range, &columns.0, requests)
        } else {
            Region::default()
        };
        let dy = Region::new((gradient.dy, size), shape.cout, &range, &columns.1, requests);
        Ahead { regions: [x, dy] }
    }

    #[inline(always)]
    fn ask<S: Simd>(&mut self, s: S) {
        for region in &mut self.regions {
            for _ in 0..region.at_once {
                if region.rows == 0 {
                    break;
                }
                s.prefetch_far(std::ptr::without_provenance(region.row + region.line * LINE));
                region.line += 1;
                if region.line == region.lines {
                    (region.line, region.row) = (0, region.row + region.stride);
                    region.rows -= 1;
                }
            }
        }
    }
}

/// Copies the panels' columns of `dy` for the pixels `range` into `packed`, `[panel][pixel][width]`,
/// padded with zeros: neighbouring pixels then share no cache set, the tiles need no masks, and `dy`
/// is read once, in its own order.
///
/// # Safety
/// `dy` is the whole tensor.
#[inline(always)]
unsafe fn pack_panels<S: Simd, E: Element>(
    s: S,
    dy: *const E,
    layout: &PackedLayout,
    (panels, range): (Range<usize>, Range<usize>),
    packed: &mut [f32],
) {
    let h = s.half();
    let (panel_len, cout) = (packed.len() / panels.len(), layout.groups * layout.cout);
    for (row, pixel) in range.enumerate() {
        for (index, packed) in panels.clone().zip(packed.chunks_exact_mut(panel_len)) {
            let panel = layout.panel(index);
            // SAFETY: the pixel is one of the tensor's, and the panel's channels are some of its.
            let from = unsafe {
                std::slice::from_raw_parts(dy.add(pixel * cout + panel.first), panel.channels)
            };
            let row = &mut packed[row * panel.width..][..panel.width];
            let mut at = 0;
            while S::LANES <= panel.width - at {
                s.store(E::load_partial(s, &from[at.min(from.len())..]), &mut row[at..]);
                at += S::LANES;
            }
            if at < panel.width {
                h.store(E::load_partial(h, &from[at.min(from.len())..]), &mut row[at..]);
            }
        }
    }
}
