//! Models for use: what a run leaves behind, and what others' files need beside.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use resnet_io::resize::Filter;
use resnet_io::weights::{TensorRef, write_safetensors};
use resnet_train::TrainError;
use resnet_train::engine::{BatchTargets, Engine, StateTensor};
use resnet_train::evaluate::evaluate;
use resnet_train::model::{Model, ModelRequest, fresh_states, network};
use resnet_train::setup::{BatchSize, prepare};

use crate::tiny::{self, Watch};

fn trained(folder: &Path) -> PathBuf {
    let recipe = tiny::recipe(&["train.epochs=1"]);
    tiny::run(folder, &recipe, tiny::executor(), Watch::default()).unwrap();
    folder.join("checkpoints/last.safetensors")
}

fn message(error: &TrainError, folder: &Path) -> String {
    let hint = error.hint().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
    format!("{error}{hint}").replace(&folder.display().to_string(), "FOLDER")
}

#[test]
fn a_model_file_needs_nothing_else_and_scores_as_in_training() {
    let folder = tempfile::tempdir().unwrap();
    let weights = trained(folder.path());
    let request = ModelRequest { weights, ..ModelRequest::default() };
    let model = Model::load(&request).unwrap();
    assert_eq!((model.spec.name.as_str(), model.spec.classes), ("tiny", 3));
    assert_eq!((model.preprocess.crop, model.classes.labels.len()), ([8, 8], 3));
    assert_eq!(model.notices, [] as [&str; 0]);
    let other = ModelRequest { interpolation: Some(Filter::Bicubic), exif: Some(false), ..request };
    insta::assert_snapshot!(Model::load(&other).unwrap().notices.join("\n"), @r#"
pictures are not prepared as the model's own were: RGB, EXIF orientation applied, no resize, crop 8x8, mean 0.485,0.456,0.406, std 0.229,0.224,0.225
"#);
    let setup = prepare(tiny::recipe(&[]), BatchSize::Given).unwrap();
    let mut engine =
        Engine::for_evaluation(tiny::executor(), model.plan(), 4, &model.states).unwrap();
    let val = setup.val.unwrap();
    let positions = model.classes.positions(val.source().classes(), 3).unwrap();
    let never = AtomicBool::new(false);
    let found = evaluate(&mut engine, &val, &positions, &never, &mut |_| {}).unwrap().unwrap();
    assert_eq!(found.predictions.len(), val.source().len());
    let text = std::fs::read_to_string(folder.path().join("metrics.jsonl")).unwrap();
    let epoch: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(epoch["val_loss"].as_f64().unwrap(), found.score.loss);
    assert_eq!(epoch["val_top1"].as_f64().unwrap(), found.score.quality.goal());
}

/// Weights of resnet20 with another number of classes, as someone else's file.
fn foreign(folder: &Path, classes: usize) -> PathBuf {
    let mut spec = network("resnet20").unwrap();
    spec.classes = classes;
    let states: Vec<StateTensor> = fresh_states(&spec, 1).unwrap().collect();
    let tensors: Vec<_> =
        states.iter().map(|s| TensorRef::f32(&s.name, &s.shape, &s.values)).collect();
    let path = folder.join("foreign.safetensors");
    write_safetensors(&path, &Default::default(), &tensors).unwrap();
    path
}

#[test]
fn a_foreign_file_takes_what_its_family_usually_has_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let weights = foreign(folder.path(), 7);
    let request = ModelRequest { weights, ..ModelRequest::default() };
    let error = Model::load(&request).unwrap_err();
    insta::assert_snapshot!(message(&error, folder.path()), @r#"
FOLDER/foreign.safetensors: says nothing about its network
hint: name it with --model
"#);
    let named = ModelRequest { model: Some("resnet20".into()), ..request.clone() };
    let model = Model::load(&named).unwrap();
    insta::assert_snapshot!(model.notices.join("\n"), @r#"
resnet20 with the file's 7 classes
the file does not say how to prepare pictures: RGB, EXIF orientation ignored, no resize, crop 32x32, mean 0.485,0.456,0.406, std 0.229,0.224,0.225
"#);
    assert_eq!((model.spec.classes, model.preprocess.resize), (7, None));
    let flags = ModelRequest { mean: Some(vec![0.5; 3]), crop: Some(24), ..named.clone() };
    let model = Model::load(&flags).unwrap();
    assert_eq!((model.preprocess.mean[0], model.spec.input.height), (0.5, 24));
    let other = ModelRequest { model: Some("resnet32".into()), ..named };
    insta::assert_snapshot!(message(&Model::load(&other).unwrap_err(), folder.path()), @r#"
FOLDER/foreign.safetensors: does not fit resnet32: 60 missing (layer1.3.conv1.weight [16, 16, 3, 3], layer1.3.bn1.weight [16], layer1.3.bn1.bias [16] and 57 more)
hint: these are weights of another network: name it with --model
"#);
    let large = network("resnet50").unwrap();
    let usual = resnet_train::preprocess::Preprocess::of_family(&large);
    assert_eq!((usual.resize, usual.crop), (Some(256), [224, 224]));
}

#[test]
fn training_from_weights_keeps_or_replaces_the_classifier() {
    let folder = tempfile::tempdir().unwrap();
    let weights = format!("model.weights={}", foreign(folder.path(), 7).display());
    let start = |extra: &str| {
        let recipe = tiny::recipe(&["model.name=resnet20", &weights, extra]);
        prepare(recipe, BatchSize::Given)
    };
    let error = start("model.new_head=false").err().unwrap();
    insta::assert_snapshot!(message(&error, folder.path()), @r#"
FOLDER/foreign.safetensors: does not fit resnet20: 2 of another shape (fc.weight is [7, 64], expected [3, 64], fc.bias is [7], expected [3])
hint: the file has 7 classes, not 3: --new-head starts a new classifier
"#);
    let setup = start("model.new_head=true").unwrap();
    assert!(setup.weights_from.ends_with("but for a new classifier"), "{}", setup.weights_from);
    let states: Vec<StateTensor> = setup.first_states().unwrap().collect();
    let of = |name: &str| states.iter().find(|state| state.name == name).unwrap();
    assert_eq!(of("fc.weight").shape, [3, 64]);
    let file = resnet_io::weights::open(&folder.path().join("foreign.safetensors")).unwrap();
    assert_eq!(of("conv1.weight").values[..], file.get("conv1.weight").unwrap().to_f32()[..]);
}

#[test]
fn a_distribution_with_one_class_is_that_class() {
    let setup = prepare(tiny::recipe(&[]), BatchSize::Given).unwrap();
    let batch = setup.train.epoch(0, 0).next_batch().unwrap().unwrap();
    let mut dense = vec![0.0; 3 * batch.len()];
    for (row, &label) in dense.chunks_exact_mut(3).zip(&batch.labels) {
        row[label as usize] = 1.0;
    }
    let loss = |kind, targets: BatchTargets<'_>| {
        let mut plan = setup.plan();
        plan.targets = kind;
        let executor = Box::new(resnet_core::reference::ReferenceExecutor::<f32>::new());
        let states = setup.first_states().unwrap();
        let mut engine = Engine::for_training(executor, plan, 16, states).unwrap();
        engine.gradients(&batch.pixels, targets, 0).unwrap().loss
    };
    use resnet_core::step::Targets;
    let classes = loss(Targets::Classes, BatchTargets::Classes(&batch.labels));
    assert_eq!(loss(Targets::Dense, BatchTargets::Dense(&dense)), classes);
}

#[test]
fn a_network_of_ones_own_is_a_toml_file_whose_faults_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    let mut spec = network("cifar-resnet8").unwrap();
    spec.name = "mine".into();
    let text = toml::to_string(&spec).unwrap();
    std::fs::write(&path, &text).unwrap();
    assert_eq!(network(&path.display().to_string()).unwrap(), spec);
    std::fs::write(&path, text.replace("blocks = 1", "blokcs = 1")).unwrap();
    let error = network(&path.display().to_string()).unwrap_err();
    insta::assert_snapshot!(message(&error, folder.path()), @r#"
FOLDER/mine.toml: line 33: unknown field `blokcs`, expected one of `blocks`, `channels`, `stride`, `dilation`; did you mean `blocks`?
hint: `resnet info resnet18 --toml` prints a network to start from
"#);
    let setup = prepare(
        tiny::recipe(&[&format!("model.name={}", {
            std::fs::write(&path, &text).unwrap();
            path.display()
        })]),
        BatchSize::Given,
    )
    .unwrap();
    // The file may go; the run keeps what was in it.
    assert_eq!((setup.recipe.model.name, setup.recipe.model.spec), (None, Some(spec)));
}
