//! Both gradients of a convolution in one pass, against the three passes that it stands for.

use resnet_cpu::kernel::Source;
use resnet_cpu::kernel::conv::*;
use resnet_cpu::kernel::norm::{Centred, Coefficients, InputGradient, Mask, grad_apply};
use resnet_cpu::threads::ThreadPool;
use resnet_simd::{Element, Isa, Stored, bf16};

use crate::conv::{Case, gradient_weights, random};

fn stored<E: Element>(seed: u32, len: usize) -> Vec<E> {
    random(seed, len).into_iter().map(E::from_f32).collect()
}

/// What a pass makes: `dw` in panels, `dx`, and the sums of `dx`.
type Results<E> = (Vec<f32>, Vec<E>, Vec<f32>);

/// Calls `gradients(plan, pool, w, (x, dy), epilogue, (dw, dx))` and gives what it made.
fn run<E: Element>(
    case: &Case,
    (isa, threads): (Isa, usize),
    gradients: impl Fn(
        &ConvPlan,
        &ThreadPool,
        &[f32],
        (&[E], InputGradient<'_, E>),
        GradientEpilogue<'_, E>,
        (&mut [f32], &mut [E]),
    ),
) -> Results<E> {
    let shape = &case.shape;
    let (plan, pool) =
        (ConvPlan::new(shape, isa, None, E::STORED).unwrap(), ThreadPool::new(threads));
    let mut packed = vec![0.0; plan.layout().len()];
    plan.layout().pack(&case.w, &mut packed);
    let w = gradient_weights(&plan, &pool, &packed);
    let (inputs, outputs) = (shape.input_len(), shape.output_len());
    let [x, add, mask, z] = [1, 2, 3, 4].map(|seed| stored::<E>(seed, inputs));
    let [g, norm_z] = [5, 6].map(|seed| stored::<E>(seed, outputs));
    let [norm_mean, a, b, c] = [7, 8, 9, 10].map(|seed| random(seed, shape.cout));
    let dy = InputGradient {
        g: &g,
        input: Centred { z: &norm_z, mean: &norm_mean },
        by: Coefficients { a: &a, b: &b, c: &c },
    };
    let mean = random(11, shape.cin);
    let mut partials = vec![f32::NAN; plan.gradient_chunks() * 2 * shape.cin];
    let (mut dw, mut dx) = (vec![f32::NAN; packed.len()], vec![E::default(); inputs]);
    let epilogue = GradientEpilogue {
        add: Some(Source::From(&add)),
        mask: Some(&mask),
        sums: Some(GradientSums { z: &z, mean: &mean, partials: &mut partials }),
    };
    gradients(&plan, &pool, &w, (&x, dy), epilogue, (&mut dw, &mut dx));
    (dw, dx, partials)
}

fn at_once<E: Element>(case: &Case, machine: (Isa, usize)) -> Results<E> {
    run(case, machine, |plan, pool, w, operands, epilogue, results| {
        assert!(plan.fuses_gradients(pool.threads()), "{:?}", plan.shape());
        let mut scratch = vec![f32::NAN; plan.weight_gradient_scratch_len(pool.threads())];
        conv_norm_gradients(plan, pool, operands, w, epilogue, results, &mut scratch);
    })
}

fn one_by_one<E: Element>(case: &Case, machine: (Isa, usize)) -> Results<E> {
    run(case, machine, |plan, pool, w, (x, dy), epilogue, (dw, dx)| {
        let mut dz = vec![E::default(); plan.shape().output_len()];
        let masked = (Source::From(dy.g), Mask::Open);
        grad_apply(plan.isa(), pool, masked, dy.input, dy.by, &mut dz);
        let mut scratch = vec![f32::NAN; plan.weight_gradient_scratch_len(pool.threads())];
        conv_weight_gradient(plan, pool, x, &dz, dw, &mut scratch);
        let mut scratch = vec![f32::NAN; plan.gradient_scratch_len(pool.threads())];
        conv_input_gradient(plan, pool, &dz, w, epilogue, dx, &mut scratch);
    })
}

fn check<E: Element>(shape: ConvShape) {
    let case = Case::new(shape);
    for isa in Isa::available() {
        let expected = one_by_one::<E>(&case, (isa, 5));
        for threads in [1, 2] {
            let found = at_once::<E>(&case, (isa, threads));
            assert!(found == expected, "{isa:?} {threads} {shape:?}");
        }
    }
}

#[test]
fn it_gives_the_bits_of_three_passes() {
    for (cin, cout) in [(64, 256), (256, 64), (24, 32), (70, 96)] {
        let shape = ConvShape::new((8, 31, 33, cin), cout, 1, 1, 0);
        check::<f32>(shape);
        check::<bf16>(shape);
    }
}

#[test]
fn it_is_for_few_weights_and_whole_panels() {
    for (shape, why) in [
        (ConvShape::new((8, 32, 32, 64), 64, 3, 1, 1), "taps"),
        (ConvShape::new((8, 32, 32, 64), 64, 1, 2, 0), "a stride"),
        (ConvShape::new((8, 32, 32, 64), 72, 1, 1, 0), "a panel of eight"),
        (ConvShape::new((8, 16, 16, 1024), 256, 1, 1, 0), "many weights"),
        (ConvShape::new((4, 8, 8, 64), 256, 1, 1, 0), "few pixels"),
        (ConvShape { groups: 2, ..ConvShape::new((8, 32, 32, 64), 64, 1, 1, 0) }, "groups"),
    ] {
        for isa in Isa::available() {
            let plan = ConvPlan::new(&shape, isa, None, Stored::F32).unwrap();
            assert!(!plan.fuses_gradients(1), "{why} {isa:?}");
        }
    }
}

#[test]
fn few_pixels_and_channels_give_them_too() {
    let mut found = 0;
    for (cin, cout) in [(8, 16), (8, 32), (12, 48), (16, 32), (24, 64), (64, 96)] {
        for size in [1, 2, 7] {
            let case = Case::new(ConvShape::new((3, size, size, cin), cout, 1, 1, 0));
            for isa in Isa::available() {
                let plan = ConvPlan::new(&case.shape, isa, None, Stored::F32).unwrap();
                if plan.fuses_gradients(1) {
                    let expected = one_by_one::<f32>(&case, (isa, 5));
                    assert!(
                        at_once::<f32>(&case, (isa, 1)) == expected,
                        "{isa:?} {:?}",
                        case.shape
                    );
                    found += 1;
                }
            }
        }
    }
    assert!(0 < found, "none is computed at once");
}
