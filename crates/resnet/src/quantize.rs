//! From a model in f32 to one on bytes: calibration on pictures, and what was lost and gained.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use resnet_core::oracle;
use resnet_core::pass::quantize::range::RangeMethod;
use resnet_io::loader::{self, Loader, LoaderSpec, Order};
use resnet_io::source::{Source, Subset};
use resnet_train::TrainError;
use resnet_train::engine::Engine;
use resnet_train::evaluate::Evaluation;
use resnet_train::int8::Watched;
use resnet_train::model::Model;

use crate::device::Device;

/// How to calibrate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrateOptions {
    /// Pictures, at most; evenly taken from the source.
    pub images: usize,
    /// Pictures at a time.
    pub batch_size: usize,
    /// How ranges are chosen.
    pub method: RangeMethod,
    /// Threads that decode; results do not depend on them.
    pub workers: usize,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        CalibrateOptions { images: 256, batch_size: 8, method: DEFAULT_METHOD, workers: 1 }
    }
}

/// The way to choose ranges where none is asked for: of three that keep resnet20 on CIFAR-10 within three
/// pictures of a thousand and resnet50 on photos within three of 125, the one whose predictions agree most
/// often with f32 on both.
pub const DEFAULT_METHOD: RangeMethod = RangeMethod::Mse;

/// Quantises a model by what its activations are on pictures of a source. None if `stop` became true
/// before the end.
///
/// # Errors
/// When pictures cannot be read, or the executor cannot run the network.
pub fn quantize(
    model: &Model,
    device: Device,
    source: &Arc<dyn Source>,
    options: CalibrateOptions,
    stop: &AtomicBool,
) -> Result<Option<Model>, TrainError> {
    let [height, width] = model.preprocess.crop;
    let chosen = evenly(source, options.images);
    let batch_size = options.batch_size.min(chosen.len());
    let spec = LoaderSpec {
        mode: loader::Mode::Eval,
        batch_size,
        width,
        height,
        colour: model.colour()?,
        exif: model.preprocess.orientation(),
        steps: model.preprocess.steps(),
        repeats: 1,
        mix: None,
        seed: 0,
        order: Order::default(),
        workers: options.workers,
    };
    let loader = Loader::new(Arc::new(chosen), spec)?;
    let mut executor = device.executor();
    let mut watched = Watched::new(executor.as_mut(), model, batch_size)?;
    let mut images = 0;
    let mut batches = loader.epoch(0, 0);
    while let Some(batch) = batches.next_batch()? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        // A short last batch would need a graph of its own for a few pictures.
        if batch.len() == batch_size {
            watched.add(executor.as_mut(), &batch.pixels)?;
            images += batch.len() as u64;
        }
        batches.recycle(batch);
    }
    Ok(Some(watched.quantize(model, options.method, images)?))
}

/// At most `count` samples of a source, at even distances: sources are sorted by class.
fn evenly(source: &Arc<dyn Source>, count: usize) -> Subset {
    let (len, count) = (source.len(), count.clamp(1, source.len()));
    let index = |i: usize| u32::try_from(i * len / count).expect("sources have fewer than 2^32");
    Subset::new(source.clone(), (0..count).map(index).collect())
}

/// Pictures a second that a model takes in batches of `batch`, by the median batch.
///
/// # Errors
/// When the executor cannot run the network.
pub fn speed(model: &Model, device: Device, batch: usize, seconds: f64) -> Result<f64, TrainError> {
    let mut engine = Engine::for_evaluation(device.executor(), model.plan(), batch, &model.states)?;
    let [height, width] = model.preprocess.crop;
    let pixels = oracle::pixels(batch * height * width * model.spec.input.channels, 0);
    let mut times = Vec::new();
    let start = Instant::now();
    // The first runs pack weights and touch memory.
    while times.len() < 6 || start.elapsed().as_secs_f64() < seconds {
        let begin = Instant::now();
        engine.logits(&pixels)?;
        times.push(begin.elapsed().as_secs_f64());
    }
    times.drain(..3);
    times.sort_by(f64::total_cmp);
    Ok(batch as f64 / times[times.len() / 2])
}

/// The share of pictures that two evaluations of the same pictures predict alike.
pub fn agreement(a: &Evaluation, b: &Evaluation) -> f64 {
    let same = a.predictions.iter().zip(&b.predictions).filter(|(a, b)| a == b).count();
    same as f64 / a.predictions.len().max(1) as f64
}
