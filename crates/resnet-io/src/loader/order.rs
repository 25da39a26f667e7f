//! Which samples make which batch: the order of an epoch, and how it is cut.

use std::ops::Range;

use resnet_core::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

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

/// Order, cut and share of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// How often each sample comes in training.
    pub sampling: Sampling,
    /// What becomes of a last batch that is not full, in training.
    pub last_batch: LastBatch,
    /// Which piece of each batch this process makes, from 0.
    pub rank: usize,
    /// How many processes share each batch.
    pub ranks: usize,
}

impl Default for Order {
    fn default() -> Order {
        Order { sampling: Sampling::Each, last_batch: LastBatch::Keep, rank: 0, ranks: 1 }
    }
}

/// How often each sample comes in an epoch of training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampling {
    /// Once.
    #[default]
    Each,
    /// As often as makes all classes equally frequent, in an epoch as long as the set: those of small classes come
    /// again and again, of large ones some do not come.
    Balanced,
}

/// What becomes of a last batch that is not full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LastBatch {
    /// It is a smaller batch; one of a single sample borrows another from the batch before it.
    #[default]
    Keep,
    /// It is left out. Its samples come in other epochs.
    Drop,
}

/// The order of the samples of these classes in an epoch of balanced training.
///
/// Every class has `n / classes` places, and which have one more changes with the epoch. A class fills its
/// places with one shuffle of its samples after another, so none comes twice before all have come.
pub fn balanced_order(labels: &[u32], classes: usize, seed: u64, epoch: u32) -> Vec<u32> {
    let mut by_class: Vec<Vec<u32>> = vec![Vec::new(); classes];
    for (index, &label) in in_order(labels.len()).iter().zip(labels) {
        by_class[label as usize].push(*index);
    }
    by_class.retain(|samples| !samples.is_empty());
    let mut stream = Stream::new(seed, Purpose::Shuffle, epoch, BALANCED);
    stream.shuffle(&mut by_class);
    let mut order = Vec::with_capacity(labels.len());
    let (places, more) = (labels.len() / by_class.len(), labels.len() % by_class.len());
    for (class, samples) in by_class.iter_mut().enumerate() {
        let mut left = places + usize::from(class < more);
        while 0 < left {
            stream.shuffle(samples);
            let taken = left.min(samples.len());
            order.extend_from_slice(&samples[..taken]);
            left -= taken;
        }
    }
    stream.shuffle(&mut order);
    order
}

/// The second counter of the stream that balances; 0 is that of the plain order.
const BALANCED: u64 = 1;

/// The number of batches in an epoch.
pub fn steps_per_epoch(samples: usize, batch_size: usize, last_batch: LastBatch) -> usize {
    match last_batch {
        LastBatch::Keep => samples.div_ceil(batch_size),
        LastBatch::Drop => samples / batch_size,
    }
}

/// The piece of a batch's samples that falls to one of several processes: together they make the batch
/// that one would.
pub(super) fn share(batch: Range<usize>, rank: usize, ranks: usize) -> Range<usize> {
    let cut = |rank: usize| batch.start + batch.len() * rank / ranks;
    cut(rank)..cut(rank + 1)
}

/// The piece of the order that makes batch `step`.
///
/// In training a last batch of one borrows a sample from the batch before it, so that the last two have B-1 and 2.
/// For B = 2, where the batch before would be left with one, both have the sample.
pub(super) fn batch_range(
    step: usize,
    samples: usize,
    batch_size: usize,
    (mode, last_batch): (Mode, LastBatch),
) -> Range<usize> {
    let (start, end) = (step * batch_size, ((step + 1) * batch_size).min(samples));
    let keeps = mode == Mode::Train && last_batch == LastBatch::Keep;
    let is_lone_last = keeps && samples % batch_size == 1 && samples != 1;
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
        let keep = LastBatch::Keep;
        let steps = 0..steps_per_epoch(samples, batch_size, keep);
        let range = |step| batch_range(step, samples, batch_size, (mode, keep));
        let ranges: Vec<_> = steps.map(range).collect();
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

    #[test]
    fn a_last_batch_may_be_left_out() {
        assert_eq!(steps_per_epoch(9, 4, LastBatch::Drop), 2);
        assert_eq!(batch_range(1, 9, 4, (Mode::Train, LastBatch::Drop)), 4..8);
    }

    #[test]
    fn shares_of_a_batch_are_the_batch() {
        for (batch, ranks) in [(10..18, 2), (0..7, 3), (5..6, 4), (0..256, 8)] {
            let shares: Vec<_> = (0..ranks).map(|r| share(batch.clone(), r, ranks)).collect();
            let joined: Vec<usize> = shares.iter().cloned().flatten().collect();
            assert_eq!(joined, batch.clone().collect::<Vec<_>>());
            let sizes = shares.iter().map(|share| share.len());
            let (least, most) = (sizes.clone().min(), sizes.max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{shares:?}");
        }
    }

    #[test]
    fn balanced_orders_have_all_classes_equally_often() {
        // 90 samples of class 0, 9 of class 1, none of class 2, 1 of class 3.
        let labels: Vec<u32> =
            (0..100).map(|i| [0, 1, 3][usize::from(i >= 90) + usize::from(i == 99)]).collect();
        let order = balanced_order(&labels, 4, 1, 0);
        assert_eq!(order.len(), 100);
        let count = |label| order.iter().filter(|&&i| labels[i as usize] == label).count();
        let mut counts = [count(0), count(1), count(3)];
        counts.sort_unstable();
        assert_eq!(counts, [33, 33, 34]);
        // No sample of class 1 comes a fifth time before all have come three times.
        let times = |sample: u32| order.iter().filter(|&&other| other == sample).count();
        assert!((90..99).all(|sample| (3..=4).contains(&times(sample))));
        assert!((0..90).all(|sample| times(sample) <= 1));
        assert_eq!(order, balanced_order(&labels, 4, 1, 0));
        assert_ne!(order, balanced_order(&labels, 4, 1, 1));
    }
}
