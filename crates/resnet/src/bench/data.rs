//! Timing what comes before the network: reading, decoding, augmenting and batching pictures.

use std::sync::Arc;
use std::time::Instant;

use resnet_cpu::machine;
use resnet_io::augment::{self, Step};
use resnet_io::decode::{Exif, decode};
use resnet_io::loader::{Loader, LoaderSpec, Mode, Order};
use resnet_io::source::{Encoded, OpenOptions, Source, open};
use resnet_io::{Colour, DataError};
use serde::Serialize;

/// What to time.
#[derive(Clone, Debug)]
pub struct DataOptions {
    /// Where the pictures are.
    pub address: String,
    /// Rows and columns of what the network would get.
    pub size: usize,
    /// Pictures a batch.
    pub batch_size: usize,
    /// Threads that make batches.
    pub workers: usize,
    /// Seconds of timed batches, at least.
    pub seconds: f64,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct DataReport {
    /// Always `data`.
    pub mode: &'static str,
    /// Where the pictures are.
    pub data: String,
    /// How many there are.
    pub files: usize,
    /// Rows and columns of what comes out.
    pub size: usize,
    /// Pictures a batch.
    pub batch_size: usize,
    /// Threads that made batches.
    pub threads: usize,
    /// Pictures timed.
    pub images: usize,
    /// Pictures over seconds.
    pub images_per_second: f64,
    /// Seconds of one thread for a picture: reading the file.
    pub read_seconds: f64,
    /// Decoding it.
    pub decode_seconds: f64,
    /// Cutting, scaling and mirroring it.
    pub augment_seconds: f64,
    /// Largest resident size of the process so far, if the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// Pictures that are taken apart into reading, decoding and augmenting.
const TAKEN_APART: usize = 256;

/// Times the loader as training uses it: a random part of each picture, scaled to `size`, mirrored or not.
///
/// # Errors
/// When the pictures cannot be opened, or none can be read.
pub fn data(options: &DataOptions) -> Result<DataReport, DataError> {
    let set = open(&options.address, &OpenOptions::default())?;
    let Some(source) = set.train.or(set.val).or(set.test) else {
        return Err(DataError::Empty { place: options.address.clone() });
    };
    let size = u32::try_from(options.size).unwrap_or(u32::MAX);
    let steps = vec![Step::random_resized_crop(size), Step::Flip { p: 0.5 }];
    let [read_seconds, decode_seconds, augment_seconds] = taken_apart(source.as_ref(), &steps);
    let batch_size = options.batch_size.min(source.len());
    let spec = LoaderSpec {
        mode: Mode::Train,
        batch_size,
        width: options.size,
        height: options.size,
        colour: Colour::Rgb,
        exif: Exif::Ignore,
        steps,
        repeats: 1,
        mix: None,
        seed: 0,
        order: Order::default(),
        workers: options.workers,
    };
    let loader = Loader::new(Arc::clone(&source), spec)?;
    let (images, seconds) = timed(&loader, options)?;
    Ok(DataReport {
        mode: "data",
        data: options.address.clone(),
        files: source.len(),
        size: options.size,
        batch_size,
        threads: options.workers,
        images,
        images_per_second: images as f64 / seconds,
        read_seconds,
        decode_seconds,
        augment_seconds,
        peak_memory_bytes: machine::peak_memory_bytes(),
    })
}

/// Pictures and seconds, after batches that fill the queue.
fn timed(loader: &Loader, options: &DataOptions) -> Result<(usize, f64), DataError> {
    let warm_up = 2 + 2 * options.workers;
    let (mut batches, mut images, mut start) = (0, 0, Instant::now());
    for epoch in 0.. {
        let mut queue = loader.epoch(epoch, 0);
        while let Some(batch) = queue.next_batch()? {
            batches += 1;
            images += batch.len();
            queue.recycle(batch);
            if batches == warm_up {
                (images, start) = (0, Instant::now());
            }
            if warm_up < batches && options.seconds <= start.elapsed().as_secs_f64() {
                return Ok((images, start.elapsed().as_secs_f64()));
            }
        }
    }
    unreachable!("epochs do not end before the time does")
}

/// Mean seconds of one thread for reading, decoding and augmenting a picture.
fn taken_apart(source: &dyn Source, steps: &[Step]) -> [f64; 3] {
    let (mut seconds, mut images) = ([0.0; 3], 0);
    for index in 0..source.len().min(TAKEN_APART) {
        let start = Instant::now();
        let Ok(encoded) = source.read(index) else { continue };
        let read = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let decoded;
        let picture = match &encoded {
            Encoded::Pixels(picture) => *picture,
            Encoded::File(bytes) => match decode(&source.name(index), bytes) {
                Ok(image) => {
                    decoded = image;
                    decoded.view()
                }
                Err(_) => continue,
            },
        };
        let decoding = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let mut stream = augment::stream_for(0, 0, 0, source.id(index));
        std::hint::black_box(augment::apply(picture, steps, &mut stream));
        let augmenting = start.elapsed().as_secs_f64();
        for (sum, own) in seconds.iter_mut().zip([read, decoding, augmenting]) {
            *sum += own;
        }
        images += 1;
    }
    seconds.map(|sum| sum / f64::from(images.max(1)))
}
