//! What the kernels' tests share: inputs, every instruction set and number of threads, canaries.

use std::sync::LazyLock;

use resnet_core::op::Pool2d;
use resnet_core::rng::{Purpose, Stream};
use resnet_simd::Isa;

use super::Rows;
use super::window::Windows;
use crate::threads::ThreadPool;

static POOLS: LazyLock<[ThreadPool; 4]> = LazyLock::new(|| [1, 2, 3, 7].map(ThreadPool::new));

/// Calls `f` for every instruction set of this CPU with 1, 2, 3 and 7 threads.
pub(super) fn for_machines(mut f: impl FnMut(Isa, &ThreadPool)) {
    for isa in Isa::available() {
        POOLS.iter().for_each(|pool| f(isa, pool));
    }
}

/// Normal numbers.
pub(super) fn random(seed: u64, len: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, Purpose::Test, 0, len as u64);
    (0..len).map(|_| stream.normal() as f32).collect()
}

/// Normal numbers with every kind of special value among them.
pub(super) fn special(seed: u64, len: usize) -> Vec<f32> {
    const SPECIALS: [f32; 8] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40, f32::MAX, f32::MIN];
    let mut x = random(seed, len);
    for (k, x) in x.iter_mut().step_by(5).enumerate() {
        *x = SPECIALS[k % SPECIALS.len()];
    }
    x
}

/// Shapes with every tail of every vector width, and some that several tasks share.
pub(super) fn odd_rows() -> Vec<Rows> {
    let narrow = (1..=49).map(|channels| Rows { rows: 5, channels, chunk_rows: 2 });
    let wide = [(1100, 16, 84), (400, 100, 84), (3000, 7, 500), (2, 20_000, 1), (700, 64, 700)];
    let wide = wide.map(|(rows, channels, chunk_rows)| Rows { rows, channels, chunk_rows });
    narrow.chain(wide).collect()
}

/// The same bits, or NaN on both sides.
pub(super) fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Both slices hold the same bits.
#[track_caller]
pub(super) fn assert_same(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        assert!(same(found, expected), "element {i}: {found}, expected {expected}");
    }
}

/// Runs `f` on a copy of `start` between canaries, and returns what it made of it.
#[track_caller]
pub(super) fn guarded<T: Copy + PartialEq>(
    start: &[T],
    canary: T,
    f: impl FnOnce(&mut [T]),
) -> Vec<T> {
    /// More than a vector, and odd, so that the start is misaligned.
    const MARGIN: usize = 19;
    let margin = [canary; MARGIN];
    let mut buffer = [&margin[..], start, &margin[..]].concat();
    let end = MARGIN + start.len();
    f(&mut buffer[MARGIN..end]);
    let intact = buffer[..MARGIN].iter().chain(&buffer[end..]).all(|&x| x == canary);
    assert!(intact, "a kernel wrote outside its output");
    buffer[MARGIN..end].to_vec()
}

/// An elementwise kernel equals its twin `(old, i, j) -> new` on rows of `channels`.
#[track_caller]
pub(super) fn check_map(
    channels: usize,
    start: &[f32],
    twin: impl Fn(f32, usize, usize) -> f32,
    run: impl Fn(Isa, &ThreadPool, &mut [f32]),
) {
    let expected: Vec<f32> =
        start.iter().enumerate().map(|(i, &old)| twin(old, i, i % channels)).collect();
    for_machines(|isa, pool| {
        let found = guarded(start, 12345.0, |y| run(isa, pool, y));
        assert_same(&found, &expected);
    });
}

/// What partial sums of `terms(i, j)` must be, to the bit: rows in their order, in `f32`.
pub(super) fn expected_sums<const K: usize>(
    rows: Rows,
    mut terms: impl FnMut(usize, usize) -> [f32; K],
) -> Vec<f32> {
    let mut partials = vec![0.0; rows.partials_len(K)];
    for i in 0..rows.len() {
        let (row, j) = (i / rows.channels, i % rows.channels);
        for (k, term) in terms(i, j).into_iter().enumerate() {
            partials[(row / rows.chunk_rows * K + k) * rows.channels + j] += term;
        }
    }
    partials
}

/// `[n, pixels, channels]` with every tail, and one of more than a task.
pub(super) fn shapes() -> Vec<[usize; 3]> {
    let narrow = (1..=49).map(|c| [2, 3, c]);
    let wide = [[1, 1, 5], [3, 130, 17], [2, 700, 100], [1, 64, 200]];
    narrow.chain(wide).collect()
}

/// Pools of many geometries, with every tail of channels.
pub(super) fn pools() -> Vec<Windows> {
    let stem = Pool2d { kernel: 3, stride: 2, pad: 1, ceil: false };
    let half = Pool2d { kernel: 2, stride: 2, pad: 0, ceil: true };
    let odd = [
        (Pool2d { kernel: 3, stride: 1, pad: 1, ceil: false }, [1, 4, 5, 20]),
        (Pool2d { kernel: 2, stride: 3, pad: 1, ceil: true }, [2, 7, 5, 3]),
        (Pool2d { kernel: 5, stride: 2, pad: 2, ceil: true }, [1, 6, 6, 17]),
        (stem, [1, 1, 1, 16]),
    ];
    let tails = (1..=49).flat_map(|c| [(stem, [2, 5, 6, c]), (half, [1, 5, 3, c])]);
    let windows = |(pool, shape)| Windows::new(pool, shape).expect("some window");
    tails.chain(odd).map(windows).collect()
}
