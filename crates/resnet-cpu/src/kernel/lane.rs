//! Where a vector stands in a tensor, and what it reads there.

use resnet_simd::{Element, Simd};

/// A place of up to a vector's width in an NHWC tensor.
#[derive(Clone, Copy)]
pub(super) struct At {
    /// Index of the first element in the whole tensor.
    pub(super) i: usize,
    /// Its channel; the lanes do not leave the row.
    pub(super) j: usize,
    /// Lanes in use: all but at the end of a row.
    pub(super) n: usize,
}

impl At {
    /// The elements of a tensor at this place; lanes out of use are 0.
    #[inline(always)]
    pub(super) fn load<S: Simd, E: Element>(self, s: S, x: &[E]) -> S::F32 {
        load(s, x, self.i, self.n)
    }

    /// The values of a channel vector at this place; lanes out of use are 0.
    #[inline(always)]
    pub(super) fn channels<S: Simd>(self, s: S, v: &[f32]) -> S::F32 {
        load(s, v, self.j, self.n)
    }
}

/// `x[i..i + n]`; lanes out of use are 0.
#[inline(always)]
pub(super) fn load<S: Simd, E: Element>(s: S, x: &[E], i: usize, n: usize) -> S::F32 {
    // `n` is a constant in full vectors, so one of the two remains.
    if n == S::LANES { E::load(s, &x[i..i + n]) } else { E::load_partial(s, &x[i..i + n]) }
}

/// Writes `y[i..i + n]`.
#[inline(always)]
pub(super) fn store<S: Simd, E: Element>(s: S, v: S::F32, y: &mut [E], i: usize, n: usize) {
    if n == S::LANES {
        E::store(s, v, &mut y[i..i + n]);
    } else {
        E::store_partial(s, v, &mut y[i..i + n]);
    }
}

/// What an elementwise kernel reads: a tensor of its own, or what its output holds so far.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a, E = f32> {
    /// Another tensor of the output's shape.
    From(&'a [E]),
    /// The output itself: the kernel works in place.
    InPlace,
}

impl<E> Source<'_, E> {
    /// Where the source lies; null if there is none.
    pub(super) fn pointer(source: Option<Self>, output: *const E) -> *const E {
        match source {
            None => std::ptr::null(),
            Some(Source::From(x)) => x.as_ptr(),
            Some(Source::InPlace) => output,
        }
    }
}

impl<E: Element> Source<'_, E> {
    /// # Panics
    /// If the source is another tensor of another length.
    #[track_caller]
    pub(super) fn assert_len(self, len: usize) {
        if let Source::From(x) = self {
            assert_eq!(x.len(), len);
        }
    }

    /// The source at a place where the output holds `old`.
    #[inline(always)]
    pub(super) fn lanes<S: Simd>(self, s: S, old: S::F32, at: At) -> S::F32 {
        match self {
            Source::From(x) => at.load(s, x),
            Source::InPlace => old,
        }
    }

    /// The source at element `i`, where the output holds `old`.
    #[inline(always)]
    pub(super) fn scalar(self, old: f32, i: usize) -> f32 {
        match self {
            Source::From(x) => x[i].to_f32(),
            Source::InPlace => old,
        }
    }
}
