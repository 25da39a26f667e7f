//! A model in use: its logits for pictures, its predictions, its accuracy on a set.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use resnet_io::augment::{self, Step};
use resnet_io::decode::decode_by;
use resnet_io::loader::{self, Loader, LoaderSpec, Order};
use resnet_io::source::Source;
use resnet_io::{DataError, ImageRef};
use resnet_train::TrainError;
use resnet_train::engine::Engine;
use resnet_train::evaluate::{self, Evaluation};
use resnet_train::model::Model;
use resnet_train::predict::{Prediction, top_k};
use resnet_train::setup::labelled;

use crate::device::Device;

/// A model with an executor: it only infers, so no statistic ever changes.
pub struct Predictor {
    model: Model,
    engine: Engine,
}

/// How to evaluate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvaluateOptions {
    /// Pictures at a time; results do not depend on it.
    pub batch_size: usize,
    /// Threads that decode; results do not depend on them.
    pub workers: usize,
}

impl Default for EvaluateOptions {
    fn default() -> Self {
        EvaluateOptions { batch_size: 32, workers: 1 }
    }
}

impl Predictor {
    /// Puts a model into a fresh executor.
    ///
    /// # Errors
    /// When the executor cannot run the network.
    pub fn new(model: Model, device: Device) -> Result<Predictor, TrainError> {
        let engine = Engine::for_evaluation(device.executor(), model.plan(), 1, &model.states)?;
        Ok(Predictor { model, engine })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The `k` most probable classes of a picture file's bytes; `name` stands in messages.
    ///
    /// # Errors
    /// When the bytes are no picture.
    pub fn classify(
        &mut self,
        name: &str,
        bytes: &[u8],
        k: usize,
    ) -> Result<Vec<Prediction>, TrainError> {
        let image = decode_by(name, bytes, self.model.preprocess.orientation())?;
        let logits = self.logits(name, image.view())?;
        Ok(top_k(&logits, &self.model.probabilities(&logits), &self.model.classes, k))
    }

    /// Logits of one picture, prepared as the model says.
    ///
    /// # Errors
    /// When the prepared picture has not the network's size.
    pub fn logits(&mut self, name: &str, picture: ImageRef<'_>) -> Result<Vec<f32>, TrainError> {
        // Evaluation's steps draw nothing.
        let mut stream = augment::stream_for(0, 0, 0, 0);
        let mut pixels = Vec::new();
        let colour = self.model.colour()?;
        let (width, height) =
            augment::prepare(picture, colour, &self.steps(), &mut stream, &mut pixels);
        let [rows, columns] = self.model.preprocess.crop;
        if [height, width] != [rows, columns] {
            return Err(TrainError::Data(DataError::WrongSize {
                name: name.into(),
                width,
                height,
                expected_width: columns,
                expected_height: rows,
            }));
        }
        self.engine.logits(&pixels)
    }

    /// Accuracy on all pictures of a source, matched to the model's classes by name. None if `stop`
    /// became true before the end.
    ///
    /// # Errors
    /// When a class of the pictures is none of the model's, or pictures cannot be read.
    pub fn evaluate(
        &mut self,
        source: &Arc<dyn Source>,
        options: EvaluateOptions,
        stop: &AtomicBool,
        on_progress: &mut dyn FnMut(u64),
    ) -> Result<Option<Evaluation>, TrainError> {
        let source = labelled(source, self.model.multi_label)?;
        let positions = self.model.classes.positions(source.classes(), self.model.spec.classes)?;
        let [height, width] = self.model.preprocess.crop;
        let spec = LoaderSpec {
            mode: loader::Mode::Eval,
            batch_size: options.batch_size.min(source.len()),
            width,
            height,
            colour: self.model.colour()?,
            exif: self.model.preprocess.orientation(),
            steps: self.steps(),
            repeats: 1,
            mix: None,
            seed: 0,
            order: Order::default(),
            workers: options.workers,
        };
        let loader = Loader::new(source, spec)?;
        evaluate::evaluate(&mut self.engine, &loader, &positions, stop, on_progress)
    }

    fn steps(&self) -> Vec<Step> {
        self.model.preprocess.steps()
    }
}
