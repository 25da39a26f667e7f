//! Prints what share of the machine's multiply-add peak each convolution direction reaches.
//!
//! `cargo run --release -p resnet-cpu --example conv_speed -- [filter] [threads] [isa] [tiles] [cold]`:
//! layers whose name contains `filter`; `tiles` 2, 3 or 4 for Winograd's (weights transformed before), 0
//! for direct; `cold` takes weights that were long not read, as in a network of one picture, in the
//! forward pass. Each figure is the best of many short runs, so that other work on the machine shows
//! little; `f` is forward with statistics, `x` the input and `w` the weight gradient.

use std::time::Instant;

use resnet_cpu::kernel::conv::*;
use resnet_cpu::threads::ThreadPool;
use resnet_simd::{AlignedVec, Isa, Kernel, Simd, Stored};

/// Runs of each kernel, and the least time they take together.
const RUNS: usize = 7;
const SECONDS: f64 = 0.15;
/// Weights between two uses of the same ones when they are to be cold: 128 MiB.
const COLD_FLOATS: usize = 32 << 20;

/// Independent chains of multiply-adds: the most that the vector units can do.
struct Peak;

impl Kernel for Peak {
    type Output = (f64, f32);

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (f64, f32) {
        const ROUNDS: usize = 100_000;
        const CHAINS: usize = 12;
        let (a, b) = (s.splat(std::hint::black_box(0.999)), s.splat(std::hint::black_box(1e-3)));
        let mut sums = [s.splat(0.5); CHAINS];
        for _ in 0..ROUNDS {
            for sum in &mut sums {
                *sum = s.mul_add(*sum, a, b);
            }
        }
        let total = sums.into_iter().fold(s.splat(0.0), |t, v| s.add(t, v));
        ((2 * ROUNDS * CHAINS * S::LANES) as f64, s.sum(total))
    }
}

/// The shortest of the runs.
fn best_seconds(mut f: impl FnMut()) -> f64 {
    f();
    let (start, mut best, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < RUNS || start.elapsed().as_secs_f64() < SECONDS {
        let t = Instant::now();
        f();
        best = best.min(t.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

fn layers() -> Vec<(String, ConvShape)> {
    let mut all = Vec::new();
    for n in [1, 16] {
        let mut add = |name: &str, size, cin, cout, kernel, stride| {
            let shape = ConvShape::new((n, size, size, cin), cout, kernel, stride, kernel / 2);
            all.push((format!("{name} n{n}"), shape));
        };
        add("stem7x7", 224, 3, 64, 7, 2);
        for (size, c) in [(56, 64), (28, 128), (14, 256), (7, 512)] {
            add(&format!("3x3 {c} {size}"), size, c, c, 3, 1);
            add(&format!("1x1 {}->{c} {size}", 4 * c), size, 4 * c, c, 1, 1);
            add(&format!("1x1 {c}->{} {size}", 4 * c), size, c, 4 * c, 1, 1);
            if c < 512 {
                add(&format!("3x3/2 {c}->{} {size}", 2 * c), size, c, 2 * c, 3, 2);
                add(&format!("1x1/2 {c}->{} {size}", 2 * c), size, c, 2 * c, 1, 2);
            }
        }
        add("linear 2048->1000", 1, 2048, 1000, 1, 1);
    }
    for (size, cin, c) in [(32, 3, 16), (32, 16, 16), (16, 32, 32), (8, 64, 64)] {
        let shape = ConvShape::new((128, size, size, cin), c, 3, 1, 1);
        all.push((format!("cifar 3x3 {cin}->{c} {size} n128"), shape));
    }
    for c in [24, 32, 40, 48, 96, 100, 112, 128] {
        let shape = ConvShape::new((16, 28, 28, c), c, 3, 1, 1);
        all.push((format!("odd 3x3 {c} 28 n16"), shape));
    }
    for (size, c) in [(56, 128), (28, 256), (14, 512), (7, 1024)] {
        let shape = ConvShape::new((4, size, size, c), c, 3, 1, 1);
        all.push((format!("grouped32 3x3 {c} {size} n4"), ConvShape { groups: 32, ..shape }));
    }
    all
}

fn measure(
    name: &str,
    shape: &ConvShape,
    (isa, tiles, cold): (Isa, Option<Tiles>, bool),
    pool: &ThreadPool,
    peak: f64,
) {
    let plan = ConvPlan::new(shape, isa, tiles, Stored::F32).expect("a shape that the kernels do");
    let filled = |len| {
        let mut v = AlignedVec::<f32>::zeroed(len);
        v.iter_mut().enumerate().for_each(|(i, v)| *v = (i % 13) as f32 - 6.0);
        v
    };
    let (x, dy) = (filled(shape.input_len()), filled(shape.output_len()));
    let (mut y, mut dx) = (filled(shape.output_len()), filled(shape.input_len()));
    let mut dw = filled(plan.layout().len());
    let copies = (COLD_FLOATS * cold as usize / plan.forward_weights_len()).max(1);
    let ws: Vec<_> = (0..copies).map(|_| filled(plan.forward_weights_len())).collect();
    let mut next = ws.iter().cycle();
    let wt = filled(plan.gradient_weights_len());
    let threads = pool.threads();
    let scratch = plan
        .forward_scratch_len(threads)
        .max(plan.gradient_scratch_len(threads))
        .max(plan.weight_gradient_scratch_len(threads));
    let mut scratch = filled(scratch);
    let pivot = vec![0.0; shape.cout];
    let mut partials = vec![0.0; plan.forward_chunks() * 2 * shape.cout];
    let forward = best_seconds(|| {
        let statistics = Some(Statistics { pivot: &pivot, partials: &mut partials });
        let epilogue = Epilogue { statistics, ..Epilogue::default() };
        let w = next.next().expect("a cycle");
        conv_forward(&plan, pool, &x, w, epilogue, &mut y, &mut scratch);
    });
    let plain = best_seconds(|| {
        let w = next.next().expect("a cycle");
        conv_forward(&plan, pool, &x, w, Epilogue::default(), &mut y, &mut scratch);
    });
    let input = best_seconds(|| {
        conv_input_gradient(
            &plan,
            pool,
            &dy,
            &wt,
            GradientEpilogue::default(),
            &mut dx,
            &mut scratch,
        );
    });
    let weight = best_seconds(|| {
        conv_weight_gradient(&plan, pool, &x, &dy, &mut dw, &mut scratch);
    });
    let gflops = |seconds: f64| 2e-9 * shape.macs() as f64 / seconds;
    let share = |seconds: f64| 100.0 * gflops(seconds) / peak;
    println!(
        "{name:28} GFLOP/s f {:6.1} x {:6.1} w {:6.1}   % f {:3.0} (plain {:3.0}) x {:3.0} w {:3.0}",
        gflops(forward),
        gflops(input),
        gflops(weight),
        share(forward),
        share(plain),
        share(input),
        share(weight)
    );
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let filter = arguments.next().unwrap_or_default();
    let threads = arguments.next().map_or(1, |n| n.parse().expect("a number of threads"));
    let isa = arguments.next().map_or_else(Isa::detect, |name| Isa::parse(&name).expect("an isa"));
    let tiles = arguments.next().and_then(|n| match n.as_str() {
        "2" => Some(Tiles::Two),
        "3" => Some(Tiles::Three),
        "4" => Some(Tiles::Four),
        _ => None,
    });
    let cold = arguments.next().is_some_and(|word| word == "cold");
    let pool = ThreadPool::new(threads);
    let mut operations = 0.0;
    let seconds = best_seconds(|| operations = std::hint::black_box(isa.run(Peak)).0);
    let peak = 1e-9 * operations / seconds * threads as f64;
    println!("{}, {threads} threads, peak {peak:.0} GFLOP/s", isa.name());
    for (name, shape) in layers().iter().filter(|(name, _)| format!("{name} ").contains(&filter)) {
        measure(name, shape, (isa, tiles, cold), &pool, peak);
    }
}
