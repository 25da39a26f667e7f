//! The output's gradient in panels, as the tiles of the weight gradient read it.

use std::ops::Range;

use resnet_simd::{Element, Simd, Stored, bf16};

use crate::kernel::conv::PackedLayout;
use crate::kernel::lane::At;
use crate::kernel::norm::{Centred, Coefficients, InputGradient};

/// The output's gradient: stored, or that of a batch norm's input, to be computed. Tensors are shaped like
/// the convolution's output, and lent for the whole run.
#[derive(Clone, Copy)]
pub(in crate::kernel::conv) enum OutputGradient<'a> {
    Stored(*const ()),
    OfNorm { g: *const (), z: *const (), mean: &'a [f32], by: Coefficients<'a> },
}

impl<'a> OutputGradient<'a> {
    pub(in crate::kernel::conv) fn of_norm<E: Element>(norm: InputGradient<'a, E>) -> Self {
        let (g, z) = (norm.g.as_ptr().cast(), norm.input.z.as_ptr().cast());
        OutputGradient::OfNorm { g, z, mean: norm.input.mean, by: norm.by }
    }

    /// The tensors that are read.
    pub(super) fn tensors(&self) -> [Option<*const ()>; 2] {
        match *self {
            OutputGradient::Stored(dy) => [Some(dy), None],
            OutputGradient::OfNorm { g, z, .. } => [Some(g), Some(z)],
        }
    }

    /// Copies the panels' columns for the pixels `range` into `packed`, `[panel][pixel][width]`, padded with
    /// zeros: neighbouring pixels then share no cache set, the tiles need no masks, and each tensor is read
    /// once, in its own order.
    ///
    /// # Safety
    /// The tensors are whole, and of elements stored so.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd>(
        self,
        s: S,
        stored: Stored,
        layout: &PackedLayout,
        cut: (Range<usize>, Range<usize>),
        packed: &mut [f32],
    ) {
        // SAFETY: passed on.
        unsafe {
            match stored {
                Stored::F32 => self.pack_as::<S, f32>(s, layout, cut, packed),
                Stored::Bf16 => self.pack_as::<S, bf16>(s, layout, cut, packed),
            }
        }
    }

    /// The same for one type of elements.
    ///
    /// # Safety
    /// As [`OutputGradient::pack`].
    #[inline(always)]
    unsafe fn pack_as<S: Simd, E: Element>(
        self,
        s: S,
        layout: &PackedLayout,
        (panels, range): (Range<usize>, Range<usize>),
        packed: &mut [f32],
    ) {
        let channels = layout.groups * layout.cout;
        let len = range.end * channels;
        let tensor = |start: *const ()| {
            // SAFETY: the block's last pixel is one of the tensor's, as the caller says.
            unsafe { std::slice::from_raw_parts(start.cast::<E>(), len) }
        };
        match self {
            OutputGradient::Stored(dy) => {
                pack_panels(s, layout, (panels, range), tensor(dy), packed);
            }
            OutputGradient::OfNorm { g, z, mean, by } => {
                let input = Centred { z: tensor(z), mean };
                let gradient = InputGradient { g: tensor(g), input, by };
                pack_panels(s, layout, (panels, range), gradient, packed);
            }
        }
    }
}

/// What is packed, at a place; lanes out of use are 0.
trait Values: Copy {
    fn lanes<S: Simd>(self, s: S, at: At) -> S::F32;
}

impl<E: Element> Values for &[E] {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, at: At) -> S::F32 {
        at.load(s, self)
    }
}

impl<E: Element> Values for InputGradient<'_, E> {
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, at: At) -> S::F32 {
        E::round(s, InputGradient::lanes(&self, s, at))
    }
}

#[inline(always)]
fn pack_panels<S: Simd>(
    s: S,
    layout: &PackedLayout,
    (panels, range): (Range<usize>, Range<usize>),
    values: impl Values,
    packed: &mut [f32],
) {
    let h = s.half();
    let (panel_len, channels) = (packed.len() / panels.len(), layout.groups * layout.cout);
    for (row, pixel) in range.enumerate() {
        for (index, packed) in panels.clone().zip(packed.chunks_exact_mut(panel_len)) {
            let panel = layout.panel(index);
            let row = &mut packed[row * panel.width..][..panel.width];
            let place = |at: usize, lanes: usize| {
                let (at, left) = (at.min(panel.channels), panel.channels.saturating_sub(at));
                let j = panel.first + at;
                At { i: pixel * channels + j, j, n: left.min(lanes) }
            };
            let mut at = 0;
            while S::LANES <= panel.width - at {
                s.store(values.lanes(s, place(at, S::LANES)), &mut row[at..]);
                at += S::LANES;
            }
            if at < panel.width {
                let lanes = <S::Half as Simd>::LANES;
                h.store(values.lanes(h, place(at, lanes)), &mut row[at..]);
            }
        }
    }
}
