//! Evaluation: every picture exactly once, none dropped, none counted twice.

use std::sync::atomic::{AtomicBool, Ordering};

use resnet_io::loader::{Broken, Loader};

use crate::engine::Engine;
use crate::error::TrainError;
use crate::score::multi_label::Rankings;
use crate::score::{Score, Sums};

/// What an evaluation found.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// Quality and loss over the pictures that could be read.
    pub score: Score,
    /// The others.
    pub broken: Vec<Broken>,
    /// The class of the highest logit, for each picture that was read, in their order.
    pub predictions: Vec<u32>,
}

/// Evaluates a network on all pictures of a loader; none if `stop` became true before the end.
///
/// `positions` holds, for each class of the pictures, its number in the network. Pictures of any number of
/// classes are scored by mAP and F1, those of one by top-1 and top-5.
///
/// # Errors
/// When pictures cannot be read or the executor refuses them.
pub fn evaluate(
    engine: &mut Engine,
    loader: &Loader,
    positions: &[u32],
    stop: &AtomicBool,
    on_progress: &mut dyn FnMut(u64),
) -> Result<Option<Evaluation>, TrainError> {
    let (mut sums, mut done) = (Sums::default(), 0);
    let mut rankings = loader.source().is_multi_label().then(Rankings::default);
    let (mut broken, mut predictions) = (Vec::new(), Vec::new());
    let mut labels = Vec::new();
    let mut batches = loader.epoch(0, 0);
    while let Some(mut batch) = batches.next_batch()? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        broken.append(&mut batch.broken);
        if !batch.is_empty() {
            let logits = engine.logits(&batch.pixels)?;
            let classes = logits.len() / batch.len();
            if let Some(rankings) = &mut rankings {
                rankings.add(&logits, &placed(&batch.targets, positions, classes), classes);
            } else {
                labels.clear();
                labels.extend(batch.labels.iter().map(|&label| positions[label as usize]));
                sums.add_logits(&logits, &labels);
            }
            done += batch.len() as u64;
            predictions.extend(logits.chunks_exact(classes).map(arg_max));
        }
        on_progress(done + broken.len() as u64);
        batches.recycle(batch);
    }
    let skipped = broken.len() as u64;
    let score = match &rankings {
        Some(rankings) => rankings.score(skipped),
        None => sums.score(skipped),
    };
    Ok(Some(Evaluation { score, broken, predictions }))
}

/// Targets `[n, positions.len()]` of the pictures' classes as `[n, classes]` of the network's.
fn placed(targets: &[f32], positions: &[u32], classes: usize) -> Vec<f32> {
    let rows = targets.chunks_exact(positions.len());
    let mut placed = vec![0.0; rows.len() * classes];
    for (row, placed) in rows.zip(placed.chunks_exact_mut(classes)) {
        for (&target, &position) in row.iter().zip(positions) {
            placed[position as usize] = target.max(placed[position as usize]);
        }
    }
    placed
}

/// The class of the highest logit, the lowest of equals.
fn arg_max(logits: &[f32]) -> u32 {
    let mut best = 0;
    for (class, logit) in logits.iter().enumerate() {
        if logits[best] < *logit {
            best = class;
        }
    }
    u32::try_from(best).expect("classes are counted in 32 bits")
}
