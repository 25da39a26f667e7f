//! Trains for 30 steps on 1, 2, 3 and 7 threads: the parameters must be the same bits, and two
//! threads should take half the time of one.
//!
//!     cargo run --release -p resnet --example threads -- [MODEL] [BATCH] [SIDE]

use std::error::Error;
use std::time::Instant;

use resnet::Device;
use resnet_core::build::{BuildOptions, Mode};
use resnet_core::executor::Input;
use resnet_core::graph::Graph;
use resnet_core::op::CrossEntropy;
use resnet_core::oracle;
use resnet_core::step::{Decay, SgdOptions, Targets, gradient_graph, update_graph};
use resnet_core::zoo::network;

const STEPS: usize = 30;
const THREADS: [usize; 4] = [1, 2, 3, 7];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or_else(|| "resnet20".into());
    let batch = arguments.next().map_or(Ok(64), |text| text.parse())?;
    let mut spec = network(&model)?;
    if let Some(side) = arguments.next() {
        spec.input.height = side.parse()?;
        spec.input.width = spec.input.height;
    }
    let options = BuildOptions::imagenet(batch, Mode::Training);
    let loss = CrossEntropy { label_smoothing: 0.0, divisor: batch };
    let gradients = gradient_graph(&spec, &options, Targets::Classes, loss)?;
    let sgd =
        SgdOptions { weight_decay: 1e-4, decay: Decay::All, nesterov: false, clip_norm: None };
    let update = update_graph(&gradients, &sgd)?;
    let pixels = oracle::pixels(batch * spec.input.height * spec.input.width * 3, 0);
    let labels = oracle::labels(batch, spec.classes, 0);
    let mut first: Option<(Vec<u32>, f64)> = None;
    for threads in THREADS {
        let device = Device { threads, ..Device::detect() };
        let (bits, seconds) = train(device, &gradients, &update, (&pixels, &labels))?;
        let (expected, one) = first.get_or_insert((bits.clone(), seconds));
        if bits != *expected {
            return Err(format!("{threads} threads give other bits than one").into());
        }
        println!(
            "{model}, batch {batch}, {STEPS} steps on {threads} threads of {}: {seconds:.2} s, \
             {:.2} times one thread's speed, the same {} bits",
            device.isa.name(),
            *one / seconds,
            32 * bits.len()
        );
    }
    Ok(())
}

/// Bits of all state after the last step, and the seconds of all steps but the first.
fn train(
    device: Device,
    gradients: &Graph,
    update: &Graph,
    (pixels, labels): (&[u8], &[u32]),
) -> Result<(Vec<u32>, f64), Box<dyn Error>> {
    let mut executor = device.executor();
    let gradient_step = executor.compile(gradients)?;
    let update_step = executor.compile(update)?;
    for (id, _) in gradients.parameters() {
        let (name, shape) = (&gradients.get(id).name, gradients.shape(id));
        executor.import(name, shape, &oracle::parameter(name, shape, 0))?;
    }
    let mut start = Instant::now();
    for step in 0..STEPS {
        if step == 1 {
            start = Instant::now();
        }
        executor.run(gradient_step, &[Input::U8(pixels), Input::U32(labels)])?;
        executor.run(update_step, &[Input::F32(&[0.01, 0.9])])?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let mut bits = Vec::new();
    for (name, _) in executor.states() {
        bits.extend(executor.export(&name)?.into_iter().map(f32::to_bits));
    }
    Ok((bits, seconds))
}
