//! The driver of elementwise kernels: cuts, dispatches, walks rows and their tails.
//!
//! A kernel is a struct of its inputs with two methods, its scalar twin and its vector form; both
//! tell the output at one place from the inputs there.

use resnet_simd::{Element, Isa, Kernel, Simd};

use super::lane::{self, At};
use crate::threads::ThreadPool;

/// Elements a task works on, 64 KiB of output: some microseconds.
pub(super) const PART: usize = 16 * 1024;

/// An elementwise kernel.
pub(super) trait Map: Sync {
    /// The output at element `i`, channel `j`, where it holds `old`. The definition.
    fn scalar(&self, old: f32, i: usize, j: usize) -> f32;

    /// The same for the lanes at `at`; lanes out of use may be anything.
    fn lanes<S: Simd>(&self, s: S, old: S::F32, at: At) -> S::F32;
}

/// Fills `y`, rows of `channels`, from `kernel`.
///
/// # Panics
/// If `y` does not consist of whole rows.
pub(super) fn map_rows<E: Element>(
    isa: Isa,
    pool: &ThreadPool,
    channels: usize,
    y: &mut [E],
    kernel: impl Map,
) {
    assert!(y.len().is_multiple_of(channels.max(1)), "whole rows of {channels}");
    let part_len = (PART / channels.max(1)).max(1) * channels;
    pool.run_parts(y, part_len, |part, y| {
        map_part(isa, part * part_len, channels, y, &kernel);
    });
}

/// Fills `y` from a `kernel` that does not look at channels.
pub(super) fn map_flat<E: Element>(isa: Isa, pool: &ThreadPool, y: &mut [E], kernel: impl Map) {
    pool.run_parts(y, PART, |part, y| map_part(isa, part * PART, y.len(), y, &kernel));
}

/// Fills `y`, pictures of `pixels` rows of `channels`, each from the kernel for its number.
///
/// # Panics
/// If `y` does not consist of whole pictures.
pub(super) fn map_pictures<E: Element, M: Map>(
    isa: Isa,
    pool: &ThreadPool,
    (pixels, channels): (usize, usize),
    y: &mut [E],
    kernel: impl Fn(usize) -> M + Sync,
) {
    let picture_len = pixels * channels;
    let part_len = (PART / channels.max(1)).max(1) * channels;
    pool.run_row_blocks(y, (picture_len, part_len), |picture, start, y| {
        map_part(isa, picture * picture_len + start, channels, y, &kernel(picture));
    });
}

/// `first` is the index of `y[0]` in the whole output.
fn map_part<E: Element>(isa: Isa, first: usize, channels: usize, y: &mut [E], kernel: &impl Map) {
    match isa {
        Isa::Portable => map_scalar(first, channels, y, kernel),
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(_) | Isa::Avx512(_) => isa.run(MapRows { first, channels, y, kernel }),
    }
}

/// The twin, and the portable version.
fn map_scalar<E: Element>(first: usize, channels: usize, y: &mut [E], kernel: &impl Map) {
    for (row, y) in y.chunks_exact_mut(channels).enumerate() {
        for (j, y) in y.iter_mut().enumerate() {
            *y = E::from_f32(kernel.scalar(y.to_f32(), first + row * channels + j, j));
        }
    }
}

struct MapRows<'a, M, E> {
    first: usize,
    channels: usize,
    y: &'a mut [E],
    kernel: &'a M,
}

impl<M: Map, E: Element> Kernel for MapRows<'_, M, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let MapRows { first, channels, y, kernel } = self;
        let full = channels / S::LANES * S::LANES;
        for (row, y) in y.chunks_exact_mut(channels).enumerate() {
            let start = first + row * channels;
            let mut j = 0;
            while j < full {
                let old = E::load(s, &y[j..j + S::LANES]);
                let at = At { i: start + j, j, n: S::LANES };
                E::store(s, kernel.lanes(s, old, at), &mut y[j..j + S::LANES]);
                j += S::LANES;
            }
            if full < channels {
                let n = channels - full;
                let old = lane::load(s, y, full, n);
                let at = At { i: start + full, j: full, n };
                lane::store(s, kernel.lanes(s, old, at), y, full, n);
            }
        }
    }
}
