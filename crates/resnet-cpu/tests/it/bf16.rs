//! Convolutions of activations in bf16: what f32 gives on the same numbers, rounded once.

use resnet_cpu::kernel::Source;
use resnet_cpu::kernel::conv::*;
use resnet_cpu::threads::ThreadPool;
use resnet_simd::{Element, Isa, Stored, bf16};

use crate::conv::{
    Case, algorithms, check_sums, forward_weights, gradient_weights, random, tolerance,
};

/// The operands of a convolution and of its epilogues, stored so.
struct Operands<E> {
    x: Vec<E>,
    dy: Vec<E>,
    residual: Vec<E>,
    add: Vec<E>,
    mask: Vec<E>,
    z: Vec<E>,
}

/// What the three directions make.
struct Results<E> {
    y: Vec<E>,
    y_sums: Vec<f32>,
    dx: Vec<E>,
    dx_sums: Vec<f32>,
    dw: Vec<f32>,
}

fn stored<E: Element>(seed: u32, len: usize) -> Vec<E> {
    random(seed, len).into_iter().map(|x| E::from_f32(bf16::from_f32(x).to_f32())).collect()
}

fn operands<E: Element>(shape: &ConvShape) -> Operands<E> {
    let (x, y) = (shape.input_len(), shape.output_len());
    Operands {
        x: stored(1, x),
        dy: stored(3, y),
        residual: stored(5, y),
        add: stored(7, x),
        mask: stored(8, x),
        z: stored(9, x),
    }
}

fn run<E: Element>(case: &Case, plan: &ConvPlan, operands: &Operands<E>) -> Results<E> {
    let shape = &case.shape;
    let pool = ThreadPool::new(2);
    let mut packed = vec![0.0; plan.layout().len()];
    plan.layout().pack(&case.w, &mut packed);
    let (bias, pivot, mean) = (random(4, shape.cout), random(6, shape.cout), random(10, shape.cin));

    let mut y = vec![E::default(); shape.output_len()];
    let mut y_sums = vec![f32::NAN; plan.forward_chunks() * 2 * shape.cout];
    let mut scratch = vec![f32::NAN; plan.forward_scratch_len(2)];
    let epilogue = Epilogue {
        bias: Some(&bias),
        residual: Some(Source::From(&operands.residual)),
        relu: true,
        statistics: Some(Statistics { pivot: &pivot, partials: &mut y_sums }),
    };
    let w = forward_weights(plan, &pool, &packed);
    conv_forward(plan, &pool, &operands.x, &w, epilogue, &mut y, &mut scratch);

    let mut dx = vec![E::default(); shape.input_len()];
    let mut dx_sums = vec![f32::NAN; plan.gradient_chunks() * 2 * shape.cin];
    let mut scratch = vec![f32::NAN; plan.gradient_scratch_len(2)];
    let sums = GradientSums { z: &operands.z, mean: &mean, partials: &mut dx_sums };
    let epilogue = GradientEpilogue {
        add: Some(Source::From(&operands.add)),
        mask: Some(&operands.mask),
        sums: Some(sums),
    };
    let w = gradient_weights(plan, &pool, &packed);
    conv_input_gradient(plan, &pool, &operands.dy, &w, epilogue, &mut dx, &mut scratch);

    let mut scratch = vec![f32::NAN; plan.weight_gradient_scratch_len(2)];
    conv_weight_gradient(plan, &pool, &operands.x, &operands.dy, &mut packed, &mut scratch);
    let mut dw = vec![0.0; shape.weight_len()];
    plan.layout().unpack(&packed, &mut dw);
    Results { y, y_sums, dx, dx_sums, dw }
}

#[track_caller]
fn check(shape: ConvShape) {
    let case = Case::new(shape);
    let (halves, floats) = (operands::<bf16>(&shape), operands::<f32>(&shape));
    for isa in Isa::available() {
        for tiles in algorithms() {
            let plan = ConvPlan::new(&shape, isa, tiles, Stored::Bf16).unwrap();
            if tiles.is_some() && plan.tiles(Direction::Forward).is_none() {
                continue;
            }
            let found = run(&case, &plan, &halves);
            let plan = ConvPlan::new(&shape, isa, tiles, Stored::F32).unwrap();
            let expected = run(&case, &plan, &floats);
            let rounded = |x: &[f32]| x.iter().map(|&x| bf16::from_f32(x)).collect::<Vec<_>>();
            assert!(found.y == rounded(&expected.y), "y; {isa:?} {tiles:?} {shape:?}");
            assert!(found.dx == rounded(&expected.dx), "dx; {isa:?} {tiles:?} {shape:?}");
            let pivot = random(6, shape.cout);
            check_sums(&shape, &found.y_sums, shape.cout, found.y.len(), |i, c| {
                let d = f64::from(found.y[i].to_f32() - pivot[c]);
                (d, d * d)
            });
            let mean = random(10, shape.cin);
            check_sums(&shape, &found.dx_sums, shape.cin, found.dx.len(), |i, c| {
                let g = f64::from(found.dx[i].to_f32());
                (g, g * f64::from(halves.z[i].to_f32() - mean[c]))
            });
            // The same products; only chunks may differ. Terms are below 1.
            let pixels = shape.n * shape.oh * shape.ow;
            let bound = 2.0 * tolerance(pixels) * pixels as f32;
            let near = found.dw.iter().zip(&expected.dw).all(|(a, b)| (a - b).abs() <= bound);
            assert!(near, "dw; {isa:?} {tiles:?} {shape:?}");
        }
    }
}

/// Products of pairs of bf16 against f32's on weights rounded so.
#[track_caller]
fn check_pairs(shape: ConvShape) {
    let mut case = Case::new(shape);
    for w in &mut case.w {
        *w = bf16::from_f32(*w).to_f32();
    }
    let (halves, floats) = (operands::<bf16>(&shape), operands::<f32>(&shape));
    for isa in Isa::available().into_iter().filter(|isa| isa.has_bf16_pairs()) {
        let plan = |stored| ConvPlan::new(&shape, isa, None, stored).unwrap();
        let paired = plan(Stored::Bf16).with_bf16_pairs();
        assert!(paired.transforms_forward() || paired.transforms_gradient(), "nothing in pairs");
        let (found, expected) =
            (run(&case, &paired, &halves), run(&case, &plan(Stored::F32), &floats));
        // A rounding to 8 bits, and sums of terms below 1 in two orders.
        let near = |found: &[bf16], expected: &[f32], channels: usize| {
            let products = shape.kh * shape.kw * channels / shape.groups;
            let sums = 2.0 * tolerance(products) * products as f32;
            let mut both = found.iter().zip(expected);
            both.all(|(f, e)| (f.to_f32() - e).abs() <= e.abs() / 256.0 + sums)
        };
        assert!(near(&found.y, &expected.y, shape.cin), "y; {isa:?} {shape:?}");
        assert!(near(&found.dx, &expected.dx, shape.cout), "dx; {isa:?} {shape:?}");
    }
}

#[test]
fn pairs_give_what_f32_gives_on_rounded_weights() {
    for (size, cin, cout, kernel, stride) in [
        (7, 24, 40, 1, 1),
        (9, 512, 34, 1, 1),
        (14, 64, 100, 1, 2),
        (14, 24, 40, 3, 1),
        (13, 40, 24, 3, 2),
        (6, 16, 16, 5, 3),
        (1, 18, 10, 1, 1),
        // Only one of the directions has pairs.
        (9, 3, 16, 3, 1),
        (9, 16, 5, 3, 1),
    ] {
        let shape = (2, size, size + (1 < size) as usize, cin);
        check_pairs(ConvShape::new(shape, cout, kernel, stride, kernel / 2));
    }
    let grouped = ConvShape::new((2, 9, 8, 64), 96, 3, 1, 1);
    check_pairs(ConvShape { groups: 2, ..grouped });
    let dilated = ConvShape { dilation: 2, ..ConvShape::new((2, 11, 12, 20), 24, 3, 1, 2) };
    check_pairs(dilated.with_output_size());
}

#[test]
fn pairs_have_the_same_bits_on_any_number_of_threads_and_in_any_batch() {
    let one = ConvShape::new((1, 14, 14, 64), 96, 1, 1, 0);
    let case = Case::new(ConvShape { n: 3, ..one });
    for isa in Isa::available().into_iter().filter(|isa| isa.has_bf16_pairs()) {
        let forward = |shape: ConvShape, threads: usize, x: &[bf16]| {
            let plan = ConvPlan::new(&shape, isa, None, Stored::Bf16).unwrap().with_bf16_pairs();
            let pool = ThreadPool::new(threads);
            let mut packed = vec![0.0; plan.layout().len()];
            plan.layout().pack(&case.w, &mut packed);
            let w = forward_weights(&plan, &pool, &packed);
            let mut y = vec![bf16::ZERO; shape.output_len()];
            let mut scratch = vec![f32::NAN; plan.forward_scratch_len(threads)];
            conv_forward(&plan, &pool, x, &w, Epilogue::default(), &mut y, &mut scratch);
            y
        };
        let x = stored::<bf16>(1, case.shape.input_len());
        let y = forward(case.shape, 1, &x);
        assert!(y == forward(case.shape, 3, &x), "{isa:?}");
        let alone: Vec<bf16> = x.chunks(one.input_len()).flat_map(|x| forward(one, 2, x)).collect();
        assert!(y == alone, "{isa:?}");
    }
}

#[test]
fn pointwise_convolutions_are_those_of_f32_rounded() {
    for (size, cin, cout, stride) in
        [(7, 24, 40, 1), (5, 3, 8, 1), (9, 512, 33, 1), (14, 64, 100, 2), (1, 17, 5, 1)]
    {
        check(ConvShape::new((2, size, size + 1, cin), cout, 1, stride, 0));
    }
}

#[test]
fn convolutions_of_several_taps_are_those_of_f32_rounded() {
    for (size, cin, cout, kernel, stride) in [
        (23, 3, 16, 7, 2),
        (9, 3, 20, 3, 1),
        (14, 24, 40, 3, 1),
        (13, 40, 24, 3, 2),
        (8, 64, 64, 3, 1),
        (7, 100, 17, 3, 2),
        (6, 16, 16, 5, 3),
    ] {
        check(ConvShape::new((3, size, size + 2, cin), cout, kernel, stride, kernel / 2));
    }
}

#[test]
fn groups_dilation_and_odd_padding_are_those_of_f32_rounded() {
    let grouped = |groups, cin, cout, kernel, stride| {
        let shape = ConvShape::new((2, 9, 8, cin), cout, kernel, stride, kernel / 2);
        check(ConvShape { groups, ..shape });
    };
    grouped(4, 32, 64, 3, 1);
    grouped(8, 64, 64, 3, 2);
    grouped(2, 32, 32, 1, 1);
    let dilated = ConvShape { dilation: 2, ..ConvShape::new((2, 11, 12, 20), 24, 3, 1, 2) };
    check(dilated.with_output_size());
    check(ConvShape::new((1, 9, 9, 8), 8, 3, 1, 0));
    check(ConvShape::new((1, 6, 6, 16), 8, 1, 1, 1));
}
