//! What happens to a tile before it is written: bias, residual, ReLU, masks and sums.

use std::ops::Range;

use resnet_simd::{Element, Simd, Stored, bf16};

use crate::kernel::lane::Source;

/// What the forward convolution does with each sum `z` before it writes `y`, in this order:
/// `z += bias`, `z += residual`, `z = max(z, 0)`, statistics of the result as it is stored.
pub struct Epilogue<'a, E = f32> {
    /// `[cout]`.
    pub bias: Option<&'a [f32]>,
    /// Shaped like `y`, or what `y` holds so far.
    pub residual: Option<Source<'a, E>>,
    /// ReLU. NaN stays NaN, as in PyTorch.
    pub relu: bool,
    /// Sums for the batch norm that follows.
    pub statistics: Option<Statistics<'a>>,
}

impl<E> Default for Epilogue<'_, E> {
    fn default() -> Self {
        Epilogue { bias: None, residual: None, relu: false, statistics: None }
    }
}

/// Per channel and chunk of pixels the sums of `y − pivot` and of its square.
pub struct Statistics<'a> {
    /// `[cout]`: a guess of the mean, so that squares do not cancel.
    pub pivot: &'a [f32],
    /// `[chunk][2][cout]`, `ConvPlan::forward_chunks` chunks; written, not added to.
    pub partials: &'a mut [f32],
}

/// What the input gradient does with each sum `g` before it writes `dx`, in this order:
/// `g += add`, `g = if mask > 0 { g } else { 0 }`, sums of the result as it is stored.
pub struct GradientEpilogue<'a, E = f32> {
    /// Another gradient of the same tensor; shaped like `dx`, or what `dx` holds so far.
    pub add: Option<Source<'a, E>>,
    /// The stored activation after ReLU; shaped like `dx`.
    pub mask: Option<&'a [E]>,
    /// Sums for the gradient of the batch norm before.
    pub sums: Option<GradientSums<'a, E>>,
}

impl<E> Default for GradientEpilogue<'_, E> {
    fn default() -> Self {
        GradientEpilogue { add: None, mask: None, sums: None }
    }
}

/// Per channel and chunk of pixels the sums of `dx` and of `dx · (z − mean)`.
pub struct GradientSums<'a, E = f32> {
    /// The raw output of the convolution before; shaped like `dx`.
    pub z: &'a [E],
    /// `[cin]`: the batch's mean of `z`.
    pub mean: &'a [f32],
    /// `[chunk][2][cin]`, `ConvPlan::gradient_chunks` chunks; written, not added to.
    pub partials: &'a mut [f32],
}

/// The epilogue of both products in the form the tiles read. Null means absent; tensors are shaped
/// like the product's target, and their elements are stored as its are.
#[derive(Clone, Copy)]
pub(super) struct Finish {
    pub(super) stored: Stored,
    pub(super) target: *mut (),
    /// Whether whole vectors go around the caches: the target is larger than they are, and each of
    /// its panels is whole, aligned lines.
    pub(super) stream: bool,
    pub(super) bias: *const f32,
    pub(super) add: *const (),
    pub(super) relu: bool,
    pub(super) mask: *const (),
    pub(super) sums: Sums,
}

/// Bytes of a target that is not worth keeping in caches until it is read: more than cores have for
/// themselves. Measured where that is 2 MiB each, before a large shared one.
const STREAM_BYTES: usize = 4 << 20;

/// Whether to write `target` around the caches, whose groups have so many channels.
pub(super) fn streams<E: Element>(
    target: &[E],
    added: Option<Source<'_, E>>,
    channels: usize,
) -> bool {
    // What is changed in place has just been read into the caches.
    !matches!(added, Some(Source::InPlace))
        && E::STORED == Stored::F32
        && STREAM_BYTES <= size_of_val(target)
        && channels.is_multiple_of(16)
        && target.as_ptr().addr().is_multiple_of(64)
}

/// What the epilogue of a tile will read besides its sums, asked for while the tile is computed: some pixels
/// at a time, as requests for all of them at once would hold up the tile's own loads.
pub(super) struct Ahead<'a> {
    finish: &'a Finish,
    /// Pixels not asked for yet, as [`Column`] has them.
    targets: &'a [usize],
    channels: Range<usize>,
    /// How many at a time.
    pixels: usize,
}

impl<'a> Ahead<'a> {
    /// These pixels' channels, spread over so many times to ask.
    #[inline(always)]
    pub(super) fn new(
        finish: &'a Finish,
        targets: &'a [usize],
        channels: Range<usize>,
        times: usize,
    ) -> Ahead<'a> {
        let reads = finish.operands().iter().any(|operand| !operand.is_null());
        let targets = if reads { targets } else { &[] };
        // Some gradients have pixels that no tap reaches.
        Ahead { finish, targets, channels, pixels: targets.len().div_ceil(times.max(1)) }
    }

    /// Asks for the next pixels' lines.
    #[inline(always)]
    pub(super) fn ask<S: Simd>(&mut self, s: S) {
        let (now, later) = self.targets.split_at(self.pixels.min(self.targets.len()));
        self.targets = later;
        let size = self.finish.stored.size();
        for &target in now {
            for operand in self.finish.operands().into_iter().filter(|operand| !operand.is_null()) {
                let start = operand.wrapping_byte_add(size * target);
                for byte in (size * self.channels.start..size * self.channels.end).step_by(64) {
                    s.prefetch_far(start.wrapping_byte_add(byte).cast());
                }
            }
        }
    }
}

impl Finish {
    /// The tensors that are read, or null.
    #[inline(always)]
    fn operands(&self) -> [*const (); 3] {
        let z = match self.sums {
            Sums::Gradient { z, .. } => z,
            Sums::None | Sums::Moments { .. } => std::ptr::null(),
        };
        [self.add, self.mask, z]
    }
}

/// Which two sums are taken of the finished values `v`.
#[derive(Clone, Copy)]
pub(super) enum Sums {
    None,
    /// `v − pivot` and its square.
    Moments {
        pivot: *const f32,
    },
    /// `v` and `v · (z − mean)`.
    Gradient {
        z: *const (),
        mean: *const f32,
    },
}

/// A column of vectors of a finished tile: where it comes from and goes to.
pub(super) struct Column<'a> {
    /// The tile's sums, a row of `stride` floats for each pixel.
    pub(super) sums: *const f32,
    pub(super) stride: usize,
    /// For each pixel of the tile, the target's element of channel 0.
    pub(super) targets: &'a [usize],
    /// The column's first channel, and how many of its lanes count.
    pub(super) channel: usize,
    pub(super) valid: usize,
    /// The chunk's two running sums, a vector each.
    pub(super) first: *mut f32,
    pub(super) second: *mut f32,
}

#[inline(always)]
unsafe fn load<S: Simd, E: Element>(s: S, p: *const E, valid: usize) -> S::F32 {
    if S::LANES <= valid {
        // SAFETY: the caller promises `valid` readable elements, at least a vector.
        unsafe { E::load_ptr(s, p) }
    } else {
        // SAFETY: the caller promises `valid` readable elements.
        E::load_partial(s, unsafe { std::slice::from_raw_parts(p, valid) })
    }
}

/// Finishes and writes one column of vectors.
///
/// # Safety
/// Every pointer of `f` that is not null is valid for the target's elements that `column` names
/// (`bias`, `pivot`, `mean`: for its channels), and nobody else writes those of the target; where it
/// streams, the caller fences before others read, and [`streams`] held. The
/// column's `sums` hold a row for each target, `first` and `second` a vector each.
#[inline(always)]
pub(super) unsafe fn finish<S: Simd>(s: S, f: &Finish, column: &Column<'_>) {
    // SAFETY: passed on.
    unsafe {
        match f.stored {
            Stored::F32 => finish_as::<S, f32>(s, f, column),
            Stored::Bf16 => finish_as::<S, bf16>(s, f, column),
        }
    }
}

/// The same for one type of elements.
///
/// # Safety
/// As [`finish`].
#[inline(always)]
unsafe fn finish_as<S: Simd, E: Element>(s: S, f: &Finish, column: &Column<'_>) {
    let (target, residual, mask): (*mut E, *const E, *const E) =
        (f.target.cast(), f.add.cast(), f.mask.cast());
    let Column { channel, valid, .. } = *column;
    let zero = s.splat(0.0);
    // SAFETY: all reads and writes below stay within what the caller promises: channels
    // `channel..channel + valid` of the named pixels, by `load` and the matching store.
    unsafe {
        let bias = if f.bias.is_null() { zero } else { load(s, f.bias.add(channel), valid) };
        let center = match f.sums {
            Sums::None => zero,
            Sums::Moments { pivot: center } | Sums::Gradient { mean: center, .. } => {
                load(s, center.add(channel), valid)
            }
        };
        let (mut first, mut second) = (zero, zero);
        if !matches!(f.sums, Sums::None) {
            (first, second) = (s.load_ptr(column.first), s.load_ptr(column.second));
        }
        for (row, &pixel) in column.targets.iter().enumerate() {
            let at = pixel + channel;
            let mut v = s.load_ptr(column.sums.add(row * column.stride));
            if !f.bias.is_null() {
                v = s.add(v, bias);
            }
            if !residual.is_null() {
                v = s.add(v, load(s, residual.add(at), valid));
            }
            if f.relu {
                v = s.max(zero, v);
            }
            if !mask.is_null() {
                v = s.select_gt(load(s, mask.add(at), valid), zero, v, zero);
            }
            v = E::round(s, v);
            match f.sums {
                Sums::None => {}
                Sums::Moments { .. } => {
                    let d = s.sub(v, center);
                    first = s.add(first, d);
                    second = s.mul_add(d, d, second);
                }
                Sums::Gradient { z, .. } => {
                    let z = load(s, z.cast::<E>().add(at), valid);
                    first = s.add(first, v);
                    second = s.mul_add(v, s.sub(z, center), second);
                }
            }
            let to = target.add(at);
            if f.stream && S::LANES == 16 {
                s.stream_ptr(v, to.cast());
            } else if S::LANES <= valid {
                E::store_ptr(s, v, to);
            } else {
                E::store_partial(s, v, std::slice::from_raw_parts_mut(to, valid));
            }
        }
        if !matches!(f.sums, Sums::None) {
            s.store_ptr(first, column.first);
            s.store_ptr(second, column.second);
        }
    }
}
