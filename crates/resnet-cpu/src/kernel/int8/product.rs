//! Convolution on bytes: blocks of pixels times parts of the panels, shared out among threads.

use std::ops::Range;

use resnet_simd::{Dot, DotKernel};

use super::gather::Table;
use super::plan::{Int8Output, Int8Plan};
use super::tile::{Finish, Work, run_tiles};
use crate::kernel::lane::Source;
use crate::kernel::prefetch::{Coming, Soon};
use crate::threads::{DisjointMut, ThreadPool};

/// Where the results go.
#[derive(Debug)]
pub enum Int8Target<'a> {
    /// Bytes, NHWC.
    Bytes(&'a mut [u8]),
    /// Real numbers, NHWC.
    Floats(&'a mut [f32]),
}

/// Convolution of bytes `x` (NHWC) with what `plan.layout()` packed; `residual` is shaped like `y`, or
/// what `y` holds so far.
///
/// # Panics
/// If a slice's length does not fit the plan, or `y` or `residual` is not of its kind.
pub fn int8_conv(
    plan: &Int8Plan,
    pool: &ThreadPool,
    x: &[u8],
    packed: &[u8],
    residual: Option<Source<'_, u8>>,
    y: Int8Target<'_>,
    scratch: &mut [u8],
) {
    let shape = plan.shape();
    assert!(shape.input_len() <= x.len(), "x");
    assert_eq!(packed.len(), plan.layout.len(), "packed weights");
    assert_eq!(residual.is_some(), plan.adds(), "residual");
    if let Some(Source::From(residual)) = residual {
        assert!(shape.output_len() <= residual.len(), "residual");
    }
    let (target, len, output) = match y {
        Int8Target::Bytes(y) => (y.as_mut_ptr(), y.len(), Int8Output::Bytes),
        Int8Target::Floats(y) => (y.as_mut_ptr().cast(), y.len(), Int8Output::Floats),
    };
    assert!(shape.output_len() <= len, "y");
    assert_eq!(output, plan.output, "y");
    let product = Product {
        plan,
        parts: plan.parts(pool.threads()),
        source: x.as_ptr(),
        packed: packed.as_ptr(),
        finish: Finish {
            target,
            output,
            residual: Source::pointer(residual, target),
            factor: plan.residual.unwrap_or(0.0),
            channels: shape.cout,
        },
        scratch: DisjointMut::new(scratch),
    };
    product.run(pool);
}

/// A convolution's operands, as the tasks share them.
struct Product<'a> {
    plan: &'a Int8Plan,
    /// Parts that the panels are cut into.
    parts: usize,
    source: *const u8,
    packed: *const u8,
    finish: Finish,
    scratch: DisjointMut<'a, u8>,
}

// SAFETY: tasks read the source, weights and residual, which `int8_conv` borrows for the whole run; a
// task writes the target only at the pixels of its block and the channels of its panels, which no
// other task has.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    fn run(&self, pool: &ThreadPool) {
        let plan = self.plan;
        let tasks = plan.blocks.count * self.parts;
        let scratch_len = plan.gather.scratch_len(&plan.blocks);
        assert!(scratch_len * pool.threads() <= self.scratch.len(), "scratch");
        let lanes = plan.layout.width() / 2;
        pool.run_with_thread(tasks, &|thread, task| {
            // SAFETY: no two tasks run at once on the same thread.
            let scratch =
                unsafe { self.scratch.slice(thread * scratch_len..(thread + 1) * scratch_len) };
            plan.isa.run_dot(lanes, Task { product: self, task, scratch });
        });
    }

    /// What is read of the source after these pixels' rows, for as many again, where rows are asked for.
    fn rows_after(&self, pixels: Range<usize>) -> Soon {
        let Int8Plan { gather, blocks, coming, .. } = self.plan;
        if *coming != Coming::Rows {
            return Soon::NOTHING;
        }
        // Rows that are copied are all read before the first is multiplied.
        let ahead = if gather.copies { blocks.longest() } else { pixels.len() };
        let [start, end] = [pixels.start, pixels.end].map(|at| gather.pixels().min(at + ahead));
        let read = gather.newly_read(start..end);
        Soon::new(self.source.wrapping_add(read.start), read.len())
    }
}

/// One block of pixels, some panels.
struct Task<'a> {
    product: &'a Product<'a>,
    task: usize,
    scratch: &'a mut [u8],
}

impl DotKernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<D: Dot>(self, d: D) {
        let Product { plan, parts, source, packed, finish, .. } = self.product;
        let (block, part) = (self.task / parts, self.task % parts);
        let mut table = Table::new();
        let range = plan.blocks.range(block);
        // SAFETY: `int8_conv` checked the source's length against the shape that the gather was made
        // from, and borrows it and the plan's padding for the whole run.
        unsafe {
            plan.gather.fill(*source, &plan.padding, range.clone(), self.scratch, &mut table);
        }
        let (rows, layout) = (range.len(), &plan.layout);
        let panels = layout.share(part, *parts);
        let count = layout.together(panels.clone()).count();
        for row in (0..rows).step_by(plan.rows) {
            let group = row..rows.min(row + plan.rows);
            let start = range.start + group.start;
            let after = self.product.rows_after(start..start + group.len());
            for (at, together) in layout.together(panels.clone()).enumerate() {
                let (panel, len) = (layout.panel(together.start), layout.panel_bytes());
                let work = Work {
                    table: &table,
                    first_pixel: range.start,
                    rows: group.clone(),
                    taps: layout.taps(),
                    words: layout.words(),
                    offset: panel.group * layout.cin,
                    packed: packed.wrapping_add(panel.start),
                    apart: (together.len() == 2).then_some(len),
                    coming: match plan.coming {
                        Coming::Weights => {
                            let len = together.len() * len;
                            Soon::new(packed.wrapping_add(panel.start + len), len)
                        }
                        Coming::Rows | Coming::Nothing => after.share(at, count),
                    },
                    width: layout.width(),
                    channel: panel.first,
                    channels: panel.channels,
                    finish,
                };
                // SAFETY: lengths were checked at entry: the panel lies inside the packed buffer, its
                // channels inside the target, and the gather's pointers are valid for a tap's run.
                unsafe { run_tiles(d, &work) };
            }
        }
    }
}
