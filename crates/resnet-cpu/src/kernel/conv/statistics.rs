//! Sums over pixels: the fixed tree that combines chunks, and the gradient of a bias.

use crate::threads::{DisjointMut, ThreadPool};

/// Channels that one task of the bias gradient sums.
const CHANNELS_PER_TASK: usize = 64;

/// The two totals of each channel from the chunks that an epilogue wrote, in `f64`:
/// for batch norm forward `(Σ (y − pivot), Σ (y − pivot)²)`.
///
/// `partials`: `[chunks][2][channels]`. The chunks are halved again and again, so that the order of
/// the sum is a function of their number alone.
///
/// # Panics
/// If `partials` is not a whole, positive number of chunks.
pub fn combine_statistics(partials: &[f32], channels: usize) -> (Vec<f64>, Vec<f64>) {
    let chunks = partials.len() / (2 * channels);
    assert!(0 < chunks && partials.len() == chunks * 2 * channels, "whole chunks of partial sums");
    let mut totals = vec![0.0; 2 * channels];
    add_chunks(partials, &mut totals);
    let squares = totals.split_off(channels);
    (totals, squares)
}

/// `totals += Σ chunks`, both halves of the chunks summed apart down to single chunks.
fn add_chunks(chunks: &[f32], totals: &mut [f64]) {
    /// Chunks that are added one after the other.
    const LEAF: usize = 8;
    let count = chunks.len() / totals.len();
    if count <= LEAF {
        for chunk in chunks.chunks_exact(totals.len()) {
            for (total, &x) in totals.iter_mut().zip(chunk) {
                *total += f64::from(x);
            }
        }
        return;
    }
    let (low, high) = chunks.split_at(count / 2 * totals.len());
    let mut half = vec![0.0; totals.len()];
    add_chunks(low, totals);
    add_chunks(high, &mut half);
    totals.iter_mut().zip(half).for_each(|(total, half)| *total += half);
}

/// `db[co] = Σ dy[pixel, co]`, in rows of pixels from first to last.
///
/// # Panics
/// If `dy` is not a whole number of pixels of `db`'s channels.
pub fn bias_gradient(pool: &ThreadPool, dy: &[f32], db: &mut [f32]) {
    let channels = db.len();
    assert!(dy.len().is_multiple_of(channels), "whole pixels");
    let out = DisjointMut::new(db);
    pool.run(channels.div_ceil(CHANNELS_PER_TASK), &|task| {
        let first = task * CHANNELS_PER_TASK;
        let range = first..(first + CHANNELS_PER_TASK).min(channels);
        // SAFETY: tasks have channels of their own.
        let sums = unsafe { out.slice(range.clone()) };
        sums.fill(0.0);
        for pixel in dy.chunks_exact(channels) {
            for (sum, &x) in sums.iter_mut().zip(&pixel[range.clone()]) {
                *sum += x;
            }
        }
    });
}
