//! Convolutions of activations in bf16: what f32 gives on the same numbers, rounded once.

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

fn run<E: Element>(
    case: &Case,
    (isa, tiles): (Isa, Option<Tiles>),
    operands: &Operands<E>,
) -> Results<E> {
    let shape = &case.shape;
    let plan = ConvPlan::new(shape, isa, tiles, E::STORED).unwrap();
    let pool = ThreadPool::new(2);
    let mut packed = vec![0.0; plan.layout().len()];
    plan.layout().pack(&case.w, &mut packed);
    let (bias, pivot, mean) = (random(4, shape.cout), random(6, shape.cout), random(10, shape.cin));

    let mut y = vec![E::default(); shape.output_len()];
    let mut y_sums = vec![f32::NAN; plan.forward_chunks() * 2 * shape.cout];
    let mut scratch = vec![f32::NAN; plan.forward_scratch_len(2)];
    let epilogue = Epilogue {
        bias: Some(&bias),
        residual: Some(&operands.residual),
        relu: true,
        statistics: Some(Statistics { pivot: &pivot, partials: &mut y_sums }),
    };
    let w = forward_weights(&plan, &pool, &packed);
    conv_forward(&plan, &pool, &operands.x, &w, epilogue, &mut y, &mut scratch);

    let mut dx = vec![E::default(); shape.input_len()];
    let mut dx_sums = vec![f32::NAN; plan.gradient_chunks() * 2 * shape.cin];
    let mut scratch = vec![f32::NAN; plan.gradient_scratch_len(2)];
    let sums = GradientSums { z: &operands.z, mean: &mean, partials: &mut dx_sums };
    let epilogue =
        GradientEpilogue { add: Some(&operands.add), mask: Some(&operands.mask), sums: Some(sums) };
    let w = gradient_weights(&plan, &pool, &packed);
    conv_input_gradient(&plan, &pool, &operands.dy, &w, epilogue, &mut dx, &mut scratch);

    let mut scratch = vec![f32::NAN; plan.weight_gradient_scratch_len(2)];
    conv_weight_gradient(&plan, &pool, &operands.x, &operands.dy, &mut packed, &mut scratch);
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
            let found = run(&case, (isa, tiles), &halves);
            let expected = run(&case, (isa, tiles), &floats);
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
