//! How fast convolutions on bytes are: the shortest of many runs, as a share of the dot products' peak.
//!
//! `cargo run --release -p resnet-cpu --example int8_speed [threads [batch [peak in GOP/s a thread [cold]]]]`;
//! `cold` is any number: weights that were not read for a while, as in a network of one picture.

use std::time::Instant;

use resnet_cpu::Isa;
use resnet_cpu::kernel::Source;
use resnet_cpu::kernel::conv::ConvShape;
use resnet_cpu::kernel::int8::{Int8Output, Int8Plan, Int8Target, int8_conv};
use resnet_cpu::threads::ThreadPool;

/// Weights between two uses of the same ones when they are to be cold.
const COLD_BYTES: usize = 32 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<f64>().expect("a number"));
    let threads = arguments.next().unwrap_or(1.0) as usize;
    let n = arguments.next().unwrap_or(1.0) as usize;
    let peak = arguments.next().unwrap_or(739.0) * threads as f64;
    let cold = arguments.next().is_some();
    let isa =
        std::env::var("RESNET_ISA").map_or(Isa::detect(), |name| Isa::parse(&name).expect("a set"));
    let pool = ThreadPool::new(threads);
    let new = |side, cin, cout, kernel, stride, pad| {
        ConvShape::new((n, side, side, cin), cout, kernel, stride, pad)
    };
    let layers = [
        (new(224, 3, 64, 7, 2, 3), false),
        (new(56, 64, 64, 1, 1, 0), false),
        (new(56, 64, 64, 3, 1, 1), false),
        (new(56, 64, 256, 1, 1, 0), true),
        (new(56, 256, 64, 1, 1, 0), false),
        (new(56, 256, 128, 1, 1, 0), false),
        (new(56, 128, 128, 3, 2, 1), false),
        (new(28, 128, 512, 1, 1, 0), true),
        (new(28, 512, 128, 1, 1, 0), false),
        (new(28, 128, 128, 3, 1, 1), false),
        (new(14, 256, 1024, 1, 1, 0), true),
        (new(14, 1024, 256, 1, 1, 0), false),
        (new(14, 256, 256, 3, 1, 1), false),
        (new(7, 512, 2048, 1, 1, 0), true),
        (new(7, 2048, 512, 1, 1, 0), false),
        (new(7, 512, 512, 3, 1, 1), false),
    ];
    for (shape, adds) in layers {
        let residual = adds.then_some(0.5);
        let padding = vec![0; shape.cin];
        let plan =
            Int8Plan::new(&shape, isa, &padding, residual, Int8Output::Bytes).expect("a plan");
        let w: Vec<f32> = (0..shape.weight_len()).map(|i| (i * 37 % 129) as f32 - 64.0).collect();
        let (offset, multiplier) = (vec![10.0; shape.cout], vec![1e-3; shape.cout]);
        let packed = plan.layout().packed(&w, &offset, &multiplier);
        let copies = if cold { COLD_BYTES / packed.len() + 1 } else { 1 };
        let copies = vec![packed; copies];
        let mut next = copies.iter().cycle();
        let x: Vec<u8> = (0..shape.input_len()).map(|i| (i * 31 % 251) as u8).collect();
        let added = vec![7; shape.output_len()];
        let mut y = vec![0; shape.output_len()];
        let mut scratch = vec![0; plan.scratch_len(threads)];
        let mut best = f64::INFINITY;
        let start = Instant::now();
        while start.elapsed().as_secs_f64() < 0.6 {
            let packed = next.next().expect("a cycle");
            let begin = Instant::now();
            let added = adds.then_some(Source::From(&added[..]));
            int8_conv(&plan, &pool, &x, packed, added, Int8Target::Bytes(&mut y), &mut scratch);
            best = best.min(begin.elapsed().as_secs_f64());
        }
        let gops = 2e-9 * shape.macs() as f64 / best;
        println!(
            "{0}x{0}/{1} {2:>4} -> {3:>4} at {4:>3}: {5:7.1} us {6:6.0} GOP/s {7:3.0} %",
            shape.kh,
            shape.stride,
            shape.cin,
            shape.cout,
            shape.ih,
            1e6 * best,
            gops,
            100.0 * gops / peak
        );
    }
}
