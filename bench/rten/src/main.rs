//! RTen in turns with others: u8 NHWC pixels to logits, the same arguments and the same lines of JSON
//! as `bench/peers`.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Instant;

use rten::{ModelOptions, RunOptions, ThreadPool};
use rten_tensor::NdTensor;
use rten_tensor::prelude::*;

/// The version that `Cargo.toml` pins.
const VERSION: &str = "0.27.0";
const WARM_UP_SECONDS: f64 = 1.0;
const WARM_UP_STEPS: usize = 2;
/// Rows and columns of the pictures of every network that is compared.
const SIDE: usize = 224;

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let options: HashMap<&str, &str> =
        words.chunks_exact(2).map(|pair| (pair[0].as_str(), pair[1].as_str())).collect();
    let option = |name| options.get(name).copied().ok_or(format!("{name} is missing"));
    let batch: usize = option("--batch")?.parse()?;
    let seconds: f64 = option("--seconds")?.parse()?;
    let pool = Arc::new(ThreadPool::with_num_threads(option("--threads")?.parse()?));
    // Packed once, as a user who wants speed would.
    let model = ModelOptions::with_all_ops().prepack_weights(true).load_file(option("--onnx")?)?;
    let pixels: Vec<u8> =
        (0..batch * SIDE * SIDE * 3).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let pixels = NdTensor::from_data([batch, SIDE, SIDE, 3], pixels);
    let step = || -> Result<f64, Box<dyn Error>> {
        let begun = Instant::now();
        let run = RunOptions::default().with_thread_pool(Some(pool.clone()));
        let logits: NdTensor<f32, 2> =
            model.run_one(pixels.view().into(), Some(run))?.try_into()?;
        std::hint::black_box(logits);
        Ok(begun.elapsed().as_secs_f64())
    };

    let (begun, mut steps) = (Instant::now(), 0);
    while steps < WARM_UP_STEPS || begun.elapsed().as_secs_f64() < WARM_UP_SECONDS {
        step()?;
        steps += 1;
    }
    for line in std::io::stdin().lines() {
        line?;
        // Others have used the caches meanwhile.
        step()?;
        let (begun, mut times) = (Instant::now(), Vec::new());
        while times.is_empty() || begun.elapsed().as_secs_f64() < seconds {
            times.push(step()?);
        }
        report(times, batch);
    }
    Ok(())
}

/// Prints a line of JSON. The rate is that of the median step.
fn report(mut times: Vec<f64>, batch: usize) {
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    println!(
        "{{\"images_per_second\": {}, \"seconds_p10\": {}, \"seconds_p50\": {}, \"seconds_p90\": {}, \
         \"steps\": {}, \"peak_memory_bytes\": {}, \"versions\": {{\"rten\": \"{VERSION}\"}}}}",
        batch as f64 / at(0.5),
        at(0.1),
        at(0.5),
        at(0.9),
        times.len(),
        peak_memory_bytes().map_or("null".into(), |bytes| bytes.to_string()),
    );
}

/// The largest resident size of this process so far, where the system tells.
fn peak_memory_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok().map(|kib: u64| 1024 * kib)
}
