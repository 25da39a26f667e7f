//! Batch norm applied: `y = act(scale * z + shift + residual)`.

use resnet_simd::{Element, Isa, Simd};

use crate::kernel::Source;
use crate::kernel::lane::At;
use crate::kernel::map::{Map, map_rows};
use crate::threads::ThreadPool;

/// A factor and an offset for each channel; slices are `[c]`.
#[derive(Clone, Copy, Debug)]
pub struct Affine<'a> {
    /// Factors.
    pub scale: &'a [f32],
    /// Offsets.
    pub shift: &'a [f32],
}

/// What joins the normalised tensor before the activation.
#[derive(Clone, Copy, Debug)]
pub enum Join<'a, E = f32> {
    /// Nothing.
    Nothing,
    /// A residual as it is.
    Plain(&'a [E]),
    /// A residual that is itself a batch norm's input: a projection shortcut.
    Normed(&'a [E], Affine<'a>),
}

/// What is applied last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(x, 0)`; NaN stays NaN.
    Relu,
}

impl Affine<'_> {
    #[track_caller]
    pub(super) fn assert_channels(self, channels: usize) {
        assert_eq!((self.scale.len(), self.shift.len()), (channels, channels));
    }

    /// `x * scale + shift`, both rounded.
    #[inline(always)]
    pub(super) fn scalar(self, x: f32, j: usize) -> f32 {
        x * self.scale[j] + self.shift[j]
    }

    #[inline(always)]
    pub(super) fn lanes<S: Simd>(self, s: S, x: S::F32, at: At) -> S::F32 {
        s.add(s.mul(x, at.channels(s, self.scale)), at.channels(s, self.shift))
    }
}

/// The kernel; `RELU` and the form of the residual are fixed before the loop.
struct Apply<'a, R, E, const RELU: bool> {
    z: Source<'a, E>,
    affine: Affine<'a>,
    residual: R,
}

/// A residual in one of its forms.
trait Residual: Sync {
    fn scalar(&self, y: f32, i: usize, j: usize) -> f32;
    fn lanes<S: Simd>(&self, s: S, y: S::F32, at: At) -> S::F32;
}

struct Nothing;
struct Plain<'a, E>(&'a [E]);
struct Normed<'a, E>(&'a [E], Affine<'a>);

impl Residual for Nothing {
    fn scalar(&self, y: f32, _i: usize, _j: usize) -> f32 {
        y
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, _s: S, y: S::F32, _at: At) -> S::F32 {
        y
    }
}

impl<E: Element> Residual for Plain<'_, E> {
    fn scalar(&self, y: f32, i: usize, _j: usize) -> f32 {
        y + self.0[i].to_f32()
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, y: S::F32, at: At) -> S::F32 {
        s.add(y, at.load(s, self.0))
    }
}

impl<E: Element> Residual for Normed<'_, E> {
    fn scalar(&self, y: f32, i: usize, j: usize) -> f32 {
        y + self.1.scalar(self.0[i].to_f32(), j)
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, y: S::F32, at: At) -> S::F32 {
        s.add(y, self.1.lanes(s, at.load(s, self.0), at))
    }
}

impl<R: Residual, E: Element, const RELU: bool> Map for Apply<'_, R, E, RELU> {
    fn scalar(&self, old: f32, i: usize, j: usize) -> f32 {
        let y = self.affine.scalar(self.z.scalar(old, i), j);
        let y = self.residual.scalar(y, i, j);
        if RELU && y < 0.0 { 0.0 } else { y }
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        let y = self.affine.lanes(s, self.z.lanes(s, old, at), at);
        let y = self.residual.lanes(s, y, at);
        // In this order a NaN in `y` comes through.
        if RELU { s.max(s.splat(0.0), y) } else { y }
    }
}

/// `y = act(scale * z + shift + residual)` over rows of `affine.scale.len()` channels.
///
/// # Panics
/// If a tensor's length differs from `y`'s, or a channel vector's from the number of channels.
pub fn apply<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    (z, affine): (Source<'_, E>, Affine<'_>),
    join: Join<'_, E>,
    activation: Activation,
    y: &mut [E],
) {
    let channels = affine.scale.len();
    z.assert_len(y.len());
    affine.assert_channels(channels);
    match join {
        Join::Nothing => with(isa, pool, (z, affine), Nothing, activation, y),
        Join::Plain(r) => {
            assert_eq!(r.len(), y.len());
            with(isa, pool, (z, affine), Plain(r), activation, y);
        }
        Join::Normed(r, by) => {
            assert_eq!(r.len(), y.len());
            by.assert_channels(channels);
            with(isa, pool, (z, affine), Normed(r, by), activation, y);
        }
    }
}

fn with<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    (z, affine): (Source<'_, E>, Affine<'_>),
    residual: impl Residual,
    activation: Activation,
    y: &mut [E],
) {
    let channels = affine.scale.len();
    match activation {
        Activation::Identity => {
            map_rows(isa, pool, channels, y, Apply::<_, E, false> { z, affine, residual });
        }
        Activation::Relu => {
            map_rows(isa, pool, channels, y, Apply::<_, E, true> { z, affine, residual });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::testing::{check_map, odd_rows, random, special};

    fn check(residual: impl Fn(usize) -> Join<'static>, activation: Activation) {
        for rows in odd_rows() {
            let c = rows.channels;
            let (scale, shift) = (random(1, c), random(2, c));
            let affine = Affine { scale: &scale, shift: &shift };
            let z = special(3, rows.len());
            let join = residual(rows.len());
            let by = random(5, c);
            let join = match join {
                Join::Normed(r, _) => Join::Normed(r, Affine { scale: &by, shift: &shift }),
                other => other,
            };
            let twin = |old: f32, i: usize, j: usize, z: Source<'_>| {
                let y = affine.scalar(z.scalar(old, i), j);
                let y = match join {
                    Join::Nothing => y,
                    Join::Plain(r) => Plain(r).scalar(y, i, j),
                    Join::Normed(r, by) => Normed(r, by).scalar(y, i, j),
                };
                if activation == Activation::Relu && y < 0.0 { 0.0 } else { y }
            };
            check_map(
                c,
                &vec![7.0; rows.len()],
                |old, i, j| twin(old, i, j, Source::From(&z)),
                |isa, pool, y| {
                    apply(isa, pool, (Source::From(&z), affine), join, activation, y);
                },
            );
            check_map(
                c,
                &z,
                |old, i, j| twin(old, i, j, Source::InPlace),
                |isa, pool, y| apply(isa, pool, (Source::InPlace, affine), join, activation, y),
            );
        }
    }

    /// A residual that lives as long as the test.
    fn leaked(len: usize) -> &'static [f32] {
        Box::leak(special(4, len).into_boxed_slice())
    }

    const NO_AFFINE: Affine<'static> = Affine { scale: &[], shift: &[] };

    #[test]
    fn without_a_residual_it_equals_the_twin() {
        check(|_| Join::Nothing, Activation::Identity);
        check(|_| Join::Nothing, Activation::Relu);
    }

    #[test]
    fn with_a_plain_residual_it_equals_the_twin() {
        check(|len| Join::Plain(leaked(len)), Activation::Identity);
        check(|len| Join::Plain(leaked(len)), Activation::Relu);
    }

    #[test]
    fn with_a_normed_residual_it_equals_the_twin() {
        check(|len| Join::Normed(leaked(len), NO_AFFINE), Activation::Identity);
        check(|len| Join::Normed(leaked(len), NO_AFFINE), Activation::Relu);
    }
}
