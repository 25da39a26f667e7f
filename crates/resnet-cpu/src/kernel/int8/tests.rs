//! Every instruction set and number of threads gives the twin's bits.

use resnet_core::rng::{Purpose, Stream};

use super::*;
use crate::kernel::Source;
use crate::kernel::conv::ConvShape;
use crate::kernel::testing::{for_machines, guarded, pools};
use crate::kernel::window::Windows;

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    let mut stream = Stream::new(seed, Purpose::Test, 8, len as u64);
    // The ends are as frequent as they are after clamping.
    (0..len).map(|_| (160.0 + 100.0 * stream.normal()) as u8).collect()
}

fn whole(seed: u64, len: usize, limit: f64) -> Vec<f32> {
    let mut stream = Stream::new(seed, Purpose::Test, 9, len as u64);
    let value = |normal: f64| (normal * limit / 2.0).round().clamp(-limit, limit) as f32;
    (0..len).map(|_| value(stream.normal())).collect()
}

#[track_caller]
fn check(shape: &ConvShape, residual: Option<f32>, output: Int8Output) {
    let s = shape;
    let (x, padding) = (bytes(1, s.input_len()), bytes(2, s.cin));
    let w = whole(3, s.weight_len(), 64.0);
    let offset = whole(4, s.cout, 20_000.0);
    // Results that spread over all bytes.
    let reach = (s.cin / s.groups * s.kh * s.kw) as f32;
    let multiplier: Vec<f32> =
        (0..s.cout).map(|co| (1.0 + co as f32 / 7.0) / (60.0 * reach.sqrt())).collect();
    let added = bytes(5, s.output_len());
    let added_with = residual.map(|factor| (&added[..], factor));
    let numbers = (&w[..], &offset[..], &multiplier[..]);
    let expected = int8_conv_scalar(s, &x, &padding, numbers, added_with, output);
    for_machines(|isa, pool| {
        let plan = Int8Plan::new(s, isa, &padding, residual, output).unwrap();
        let packed = plan.layout().packed(&w, &offset, &multiplier);
        let mut scratch = vec![77; plan.scratch_len(pool.threads())];
        let elsewhere = residual.map(|_| Source::From(&added[..]));
        let found: Vec<u32> = match output {
            Int8Output::Bytes => {
                let mut run = |y: &[u8], added| {
                    guarded(y, 201, |y| {
                        let y = Int8Target::Bytes(y);
                        int8_conv(&plan, pool, &x, &packed, added, y, &mut scratch);
                    })
                };
                let y = run(&vec![9; s.output_len()], elsewhere);
                if residual.is_some() {
                    assert_eq!(run(&added, Some(Source::InPlace)), y, "in place, {s:?}");
                }
                y.into_iter().map(u32::from).collect()
            }
            Int8Output::Floats => {
                let y = guarded(&vec![9.0; s.output_len()], 3.0, |y| {
                    let y = Int8Target::Floats(y);
                    int8_conv(&plan, pool, &x, &packed, elsewhere, y, &mut scratch);
                });
                y.into_iter().map(f32::to_bits).collect()
            }
        };
        assert_eq!(found, expected, "{} {s:?}", isa.name());
    });
}

fn shapes() -> Vec<ConvShape> {
    let new = ConvShape::new;
    let grouped = |groups, shape: ConvShape| ConvShape { groups, ..shape };
    vec![
        new((1, 1, 1, 4), 1, 1, 1, 0),
        new((2, 5, 7, 12), 33, 1, 1, 0),
        new((1, 9, 9, 64), 64, 1, 1, 0),
        new((1, 9, 9, 128), 40, 1, 2, 0),
        new((1, 15, 15, 64), 64, 3, 1, 1),
        new((2, 7, 7, 96), 32, 3, 2, 1),
        new((1, 33, 31, 3), 64, 7, 2, 3),
        new((2, 16, 16, 3), 16, 3, 1, 1),
        new((2, 16, 16, 16), 16, 3, 1, 1),
        new((1, 6, 5, 10), 9, 3, 1, 1),
        new((3, 4, 4, 7), 5, 1, 1, 0),
        new((1, 3, 700, 5), 20, 3, 1, 1),
        new((1, 2, 2, 20), 20, 3, 1, 1),
        ConvShape { dilation: 2, ..new((1, 9, 8, 10), 9, 3, 1, 2) }.with_output_size(),
        ConvShape { dilation: 2, ..new((1, 9, 8, 32), 9, 3, 1, 2) }.with_output_size(),
        grouped(4, new((2, 6, 6, 12), 8, 3, 1, 1)),
        grouped(32, new((1, 5, 5, 128), 128, 3, 2, 1)),
        grouped(2, new((1, 5, 5, 128), 128, 3, 1, 1)),
        grouped(6, new((1, 5, 6, 6), 6, 3, 1, 1)),
        ConvShape::linear(3, 100, 10),
    ]
}

#[test]
fn convolutions_have_the_bits_of_their_twin() {
    for shape in shapes() {
        check(&shape, None, Int8Output::Bytes);
    }
}

#[test]
fn residuals_are_added_before_the_one_rounding() {
    for shape in shapes() {
        check(&shape, Some(0.37), Int8Output::Bytes);
    }
}

#[test]
fn classifiers_give_real_numbers() {
    for shape in [ConvShape::linear(1, 512, 1000), ConvShape::linear(5, 64, 10)] {
        check(&shape, None, Int8Output::Floats);
    }
}

/// Pairs of products reach their largest magnitude, which 16 bits just hold.
#[test]
fn the_largest_bytes_and_weights_do_not_saturate() {
    let shape = ConvShape::new((1, 3, 3, 64), 32, 3, 1, 1);
    let (x, padding) = (vec![255; shape.input_len()], vec![255; 64]);
    for sign in [64.0_f32, -64.0] {
        let w = vec![sign; shape.weight_len()];
        let (offset, multiplier) = (vec![-100.0 * sign; 32], vec![1e-4 * sign.signum(); 32]);
        let numbers = (&w[..], &offset[..], &multiplier[..]);
        let floats = Int8Output::Floats;
        let expected = int8_conv_scalar(&shape, &x, &padding, numbers, None, floats);
        for_machines(|isa, pool| {
            let plan = Int8Plan::new(&shape, isa, &padding, None, floats).unwrap();
            let packed = plan.layout().packed(&w, &offset, &multiplier);
            let mut y = vec![0.0; shape.output_len()];
            let mut scratch = vec![0; plan.scratch_len(pool.threads())];
            let target = Int8Target::Floats(&mut y);
            int8_conv(&plan, pool, &x, &packed, None, target, &mut scratch);
            let found: Vec<u32> = y.into_iter().map(f32::to_bits).collect();
            assert_eq!(found, expected, "{}", isa.name());
        });
    }
}

#[test]
fn max_pools_take_the_largest_byte_of_the_picture() {
    for windows in pools() {
        let Windows { ih, iw, c, oh, ow, .. } = windows;
        let x = bytes(6, windows.input_len());
        let expected = (0..windows.output_len()).map(|i| {
            let (n, oy, ox, k) = (i / (oh * ow * c), i / (ow * c) % oh, i / c % ow, i % c);
            let rows = windows.covered(oy, ih).flat_map(|iy| {
                windows.covered(ox, iw).map(move |ix| ((n * ih + iy) * iw + ix) * c + k)
            });
            rows.map(|at| x[at]).max().unwrap_or(0)
        });
        let expected: Vec<u8> = expected.collect();
        for_machines(|isa, pool| {
            let y = guarded(&vec![9; expected.len()], 201, |y| max_pool(isa, pool, windows, &x, y));
            assert_eq!(y, expected);
        });
    }
}
