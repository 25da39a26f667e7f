//! A run small enough for tests: a network of three blocks on generated pictures of 8x8.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use resnet_core::executor::Executor;
use resnet_core::zoo;
use resnet_cpu::Isa;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_train::TrainError;
use resnet_train::event::{End, Event};
use resnet_train::recipe::{Assignment, Recipe, resolve};
use resnet_train::run_folder::RunFolder;
use resnet_train::setup::{BatchSize, prepare};
use resnet_train::trainer::{Control, Moment, train};

/// The recipe: 33 pictures in batches of 16, so that the last three batches of an epoch are of 16,
/// 15 and 2.
pub(crate) fn recipe(changes: &[&str]) -> Recipe {
    let base = [
        "data.source=generated:classes=3,images=33,size=8",
        "augment.steps=[{ step = \"pad_crop\", padding = 1 }, { step = \"flip\", p = 0.5 }]",
        "optimizer.lr=0.05",
        "optimizer.nesterov=true",
        "optimizer.clip_norm=5.0",
        "schedule.kind=cosine",
        "schedule.unit=step",
        "train.epochs=4",
        "train.batch_size=16",
        "train.seed=3",
        "checkpoint.every_steps=2",
        "eval.batch_size=4",
    ];
    let all = base.iter().chain(changes).map(|text| Assignment::parse(text).unwrap());
    let mut recipe = resolve(None, &all.collect::<Vec<_>>()).unwrap();
    if recipe.model.name.is_none() {
        let mut spec = zoo::network("cifar-resnet8").unwrap();
        spec.name = "tiny".into();
        spec.dropout = 0.1;
        spec.stem.channels = 8;
        for (stage, channels) in spec.stages.iter_mut().zip([8, 16, 24]) {
            stage.channels = channels;
        }
        recipe.model.spec = Some(spec);
    }
    recipe
}

/// The engine on one thread.
pub(crate) fn executor() -> Box<dyn Executor> {
    Box::new(CpuExecutor::new(CpuOptions::new(Isa::detect(), 1)))
}

/// What a test wants to hear of a run.
#[derive(Default)]
pub(crate) struct Watch<'a> {
    pub(crate) on_event: Option<&'a mut dyn FnMut(&Event)>,
    pub(crate) on_moment: Option<&'a dyn Fn(Moment)>,
    pub(crate) stop: Option<&'a AtomicBool>,
}

/// Begins a run in an empty folder, or goes on with the one that is there.
pub(crate) fn run(
    path: &Path,
    recipe: &Recipe,
    executor: Box<dyn Executor>,
    watch: Watch<'_>,
) -> Result<End, TrainError> {
    let (folder, recipe) = match path.join("recipe.toml").exists() {
        true => RunFolder::resume(path, &[])?,
        false => (RunFolder::create(path, recipe)?, recipe.clone()),
    };
    let setup = prepare(recipe, BatchSize::Given)?;
    let never = AtomicBool::new(false);
    let mut ignore = |_: &Event| {};
    let control = Control {
        stop: watch.stop.unwrap_or(&never),
        on_event: watch.on_event.unwrap_or(&mut ignore),
        on_moment: watch.on_moment,
        isa: Isa::detect().name().into(),
    };
    train(&setup, &folder, executor, control)
}
