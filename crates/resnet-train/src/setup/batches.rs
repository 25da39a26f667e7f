//! The batches of a run: training pictures of one size or, by progressive resizing, of several in turn, and
//! what is validated on.
//!
//! Progressive resizing trains on small pictures first, which cost less, and on large ones in the end
//! (Howard 2018, fast.ai's DAWNBench entry; Touvron et al. 2019, arXiv:1906.06423, on why evaluation may use larger ones
//! still).

use std::sync::Arc;

use resnet_io::augment::Step;
use resnet_io::decode::Exif;
use resnet_io::loader::{self, Batches, Loader, LoaderSpec, Order};
use resnet_io::mix::Mix;
use resnet_io::source::Source;
use resnet_io::{Colour, DataError};

use crate::preprocess::{Preprocess, SMALL_PICTURE};
use crate::recipe::Recipe;

/// The training pictures, in each of their sizes.
pub struct Training {
    /// A loader for each size, in the order in which they are trained on; all alike in everything else.
    loaders: Vec<Loader>,
    epochs: u64,
}

impl Training {
    /// # Errors
    /// What [`Loader::new`] refuses.
    pub(super) fn new(
        source: Arc<dyn Source>,
        recipe: &Recipe,
        preprocess: &Preprocess,
        colour: Colour,
    ) -> Result<Training, DataError> {
        let loader = |size| {
            let steps = fitted_steps(recipe, preprocess, size).0;
            Loader::new(source.clone(), training_batches(recipe, size, colour, steps))
        };
        let loaders = sizes(recipe, preprocess).into_iter().map(loader);
        Ok(Training { loaders: loaders.collect::<Result<_, _>>()?, epochs: recipe.train.epochs })
    }

    /// The pictures, before anything is done to them.
    pub fn source(&self) -> &Arc<dyn Source> {
        self.loaders[0].source()
    }

    /// The number of batches in an epoch.
    pub fn steps_per_epoch(&self) -> usize {
        self.loaders[0].steps_per_epoch()
    }

    /// What makes the batches of an epoch, counted from 0; beyond the last epoch, its.
    pub fn at(&self, epoch: u32) -> &Loader {
        // Counted from the end: a training of fewer epochs than sizes must not end on a small one.
        let (epochs, sizes) = (self.epochs, self.loaders.len() as u64);
        let left = (epochs - 1).saturating_sub(epoch.into());
        &self.loaders[(sizes - 1 - left * sizes / epochs) as usize]
    }

    /// Rows and columns of the pictures of an epoch, counted from 0.
    pub fn size(&self, epoch: u32) -> [usize; 2] {
        size(self.at(epoch))
    }

    /// Rows and columns of the largest pictures: those that need the most memory.
    pub fn largest(&self) -> [usize; 2] {
        let sizes = self.loaders.iter().map(size);
        sizes.max_by_key(|[rows, columns]| rows * columns).expect("there is a loader at least")
    }

    /// Starts to make the batches of an epoch, counted from 0, from one of its steps on.
    pub fn epoch(&self, epoch: u32, first_step: usize) -> Batches {
        self.at(epoch).epoch(epoch, first_step)
    }

    /// Which epochs have which size, where not all have the same.
    pub(super) fn sizes_over_time(&self) -> Option<String> {
        if self.loaders.len() == 1 {
            return None;
        }
        // Recipes allow a million epochs at most.
        let epochs: Vec<u32> = (0..self.epochs as u32).collect();
        let spans: Vec<String> = epochs
            .chunk_by(|&a, &b| self.size(a) == self.size(b))
            .map(|span| {
                let [rows, columns] = self.size(span[0]);
                let (first, last) = (span[0] + 1, span[0] + span.len() as u32);
                match first == last {
                    true => format!("{rows}x{columns} in epoch {first}"),
                    false => format!("{rows}x{columns} in epochs {first} to {last}"),
                }
            })
            .collect();
        (1 < spans.len()).then(|| format!("training pictures are {}", spans.join(", ")))
    }
}

/// Rows and columns of a loader's pictures.
fn size(loader: &Loader) -> [usize; 2] {
    [loader.spec().height, loader.spec().width]
}

/// Rows and columns of training pictures, in the order in which they are trained on.
fn sizes(recipe: &Recipe, preprocess: &Preprocess) -> Vec<[usize; 2]> {
    match &recipe.augment.progressive[..] {
        [] => vec![recipe.augment.size.map_or(preprocess.crop, |size| [size; 2])],
        sizes => sizes.iter().map(|&size| [size; 2]).collect(),
    }
}

/// What a recipe's steps were given so that they bring pictures to a size.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Added {
    Nothing,
    WholePicture,
    RandomPart,
}

/// The recipe's steps for training pictures of a size. One that brings them to it comes first where none of
/// the recipe's does: a random part for networks of large pictures (as torchvision trains them), the whole
/// picture for small ones, as the last epoch's tell them apart. Steps that set a size set this one where the
/// recipe has sizes.
fn fitted_steps(recipe: &Recipe, preprocess: &Preprocess, size: [usize; 2]) -> (Vec<Step>, Added) {
    let mut steps = recipe.augment.steps.clone();
    if recipe.augment.final_size().is_some() {
        steps.iter_mut().for_each(|step| step.set_size(size.map(|side| side as u32)));
    }
    let is_as_it_comes = preprocess.resize.is_none() && size == preprocess.crop;
    if is_as_it_comes || steps.iter().any(|step| step.size().is_some()) {
        return (steps, Added::Nothing);
    }
    let [rows, columns] = size;
    let last_rows = recipe.augment.final_size().unwrap_or(rows);
    if rows != columns || last_rows <= SMALL_PICTURE {
        let whole = match size == preprocess.crop {
            true => preprocess.steps(),
            false => Preprocess { resize: Some(rows), crop: size, ..preprocess.clone() }.steps(),
        };
        steps.splice(0..0, whole);
        return (steps, Added::WholePicture);
    }
    steps.insert(0, Step::random_resized_crop(rows as u32));
    (steps, Added::RandomPart)
}

/// Writes the steps that are taken into a recipe of one size, and tells what the user may not expect.
pub(super) fn fit_steps(recipe: &mut Recipe, preprocess: &Preprocess) -> Option<String> {
    let sizes = sizes(recipe, preprocess);
    let &[rows, columns] = sizes.last().expect("there is a size at least");
    let (steps, added) = fitted_steps(recipe, preprocess, [rows, columns]);
    if let [_] = sizes[..] {
        recipe.augment.steps = steps;
    }
    let to = match sizes.len() {
        1 => format!("{rows}x{columns}"),
        _ => "the epoch's size".into(),
    };
    (added == Added::RandomPart).then(|| {
        format!(
            "training takes a random part of each picture, scaled to {to}: the recipe's \
             augment.steps do not say what else"
        )
    })
}

/// Batches of training pictures of one size; `steps` bring them to it.
fn training_batches(
    recipe: &Recipe,
    [height, width]: [usize; 2],
    colour: Colour,
    steps: Vec<Step>,
) -> LoaderSpec {
    LoaderSpec {
        mode: loader::Mode::Train,
        batch_size: recipe.train.batch_size,
        width,
        height,
        colour,
        exif: orientation(recipe),
        steps,
        // Recipes allow sixteen at most.
        repeats: recipe.augment.repeats as u32,
        mix: mix(recipe),
        seed: recipe.train.seed,
        order: Order {
            sampling: recipe.data.sampling,
            last_batch: recipe.data.last_batch,
            ..Order::default()
        },
        workers: recipe.data.workers,
    }
}

/// Batches of validation pictures.
pub(super) fn validation_batches(
    recipe: &Recipe,
    preprocess: &Preprocess,
    colour: Colour,
) -> LoaderSpec {
    let own = recipe.eval.batch_size;
    let batch_size = if own == 0 { recipe.train.batch_size } else { own };
    let mode = loader::Mode::Eval;
    let alike = training_batches(recipe, preprocess.crop, colour, preprocess.steps());
    LoaderSpec { mode, batch_size, repeats: 1, mix: None, ..alike }
}

pub(super) fn orientation(recipe: &Recipe) -> Exif {
    if recipe.data.exif { Exif::Apply } else { Exif::Ignore }
}

pub(super) fn mix(recipe: &Recipe) -> Option<Mix> {
    let augment = &recipe.augment;
    Mix::of(augment.mixup, augment.cutmix, augment.mix_switch)
}
