//! Convolutions on every instruction set of this CPU against the scalar twins.

use std::iter::once;

use resnet_cpu::kernel::Source;
use resnet_cpu::kernel::conv::*;
use resnet_cpu::threads::ThreadPool;
use resnet_simd::{AlignedVec, Isa, Stored};

/// Each value is a sum of `n` products; the bound is (4 + √n)·ε times the sum of their sizes, which
/// is what a chain of multiply-adds with random rounding needs.
pub(crate) fn tolerance(products: usize) -> f32 {
    (4.0 + (products as f32).sqrt()) * f32::EPSILON
}

/// What no kernel may overwrite.
const CANARY: f32 = -123.5;
const MARGIN: usize = 32;

/// Numbers in (-1, 1) from a multiplicative hash.
pub(crate) fn random(seed: u32, len: usize) -> Vec<f32> {
    let hash = |i: usize| {
        let mut h = (i as u32).wrapping_mul(0x9E37_79B1) ^ seed.wrapping_mul(0x85EB_CA77);
        h = (h ^ (h >> 15)).wrapping_mul(0x2C1B_3C6D);
        h = (h ^ (h >> 12)).wrapping_mul(0x297A_2D39);
        ((h ^ (h >> 15)) >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..len).map(hash).collect()
}

fn times(bound: Vec<f32>, factor: f64) -> Vec<f32> {
    bound.iter().map(|&b| (f64::from(b) * factor) as f32).collect()
}

fn absolute(x: &[f32]) -> Vec<f32> {
    x.iter().map(|x| x.abs()).collect()
}

/// Calls `f` with a slice of `len` floats between canaries, which it checks afterwards.
#[track_caller]
fn guarded(len: usize, f: impl FnOnce(&mut [f32])) -> Vec<f32> {
    let mut all = vec![CANARY; len + 2 * MARGIN];
    f(&mut all[MARGIN..MARGIN + len]);
    let inside = all.split_off(MARGIN);
    assert!(all.iter().chain(&inside[len..]).all(|&x| x == CANARY), "wrote outside");
    inside[..len].to_vec()
}

#[track_caller]
fn assert_close(what: &str, shape: &ConvShape, got: &[f32], want: &[f32], bound: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (i, ((&got, &want), &bound)) in got.iter().zip(want).zip(bound).enumerate() {
        let error = (got - want).abs();
        assert!(error <= bound, "{what}[{i}] = {got}, expected {want} ± {bound}; {shape:?}");
    }
}

fn scaled(bound: Vec<f32>, products: usize) -> Vec<f32> {
    // A little on top for the epilogue's own roundings.
    bound.into_iter().map(|b| b * tolerance(products) + 1e-6).collect()
}

pub(crate) struct Case {
    pub(crate) shape: ConvShape,
    x: Vec<f32>,
    pub(crate) w: Vec<f32>,
    dy: Vec<f32>,
}

impl Case {
    pub(crate) fn new(shape: ConvShape) -> Case {
        Case {
            shape,
            x: random(1, shape.input_len()),
            w: random(2, shape.weight_len()),
            dy: random(3, shape.output_len()),
        }
    }
}

/// Direct convolution, and all tiles.
pub(crate) fn algorithms() -> impl Iterator<Item = Option<Tiles>> {
    once(None).chain(Tiles::ALL.map(Some))
}

#[track_caller]
fn check(shape: ConvShape) {
    let case = Case::new(shape);
    for isa in Isa::available() {
        for tiles in algorithms() {
            let plan = ConvPlan::new(&shape, isa, tiles, Stored::F32).unwrap();
            if tiles.is_some() && plan.tiles(Direction::Forward).is_none() {
                continue;
            }
            let pool = ThreadPool::new(2);
            let mut packed = AlignedVec::zeroed(plan.layout().len());
            plan.layout().pack(&case.w, &mut packed);
            let mut back = vec![0.0; case.w.len()];
            plan.layout().unpack(&packed, &mut back);
            assert_eq!(back, case.w, "packed and unpacked");
            let worse = excess(tiles);
            check_forward(&case, &plan, &pool, &packed, worse);
            check_input_gradient(&case, &plan, &pool, &packed, worse);
            check_weight_gradient(&case, &plan, &pool, worse);
        }
    }
}

/// How much larger than direct convolution's an error may be. Winograd's transforms add terms of both
/// signs: those of F(2x2) by factors of one half, those of F(4x4) by factors up to three and a third.
fn excess(tiles: Option<Tiles>) -> f64 {
    match tiles {
        None => 1.0,
        Some(Tiles::Two) => 4.0,
        Some(Tiles::Three | Tiles::Four) => 20.0,
    }
}

/// The weights as the forward pass takes them.
pub(crate) fn forward_weights(plan: &ConvPlan, pool: &ThreadPool, packed: &[f32]) -> Vec<f32> {
    if !plan.transforms_forward() {
        return packed.to_vec();
    }
    let mut u = vec![f32::NAN; plan.forward_weights_len()];
    plan.transform_forward(pool, packed, &mut u);
    u
}

/// The weights as the input gradient takes them.
pub(crate) fn gradient_weights(plan: &ConvPlan, pool: &ThreadPool, packed: &[f32]) -> Vec<f32> {
    let mut transposed = vec![f32::NAN; plan.transposed_layout().len()];
    plan.layout().transpose(pool, packed, &mut transposed);
    if !plan.transforms_gradient() {
        return transposed;
    }
    let mut u = vec![f32::NAN; plan.gradient_weights_len()];
    plan.transform_gradient(pool, &transposed, &mut u);
    u
}

#[track_caller]
fn check_forward(case: &Case, plan: &ConvPlan, pool: &ThreadPool, packed: &[f32], worse: f64) {
    let packed = &forward_weights(plan, pool, packed);
    let shape = &case.shape;
    let mut scratch = vec![f32::NAN; plan.forward_scratch_len(pool.threads())];
    let products = shape.kh * shape.kw * shape.cin / shape.groups;
    let want = conv_forward_scalar(shape, &case.x, &case.w);
    let bound = conv_forward_scalar(shape, &absolute(&case.x), &absolute(&case.w));
    let bound = times(scaled(bound, products), worse);
    let y = guarded(shape.output_len(), |y| {
        let epilogue = Epilogue::default();
        conv_forward(plan, pool, &case.x, packed, epilogue, y, &mut scratch);
    });
    assert_close("y", shape, &y, &want, &bound);

    let (bias, residual) = (random(4, shape.cout), random(5, y.len()));
    let pivot = random(6, shape.cout);
    let mut partials = vec![f32::NAN; plan.forward_chunks() * 2 * shape.cout];
    let mut fuse = |source, y: &mut [f32]| {
        let epilogue = Epilogue {
            bias: Some(&bias),
            residual: Some(source),
            relu: true,
            statistics: Some(Statistics { pivot: &pivot, partials: &mut partials }),
        };
        conv_forward(plan, pool, &case.x, packed, epilogue, y, &mut scratch);
    };
    let fused = guarded(y.len(), |y| fuse(Source::From(&residual), y));
    let in_place = guarded(y.len(), |y| {
        y.copy_from_slice(&residual);
        fuse(Source::InPlace, y);
    });
    assert_eq!(in_place, fused, "in place; {shape:?}");
    for (i, &fused) in fused.iter().enumerate() {
        let want = (y[i] + bias[i % shape.cout] + residual[i]).max(0.0);
        assert_eq!(fused, want, "epilogue at {i}; {shape:?}");
    }
    let terms = |i: usize, c: usize| {
        let d = f64::from(fused[i] - pivot[c]);
        (d, d * d)
    };
    check_sums(shape, &partials, shape.cout, fused.len(), terms);
}

/// The combined partial sums equal the sums of `terms(element, channel)`.
#[track_caller]
pub(crate) fn check_sums(
    shape: &ConvShape,
    partials: &[f32],
    channels: usize,
    len: usize,
    terms: impl Fn(usize, usize) -> (f64, f64),
) {
    let (first, second) = combine_statistics(partials, channels);
    for c in 0..channels {
        let (mut a, mut b, mut size) = (0.0, 0.0, 0.0);
        for i in (c..len).step_by(channels) {
            let (ta, tb) = terms(i, c);
            (a, b, size) = (a + ta, b + tb, size + ta.abs() + tb.abs());
        }
        // Squares have one sign, so that roundings add up: at most half an ulp of the whole for each
        // term (Higham 2002, Accuracy and Stability of Numerical Algorithms, section 4.2).
        let bound = size * f64::from(f32::EPSILON) * 0.5 * (len / channels) as f64 + 1e-6;
        assert!((first[c] - a).abs() <= bound, "sum of channel {c}: {} {a}; {shape:?}", first[c]);
        assert!(
            (second[c] - b).abs() <= bound,
            "second sum, channel {c}: {} {b} ± {bound}; {shape:?}",
            second[c]
        );
    }
}

#[track_caller]
fn check_input_gradient(
    case: &Case,
    plan: &ConvPlan,
    pool: &ThreadPool,
    packed: &[f32],
    worse: f64,
) {
    let shape = &case.shape;
    let transposed = gradient_weights(plan, pool, packed);
    let mut scratch = vec![f32::NAN; plan.gradient_scratch_len(pool.threads())];
    let want = conv_input_gradient_scalar(shape, &case.dy, &case.w);
    let bound = conv_input_gradient_scalar(shape, &absolute(&case.dy), &absolute(&case.w));
    let bound = scaled(bound, shape.kh * shape.kw * shape.cout / shape.groups);
    let bound = times(bound, worse);
    let dx = guarded(shape.input_len(), |dx| {
        conv_input_gradient(
            plan,
            pool,
            &case.dy,
            &transposed,
            GradientEpilogue::default(),
            dx,
            &mut scratch,
        );
    });
    assert_close("dx", shape, &dx, &want, &bound);

    let (add, mask, z) = (random(7, dx.len()), random(8, dx.len()), random(9, dx.len()));
    let mean = random(10, shape.cin);
    let mut partials = vec![f32::NAN; plan.gradient_chunks() * 2 * shape.cin];
    let mut fuse = |source, dx: &mut [f32]| {
        let epilogue = GradientEpilogue {
            add: Some(source),
            mask: Some(&mask),
            sums: Some(GradientSums { z: &z, mean: &mean, partials: &mut partials }),
        };
        conv_input_gradient(plan, pool, &case.dy, &transposed, epilogue, dx, &mut scratch);
    };
    let fused = guarded(dx.len(), |dx| fuse(Source::From(&add), dx));
    let in_place = guarded(dx.len(), |dx| {
        dx.copy_from_slice(&add);
        fuse(Source::InPlace, dx);
    });
    assert_eq!(in_place, fused, "in place; {shape:?}");
    for (i, &fused) in fused.iter().enumerate() {
        let want = if mask[i] > 0.0 { dx[i] + add[i] } else { 0.0 };
        assert_eq!(fused, want, "epilogue at {i}; {shape:?}");
    }
    let terms = |i: usize, c: usize| {
        let g = f64::from(fused[i]);
        (g, g * f64::from(z[i] - mean[c]))
    };
    check_sums(shape, &partials, shape.cin, fused.len(), terms);
}

#[track_caller]
fn check_weight_gradient(case: &Case, plan: &ConvPlan, pool: &ThreadPool, worse: f64) {
    let shape = &case.shape;
    let mut scratch = vec![f32::NAN; plan.weight_gradient_scratch_len(pool.threads())];
    let packed = guarded(plan.layout().len(), |dw| {
        conv_weight_gradient(plan, pool, &case.x, &case.dy, dw, &mut scratch);
    });
    let mut dw = vec![f32::NAN; shape.weight_len()];
    plan.layout().unpack(&packed, &mut dw);
    let want = conv_weight_gradient_scalar(shape, &case.x, &case.dy);
    let bound = conv_weight_gradient_scalar(shape, &absolute(&case.x), &absolute(&case.dy));
    let bound = times(scaled(bound, shape.n * shape.oh * shape.ow), worse);
    assert_close("dw", shape, &dw, &want, &bound);
    let mut repacked = vec![f32::NAN; packed.len()];
    plan.layout().pack(&dw, &mut repacked);
    let padding = packed.iter().zip(&repacked).position(|(a, b)| a != b);
    assert_eq!(padding, None, "padding must stay zero; {shape:?}");
}

#[test]
fn kernel_sizes_strides_and_pads() {
    for kernel in [1, 2, 3, 5, 7] {
        for stride in [1, 2, 3] {
            for pad in [0, 1, kernel / 2 + 1] {
                check(ConvShape::new((2, 9, 7, 5), 6, kernel, stride, pad));
            }
        }
    }
}

#[test]
fn channel_counts_of_all_kinds() {
    for (cin, cout) in [(1, 1), (3, 4), (4, 3), (5, 8), (8, 5), (16, 17), (17, 16), (24, 40)] {
        check(ConvShape::new((2, 6, 5, cin), cout, 3, 1, 1));
    }
    for (cin, cout) in [(40, 24), (17, 24), (100, 33), (33, 100), (64, 56), (20, 64)] {
        check(ConvShape::new((1, 5, 5, cin), cout, 3, 1, 1));
        check(ConvShape::new((3, 5, 4, cin), cout, 1, 2, 0));
    }
}

#[test]
fn winograd_tiles_of_all_sizes_and_borders() {
    for size in [3, 4, 5, 7, 8, 13] {
        check(ConvShape::new((2, size, size + 1, 16), 24, 3, 1, 1));
        check(ConvShape::new((1, size, size, 40), 33, 3, 1, 0));
    }
    check(ConvShape::new((1, 6, 9, 18), 50, 3, 1, 2));
    // Four tiles, and channels that are no whole vectors.
    check(ConvShape::new((1, 7, 7, 40), 64, 3, 1, 1));
    check(ConvShape::new((1, 8, 8, 96), 36, 3, 1, 1));
    check(ConvShape::new((5, 14, 14, 64), 64, 3, 1, 1));
    check(ConvShape::new((8, 28, 28, 32), 32, 3, 1, 1));
    // Sums of the weight gradient that are too large for one in each chunk: of tiles of 4, of both.
    check(ConvShape::new((2, 9, 9, 72), 72, 3, 1, 1));
    check(ConvShape::new((2, 6, 6, 104), 120, 3, 1, 1));
}

#[test]
fn dilation_and_oblong_kernels() {
    for (kh, kw, stride, dilation, pad) in
        [(3, 3, 1, 2, 2), (3, 3, 2, 2, 1), (1, 5, 1, 1, 2), (4, 2, 2, 3, 1)]
    {
        let base = ConvShape::new((2, 12, 11, 6), 10, 1, stride, pad);
        check(ConvShape { kh, kw, dilation, ..base }.with_output_size());
    }
}

#[test]
fn groups_of_few_and_of_many_channels() {
    for (groups, cin, cout) in [
        (2, 8, 8),
        (4, 16, 16),
        (3, 12, 6),
        (8, 32, 32),
        (4, 64, 128),
        (2, 80, 48),
        (6, 6, 6),
        (5, 20, 10),
    ] {
        for stride in [1, 2] {
            let base = ConvShape::new((2, 6, 7, cin), cout, 3, stride, 1);
            check(ConvShape { groups, ..base });
        }
    }
}

#[test]
fn stems_copy_the_picture_with_its_padding() {
    for (size, kernel, stride, pad) in [(23, 7, 2, 3), (16, 3, 1, 1), (10, 5, 3, 0), (9, 4, 1, 2)] {
        check(ConvShape::new((2, size, size + 3, 3), 20, kernel, stride, pad));
    }
}

#[test]
fn folded_pictures_of_all_sizes_borders_and_channels() {
    for size in [5, 6, 7, 12, 13, 18, 23] {
        check(ConvShape::new((2, size, size + 1, 3), 24, 7, 2, 3));
    }
    for (cin, cout, pad) in [(1, 16, 3), (2, 33, 2), (3, 64, 1), (4, 40, 3), (4, 8, 0)] {
        check(ConvShape::new((1, 19, 30, cin), cout, 7, 2, pad));
    }
    // Several blocks, of tiles inside and at the edges.
    check(ConvShape::new((3, 66, 64, 3), 64, 7, 2, 3));
}

#[test]
fn linear_layers_of_any_batch() {
    for n in [1, 2, 3, 7, 16, 33] {
        check(ConvShape::linear(n, 70, 50));
    }
}

#[test]
fn panels_that_are_multiplied_two_at_a_time() {
    for rows in 1..=13 {
        check(ConvShape::linear(rows, 37, 64));
    }
    for cout in [62, 65, 96, 100, 130] {
        check(ConvShape::new((2, 9, 8, 21), cout, 1, 1, 0));
        check(ConvShape::new((2, 9, 8, 21), cout, 3, 2, 1));
    }
    check(ConvShape { groups: 2, ..ConvShape::new((1, 5, 6, 24), 144, 3, 1, 1) });
}

#[test]
fn several_blocks_and_chunks_are_reduced() {
    check(ConvShape::new((3, 30, 31, 4), 8, 3, 1, 1));
    check(ConvShape::new((3, 28, 28, 16), 9, 1, 1, 0));
    check(ConvShape::new((4, 28, 28, 3), 8, 3, 1, 1));
}

#[test]
fn the_number_of_threads_does_not_change_a_bit() {
    for (size, cin, cout) in [(28, 16, 40), (12, 104, 120)] {
        same_bits_on_threads(&Case::new(ConvShape::new((3, size, size + 2, cin), cout, 3, 1, 1)));
    }
    same_bits_on_threads(&Case::new(ConvShape::new((3, 50, 44, 3), 72, 7, 2, 3)));
    same_bits_on_threads(&Case::new(ConvShape::new((3, 20, 21, 70), 200, 1, 1, 0)));
}

fn same_bits_on_threads(case: &Case) {
    let run = |isa: Isa, threads: usize, tiles: Option<Tiles>| {
        let (plan, pool) = (
            ConvPlan::new(&case.shape, isa, tiles, Stored::F32).unwrap(),
            ThreadPool::new(threads),
        );
        let mut packed = vec![0.0; plan.layout().len()];
        plan.layout().pack(&case.w, &mut packed);
        let pivot = vec![0.1; case.shape.cout];
        let mut partials = vec![0.0; plan.forward_chunks() * 2 * case.shape.cout];
        let mut y = vec![0.0; case.shape.output_len()];
        let scratch_len = plan.weight_gradient_scratch_len(threads);
        let mut scratch = vec![0.0; scratch_len.max(plan.forward_scratch_len(threads))];
        let weights = forward_weights(&plan, &pool, &packed);
        let statistics = Some(Statistics { pivot: &pivot, partials: &mut partials });
        let epilogue = Epilogue { statistics, ..Epilogue::default() };
        conv_forward(&plan, &pool, &case.x, &weights, epilogue, &mut y, &mut scratch);
        conv_weight_gradient(&plan, &pool, &case.x, &case.dy, &mut packed, &mut scratch);
        (y, partials, packed)
    };
    for isa in Isa::available() {
        for tiles in algorithms() {
            assert!(run(isa, 1, tiles) == run(isa, 3, tiles), "{isa:?} {tiles:?}");
        }
    }
}

#[test]
fn an_image_alone_and_in_a_batch_gives_the_same_bits() {
    for (size, cin, cout, kernel, stride, pad) in [
        (14, 24, 40, 3, 1, 1),
        (7, 72, 96, 3, 1, 1),
        (7, 64, 64, 3, 2, 1),
        (23, 3, 16, 7, 2, 3),
        (1, 100, 40, 1, 1, 0),
    ] {
        let batch = ConvShape::new((5, size, size, cin), cout, kernel, stride, pad);
        let case = Case::new(batch);
        let forward = |shape: ConvShape, x: &[f32], isa: Isa, tiles: Option<Tiles>| {
            let (plan, pool) =
                (ConvPlan::new(&shape, isa, tiles, Stored::F32).unwrap(), ThreadPool::new(2));
            let mut packed = vec![0.0; plan.layout().len()];
            plan.layout().pack(&case.w, &mut packed);
            let mut y = vec![0.0; shape.output_len()];
            let mut scratch = vec![0.0; plan.forward_scratch_len(2)];
            let w = forward_weights(&plan, &pool, &packed);
            conv_forward(&plan, &pool, x, &w, Epilogue::default(), &mut y, &mut scratch);
            y
        };
        for isa in Isa::available() {
            for tiles in algorithms() {
                let together = forward(batch, &case.x, isa, tiles);
                let alone = ConvShape { n: 1, ..batch };
                for (image, y) in
                    case.x.chunks(alone.input_len()).zip(together.chunks(alone.output_len()))
                {
                    assert!(forward(alone, image, isa, tiles) == y, "{isa:?} {batch:?} {tiles:?}");
                }
            }
        }
    }
}

#[test]
fn bias_gradients_add_up_pixels() {
    let dy = random(1, 37 * 70);
    let mut db = vec![f32::NAN; 70];
    bias_gradient(&ThreadPool::new(2), &dy, &mut db);
    for (c, db) in db.iter().enumerate() {
        let want: f64 = dy.iter().skip(c).step_by(70).map(|&x| f64::from(x)).sum();
        assert!((f64::from(*db) - want).abs() <= 37.0 * f64::from(tolerance(37)));
    }
}

#[test]
fn impossible_geometry_is_an_error() {
    let shape = ConvShape { groups: 4, ..ConvShape::new((1, 8, 8, 6), 8, 3, 1, 1) };
    let error = ConvPlan::new(&shape, Isa::Portable, None, Stored::F32).unwrap_err().to_string();
    assert_eq!(error, "groups 4 must divide cin 6 and cout 8");
}
