//! Which samples make which batch: the order of an epoch, and how it is cut.

use std::ops::Range;

use resnet_core::rng::{Purpose, Stream};

use super::Mode;

/// The order of the samples in an epoch of training: Fisher and Yates on (seed, epoch).
///
/// With repeats the first of them stand that often each, one after the other, as many in all as there are samples
/// (torchvision's `RASampler` on one device).
pub fn epoch_order(samples: usize, seed: u64, epoch: u32, repeats: u32) -> Vec<u32> {
    let mut order: Vec<u32> = in_order(samples);
    Stream::new(seed, Purpose::Shuffle, epoch, 0).shuffle(&mut order);
    if 1 < repeats {
        let repeated = order.iter().flat_map(|&s| std::iter::repeat_n(s, repeats as usize));
        order = repeated.take(samples).collect();
    }
    order
}

/// The samples one after another, as evaluation takes them.
pub(super) fn in_order(samples: usize) -> Vec<u32> {
    (0..u32::try_from(samples).expect("fewer than 2^32 samples")).collect()
}

/// The number of batches in an epoch: nothing is dropped.
pub fn steps_per_epoch(samples: usize, batch_size: usize) -> usize {
    samples.div_ceil(batch_size)
}

/// The piece of the order that makes batch `step`.
///
/// In training a last batch of one borrows a sample from the batch before it, so that the last two have B-1 and 2.
/// For B = 2, where the batch before would be left with one, both have the sample.
pub(super) fn batch_range(
    step: usize,
    samples: usize,
    batch_size: usize,
    mode: Mode,
) -> Range<usize> {
    let (start, end) = (step * batch_size, ((step + 1) * batch_size).min(samples));
    let is_lone_last = mode == Mode::Train && samples % batch_size == 1 && samples != 1;
    if is_lone_last && end == samples {
        samples - 2..samples
    } else if is_lone_last && end == samples - 1 && batch_size != 2 {
        start..end - 1
    } else {
        start..end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(samples: usize, batch_size: usize, mode: Mode, expected: &[Range<usize>]) {
        let steps = 0..steps_per_epoch(samples, batch_size);
        let ranges: Vec<_> = steps.map(|s| batch_range(s, samples, batch_size, mode)).collect();
        assert_eq!(ranges, expected);
    }

    #[test]
    fn a_last_batch_of_one_borrows_a_sample_in_training() {
        check(9, 4, Mode::Train, &[0..4, 4..7, 7..9]);
        check(5, 4, Mode::Train, &[0..3, 3..5]);
        check(9, 4, Mode::Eval, &[0..4, 4..8, 8..9]);
    }

    #[test]
    fn other_remainders_stay_as_they_are() {
        check(8, 4, Mode::Train, &[0..4, 4..8]);
        check(10, 4, Mode::Train, &[0..4, 4..8, 8..10]);
        check(3, 2, Mode::Eval, &[0..2, 2..3]);
    }

    #[test]
    fn batches_of_two_share_a_sample_rather_than_leave_one_alone() {
        check(5, 2, Mode::Train, &[0..2, 2..4, 3..5]);
        check(3, 2, Mode::Train, &[0..2, 1..3]);
    }

    #[test]
    fn repeated_samples_take_the_place_of_others() {
        let plain = epoch_order(10, 1, 0, 1);
        let [a, b, c, d] = [plain[0], plain[1], plain[2], plain[3]];
        assert_eq!(epoch_order(10, 1, 0, 3), [a, a, a, b, b, b, c, c, c, d]);
    }

    #[test]
    fn orders_are_permutations_that_depend_on_seed_and_epoch() {
        let order = epoch_order(100, 1, 0, 1);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, in_order(100));
        assert_eq!(order, epoch_order(100, 1, 0, 1));
        assert_ne!(order, epoch_order(100, 1, 1, 1));
        assert_ne!(order, epoch_order(100, 2, 0, 1));
    }
}
