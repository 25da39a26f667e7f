//! The library as its users see it: train, load, evaluate, predict.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod curve;
mod real_weights;

use std::path::Path;
use std::sync::atomic::AtomicBool;

use resnet::io::source::{Encoded, OpenOptions, open};
use resnet::train::event::{Ending, Event};
use resnet::train::recipe::Assignment;
use resnet::{Device, EvaluateOptions, Model, ModelRequest, Predictor, Training};

const DATA: &str = "generated:classes=3,images=60,size=16";

fn trained(run: &Path) -> ModelRequest {
    let set = |text: String| Assignment::parse(&text).unwrap();
    let assignments = [
        set(format!("data.source={DATA}")),
        set("model.name=cifar-resnet8".into()),
        set("train.epochs=2".into()),
    ];
    let training = Training::begin(run, None, &assignments, Device::detect()).unwrap();
    let mut epochs = 0;
    let mut on_event = |event: &Event| epochs += u32::from(matches!(event, Event::Epoch(_)));
    let end = training.run(&AtomicBool::new(false), &mut on_event).unwrap();
    assert_eq!((end.ending, epochs), (Ending::Finished, 2));
    let weights = run.join("checkpoints/best.safetensors");
    ModelRequest { weights, ..ModelRequest::default() }
}

#[test]
fn what_was_trained_predicts_the_same_alone_and_in_any_batch() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::load(&trained(folder.path())).unwrap();
    let mut predictor = Predictor::new(model, Device::detect()).unwrap();
    let data = open(DATA, &OpenOptions::default()).unwrap();
    let val = data.for_evaluation().unwrap();
    let never = AtomicBool::new(false);
    let mut evaluate = |batch_size| {
        let options = EvaluateOptions { batch_size, workers: 1 };
        predictor.evaluate(val, options, &never, &mut |_| {}).unwrap().unwrap()
    };
    let all = evaluate(12);
    assert_eq!(all.score.images, 12);
    assert_eq!(evaluate(5), all);
    assert_eq!(evaluate(1), all);
    let Encoded::Pixels(picture) = val.read(0).unwrap() else { panic!("generated pictures") };
    let logits = predictor.logits("first", picture).unwrap();
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    assert_eq!(logits[all.predictions[0] as usize], highest);
}

#[test]
fn a_run_is_the_same_bits_on_any_number_of_threads() {
    same_bits_on_threads("f32");
}

#[test]
fn a_run_in_bf16_is_the_same_bits_on_any_number_of_threads() {
    same_bits_on_threads("bf16");
}

fn same_bits_on_threads(precision: &str) {
    let tensors = |threads| {
        let folder = tempfile::tempdir().unwrap();
        let source = Assignment::parse(&format!("data.source={DATA}")).unwrap();
        let epochs = Assignment::parse("train.epochs=1").unwrap();
        let model = Assignment::parse("model.name=cifar-resnet8").unwrap();
        let device = Device { threads, ..Device::detect() };
        let precision = Assignment::parse(&format!("train.precision={precision}")).unwrap();
        let assignments = [source, epochs, model, precision];
        let training = Training::begin(folder.path(), None, &assignments, device).unwrap();
        training.run(&AtomicBool::new(false), &mut |_| {}).unwrap();
        let weights = folder.path().join("checkpoints/last.safetensors");
        Model::load(&ModelRequest { weights, ..ModelRequest::default() }).unwrap().states
    };
    let one = tensors(1);
    for threads in [2, 3, 7] {
        assert!(tensors(threads) == one, "{threads} threads");
    }
}

#[test]
fn bytes_that_are_no_picture_are_an_error_that_names_them() {
    let folder = tempfile::tempdir().unwrap();
    let model = Model::load(&trained(folder.path())).unwrap();
    let mut predictor = Predictor::new(model, Device::detect()).unwrap();
    let error = predictor.classify("cat.jpg", b"no picture", 5).unwrap_err();
    assert!(error.to_string().starts_with("cat.jpg: "), "{error}");
}
