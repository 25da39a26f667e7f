//! Pictures of any number of classes: lists of them train, are scored, and go on to the bit.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use resnet_core::rng::{Purpose, Stream};
use resnet_cpu::Isa;
use resnet_cpu::executor::{CpuExecutor, CpuOptions};
use resnet_io::{ImageRef, encode};
use resnet_train::engine::Engine;
use resnet_train::evaluate::evaluate;
use resnet_train::event::End;
use resnet_train::model::{Model, ModelRequest};
use resnet_train::recipe::Recipe;
use resnet_train::score::Quality;
use resnet_train::setup::{BatchSize, prepare};
use serde_json::Value;

use crate::resume::{finish_and_compare, stop_after, uninterrupted};
use crate::tiny::{self, Watch};

const SIDE: usize = 12;

/// Noise, perhaps reddish, perhaps with a bright square somewhere: neither tells of the other.
fn picture(index: u32, is_red: bool, has_square: bool) -> Vec<u8> {
    let mut stream = Stream::new(5, Purpose::Test, index, 0);
    let (left, top) = (stream.below(8) as usize, stream.below(8) as usize);
    let mut pixels = Vec::new();
    for y in 0..SIDE {
        for x in 0..SIDE {
            let inside = (left..left + 4).contains(&x) && (top..top + 4).contains(&y);
            let level = if inside && has_square { 190 } else { 50 };
            let grey = level + stream.below(30);
            let red = grey + if is_red { 35 } else { 0 };
            pixels.extend([red, grey, grey].map(|v| v as u8));
        }
    }
    let (width, height) = (SIDE, SIDE);
    encode::png(ImageRef { width, height, pixels: &pixels }).unwrap().to_vec()
}

/// So many training pictures and half as many others, with a list of their classes.
fn set(folder: &Path, train: u32) -> String {
    let mut list = "path,labels,split\n".to_string();
    for index in 0..train + train / 2 {
        let (is_red, has_square) = (index % 2 == 1, index / 2 % 2 == 1);
        fs::write(folder.join(format!("{index}.png")), picture(index, is_red, has_square)).unwrap();
        let labels = match (is_red, has_square) {
            (false, false) => "",
            (true, false) => "red",
            (false, true) => "square",
            (true, true) => "square|red",
        };
        let part = if index < train { "train" } else { "val" };
        writeln!(list, "{index}.png,{labels},{part}").unwrap();
    }
    let path = folder.join("list.csv");
    fs::write(&path, list).unwrap();
    format!("data.source={}", path.display())
}

/// The lines of a run's metrics of one kind.
fn metrics(run: &Path, event: &str) -> Vec<Value> {
    let text = fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter(|line| line["event"] == event).collect()
}

fn trained(recipe: &Recipe, run: &Path) -> End {
    tiny::run(run, recipe, tiny::executor(), Watch::default()).unwrap()
}

#[test]
fn two_labels_are_learnt_and_the_model_remembers_that_there_may_be_both() {
    let folder = tempfile::tempdir().unwrap();
    let source = set(folder.path(), 160);
    let changes = [source.as_str(), "augment.steps=", "optimizer.lr=0.2", "train.epochs=10"];
    let (recipe, run) = (tiny::recipe(&changes), folder.path().join("run"));
    let end = trained(&recipe, &run);
    assert!(0.97 < end.final_map.unwrap(), "{end:?}");
    assert_eq!((end.final_top1, end.best_top1), (None, None));
    let best =
        metrics(&run, "epoch").iter().map(|e| e["val_map"].as_f64().unwrap()).fold(0.0, f64::max);
    assert_eq!(end.best_map, Some(best));
    let epochs = metrics(&run, "epoch");
    let last = epochs.last().unwrap();
    for key in ["train_f1_micro", "val_f1_macro", "val_f1_micro"] {
        assert!(0.9 < last[key].as_f64().unwrap(), "{key} of {last}");
    }
    assert!(last.get("val_top1").is_none() && last.get("train_top1").is_none(), "{last}");
    let step = &metrics(&run, "step")[0];
    assert!(step.get("f1_micro").is_some() && step.get("top1").is_none(), "{step}");

    let weights = run.join("checkpoints/last.safetensors");
    let model = Model::load(&ModelRequest { weights, ..ModelRequest::default() }).unwrap();
    assert!(model.multi_label);
    assert_eq!(model.classes.labels, ["red", "square"]);
    let setup = prepare(recipe, BatchSize::Given).unwrap();
    let mut engine =
        Engine::for_evaluation(tiny::executor(), model.plan(), 4, &model.states).unwrap();
    let val = setup.val.as_ref().unwrap();
    let found =
        evaluate(&mut engine, val, &[0, 1], &AtomicBool::new(false), &mut |_| {}).unwrap().unwrap();
    let Quality::MultiLabel { map, .. } = found.score.quality else { panic!("{found:?}") };
    assert_eq!((Some(map), found.score.images), (end.final_map, 80));
    // Both of a picture with both are probable, each by itself.
    let batch = val.epoch(0, 0).next_batch().unwrap().unwrap();
    let logits = engine.logits(&batch.pixels).unwrap();
    let both = model.probabilities(&logits[6..8]);
    assert!(
        both.iter().all(|&p| 0.5 < p) && model.probabilities(&logits[..2])[0] < 0.5,
        "{both:?}"
    );
}

#[test]
fn every_number_of_threads_trains_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let source = set(folder.path(), 33);
    let changes = [source.as_str(), "train.epochs=2", "augment.mixup=0.4", "augment.cutmix=1.0"];
    let losses = [1, 2, 3].map(|threads| {
        let run = folder.path().join(threads.to_string());
        let executor = Box::new(CpuExecutor::new(CpuOptions::new(Isa::detect(), threads)));
        let workers = format!("data.workers={threads}");
        let recipe = tiny::recipe(&[&changes[..], &[workers.as_str()][..]].concat());
        tiny::run(&run, &recipe, executor, Watch::default()).unwrap();
        let values = |line: &Value| (line["loss"].to_string(), line["f1_micro"].to_string());
        metrics(&run, "step").iter().map(values).collect::<Vec<_>>()
    });
    assert_eq!(losses[0].len(), 6);
    assert!(losses[1] == losses[0] && losses[2] == losses[0], "{losses:?}");
}

#[test]
fn a_run_on_several_labels_that_stops_within_an_epoch_goes_on_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let source = set(folder.path(), 33);
    let changes =
        [source.as_str(), "augment.mixup=0.4", "loss.label_smoothing=0.1", "loss.pos_weight=2"];
    let expected = uninterrupted(&changes);
    let run = folder.path().join("run");
    stop_after(&run, &changes, 2);
    stop_after(&run, &changes, 3);
    finish_and_compare(&run, "several labels", &expected);
}

#[test]
fn what_needs_one_class_a_picture_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let source = set(folder.path(), 33);
    let error = |change: &str| {
        let error = prepare(tiny::recipe(&[&source, change]), BatchSize::Given).err().unwrap();
        format!("{error}\nhint: {}", error.hint().unwrap())
    };
    insta::assert_snapshot!(error("loss.kind=softmax"), @r#"
loss.kind = "softmax" needs pictures of one class each, and these may have several
hint: leave it out, or give a list with a column `label` of one class each
"#);
    insta::assert_snapshot!(error("data.sampling=balanced"), @r#"
data.sampling = "balanced" needs pictures of one class each, and these may have several
hint: leave it out, or give a list with a column `label` of one class each
"#);
}

#[test]
fn classes_are_found_by_name_in_a_file_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let source = set(folder.path(), 33);
    fs::write(folder.path().join("classes.tsv"), "square\nblue\nred\n").unwrap();
    let classes = format!("data.classes_file={}", folder.path().join("classes.tsv").display());
    let setup = prepare(tiny::recipe(&[&source, &classes]), BatchSize::Given).unwrap();
    assert_eq!(setup.classes, ["square", "blue", "red"]);
    let train: Arc<_> = setup.train.source().clone();
    let labels: Vec<_> = (0..4).map(|i| train.labels(i).as_slice().to_vec()).collect();
    assert_eq!(labels, [vec![], vec![2], vec![0], vec![0, 2]]);
}
