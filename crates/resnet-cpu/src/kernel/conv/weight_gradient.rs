//! The weight gradient: sums over pixels, kept in registers for a block of pixels at a time.
//!
//! A tile is 12 inputs of one tap times a panel of outputs (AVX-512: 24 sums, 2 vectors of `dy`, 1
//! broadcast). Pixels are cut into chunks by geometry; each chunk has a private gradient, and those
//! are added in order. Where the weights are many and the pixels few there is one chunk, and tasks
//! share out panels and taps.

use std::ops::Range;

use resnet_simd::{Kernel, Simd};

use super::gather::Table;
use super::{ConvPlan, PackedLayout};
use crate::threads::{DisjointMut, ThreadPool};

/// Bytes of a cache line.
const LINE: usize = 64;
/// Inputs of most tiles.
const INPUTS: usize = 12;
/// Floats that one task reduces.
const REDUCE_LEN: usize = 8192;

/// `dw = the convolution's gradient by w`, packed by `plan.layout()`, from `x` and `dy` (NHWC).
///
/// `scratch`: `plan.weight_gradient_scratch_len(threads)`.
///
/// # Panics
/// If a slice's length does not fit the plan.
pub fn conv_weight_gradient(
    plan: &ConvPlan,
    pool: &ThreadPool,
    x: &[f32],
    dy: &[f32],
    dw: &mut [f32],
    scratch: &mut [f32],
) {
    assert_eq!(x.len(), plan.shape.input_len(), "x");
    assert_eq!(dy.len(), plan.shape.output_len(), "dy");
    assert_eq!(dw.len(), plan.layout.len(), "packed gradient");
    assert!(plan.weight_gradient_scratch_len(pool.threads()) <= scratch.len(), "scratch");
    if let Some(winograd) = &plan.winograd_weights {
        winograd.run(plan.isa, pool, (x, dy), dw, scratch);
        return;
    }
    let (chunks, len) = (plan.weights.chunks, dw.len());
    let (own, partials) = scratch.split_at_mut(pool.threads() * plan.weight_thread_len());
    let partials = if chunks == 1 { &mut *dw } else { &mut partials[..chunks * len] };
    let gradient = Gradient {
        plan,
        x,
        dy,
        partials: DisjointMut::new(partials),
        scratch: DisjointMut::new(own),
    };
    let split = &plan.weights;
    pool.run_with_thread(chunks * split.panel_parts * split.tap_parts, &|thread, task| {
        plan.isa.run(Task { gradient: &gradient, thread, task });
    });
    if 1 < chunks {
        reduce(plan, pool, partials_of(scratch, pool, plan), dw);
    }
    plan.layout.clear_between_groups(dw);
}

fn partials_of<'a>(scratch: &'a [f32], pool: &ThreadPool, plan: &ConvPlan) -> &'a [f32] {
    let own = pool.threads() * plan.weight_thread_len();
    &scratch[own..own + plan.weights.chunks * plan.layout.len()]
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
    x: &'a [f32],
    dy: &'a [f32],
    /// `[chunk][packed]`.
    partials: DisjointMut<'a, f32>,
    scratch: DisjointMut<'a, f32>,
}

/// One chunk of pixels, some panels, some taps.
struct Task<'a> {
    gradient: &'a Gradient<'a>,
    thread: usize,
    task: usize,
}

fn part(part: usize, parts: usize, len: usize) -> Range<usize> {
    part * len / parts..(part + 1) * len / parts
}

impl Kernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let plan = self.gradient.plan;
        let (split, layout) = (&plan.weights, &plan.layout);
        let gather = &split.gather;
        let parts = split.panel_parts * split.tap_parts;
        let (chunk, rest) = (self.task / parts, self.task % parts);
        let panels = part(rest / split.tap_parts, split.panel_parts, layout.panels());
        let taps = part(rest % split.tap_parts, split.tap_parts, gather.taps.len());
        let own = plan.weight_thread_len();
        // SAFETY: no two tasks run at once on the same thread.
        let scratch =
            unsafe { self.gradient.scratch.slice(self.thread * own..(self.thread + 1) * own) };
        let panel_len = split.blocks.longest() * layout.full;
        let (packed_dy, copy) = scratch.split_at_mut(panels.len() * panel_len);
        let mut table = Table::new();
        let blocks = part(chunk, split.chunks, split.blocks.count);
        for block in blocks.clone() {
            let range = split.blocks.range(block);
            // SAFETY: `x` has the shape's length, checked at entry, and outlives the table.
            unsafe { gather.fill(self.gradient.x.as_ptr(), range.clone(), copy, &mut table) };
            let products = panels.len() * taps.len() * gather.depth.div_ceil(INPUTS);
            let mut ahead = if block + 1 < blocks.end && gather.is_contiguous() {
                Ahead::new(self.gradient, split.blocks.range(block + 1), products)
            } else {
                Ahead::default()
            };
            pack_panels(s, self.gradient.dy, layout, (panels.clone(), range.clone()), packed_dy);
            for (index, packed_dy) in panels.clone().zip(packed_dy.chunks_exact(panel_len)) {
                let panel = layout.panel(index);
                for tap in taps.clone() {
                    let start = chunk * layout.len()
                        + panel.start
                        + gather.taps[tap].index * gather.depth * panel.width;
                    // SAFETY: a task is alone with its chunk, panels and taps.
                    let dw = unsafe {
                        self.gradient.partials.slice(start..start + gather.depth * panel.width)
                    };
                    if block == blocks.start {
                        dw.fill(0.0);
                    }
                    let rows = &table.tap(tap)[..range.len()];
                    // SAFETY: the pointers are valid for a row of the source, of which the group's
                    // channels are a part; `packed_dy` has a row for each, `dw` one for each input.
                    unsafe {
                        let offset = panel.group * layout.cin;
                        let dy = packed_dy.as_ptr();
                        accumulate(s, panel.width, rows, (offset, dy), dw, &mut ahead);
                    }
                }
            }
        }
    }
}

/// What the next block will read, asked for bit by bit while this one is computed.
#[derive(Default)]
pub(super) struct Ahead {
    /// Cache lines left of `x` and of `dy`.
    left: [Range<usize>; 2],
    /// Of each, at every tile.
    at_once: [usize; 2],
}

impl Ahead {
    /// The pixels `range` of both operands, over so many tiles.
    fn new(gradient: &Gradient<'_>, range: Range<usize>, tiles: usize) -> Ahead {
        let shape = &gradient.plan.shape;
        let lines = |start: *const f32, channels: usize| {
            let at = |pixel: usize| (start.addr() + 4 * pixel * channels) / LINE;
            at(range.start)..at(range.end)
        };
        let left = [lines(gradient.x.as_ptr(), shape.cin), lines(gradient.dy.as_ptr(), shape.cout)];
        let at_once = left.each_ref().map(|lines| lines.len().div_ceil(tiles));
        Ahead { left, at_once }
    }

    #[inline(always)]
    fn ask<S: Simd>(&mut self, s: S) {
        for (left, &at_once) in self.left.iter_mut().zip(&self.at_once) {
            let end = left.end.min(left.start + at_once);
            for line in left.start..end {
                s.prefetch_far(std::ptr::without_provenance(line * LINE));
            }
            left.start = end;
        }
    }
}

/// Copies the panels' columns of `dy` for the pixels `range` into `packed`, `[panel][pixel][width]`,
/// padded with zeros: neighbouring pixels then share no cache set, the tiles need no masks, and `dy`
/// is read once, in its own order.
#[inline(always)]
fn pack_panels<S: Simd>(
    s: S,
    dy: &[f32],
    layout: &PackedLayout,
    (panels, range): (Range<usize>, Range<usize>),
    packed: &mut [f32],
) {
    let h = s.half();
    let (panel_len, cout) = (packed.len() / panels.len(), layout.groups * layout.cout);
    for (row, pixel) in range.enumerate() {
        for (index, packed) in panels.clone().zip(packed.chunks_exact_mut(panel_len)) {
            let panel = layout.panel(index);
            let from = &dy[pixel * cout + panel.first..][..panel.channels];
            let row = &mut packed[row * panel.width..][..panel.width];
            let mut at = 0;
            while S::LANES <= panel.width - at {
                s.store(s.load_partial(&from[at.min(from.len())..]), &mut row[at..]);
                at += S::LANES;
            }
            if at < panel.width {
                h.store(h.load_partial(&from[at.min(from.len())..]), &mut row[at..]);
            }
        }
    }
}

/// `dw[ci][j] += Σ_pixel rows[pixel][offset + ci] · dy[pixel][j]` for all inputs of `dw`.
///
/// # Safety
/// Each pointer is valid for `offset + dw.len() / width` floats, and `dy` holds `width` floats for each.
#[inline(always)]
pub(super) unsafe fn accumulate<S: Simd>(
    s: S,
    width: usize,
    rows: &[*const f32],
    (offset, dy): (usize, *const f32),
    dw: &mut [f32],
    ahead: &mut Ahead,
) {
    // SAFETY: passed on. Each tile shape's width is the panel's.
    unsafe {
        match (S::LANES, width) {
            (16, 32) => inputs_12::<S, 2, 0>(s, rows, (offset, dy), dw, ahead),
            (16, 24) => inputs_12::<S, 1, 1>(s, rows, (offset, dy), dw, ahead),
            (16, 16) => inputs_12::<S, 1, 0>(s, rows, (offset, dy), dw, ahead),
            (16, 8) => inputs_12::<S, 0, 1>(s, rows, (offset, dy), dw, ahead),
            (8, 16) => inputs_6::<S, 2>(s, rows, (offset, dy), dw, ahead),
            (8, 8) => inputs_12::<S, 1, 0>(s, rows, (offset, dy), dw, ahead),
            (lanes, width) => unreachable!("no tile of width {width} for {lanes} lanes"),
        }
    }
}

#[inline(always)]
unsafe fn inputs_12<S: Simd, const NV: usize, const NH: usize>(
    s: S,
    rows: &[*const f32],
    (offset, dy): (usize, *const f32),
    dw: &mut [f32],
    ahead: &mut Ahead,
) {
    let width = NV * S::LANES + NH * <S::Half as Simd>::LANES;
    let (mut ci, inputs) = (0, dw.len() / width);
    while ci < inputs {
        let left = inputs - ci;
        ahead.ask(s);
        // Twelves, but eights where those leave no small rest: 16 = 8 + 8, 64 = 4·12 + 8 + 8.
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match left {
                8 | 9 | 16 => tile::<S, 8, NV, NH>(s, rows, offset, dy, dw, ci),
                12.. => tile::<S, 12, NV, NH>(s, rows, offset, dy, dw, ci),
                7 | 10 | 11 => tile::<S, 7, NV, NH>(s, rows, offset, dy, dw, ci),
                4..=6 => tile::<S, 4, NV, NH>(s, rows, offset, dy, dw, ci),
                2..=3 => tile::<S, 2, NV, NH>(s, rows, offset, dy, dw, ci),
                _ => tile::<S, 1, NV, NH>(s, rows, offset, dy, dw, ci),
            }
        }
    }
}

#[inline(always)]
unsafe fn inputs_6<S: Simd, const NV: usize>(
    s: S,
    rows: &[*const f32],
    (offset, dy): (usize, *const f32),
    dw: &mut [f32],
    ahead: &mut Ahead,
) {
    let (mut ci, inputs) = (0, dw.len() / (NV * S::LANES));
    while ci < inputs {
        ahead.ask(s);
        // SAFETY: passed on; each tile is no higher than what is left.
        unsafe {
            ci += match inputs - ci {
                4 | 8 => tile::<S, 4, NV, 0>(s, rows, offset, dy, dw, ci),
                6.. => tile::<S, 6, NV, 0>(s, rows, offset, dy, dw, ci),
                2.. => tile::<S, 2, NV, 0>(s, rows, offset, dy, dw, ci),
                _ => tile::<S, 1, NV, 0>(s, rows, offset, dy, dw, ci),
            }
        }
    }
}

/// `M` inputs from `ci` on; returns `M`.
#[inline(always)]
unsafe fn tile<S: Simd, const M: usize, const NV: usize, const NH: usize>(
    s: S,
    rows: &[*const f32],
    offset: usize,
    dy: *const f32,
    dw: &mut [f32],
    ci: usize,
) -> usize {
    let h = s.half();
    let (lanes, half) = (S::LANES, <S::Half as Simd>::LANES);
    let width = NV * lanes + NH * half;
    let dw = dw[ci * width..(ci + M) * width].as_mut_ptr();
    let at = offset + ci;
    // SAFETY: `dw` has M rows of the width, just sliced; each pointer is valid for `at + M` floats
    // and `dy` for a row of the width for each pointer, as the caller promises.
    unsafe {
        let mut full: [[S::F32; NV]; M] = std::array::from_fn(|m| {
            std::array::from_fn(|j| s.load_ptr(dw.add(m * width + j * lanes)))
        });
        let mut rest: [[<S::Half as Simd>::F32; NH]; M] = std::array::from_fn(|m| {
            std::array::from_fn(|j| h.load_ptr(dw.add(m * width + NV * lanes + j * half)))
        });
        let mut dy = dy;
        for row in rows {
            let x = row.add(at);
            let wide: [S::F32; NV] = std::array::from_fn(|j| s.load_ptr(dy.add(j * lanes)));
            let narrow: [<S::Half as Simd>::F32; NH] =
                std::array::from_fn(|j| h.load_ptr(dy.add(NV * lanes + j * half)));
            for m in 0..M {
                for j in 0..NV {
                    full[m][j] = s.mul_add(s.splat(*x.add(m)), wide[j], full[m][j]);
                }
                for j in 0..NH {
                    rest[m][j] = h.mul_add(h.splat(*x.add(m)), narrow[j], rest[m][j]);
                }
            }
            dy = dy.add(width);
        }
        for m in 0..M {
            for (j, &sum) in full[m].iter().enumerate() {
                s.store_ptr(sum, dw.add(m * width + j * lanes));
            }
            for (j, &sum) in rest[m].iter().enumerate() {
                h.store_ptr(sum, dw.add(m * width + NV * lanes + j * half));
            }
        }
    }
    M
}
