//! Forward convolution and input gradient: one product, two epilogues.

use std::ops::Range;
use std::ptr::{null, null_mut};

use resnet_simd::{Element, Isa, Simd, Stored, Words, WordsKernel};

use super::epilogue::{Finish, Sums, streams};
use super::gather::{STILL_TAPS, Table, Tap};
use super::layout::Panel;
use super::plan::Pass;
use super::tile::{PanelSums, Work, run_tiles};
use super::{ConvPlan, Epilogue, GradientEpilogue};
use crate::kernel::lane::Source;
use crate::kernel::prefetch::{Coming, Soon};
use crate::threads::{DisjointMut, ThreadPool};

/// Panels whose sums a task keeps at a time.
const MAX_PANELS: usize = 16;

/// `y = epilogue(convolution(x, w))`.
///
/// `x`, `y`: NHWC; `w`: packed by `plan.layout()`, and transformed by
/// [`ConvPlan::transform_forward`] where the plan wants that; `scratch`:
/// `plan.forward_scratch_len(threads)`.
///
/// # Panics
/// If a slice's length does not fit the plan.
pub fn conv_forward<E: Element>(
    plan: &ConvPlan,
    pool: &ThreadPool,
    x: &[E],
    w: &[f32],
    epilogue: Epilogue<'_, E>,
    y: &mut [E],
    scratch: &mut [f32],
) {
    let shape = &plan.shape;
    assert_eq!(plan.stored, E::STORED, "the plan's activations");
    assert_eq!(x.len(), shape.input_len(), "x");
    assert_eq!(y.len(), shape.output_len(), "y");
    assert_eq!(w.len(), plan.forward_weights_len(), "weights");
    assert_len("bias", epilogue.bias, shape.cout);
    assert_added("residual", epilogue.residual, y.len());
    let (sums, partials) = match epilogue.statistics {
        None => (Sums::None, &mut [][..]),
        Some(statistics) => {
            assert_eq!(statistics.pivot.len(), shape.cout, "pivot");
            assert_eq!(statistics.partials.len(), plan.forward_chunks() * 2 * shape.cout);
            (Sums::Moments { pivot: statistics.pivot.as_ptr() }, statistics.partials)
        }
    };
    let stream = streams(y, epilogue.residual, plan.layout.cout);
    let target = y.as_mut_ptr();
    let finish = Finish {
        stored: E::STORED,
        target: target.cast(),
        stream,
        bias: epilogue.bias.map_or(null(), <[f32]>::as_ptr),
        add: Source::pointer(epilogue.residual, target).cast(),
        relu: epilogue.relu,
        mask: null(),
        sums,
    };
    if let Some(pass) = &plan.winograd_forward {
        let operands = (x.as_ptr().cast(), w.as_ptr());
        // SAFETY: the lengths of all operands were checked above; they are borrowed for the run.
        unsafe { pass.run(plan.isa, pool, operands, finish, partials.as_mut_ptr(), scratch) };
        return;
    }
    let product = Product {
        pass: &plan.forward,
        parts: plan.forward.parts(pool.threads()),
        source: x.as_ptr().cast(),
        weights: w.as_ptr(),
        finish,
        partials: partials.as_mut_ptr(),
        channels: shape.cout,
        scratch: DisjointMut::new(scratch),
    };
    product.run(plan, pool);
}

/// `dx = epilogue(the convolution's gradient by x)`, from `dy`.
///
/// `dy`, `dx`: NHWC; `w_transposed`: packed by `plan.transposed_layout()`, see
/// [`PackedLayout::transpose`](super::PackedLayout::transpose), and transformed by
/// [`ConvPlan::transform_gradient`] where the plan wants that; `scratch`:
/// `plan.gradient_scratch_len(threads)`.
///
/// # Panics
/// If a slice's length does not fit the plan.
pub fn conv_input_gradient<E: Element>(
    plan: &ConvPlan,
    pool: &ThreadPool,
    dy: &[E],
    w_transposed: &[f32],
    epilogue: GradientEpilogue<'_, E>,
    dx: &mut [E],
    scratch: &mut [f32],
) {
    let shape = &plan.shape;
    assert_eq!(dy.len(), shape.output_len(), "dy");
    let (finish, partials) = gradient_finish(plan, w_transposed, epilogue, dx);
    if let Some(pass) = &plan.winograd_gradient {
        let operands = (dy.as_ptr().cast(), w_transposed.as_ptr());
        // SAFETY: the lengths of all operands were checked above; they are borrowed for the run.
        unsafe { pass.run(plan.isa, pool, operands, finish, partials, scratch) };
        return;
    }
    let mut chunk = 0;
    for pass in &plan.backward {
        let product = Product {
            pass,
            parts: pass.parts(pool.threads()),
            source: dy.as_ptr().cast(),
            weights: w_transposed.as_ptr(),
            finish,
            partials: partials.wrapping_add(chunk * 2 * shape.cin),
            channels: shape.cin,
            scratch: DisjointMut::new(&mut *scratch),
        };
        product.run(plan, pool);
        chunk += pass.blocks.count;
    }
}

/// The input gradient's epilogue as the tiles read it, and where its sums go.
///
/// # Panics
/// If a slice's length does not fit the plan.
pub(super) fn gradient_finish<E: Element>(
    plan: &ConvPlan,
    w_transposed: &[f32],
    epilogue: GradientEpilogue<'_, E>,
    dx: &mut [E],
) -> (Finish, *mut f32) {
    let shape = &plan.shape;
    assert_eq!(plan.stored, E::STORED, "the plan's activations");
    assert_eq!(dx.len(), shape.input_len(), "dx");
    assert_eq!(w_transposed.len(), plan.gradient_weights_len(), "transposed weights");
    assert_added("add", epilogue.add, dx.len());
    assert_len("mask", epilogue.mask, dx.len());
    let (sums, partials) = match epilogue.sums {
        None => (Sums::None, &mut [][..]),
        Some(sums) => {
            assert_eq!(sums.z.len(), dx.len(), "z");
            assert_eq!(sums.mean.len(), shape.cin, "mean");
            assert_eq!(sums.partials.len(), plan.gradient_chunks() * 2 * shape.cin);
            let (z, mean) = (sums.z.as_ptr().cast(), sums.mean.as_ptr());
            (Sums::Gradient { z, mean }, sums.partials)
        }
    };
    let stream = streams(dx, epilogue.add, plan.layout.cin);
    let target = dx.as_mut_ptr();
    let finish = Finish {
        stored: E::STORED,
        target: target.cast(),
        stream,
        bias: null(),
        add: Source::pointer(epilogue.add, target).cast(),
        relu: false,
        mask: epilogue.mask.map_or(null(), |mask| mask.as_ptr().cast()),
        sums,
    };
    (finish, partials.as_mut_ptr())
}

fn assert_len<E>(name: &str, slice: Option<&[E]>, len: usize) {
    assert!(slice.is_none_or(|slice| slice.len() == len), "{name} is not {len} long");
}

fn assert_added<E>(name: &str, source: Option<Source<'_, E>>, len: usize) {
    match source {
        Some(Source::From(slice)) => assert_len(name, Some(slice), len),
        Some(Source::InPlace) | None => {}
    }
}

/// A pass over its operands, as the tasks share it.
pub(super) struct Product<'a> {
    pub(super) pass: &'a Pass,
    /// Parts that the panels are cut into.
    pub(super) parts: usize,
    /// Stored as the target is.
    pub(super) source: *const (),
    pub(super) weights: *const f32,
    pub(super) finish: Finish,
    /// The pass's chunks of sums, `[block][2][channels]`; not read where no sums are taken.
    pub(super) partials: *mut f32,
    /// Channels of the target, all groups.
    pub(super) channels: usize,
    pub(super) scratch: DisjointMut<'a, f32>,
}

// SAFETY: tasks read the source, weights and epilogue tensors, which the callers of this module
// borrow for the whole run; a task writes the target and the partials only at the pixels of its
// block and the channels of its panels, which no other task has.
unsafe impl Sync for Product<'_> {}

impl Product<'_> {
    fn run(&self, plan: &ConvPlan, pool: &ThreadPool) {
        let (words, tasks) = (self.pass.words, self.pass.blocks.count * self.parts);
        let scratch_len = self.pass.gather.scratch_len(&self.pass.blocks);
        assert!(scratch_len * pool.threads() <= self.scratch.len(), "scratch");
        if scratch_len == 0 {
            pool.run(tasks, &|task| {
                let from = BlockRows::Source { scratch: &mut [] };
                plan.isa.run_words(words, Task { product: self, task, from });
            });
            return;
        }
        pool.run_with_thread(tasks, &|thread, task| {
            // SAFETY: no two tasks run at once on the same thread.
            let scratch =
                unsafe { self.scratch.slice(thread * scratch_len..(thread + 1) * scratch_len) };
            let from = BlockRows::Source { scratch };
            plan.isa.run_words(words, Task { product: self, task, from });
        });
    }

    /// Multiplies one block with all panels. Its rows are not the source's: their channels lie in columns of
    /// `width`, `[column][row][width]`, which are `apart` floats apart.
    ///
    /// # Safety
    /// `columns` holds them for all of the block's pixels, and nobody else has this block. The product is of
    /// one tap that does not shift, over f32.
    pub(super) unsafe fn multiply_columns(
        &self,
        isa: Isa,
        block: usize,
        (columns, width, apart): (&[f32], usize, usize),
    ) {
        let from = BlockRows::Columns { columns, width, apart };
        isa.run_words(Stored::F32, Task { product: self, task: block, from });
    }

    /// Lets the table point to a block's rows. Gives the taps, how many words each multiplies, and what is
    /// asked for meanwhile.
    #[inline(always)]
    fn point<S: Simd>(
        &self,
        s: S,
        from: BlockRows<'_>,
        pixels: &Range<usize>,
        table: &mut Table,
    ) -> (&[Tap], usize, Coming) {
        let Pass { gather, coming, .. } = self.pass;
        match from {
            BlockRows::Source { scratch } => {
                let source = (self.source, self.stored());
                // SAFETY: `conv_forward` and `conv_input_gradient` checked the source's length against the
                // shape that the gather was made from, and borrow it for the whole run.
                unsafe { gather.fill(s, source, pixels.clone(), scratch, table) };
                (&gather.taps, gather.depth, *coming)
            }
            BlockRows::Columns { columns, width, apart } => {
                let matrices = (gather.depth / width, apart);
                // SAFETY: the columns hold the block's rows, as `multiply_columns`' caller says.
                unsafe { table.fill_matrix(columns.as_ptr(), matrices, (pixels.len(), width)) };
                table.target_pixels(pixels.start, self.channels);
                (&STILL_TAPS[..matrices.0], width, Coming::Nothing)
            }
        }
    }

    /// Writes the sums of a block and panel to its chunk of the partials.
    fn store_sums(&self, block: usize, panel: &Panel, sums: &PanelSums, channels: usize) {
        for (which, sums) in sums.0.iter().enumerate() {
            // SAFETY: the row (block, which) of the partials has room for all channels, as was
            // checked at entry; no other task has this block and panel.
            unsafe {
                let row = self.partials.add((block * 2 + which) * channels);
                row.add(panel.first).copy_from_nonoverlapping(sums.as_ptr(), panel.channels);
            }
        }
    }

    /// How a gather finds the source stored.
    fn stored(&self) -> Stored {
        match self.pass.words {
            Stored::F32 => self.finish.stored,
            // Words are read as they are, which is what f32 means to a gather.
            Stored::Bf16 => Stored::F32,
        }
    }

    /// The weights after a panel's, most often those of the next one.
    fn weights_after(&self, panel: &Panel) -> Soon {
        let layout = &self.pass.layout;
        let len = layout.taps * layout.cin * panel.width;
        Soon::new(self.weights.wrapping_add(panel.start + len), len)
    }

    /// What is read of the source after these pixels' rows, for as many again.
    fn rows_after(&self, pixels: Range<usize>) -> Soon {
        let Pass { gather, blocks, .. } = self.pass;
        // Rows that are copied are all read before the first is multiplied.
        let ahead = if gather.copies_rows() { blocks.longest() } else { pixels.len() };
        let [start, end] = [pixels.start, pixels.end].map(|at| gather.pixels().min(at + ahead));
        let (read, size) = (gather.newly_read(start..end), self.stored().size());
        let source = self.source.cast::<u8>().wrapping_add(size * read.start);
        Soon::new(source, size * read.len())
    }
}

/// Where a task's rows come from.
enum BlockRows<'a> {
    /// The source, by way of a copy in `scratch` where that is planned.
    Source { scratch: &'a mut [f32] },
    /// See [`Product::multiply_columns`].
    Columns { columns: &'a [f32], width: usize, apart: usize },
}

/// One block of pixels, some panels.
struct Task<'a> {
    product: &'a Product<'a>,
    task: usize,
    from: BlockRows<'a>,
}

impl WordsKernel for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn run<W: Words>(self, words: W) {
        let s = words.floats();
        let Product { pass, parts, channels, .. } = *self.product;
        let layout = &pass.layout;
        let (block, part) = (self.task / parts, self.task % parts);
        let (mut table, pixels) = (Table::new(), pass.blocks.range(block));
        let (taps, depth, coming) = self.product.point(s, self.from, &pixels, &mut table);
        let (rows, all) = (table.targets().len(), layout.share(part, parts));
        let count = layout.together(all.clone()).count();
        for first in all.clone().step_by(MAX_PANELS) {
            let panels = first..all.end.min(first + MAX_PANELS);
            let mut sums = [const { PanelSums::ZERO }; MAX_PANELS];
            for row in (0..rows).step_by(pass.rows) {
                let group = row..rows.min(row + pass.rows);
                let start = pixels.start + group.start;
                let after = match coming {
                    Coming::Rows => self.product.rows_after(start..start + group.len()),
                    Coming::Weights | Coming::Nothing => Soon::NOTHING,
                };
                for (index, (panels, sums)) in
                    layout.together(panels.clone()).zip(&mut sums).enumerate()
                {
                    let panel = layout.joined(&panels);
                    let work = Work {
                        table: &table,
                        rows: group.clone(),
                        taps,
                        first_tap: 0,
                        depth,
                        offset: panel.group * layout.cin,
                        weights: self.product.weights.wrapping_add(panel.start),
                        apart: layout.full_len(),
                        coming: match coming {
                            Coming::Weights => self.product.weights_after(&panel),
                            Coming::Rows | Coming::Nothing => after.share(index, count),
                        },
                        width: panel.width,
                        channel: panel.first,
                        channels: panel.channels,
                        finish: &self.product.finish,
                        raw: null_mut(),
                        accumulate: false,
                    };
                    // SAFETY: the lengths were checked at entry: the panel lies inside the weights,
                    // its channels inside the target, and the gather's pointers are valid for a
                    // source row.
                    unsafe { run_tiles::<W, false>(words, &work, sums) };
                }
            }
            if !matches!(self.product.finish.sums, Sums::None) {
                for (panels, sums) in layout.together(panels).zip(&sums) {
                    self.product.store_sums(block, &layout.joined(&panels), sums, channels);
                }
            }
        }
        if self.product.finish.stream {
            s.fence();
        }
    }
}
