//! The weight gradient: sums over pixels, of a block of pixels at a time.
//!
//! Pixels are cut into chunks by geometry; each chunk has a private gradient, and those are added in
//! order. Where chunks are too few for the threads, tasks share out inputs, panels and taps too, which
//! changes no sum. `pack` lays out the output's gradient, `tile` has the
//! inner product, `ahead` asks for the next block.

mod ahead;
mod pack;
mod tile;

use std::ops::Range;

use resnet_simd::{Element, Kernel, Simd};

pub(super) use self::ahead::Ahead;
use self::ahead::Region;
pub(super) use self::pack::OutputGradient;
use self::tile::{ASK_EVERY, INPUTS};
pub(super) use self::tile::{EvenRows, Operands, accumulate};
use super::gather::{Gather, Table};
use super::product::Product;
use super::{ConvPlan, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool, part};

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
    assert_eq!(dy.len(), plan.shape.output_len(), "dy");
    assert_operands(plan, pool, x, dw, scratch);
    if let Some(winograd) = &plan.winograd_weights {
        let operands = (x.as_ptr().cast(), dy.as_ptr().cast(), E::STORED);
        // SAFETY: the lengths were checked above; both are borrowed for the run.
        unsafe { winograd.run(plan.isa, pool, operands, dw, scratch) };
        return;
    }
    let dy = OutputGradient::Stored(dy.as_ptr().cast());
    // SAFETY: the lengths were checked above; both are borrowed for the run.
    unsafe { run(plan, pool, (x.as_ptr().cast(), dy), dw, scratch, None) };
}

/// # Panics
/// If a slice's length does not fit the plan.
pub(super) fn assert_operands<E: Element>(
    plan: &ConvPlan,
    pool: &ThreadPool,
    x: &[E],
    dw: &[f32],
    scratch: &[f32],
) {
    assert_eq!(plan.stored, E::STORED, "the plan's activations");
    assert_eq!(x.len(), plan.shape.input_len(), "x");
    assert_eq!(dw.len(), plan.layout.len(), "packed gradient");
    assert!(plan.weight_gradient_scratch_len(pool.threads()) <= scratch.len(), "scratch");
}

/// The weight gradient, of operands that fit, as [`assert_operands`] has it; and of each block, while the
/// output's gradient is in the caches, the input's, where `input` says how: then there is one
/// [part](Parts) and the blocks are the same.
///
/// # Safety
/// `x` and what `dy` is made of are whole, stored as the plan says, and not written during the run; all that
/// `input` points to is as its plan says, and nobody else uses what it writes.
pub(super) unsafe fn run(
    plan: &ConvPlan,
    pool: &ThreadPool,
    (x, dy): (*const (), OutputGradient<'_>),
    dw: &mut [f32],
    scratch: &mut [f32],
    input: Option<&Product<'_>>,
) {
    let (chunks, len) = (plan.weights.chunks, dw.len());
    let parts = Parts::new(plan, pool.threads());
    assert!(input.is_none() || parts.count() == 1, "a task has all of a block");
    let own = plan.weight_thread_len(pool.threads());
    let (owns, partials) = scratch.split_at_mut(pool.threads() * own);
    let partials = if chunks == 1 { &mut *dw } else { &mut partials[..chunks * len] };
    let gradient = Gradient {
        plan,
        parts,
        own,
        x,
        dy,
        input,
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
pub(super) struct Parts {
    /// Of the inputs: 1 where there are several taps or groups.
    depth: usize,
    panels: usize,
    taps: usize,
}

impl Parts {
    /// As many as so many threads need.
    pub(super) fn new(plan: &ConvPlan, threads: usize) -> Parts {
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

    pub(super) fn count(self) -> usize {
        self.depth * self.panels * self.taps
    }

    /// The inputs, panels and taps of one of them.
    fn ranges(self, index: usize, layout: &PackedLayout, gather: &Gather) -> [Range<usize>; 3] {
        let (index, tap_part) = (index / self.taps, index % self.taps);
        let (depth_part, panel_part) = (index / self.panels, index % self.panels);
        let units = part(depth_part, self.depth, gather.depth.div_ceil(DEPTH_STEP));
        let depth = units.start * DEPTH_STEP..(units.end * DEPTH_STEP).min(gather.depth);
        let panels = layout.share(panel_part, self.panels);
        [depth, panels, part(tap_part, self.taps, gather.taps.len())]
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
    /// Stored as the plan says, as is what `dy` is made of.
    x: *const (),
    dy: OutputGradient<'a>,
    /// The input gradient, if it is computed too.
    input: Option<&'a Product<'a>>,
    /// `[chunk][packed]`.
    partials: DisjointMut<'a, f32>,
    scratch: DisjointMut<'a, f32>,
}

// SAFETY: tasks read `x` and what `dy` is made of, which nobody writes during the run, as its caller says.
unsafe impl Sync for Gradient<'_> {}

impl<'a> Gradient<'a> {
    /// The pixels `range` of all operands, of each some columns, over so many requests.
    fn ahead(
        &self,
        range: Range<usize>,
        columns: (Range<usize>, Range<usize>),
        requests: usize,
    ) -> Ahead {
        let (shape, size) = (&self.plan.shape, self.plan.stored.size());
        // What several taps read is in the cache already, but for the first of them.
        let x = if self.plan.weights.gather.is_contiguous() {
            Region::new((self.x, size), shape.cin, &range, &columns.0, requests)
        } else {
            Region::default()
        };
        let [first, second] = self.dy.tensors().map(|tensor| match tensor {
            Some(at) => Region::new((at, size), shape.cout, &range, &columns.1, requests),
            None => Region::default(),
        });
        Ahead { regions: [x, first, second] }
    }

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
        let (chunk, part_of_chunk) = (self.task / parts.count(), self.task % parts.count());
        let [depth, panels, taps] = parts.ranges(part_of_chunk, layout, gather);
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
                self.gradient.ahead(split.blocks.range(block + 1), columns, requests)
            } else {
                Ahead::default()
            };
            let cut = (panels.clone(), range.clone());
            // SAFETY: what `dy` is made of has the shape's length, checked at entry.
            unsafe { self.gradient.dy.pack(s, plan.stored, layout, cut, packed_dy) };
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
            if let Some(input) = self.gradient.input {
                // SAFETY: `packed_dy` has just been filled for this block, which is this task's alone.
                unsafe {
                    input.multiply_columns(plan.isa, block, (packed_dy, layout.full, panel_len));
                }
            }
        }
    }
}
