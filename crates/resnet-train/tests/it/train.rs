//! Training: it learns, it stops where it should, and it says what is wrong.

use std::fs;

use resnet_core::executor::Executor;
use resnet_core::reference::ReferenceExecutor;
use resnet_core::step::{Decay, SgdOptions};
use resnet_train::TrainError;
use resnet_train::engine::{BatchTargets, Engine};
use resnet_train::event::{Ending, Event};
use resnet_train::recipe::Assignment;
use resnet_train::run_folder::RunFolder;
use resnet_train::schedule::Hyper;
use resnet_train::setup::{BatchSize, prepare};

use crate::tiny::{self, Watch};

fn message(error: &TrainError, folder: &std::path::Path) -> String {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}{hint}").replace(&folder.display().to_string(), "RUN")
}

#[test]
fn one_batch_is_learnt_by_heart() {
    let mut recipe = tiny::recipe(&["loss.label_smoothing=0"]);
    recipe.model.spec.as_mut().unwrap().dropout = 0.0;
    let setup = prepare(recipe, BatchSize::Given).unwrap();
    let mut plan = setup.plan();
    plan.sgd =
        SgdOptions { weight_decay: 0.0, decay: Decay::All, nesterov: false, clip_norm: None };
    let states = setup.first_states().unwrap();
    let mut engine = Engine::for_training(tiny::executor(), plan, 16, states).unwrap();
    let batch = setup.train.epoch(0, 0).next_batch().unwrap().unwrap();
    let mut loss = f32::INFINITY;
    for step in 0..60 {
        let targets = BatchTargets::Classes(&batch.labels);
        loss = engine.gradients(&batch.pixels, targets, step).unwrap().loss;
        engine.update(Hyper { lr: 0.05, momentum: 0.9 }).unwrap();
    }
    assert!(loss < 0.01, "{loss}");
}

#[test]
fn a_tiny_set_is_learnt_and_the_run_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let changes = [
        "data.source=generated:classes=2,images=200,size=16",
        "augment.steps=",
        "optimizer.lr=0.1",
        "train.epochs=12",
    ];
    let mut epochs = Vec::new();
    let mut on_event = |event: &Event| {
        if let Event::Epoch(epoch) = event {
            epochs.push(epoch.clone());
        }
    };
    let watch = Watch { on_event: Some(&mut on_event), ..Watch::default() };
    let recipe = tiny::recipe(&changes);
    let end = tiny::run(folder.path(), &recipe, tiny::executor(), watch).unwrap();
    assert_eq!((end.ending, end.epoch, epochs.len()), (Ending::Finished, 12, 12));
    assert!(Some(0.95) < epochs[11].train_top1, "{epochs:?}");
    assert!(0.7 < end.best_top1.unwrap(), "{epochs:?}");
    let best = epochs.iter().filter_map(|epoch| epoch.val.top1).fold(0.0, f64::max);
    assert_eq!(end.best_top1, Some(best));
}

#[test]
fn a_tiny_set_is_learnt_from_mixed_pictures() {
    let softmax = "loss.kind=softmax";
    for (mixed, loss, lr) in [
        ("augment.mixup=0.2", softmax, "optimizer.lr=0.1"),
        ("augment.cutmix=1.0", softmax, "optimizer.lr=0.1"),
        ("augment.mixup=0.2", "loss.kind=bce", "optimizer.lr=0.2"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let set = "data.source=generated:classes=2,images=200,size=16";
        let changes = [set, "augment.steps=", lr, "train.epochs=12", mixed, loss];
        let recipe = tiny::recipe(&changes);
        let end = tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default()).unwrap();
        assert!(0.7 < end.best_top1.unwrap(), "{mixed}: {end:?}");
    }
}

#[test]
fn a_run_with_every_step_trains_and_repeats_itself() {
    let steps = "augment.steps=[{step=\"scale_jitter\",sides=[8,12]},{step=\"random_crop\",size=8},\
                 {step=\"rotation\",degrees=[-9.0,9.0]},{step=\"lighting\",std=0.1},\
                 {step=\"color_jitter\",brightness=0.4,contrast=0.4,saturation=0.4,hue=0.1},\
                 {step=\"grayscale\",p=0.1},{step=\"rand_augment\"},{step=\"trivial_augment_wide\"},\
                 {step=\"auto_augment\",policy=\"cifar10\"},{step=\"aug_mix\"},\
                 {step=\"random_erasing\",p=0.5}]";
    let losses = || {
        let folder = tempfile::tempdir().unwrap();
        let mut losses = Vec::new();
        let mut on_event = |event: &Event| {
            if let Event::Step(step) = event {
                losses.push(step.loss);
            }
        };
        let watch = Watch { on_event: Some(&mut on_event), ..Watch::default() };
        let recipe = tiny::recipe(&[steps, "augment.repeats=2", "train.epochs=2"]);
        tiny::run(folder.path(), &recipe, tiny::executor(), watch).unwrap();
        losses
    };
    let first = losses();
    assert_eq!(first.len(), 6);
    assert_eq!(losses(), first);
}

#[test]
fn the_engine_and_the_reference_tell_the_same_story() {
    let losses = |executor: Box<dyn Executor>, changes: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let mut losses = Vec::new();
        let mut on_event = |event: &Event| {
            if let Event::Step(step) = event {
                losses.push(step.loss);
            }
        };
        let watch = Watch { on_event: Some(&mut on_event), ..Watch::default() };
        let base = ["train.epochs=2", "optimizer.lr=0.01"];
        let recipe = tiny::recipe(&[&base, changes].concat());
        tiny::run(folder.path(), &recipe, executor, watch).unwrap();
        losses
    };
    let mixed = ["augment.mixup=0.4", "augment.cutmix=1.0", "loss.label_smoothing=0.1"];
    let binary = ["loss.kind=bce", "loss.target_threshold=0.2", "loss.pos_weight=2"];
    let binary_mixed = [&binary[..], &mixed].concat();
    for changes in [&[][..], &mixed, &binary, &binary_mixed] {
        let engine = losses(tiny::executor(), changes);
        let reference = losses(Box::new(ReferenceExecutor::<f64>::new()), changes);
        // Six steps at a low rate: roundings of f32 have not grown yet.
        const RELATIVE: f64 = 1e-3;
        for (engine, reference) in engine.iter().zip(&reference) {
            assert!((engine - reference).abs() < RELATIVE * reference, "{engine} {reference}");
        }
        assert_eq!(engine.len(), 6);
    }
}

#[test]
fn a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_good_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny::recipe(&["train.max_steps=2"]);
    tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default()).unwrap();
    let last = folder.path().join("checkpoints/last.safetensors");
    let before = fs::read(&last).unwrap();
    let set = |text: &str| Assignment::parse(text).unwrap();
    let worse = [set("train.max_steps="), set("optimizer.lr=1e30")];
    RunFolder::resume(folder.path(), &worse).unwrap();
    let result = tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default());
    insta::assert_snapshot!(message(&result.unwrap_err(), folder.path()), @r#"
the evaluation's loss is not finite at step 3 (epoch 1, learning rate 853553390593273800000000000000)
hint: a lower learning rate (--lr), a warm-up or clipping may help; the last good checkpoint is kept
"#);
    assert!(fs::read(&last).unwrap() == before, "the checkpoint was replaced");
}

#[test]
fn a_folder_with_a_checkpoint_is_not_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny::recipe(&["train.max_steps=1"]);
    tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default()).unwrap();
    let error = RunFolder::create(folder.path(), &recipe).unwrap_err();
    insta::assert_snapshot!(message(&error, folder.path()), @r#"
RUN: holds a run with a checkpoint already
hint: --resume RUN goes on with it; another --run begins anew
"#);
    let error = RunFolder::resume(&folder.path().join("none"), &[]).unwrap_err();
    insta::assert_snapshot!(message(&error, folder.path()), @r#"
RUN/none: no run to resume: there is no recipe.toml in it
hint: --run begins a new one
"#);
    let other = Assignment::parse("train.batch_size=8").unwrap();
    let error = RunFolder::resume(folder.path(), &[other]).unwrap_err();
    insta::assert_snapshot!(message(&error, folder.path()), @r#"
train.batch_size cannot change when a run is resumed
hint: begin a new run, with --run
"#);
    // What it is already may be said again.
    let same = Assignment::parse("train.batch_size=16").unwrap();
    RunFolder::resume(folder.path(), &[same]).unwrap();
}

#[test]
fn a_finished_run_says_so_and_can_be_extended() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny::recipe(&["train.epochs=1"]);
    let go_on = || tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default());
    let first = go_on().unwrap();
    let again = go_on().unwrap();
    assert_eq!((again.ending, again.step), (Ending::AlreadyFinished, 3));
    assert_eq!(again.best_top1, first.best_top1);
    RunFolder::resume(folder.path(), &[Assignment::parse("train.epochs=2").unwrap()]).unwrap();
    let more = go_on().unwrap();
    assert_eq!((more.ending, more.step, more.epoch), (Ending::Finished, 6, 2));
}

#[test]
fn a_resumed_run_without_a_checkpoint_begins_at_its_first_step() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny::recipe(&["train.epochs=1"]);
    RunFolder::create(folder.path(), &recipe).unwrap();
    fs::write(folder.path().join("metrics.jsonl"), "{\"step\":1}\n").unwrap();
    tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default()).unwrap();
    let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn checkpoints_by_the_clock_change_nothing() {
    let metrics = |changes: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let recipe = tiny::recipe(changes);
        tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default()).unwrap();
        let text = fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
        let loss =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].clone();
        text.lines().map(loss).collect::<Vec<_>>()
    };
    let often = ["checkpoint.every_seconds=1e-9", "train.epochs=2"];
    let never = ["checkpoint.every_seconds=0", "checkpoint.every_steps=0", "train.epochs=2"];
    assert_eq!(metrics(&often), metrics(&never));
}

#[test]
fn the_last_epochs_are_kept_where_the_recipe_wants_it() {
    let folder = tempfile::tempdir().unwrap();
    let recipe = tiny::recipe(&["checkpoint.keep=2"]);
    tiny::run(folder.path(), &recipe, tiny::executor(), Watch::default()).unwrap();
    let entries = fs::read_dir(folder.path().join("checkpoints")).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    let expected =
        ["best.safetensors", "epoch-3.safetensors", "epoch-4.safetensors", "last.safetensors"];
    assert_eq!(names, expected);
}
