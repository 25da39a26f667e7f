//! Both gradients of a convolution in one pass over the gradient of the batch norm behind it.
//!
//! That gradient is needed twice and made of two tensors. Where weights are few, it never exists as a whole:
//! each block of pixels is computed into the caches, multiplied into the sums of the weight gradient and
//! into the input gradient, and forgotten: two tensors are read, instead of four read and one written. `x`,
//! which the weight gradient takes, is in the caches too when the input gradient takes it as its mask.

use resnet_simd::{Element, Stored};

use super::product::{Product, gradient_finish};
use super::weight_gradient::{self, OutputGradient, Parts, assert_operands};
use super::{ConvPlan, GradientEpilogue, tile};
use crate::kernel::blocks::{Blocks, TABLE_LEN, TILE_OVERHANG};
use crate::kernel::norm::InputGradient;
use crate::threads::{DisjointMut, ThreadPool};

/// Weights that stay in the second-level cache beside as many sums and a block.
const FEW_WEIGHTS_BYTES: usize = 256 << 10;

/// Pixels of a block, about, at most: more of them leave less of the caches to the tensors that the epilogue
/// reads and to those that are asked for.
const MAX_TOGETHER_ROWS: usize = 60;

/// `dw` and `dx = epilogue(…)`, the gradients by weights and input, from the gradient by the input of the
/// batch norm that follows the convolution, rounded as it would be stored: the same bits as
/// [`conv_weight_gradient`](super::conv_weight_gradient) and
/// [`conv_input_gradient`](super::conv_input_gradient) give of the stored one.
///
/// `x`, `dx`: NHWC; `w_transposed` as in the input gradient; `dw`: packed by `plan.layout()`; `scratch`:
/// `plan.weight_gradient_scratch_len(threads)`. Only where [`ConvPlan::fuses_gradients`].
///
/// # Panics
/// If a slice's length does not fit the plan, or the plan does not fuse.
pub fn conv_norm_gradients<E: Element>(
    plan: &ConvPlan,
    pool: &ThreadPool,
    (x, dy): (&[E], InputGradient<'_, E>),
    w_transposed: &[f32],
    epilogue: GradientEpilogue<'_, E>,
    (dw, dx): (&mut [f32], &mut [E]),
    scratch: &mut [f32],
) {
    assert!(plan.fuses_gradients(pool.threads()), "planned apart");
    dy.assert_fits(plan.shape.output_len(), plan.shape.cout);
    assert_operands(plan, pool, x, dw, scratch);
    let (finish, partials) = gradient_finish(plan, w_transposed, epilogue, dx);
    let product = Product {
        pass: &plan.backward[0],
        parts: 1,
        source: std::ptr::null(),
        weights: w_transposed.as_ptr(),
        finish,
        partials,
        channels: plan.shape.cin,
        scratch: DisjointMut::new(&mut []),
    };
    let operands = (x.as_ptr().cast(), OutputGradient::of_norm(dy));
    // SAFETY: the lengths of all operands were checked above; they are borrowed for the run.
    unsafe { weight_gradient::run(plan, pool, operands, dw, scratch, Some(&product)) };
}

impl ConvPlan {
    /// Whether [`conv_norm_gradients`] can be had on so many threads: each task has all of a block, and
    /// weights, sums and a block fit the caches of a core. The results are the same either way.
    pub fn fuses_gradients(&self, threads: usize) -> bool {
        let direct = self.winograd_gradient.is_none() && self.winograd_weights.is_none();
        let floats = self.backward.iter().all(|pass| pass.words == Stored::F32);
        direct && floats && self.shares_blocks && Parts::new(self, threads).count() == 1
    }

    /// Gives both gradients the same blocks of pixels, where they may be computed together: with few weights,
    /// and columns of `dy` that are all as wide.
    pub(super) fn share_blocks(&mut self) {
        let [pass] = &mut self.backward[..] else { return };
        let (layout, split) = (&self.layout, &mut self.weights);
        let few = layout.groups == 1 && 4 * layout.len() <= FEW_WEIGHTS_BYTES;
        let even = layout.cout.is_multiple_of(layout.full);
        if !(few && even && split.gather.is_pointwise() && pass.gather.is_pointwise()) {
            return;
        }
        let in_table = (TABLE_LEN / layout.panels()).saturating_sub(TILE_OVERHANG);
        let rows = MAX_TOGETHER_ROWS.min(split.blocks.longest()).min(in_table);
        let unit = tile::height(&pass.layout, self.isa.lanes());
        if rows < unit {
            return;
        }
        let blocks = Blocks::even(pass.gather.pixels(), rows / unit * unit, unit);
        (pass.blocks, split.blocks) = (blocks, blocks);
        split.chunks = split.chunks.min(blocks.count);
        if pass.rows >= rows {
            pass.rows = blocks.longest();
        }
        self.shares_blocks = true;
    }
}
