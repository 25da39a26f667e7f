//! Equal and nearly equal pictures.

use std::collections::HashMap;

use super::measure::Good;

/// The most bits in which the shapes of nearly equal pictures differ.
const SHAPE_BITS: u32 = 3;
/// The largest mean difference of their thumbnails' values, in grey levels.
const MEAN_LEVELS: u32 = 3;
/// A shape says something of a picture if as many of its 64 bits, at least, are set and are not.
const TELLING_BITS: u32 = 8;
/// Pictures that share a quarter of their shapes' bits and are compared, at most: what is larger is a
/// common background, not a picture that was copied.
const MAX_BUCKET: usize = 1000;

/// For each picture the first one before it with the same bytes.
pub(super) fn equal(pictures: &[(usize, &Good)]) -> HashMap<usize, usize> {
    let mut first = HashMap::new();
    let mut twins = HashMap::new();
    for &(index, good) in pictures {
        let before = *first.entry(good.content).or_insert(index);
        if before != index {
            twins.insert(index, before);
        }
    }
    twins
}

/// Pairs of pictures (earlier, later) that look nearly equal and have other bytes.
///
/// Two shapes that differ in three bits share one of their four quarters, so only pictures with an equal
/// quarter are compared.
pub(super) fn near(pictures: &[(usize, &Good)]) -> Vec<(usize, usize)> {
    let mut buckets: HashMap<(u32, u16), Vec<usize>> = HashMap::new();
    let mut pairs = Vec::new();
    for (position, (_, good)) in pictures.iter().enumerate() {
        let ones = good.shape.count_ones();
        if !(TELLING_BITS..=64 - TELLING_BITS).contains(&ones) {
            continue;
        }
        let mut found = None;
        for quarter in 0..4 {
            let key = (quarter, (good.shape >> (16 * quarter)) as u16);
            let bucket = buckets.entry(key).or_default();
            let like = bucket.iter().copied().find(|&other| is_near(pictures[other].1, good));
            found = [found, like].into_iter().flatten().min();
            if bucket.len() < MAX_BUCKET {
                bucket.push(position);
            }
        }
        if let Some(other) = found {
            pairs.push((pictures[other].0, pictures[position].0));
        }
    }
    pairs
}

fn is_near(a: &Good, b: &Good) -> bool {
    if a.content == b.content || SHAPE_BITS < (a.shape ^ b.shape).count_ones() {
        return false;
    }
    let difference = |(&a, &b): (&u8, &u8)| u32::from(a.abs_diff(b));
    let total: u32 = a.thumbnail.iter().zip(&b.thumbnail).map(difference).sum();
    total <= MEAN_LEVELS * a.thumbnail.len() as u32
}
