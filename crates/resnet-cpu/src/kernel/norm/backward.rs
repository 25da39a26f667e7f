//! Batch norm's gradients: masked sums, their finish, and `dz = a * g + b * (z - mean) + c`.
//!
//! `g` is the gradient by the norm's output: `dy`, masked by the ReLU that follows, if one does. The
//! mask comes from the activation `y` where it was stored, else from `scale * z + shift`, rounded as
//! [`apply`](super::apply) rounds it, so that both are the same bits. NaN masks as "off".

use resnet_simd::{Element, Isa, Simd};

use super::Affine;
use crate::kernel::Source;
use crate::kernel::lane::At;
use crate::kernel::map::{Map, map_rows};
use crate::kernel::sums::{MapTerms, Rows, Terms, combine, map_sum_rows, sum_rows};
use crate::threads::ThreadPool;

/// Where the gradient passes.
#[derive(Clone, Copy, Debug)]
pub enum Mask<'a, E = f32> {
    /// Everywhere.
    Open,
    /// Where this tensor, the ReLU's output, is above 0.
    Output(&'a [E]),
    /// Where `scale * z + shift` is above 0.
    Affine(Affine<'a>),
}

impl<E: Element> Mask<'_, E> {
    #[track_caller]
    fn assert_fits(self, len: usize, channels: usize) {
        match self {
            Mask::Open => {}
            Mask::Output(y) => assert_eq!(y.len(), len),
            Mask::Affine(affine) => affine.assert_channels(channels),
        }
    }

    fn scalar(self, dy: f32, z: f32, i: usize, j: usize) -> f32 {
        let open = match self {
            Mask::Open => return dy,
            Mask::Output(y) => y[i].to_f32(),
            Mask::Affine(affine) => affine.scalar(z, j),
        };
        if open > 0.0 { dy } else { 0.0 }
    }

    /// The match stays in the loop, which waits for memory anyway.
    #[inline(always)]
    fn lanes<S: Simd>(self, s: S, dy: S::F32, z: S::F32, at: At) -> S::F32 {
        let zero = s.splat(0.0);
        match self {
            Mask::Open => dy,
            Mask::Output(y) => s.select_gt(at.load(s, y), zero, dy, zero),
            Mask::Affine(affine) => s.select_gt(affine.lanes(s, z, at), zero, dy, zero),
        }
    }
}

/// A batch norm's input and the mean that its gradient is centred on.
#[derive(Clone, Copy, Debug)]
pub struct Centred<'a, E = f32> {
    /// Input of the norm, `[rows][c]`.
    pub z: &'a [E],
    /// Its mean, `[c]`.
    pub mean: &'a [f32],
}

impl<E: Element> Centred<'_, E> {
    #[track_caller]
    fn assert_fits(self, len: usize, channels: usize) {
        assert_eq!((self.z.len(), self.mean.len()), (len, channels));
    }
}

/// The terms `g` and `g * (z - mean)`.
struct GradTerms<'a, E> {
    dy: &'a [E],
    mask: Mask<'a, E>,
    input: Centred<'a, E>,
}

impl<E: Element> Terms<2> for GradTerms<'_, E> {
    fn scalar(&self, i: usize, j: usize) -> [f32; 2] {
        let z = self.input.z[i].to_f32();
        let g = self.mask.scalar(self.dy[i].to_f32(), z, i, j);
        [g, g * (z - self.input.mean[j])]
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, at: At) -> [S::F32; 2] {
        let z = at.load(s, self.input.z);
        let g = self.mask.lanes(s, at.load(s, self.dy), z, at);
        [g, s.mul(g, s.sub(z, at.channels(s, self.input.mean)))]
    }
}

/// Sums of `g` and of `g * (z - mean)` over chunks of rows: `partials` is `[chunks][2][channels]`.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn grad_sums<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    rows: Rows,
    (dy, mask): (&[E], Mask<'_, E>),
    input: Centred<'_, E>,
    partials: &mut [f32],
) {
    assert_eq!(dy.len(), rows.len());
    mask.assert_fits(rows.len(), rows.channels);
    input.assert_fits(rows.len(), rows.channels);
    sum_rows(isa, pool, rows, partials, GradTerms { dy, mask, input });
}

/// As [`GradTerms`], leaving `g` where `dy` was.
struct MaskTerms<'a, E> {
    mask: Mask<'a, E>,
    input: Centred<'a, E>,
}

impl<E: Element> MapTerms<2> for MaskTerms<'_, E> {
    fn scalar(&self, old: f32, i: usize, j: usize) -> (f32, [f32; 2]) {
        let z = self.input.z[i].to_f32();
        let g = self.mask.scalar(old, z, i, j);
        (g, [g, g * (z - self.input.mean[j])])
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> (S::F32, [S::F32; 2]) {
        let z = at.load(s, self.input.z);
        let g = self.mask.lanes(s, old, z, at);
        (g, [g, s.mul(g, s.sub(z, at.channels(s, self.input.mean)))])
    }
}

/// As [`grad_sums`], and leaves `g` in place of `dy`: at a residual join, where the shortcut needs
/// `g` too.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn grad_mask_sums<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    rows: Rows,
    (dy, mask): (&mut [E], Mask<'_, E>),
    input: Centred<'_, E>,
    partials: &mut [f32],
) {
    mask.assert_fits(rows.len(), rows.channels);
    input.assert_fits(rows.len(), rows.channels);
    map_sum_rows(isa, pool, rows, dy, partials, MaskTerms { mask, input });
}

/// The terms of two batch norms that share `g`.
struct PairTerms<'a, E> {
    mask: Mask<'a, E>,
    inputs: [Centred<'a, E>; 2],
}

impl<E: Element> MapTerms<3> for PairTerms<'_, E> {
    fn scalar(&self, old: f32, i: usize, j: usize) -> (f32, [f32; 3]) {
        let g = self.mask.scalar(old, self.inputs[0].z[i].to_f32(), i, j);
        let [first, second] = self.inputs.map(|input| g * (input.z[i].to_f32() - input.mean[j]));
        (g, [g, first, second])
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> (S::F32, [S::F32; 3]) {
        let [first, second] = &self.inputs;
        let (za, zb) = (at.load(s, first.z), at.load(s, second.z));
        let g = self.mask.lanes(s, old, za, at);
        let a = s.mul(g, s.sub(za, at.channels(s, first.mean)));
        let b = s.mul(g, s.sub(zb, at.channels(s, second.mean)));
        (g, [g, a, b])
    }
}

/// As [`grad_mask_sums`] for a join of two batch norms (a projection shortcut): `partials` is
/// `[chunks][3][channels]`, the sums of `g`, `g * (z0 - mean0)` and `g * (z1 - mean1)`.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn grad_mask_sums_pair<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    rows: Rows,
    (dy, mask): (&mut [E], Mask<'_, E>),
    inputs: [Centred<'_, E>; 2],
    partials: &mut [f32],
) {
    mask.assert_fits(rows.len(), rows.channels);
    inputs.iter().for_each(|input| input.assert_fits(rows.len(), rows.channels));
    map_sum_rows(isa, pool, rows, dy, partials, PairTerms { mask, inputs });
}

/// Which of the sums in a set of partial sums belong to a batch norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sums {
    /// The only one: `[chunks][2][channels]`.
    Only,
    /// The first of a pair: `[chunks][3][channels]`.
    First,
    /// The second of a pair.
    Second,
}

impl Sums {
    fn layout(self) -> (usize, [usize; 2]) {
        match self {
            Sums::Only => (2, [0, 1]),
            Sums::First => (3, [0, 1]),
            Sums::Second => (3, [0, 2]),
        }
    }
}

/// What [`grad_finish`] leaves; slices are `[c]`.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// Gradient by `gamma`.
    pub dgamma: &'a mut [f32],
    /// Gradient by `beta`.
    pub dbeta: &'a mut [f32],
    /// Factor of `g`.
    pub a: &'a mut [f32],
    /// Factor of `z - mean`.
    pub b: &'a mut [f32],
    /// Offset.
    pub c: &'a mut [f32],
}

/// From the partial sums over `m` values a channel to the parameters' gradients and the coefficients of
/// `dz = a * g + b * (z - mean) + c`.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn grad_finish(
    m: usize,
    (partials, which): (&[f32], Sums),
    (gamma, rstd): (&[f32], &[f32]),
    out: Gradients<'_>,
) {
    let m = m as f64;
    combine(gamma.len(), partials, which.layout(), |j, [sum, product]| {
        let rstd = f64::from(rstd[j]);
        let a = f64::from(gamma[j]) * rstd;
        out.dbeta[j] = sum as f32;
        out.dgamma[j] = (product * rstd) as f32;
        out.a[j] = a as f32;
        out.b[j] = (-a * rstd * rstd * product / m) as f32;
        out.c[j] = (-a * sum / m) as f32;
    });
}

/// As [`grad_finish`] for a batch norm in evaluation, whose statistics are constants: the sums are
/// centred on the running mean, `rstd` is the running one, and `dz = a * g`.
///
/// # Panics
/// If a slice does not have the length that `rows` says.
pub fn grad_finish_frozen(
    (partials, which): (&[f32], Sums),
    (gamma, rstd): (&[f32], &[f32]),
    out: Gradients<'_>,
) {
    combine(gamma.len(), partials, which.layout(), |j, [sum, product]| {
        let rstd = f64::from(rstd[j]);
        out.dbeta[j] = sum as f32;
        out.dgamma[j] = (product * rstd) as f32;
        out.a[j] = (f64::from(gamma[j]) * rstd) as f32;
        out.b[j] = 0.0;
        out.c[j] = 0.0;
    });
}

/// The coefficients of [`grad_finish`]; slices are `[c]`.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients<'a> {
    /// Factor of `g`.
    pub a: &'a [f32],
    /// Factor of `z - mean`.
    pub b: &'a [f32],
    /// Offset.
    pub c: &'a [f32],
}

/// The gradient by a norm's input, to be computed where it is needed instead of being stored:
/// [`grad_apply`] without a mask.
#[derive(Clone, Copy, Debug)]
pub struct InputGradient<'a, E = f32> {
    /// Gradient by the norm's output, `[rows][c]`.
    pub g: &'a [E],
    /// The norm's input.
    pub input: Centred<'a, E>,
    /// What both are multiplied with.
    pub by: Coefficients<'a>,
}

impl<E: Element> InputGradient<'_, E> {
    /// # Panics
    /// If a slice does not have so many elements or channels.
    #[track_caller]
    pub(in crate::kernel) fn assert_fits(&self, len: usize, channels: usize) {
        assert_eq!((self.g.len(), self.by.a.len()), (len, channels));
        assert_eq!((self.by.b.len(), self.by.c.len()), (channels, channels));
        self.input.assert_fits(len, channels);
    }

    /// The gradient at a place, not rounded to what is stored.
    #[inline(always)]
    pub(in crate::kernel) fn lanes<S: Simd>(&self, s: S, at: At) -> S::F32 {
        let InputGradient { g, input, by } = *self;
        let zero = s.splat(0.0);
        GradApply { dy: Source::From(g), mask: Mask::Open, input, by }.lanes(s, zero, at)
    }
}

struct GradApply<'a, E> {
    dy: Source<'a, E>,
    mask: Mask<'a, E>,
    input: Centred<'a, E>,
    by: Coefficients<'a>,
}

impl<E: Element> Map for GradApply<'_, E> {
    fn scalar(&self, old: f32, i: usize, j: usize) -> f32 {
        let z = self.input.z[i].to_f32();
        let g = self.mask.scalar(self.dy.scalar(old, i), z, i, j);
        self.by.a[j] * g + (self.by.b[j] * (z - self.input.mean[j]) + self.by.c[j])
    }

    #[inline(always)]
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32 {
        let z = at.load(s, self.input.z);
        let g = self.mask.lanes(s, self.dy.lanes(s, old, at), z, at);
        let d = s.sub(z, at.channels(s, self.input.mean));
        let rest = s.add(s.mul(at.channels(s, self.by.b), d), at.channels(s, self.by.c));
        s.add(s.mul(at.channels(s, self.by.a), g), rest)
    }
}

/// `dz = a * g + b * (z - mean) + c`, `g` being `dy` (or what `dz` holds) under the mask.
///
/// # Panics
/// If a slice's length does not fit `dz` and the number of channels.
pub fn grad_apply<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    (dy, mask): (Source<'_, E>, Mask<'_, E>),
    input: Centred<'_, E>,
    by: Coefficients<'_>,
    dz: &mut [E],
) {
    let channels = by.a.len();
    assert_eq!((by.b.len(), by.c.len()), (channels, channels));
    dy.assert_len(dz.len());
    mask.assert_fits(dz.len(), channels);
    input.assert_fits(dz.len(), channels);
    map_rows(isa, pool, channels, dz, GradApply { dy, mask, input, by });
}

#[cfg(test)]
mod tests;
