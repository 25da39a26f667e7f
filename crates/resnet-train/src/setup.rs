//! From a recipe to everything that a run needs: pictures, network, first weights.

mod batches;

use std::sync::Arc;

use resnet_core::build::{BuildOptions, Mode, forward};
use resnet_core::cost;
use resnet_core::op::{BinaryCrossEntropy, CrossEntropy};
use resnet_core::precision::Precision;
use resnet_core::spec::{NetworkSpec, ShortcutKind, StemKind, StemSpec};
use resnet_core::step::{Decay, Loss, SgdOptions, Targets};
use resnet_io::decode::{Exif, decode_by};
use resnet_io::loader::{Loader, LoaderSpec};
use resnet_io::source::{
    self, Cached, DataSet, Encoded, MultiLabel, OpenOptions, Relabelled, Source,
};
use resnet_io::weights::{self, Head, ModelMeta};
use resnet_io::{DataError, readable};
use serde::Serialize;

pub use self::batches::Training;
use self::batches::{fit_steps, mix, orientation, validation_batches};
use crate::classes::Classes;
use crate::engine::{Plan, StateTensor};
use crate::error::TrainError;
use crate::model::{colour_of, fresh_states, matched_states, network};
use crate::preprocess::{Preprocess, SMALL_PICTURE, for_channels, usual_resize};
use crate::recipe::{self, DecayGroup, LossKind, Recipe};

/// A run that can begin.
pub struct Setup {
    /// The recipe, with what was decided for the pictures at hand filled in.
    pub recipe: Recipe,
    /// The network.
    pub spec: NetworkSpec,
    /// Numbers that are trained.
    pub params: u64,
    /// How a picture becomes its input, in evaluation.
    pub preprocess: Preprocess,
    /// Names of the classes in the order of the logits.
    pub classes: Vec<String>,
    /// Whether a picture may have any number of them.
    pub multi_label: bool,
    /// Training pictures.
    pub train: Training,
    /// Validation pictures, if there are any.
    pub val: Option<Loader>,
    /// Parameters and statistics to begin with; none: fresh ones.
    pub given: Option<Vec<StateTensor>>,
    /// Where the first weights are from.
    pub weights_from: String,
    /// What was assumed or passed over, for the user to read.
    pub notices: Vec<String>,
}

/// Whether the user chose the batch size, or the recipe's stands by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchSize {
    /// One that does not fit the set is an error.
    Given,
    /// One that does not fit the set is made smaller, with a notice.
    Default,
}

/// Opens the pictures, chooses the network and its first weights.
///
/// # Errors
/// Whatever of the recipe cannot be done with these pictures.
pub fn prepare(mut recipe: Recipe, batch_size: BatchSize) -> Result<Setup, TrainError> {
    let data = open(&recipe)?;
    let mut notices = data.notices.clone();
    let address = recipe.data.source.clone();
    let Some(train) = data.train.clone() else {
        return Err(TrainError::NoTrainingSplit { address });
    };
    let classes = train.classes().to_vec();
    let multi_label = train.is_multi_label();
    if let ([class], false) = (&classes[..], multi_label) {
        return Err(DataError::OneClass { place: address, class: class.clone() }.into());
    }
    if recipe.data.strict {
        check_readable([data.train.as_ref(), data.for_validation()])?;
    }
    settle_loss(&mut recipe, multi_label)?;
    let picture = first_picture(train.as_ref(), orientation(&recipe))?;
    let mut spec = choose_network(&mut recipe, picture.size)?;
    spec.classes = classes.len();
    let colour = colour_of(&spec)?;
    let preprocess = preprocess(&recipe, &spec, picture);
    [spec.input.height, spec.input.width] = preprocess.crop;
    spec.validate()?;
    notices.extend(fit_steps(&mut recipe, &preprocess));
    notices.extend(clamp_batch_size(&mut recipe, batch_size, train.len()));
    let (mut train, mut val) = (train, validation(&data, &classes, multi_label)?);
    if recipe.data.cache {
        let parts = [Some(&mut train), val.as_mut()].into_iter().flatten().collect();
        notices.push(cached(parts, orientation(&recipe)));
    }
    if val.is_none() {
        let text = "there are no validation pictures, so nothing is evaluated: --val-fraction 0.1 \
                    holds some back";
        notices.push(text.into());
    }
    notices.extend(scaled_rate(&recipe));
    let (given, weights_from) = given_weights(&recipe, &spec)?;
    let train = Training::new(train, &recipe, &preprocess, colour)?;
    notices.extend(train.sizes_over_time());
    let val = match val {
        Some(val) => {
            let batches = validation_batches(&recipe, &preprocess, colour);
            let batch_size = batches.batch_size.min(val.len());
            Some(Loader::new(val, LoaderSpec { batch_size, ..batches })?)
        }
        None => None,
    };
    let params = count_params(&spec, &preprocess)?;
    Ok(Setup {
        recipe,
        spec,
        params,
        preprocess,
        classes,
        multi_label,
        train,
        val,
        given,
        weights_from,
        notices,
    })
}

/// Chooses the loss where the recipe does not, and checks that it has only what its kind reads.
fn settle_loss(recipe: &mut Recipe, multi_label: bool) -> Result<(), TrainError> {
    let fitting = if multi_label { LossKind::Bce } else { LossKind::Softmax };
    if *recipe.loss.kind.get_or_insert(fitting) == LossKind::Softmax && multi_label {
        return Err(DataError::NeedsOneClass { what: "loss.kind = \"softmax\"" }.into());
    }
    Ok(recipe.validate()?)
}

/// Makes a default batch size fit the set, and says so.
fn clamp_batch_size(recipe: &mut Recipe, chosen: BatchSize, images: usize) -> Option<String> {
    let before = recipe.train.batch_size;
    if chosen == BatchSize::Given || before <= images {
        return None;
    }
    recipe.train.batch_size = images.max(2);
    Some(format!("batches of {images} images in place of {before}: there are no more"))
}

/// The arithmetic of a learning rate that is meant for another batch size.
fn scaled_rate(recipe: &Recipe) -> Option<String> {
    let (lr, meant_for) = (recipe.optimizer.lr, recipe.optimizer.lr_batch);
    let (batch_size, rate) = (recipe.train.batch_size, recipe.learning_rate());
    (0 < meant_for && meant_for != batch_size).then(|| {
        format!(
            "learning rate {rate} = {lr} x {batch_size} / {meant_for} (the recipe's is for batches \
             of {meant_for})"
        )
    })
}

impl Setup {
    /// Parameters and statistics to begin with: those given, or fresh ones.
    ///
    /// # Errors
    /// When the network does not fit its input.
    pub fn first_states(&self) -> Result<Box<dyn Iterator<Item = StateTensor> + '_>, TrainError> {
        Ok(match &self.given {
            Some(states) => Box::new(states.iter().cloned()),
            None => Box::new(fresh_states(&self.spec, self.recipe.train.seed)?),
        })
    }

    /// What an engine is to compute.
    pub fn plan(&self) -> Plan {
        let optimizer = &self.recipe.optimizer;
        let sgd = SgdOptions {
            weight_decay: optimizer.weight_decay,
            decay: match optimizer.decay {
                DecayGroup::All => Decay::All,
                DecayGroup::Weights => Decay::WeightsOnly,
            },
            nesterov: optimizer.nesterov,
            clip_norm: (0.0 < optimizer.clip_norm).then_some(optimizer.clip_norm),
        };
        Plan {
            spec: self.spec.clone(),
            train_size: self.train.largest(),
            mean: self.preprocess.mean.clone(),
            std: self.preprocess.std.clone(),
            loss: loss(&self.recipe.loss),
            sgd,
            targets: match mix(&self.recipe) {
                None if !self.multi_label => Targets::Classes,
                _ => Targets::Dense,
            },
            seed: self.recipe.train.seed,
            stored: Precision::from(self.recipe.train.precision).stored(),
            activations: None,
        }
    }

    /// What every checkpoint of the run says alike.
    pub(crate) fn meta(&self) -> ModelMeta {
        ModelMeta {
            version: env!("CARGO_PKG_VERSION").into(),
            spec: to_json(&self.spec),
            preprocess: to_json(&self.preprocess),
            classes: self.classes.clone(),
            multi_label: self.multi_label,
            recipe: to_json(&self.recipe),
            progress: serde_json::Value::Null,
            quantization: serde_json::Value::Null,
        }
    }
}

/// The recipe's loss.
fn loss(loss: &recipe::Loss) -> Loss {
    let label_smoothing = loss.label_smoothing;
    match loss.kind {
        // `prepare` has settled the kind.
        None | Some(LossKind::Softmax) => CrossEntropy { label_smoothing, divisor: 1 }.into(),
        Some(LossKind::Bce) => {
            let recipe::Loss { target_threshold, pos_weight, .. } = *loss;
            let divisor = 1;
            BinaryCrossEntropy { label_smoothing, target_threshold, pos_weight, divisor }.into()
        }
    }
}

fn to_json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("numbers, texts and lists always serialise")
}

fn open(recipe: &Recipe) -> Result<DataSet, TrainError> {
    let data = &recipe.data;
    let options = OpenOptions {
        val: data.val.clone(),
        held_back: data.held_back(),
        ..OpenOptions::default()
    };
    let mut set = source::open(&data.source, &options)?;
    let parts = [&mut set.train, &mut set.val, &mut set.test];
    if let Some(file) = &data.classes_file {
        let known = Classes::read(file.as_ref())?;
        for part in parts.into_iter().flatten() {
            let places = known.positions(part.classes(), known.labels.len())?;
            let relabelled = Relabelled::by_place(part.clone(), known.labels.clone(), places);
            *part = Arc::new(relabelled);
        }
    }
    Ok(set)
}

/// Sources that keep what they have decoded, as far as memory goes.
fn cached(parts: Vec<&mut Arc<dyn Source>>, exif: Exif) -> String {
    /// Where the system does not tell how much memory there is.
    const UNKNOWN: u64 = 1 << 30;
    let all: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = source::memory_to_spare().unwrap_or(UNKNOWN);
    for part in parts {
        // Each its share by number.
        let share = (bytes as f64 * part.len() as f64 / all.max(1) as f64) as u64;
        *part = Arc::new(Cached::new(part.clone(), exif, share));
    }
    format!("decoded pictures are kept in memory, {} MiB at most", bytes >> 20)
}

/// Reads all pictures of these parts on all processors: nothing else computes yet.
fn check_readable(parts: [Option<&Arc<dyn Source>>; 2]) -> Result<(), DataError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    parts.into_iter().flatten().try_for_each(|part| readable::check(part.as_ref(), threads))
}

/// What the pictures of a set are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PictureKind {
    /// Columns and rows of the first that can be read.
    size: [usize; 2],
    /// Whether each is a file of its own, which may have another size.
    is_file: bool,
}

impl PictureKind {
    fn is_small(self) -> bool {
        self.size[0].max(self.size[1]) <= SMALL_PICTURE
    }
}

/// The first picture that can be read.
fn first_picture(source: &dyn Source, exif: Exif) -> Result<PictureKind, TrainError> {
    let mut first_error = None;
    for index in 0..source.len() {
        let kind = |width, height, is_file| PictureKind { size: [width, height], is_file };
        let found = match source.read(index) {
            Ok(Encoded::Pixels(picture)) => Ok(kind(picture.width, picture.height, false)),
            Ok(Encoded::File(bytes)) => decode_by(&source.name(index), &bytes, exif)
                .map(|picture| kind(picture.width, picture.height, true)),
            Err(error) => Err(error),
        };
        match found {
            Ok(kind) => return Ok(kind),
            Err(error) => first_error = first_error.or(Some(error)),
        }
    }
    let place = "the training pictures".to_string();
    Err(first_error.unwrap_or(DataError::Empty { place }).into())
}

/// The recipe's network, or the one for pictures of this size; writes down what it took.
fn choose_network(recipe: &mut Recipe, picture: [usize; 2]) -> Result<NetworkSpec, TrainError> {
    let model = &mut recipe.model;
    let mut spec = match (&model.spec, &model.name) {
        (Some(spec), _) => spec.clone(),
        (None, Some(name)) => network(name)?,
        (None, None) => {
            let is_small = picture[0].max(picture[1]) <= SMALL_PICTURE;
            network(if is_small { "resnet20" } else { "resnet18" })?
        }
    };
    if model.name.as_ref().is_some_and(|name| name.ends_with(".toml")) {
        // The file may change or go; the run keeps what was in it.
        model.spec = Some(spec.clone());
        model.name = None;
    } else if model.spec.is_none() {
        model.name = Some(spec.name.clone());
    }
    spec.input.channels = model.in_channels.unwrap_or(spec.input.channels);
    if let Some(kind) = model.stem {
        spec.stem = StemSpec { kind, pool: kind != StemKind::Small, ..spec.stem };
    }
    if let Some(kind) = model.shortcut {
        spec.shortcut.kind = kind;
        spec.shortcut.average_pool &= kind != ShortcutKind::A;
    }
    spec.zero_init_last = model.zero_init_last.unwrap_or(spec.zero_init_last);
    spec.dropout = model.dropout.unwrap_or(spec.dropout);
    spec.stochastic_depth = model.stochastic_depth.unwrap_or(spec.stochastic_depth);
    Ok(spec)
}

/// Small pictures are taken as they are, files of other sizes scaled to the first one's; large ones are
/// prepared as their network's family does it.
fn preprocess(recipe: &Recipe, spec: &NetworkSpec, picture: PictureKind) -> Preprocess {
    let mut preprocess = Preprocess::of_family(spec);
    preprocess.exif = recipe.data.exif;
    preprocess.interpolation = recipe.eval.interpolation;
    preprocess.mean = for_channels(&recipe.data.mean, spec.input.channels);
    preprocess.std = for_channels(&recipe.data.std, spec.input.channels);
    let ([width, height], is_small) = (picture.size, picture.is_small());
    if is_small {
        preprocess.crop = [height, width];
        preprocess.resize = picture.is_file.then_some(width.min(height));
    } else if preprocess.resize.is_none() {
        preprocess.resize = Some(preprocess.crop[0].min(preprocess.crop[1]));
    }
    if let Some(crop) = recipe.eval.crop.or(recipe.augment.final_size()) {
        preprocess.crop = [crop; 2];
        let is_as_it_comes = !picture.is_file && [width, height] == [crop; 2];
        preprocess.resize = match is_small {
            true => (!is_as_it_comes).then_some(crop),
            false => Some(usual_resize([crop; 2])),
        };
    }
    preprocess.resize = recipe.eval.resize.or(preprocess.resize);
    preprocess
}

/// The pictures to evaluate on, whose classes must be the training's.
fn validation(
    data: &DataSet,
    classes: &[String],
    multi_label: bool,
) -> Result<Option<Arc<dyn Source>>, TrainError> {
    let Some(val) = data.for_validation() else { return Ok(None) };
    if val.classes() != classes {
        let message = format!(
            "the validation pictures have other classes ({}) than the training's ({})",
            val.classes().len(),
            classes.len()
        );
        return Err(TrainError::Classes { message });
    }
    Ok(Some(labelled(val, multi_label)?))
}

/// Pictures for a model that names any number of classes, or one.
///
/// # Errors
/// [`DataError::NeedsOneClass`] for pictures of any number and a model that names one.
pub fn labelled(
    pictures: &Arc<dyn Source>,
    multi_label: bool,
) -> Result<Arc<dyn Source>, TrainError> {
    match (multi_label, pictures.is_multi_label()) {
        (true, false) => Ok(Arc::new(MultiLabel::of(pictures.clone()))),
        (false, true) => Err(DataError::NeedsOneClass { what: ONE_CLASS }.into()),
        (true, true) | (false, false) => Ok(pictures.clone()),
    }
}

const ONE_CLASS: &str = "a model that names one class a picture";

/// The parameters that a recipe gives, and where the first ones are from.
fn given_weights(
    recipe: &Recipe,
    spec: &NetworkSpec,
) -> Result<(Option<Vec<StateTensor>>, String), TrainError> {
    let seed = recipe.train.seed;
    let Some(path) = &recipe.model.weights else {
        return Ok((None, format!("fresh, by seed {seed}")));
    };
    let file = weights::open(path.as_ref())?;
    let (head, which) = match recipe.model.new_head {
        true => (Head::New, " but for a new classifier"),
        false => (Head::Keep, ""),
    };
    Ok((Some(matched_states(spec, &file, head, seed)?), format!("{path}{which}")))
}

fn count_params(spec: &NetworkSpec, preprocess: &Preprocess) -> Result<u64, TrainError> {
    let (mean, std) = (preprocess.mean.clone(), preprocess.std.clone());
    let options = BuildOptions { mean, std, ..BuildOptions::imagenet(1, Mode::Evaluation) };
    Ok(cost::total_params(&forward(spec, &options)?))
}
