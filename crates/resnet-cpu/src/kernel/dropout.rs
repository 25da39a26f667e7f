//! Random masks: dropout's, one number an element, and stochastic depth's, one a picture.
//!
//! Element `i` (or picture `i`) takes word `i % 4` of
//! `philox4x32([i / 4, step, stream, 0], stream_key(seed, purpose))`; it is dropped where the word is
//! below [`drop_threshold`]. So the bits depend on nothing but seed, step and place.

use resnet_core::rng::{Purpose, drop_threshold, philox4x32, stream_key};

use super::map::PART;
use crate::threads::ThreadPool;

/// Where a mask comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dropping {
    /// Dropout or stochastic depth.
    pub purpose: Purpose,
    /// The run's seed.
    pub seed: u64,
    /// The step's number.
    pub step: u32,
    /// The node's number among the network's droppers.
    pub stream: u32,
    /// Probability of dropping.
    pub p: f64,
}

/// Fills `mask` with 0 (dropped) and `1 / (1 - p)` (kept).
pub fn drop_mask(pool: &ThreadPool, drop: Dropping, mask: &mut [f32]) {
    let key = stream_key(drop.seed, drop.purpose);
    let (threshold, kept) = (drop_threshold(drop.p), (1.0 / (1.0 - drop.p)) as f32);
    // A part is a multiple of the four words that a counter gives.
    pool.run_parts(mask, PART, |part, mask| {
        for (block, mask) in mask.chunks_mut(4).enumerate() {
            let counter = [(part * PART / 4 + block) as u32, drop.step, drop.stream, 0];
            for (mask, word) in mask.iter_mut().zip(philox4x32(counter, key)) {
                *mask = if word < threshold { 0.0 } else { kept };
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use resnet_core::rng::Stream;

    use super::*;
    use crate::kernel::testing::{for_machines, guarded};

    const DROP: Dropping =
        Dropping { purpose: Purpose::Dropout, seed: 1 << 40 | 7, step: 5, stream: 3, p: 0.3 };

    #[test]
    fn the_mask_is_the_streams_words_in_order() {
        for len in [0, 1, 3, 4, 5, PART + 6] {
            let mut words = Stream::new(DROP.seed, DROP.purpose, DROP.step, DROP.stream.into());
            let kept = (1.0 / 0.7) as f32;
            let expected: Vec<f32> = (0..len)
                .map(|_| if words.next_u32() < drop_threshold(0.3) { 0.0 } else { kept })
                .collect();
            for_machines(|_, pool| {
                let found = guarded(&vec![5.0; len], 3.0, |mask| drop_mask(pool, DROP, mask));
                assert_eq!(found, expected);
            });
        }
    }

    #[test]
    fn the_share_of_dropped_elements_is_p() {
        let pool = ThreadPool::new(2);
        for p in [0.0, 0.2, 0.5, 0.9] {
            let mut mask = vec![0.0; 100_000];
            drop_mask(&pool, Dropping { p, ..DROP }, &mut mask);
            let share = mask.iter().filter(|&&m| m == 0.0).count() as f64 / 1e5;
            // Six standard errors.
            assert!((share - p).abs() < 6.0 * (p * (1.0 - p) / 1e5).sqrt() + 1e-12);
        }
    }
}
