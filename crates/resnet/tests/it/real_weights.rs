//! Trained weights of others on real pictures: every prediction is PyTorch's.
//!
//! The files lie beside the checkout or not at all; then the tests say what they skipped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use resnet::core::precision::Precision;
use resnet::io::source::{OpenOptions, open};
use resnet::train::evaluate::Evaluation;
use resnet::train::score::Quality;
use resnet::{Device, EvaluateOptions, Model, ModelRequest, Predictor};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub(crate) fn shared(file: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: shared/data/{file} is not there");
    None
}

fn read<T: DeserializeOwned>(path: &Path) -> T {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn predictor(weights: PathBuf, model: &str, classes_file: Option<PathBuf>) -> Predictor {
    predictor_in(Precision::F32, weights, model, classes_file)
}

fn predictor_in(
    precision: Precision,
    weights: PathBuf,
    model: &str,
    classes_file: Option<PathBuf>,
) -> Predictor {
    let model = Some(model.into());
    let request =
        ModelRequest { weights, model, classes_file, precision, ..ModelRequest::default() };
    Predictor::new(Model::load(&request).unwrap(), Device::detect()).unwrap()
}

fn evaluate(predictor: &mut Predictor, data: &Path) -> Evaluation {
    let cache = tempfile::tempdir().unwrap();
    let opening = OpenOptions { cache: Some(cache.path().into()), ..OpenOptions::default() };
    let source = open(&data.display().to_string(), &opening).unwrap();
    let options = EvaluateOptions { batch_size: 25, workers: 1 };
    let pictures = source.for_evaluation().unwrap();
    let never = AtomicBool::new(false);
    predictor.evaluate(pictures, options, &never, &mut |_| {}).unwrap().unwrap()
}

/// How many were right, and how many among the first five.
fn hits(found: &Evaluation) -> (u64, u64) {
    let Quality::OneClass { correct, top5, .. } = found.score.quality else {
        panic!("pictures of one class each")
    };
    (correct, (top5 * found.score.images as f64).round() as u64)
}

/// `cifar10-reference.json`.
#[derive(Deserialize)]
struct Cifar {
    nets: BTreeMap<String, CifarNetwork>,
}

#[derive(Deserialize)]
struct CifarNetwork {
    correct_of_1000: u64,
    top5_correct_of_1000: u64,
    mean_cross_entropy: f64,
    /// A digit a picture.
    predictions: String,
}

#[track_caller]
fn check_cifar(file: &str, model: &str) {
    let (Some(weights), Some(reference), Some(data)) = (
        shared(&format!("{file}.th")),
        shared("cifar10-reference.json"),
        shared("cifar10-lossless-test-1000.bin"),
    ) else {
        return;
    };
    let expected = &read::<Cifar>(&reference).nets[file];
    let found = evaluate(&mut predictor(weights, model, None), &data);
    let predictions: String = found.predictions.iter().map(u32::to_string).collect();
    assert_eq!(predictions, expected.predictions);
    assert_eq!(hits(&found), (expected.correct_of_1000, expected.top5_correct_of_1000));
    let loss = found.score.loss;
    assert!((loss - expected.mean_cross_entropy).abs() < 1e-6, "loss {loss}");
}

#[test]
fn resnet20_predicts_as_pytorch_does() {
    check_cifar("resnet20-12fca82f", "resnet20");
}

#[test]
fn resnet32_predicts_as_pytorch_does() {
    check_cifar("resnet32-d509ac18", "resnet32");
}

#[test]
fn resnet44_predicts_as_pytorch_does() {
    check_cifar("resnet44-014dd654", "resnet44");
}

#[test]
fn resnet56_predicts_as_pytorch_does() {
    check_cifar("resnet56-4bfd9763", "resnet56");
}

/// How many answers of f32 activations in bf16 may turn, either way.
const BF16_SLACK: u64 = 2;

#[track_caller]
fn check_cifar_in_bf16(file: &str, model: &str, expected: u64) {
    let (Some(weights), Some(data)) = (shared(file), shared("cifar10-lossless-test-1000.bin"))
    else {
        return;
    };
    let found = evaluate(&mut predictor_in(Precision::Bf16, weights, model, None), &data);
    let (correct, _) = hits(&found);
    assert!(correct.abs_diff(expected) <= BF16_SLACK, "{correct} right, in f32 {expected}");
}

#[test]
fn resnet20_is_as_right_in_bf16() {
    check_cifar_in_bf16("resnet20-12fca82f.th", "resnet20", 915);
}

#[test]
fn resnet56_is_as_right_in_bf16() {
    check_cifar_in_bf16("resnet56-4bfd9763.th", "resnet56", 926);
}

/// Right answers on 9,000 test pictures as JPEG, by PyTorch on Pillow's pixels. Decoders and sums may
/// turn a picture whose two best classes are all but equal.
const JPEG_SLACK: u64 = 15;

#[track_caller]
fn check_jpegs(file: &str, model: &str, expected: u64) {
    let (Some(weights), Some(data)) = (shared(file), shared("cifar10-test.tar.gz")) else { return };
    let found = evaluate(&mut predictor(weights, model, None), &data);
    assert_eq!(found.score.images, 9_000);
    let (correct, _) = hits(&found);
    assert!(correct.abs_diff(expected) <= JPEG_SLACK, "{correct} right");
    println!("{model}: {correct} of 9,000 JPEGs right, PyTorch {expected}");
}

#[test]
fn resnet20_is_as_right_on_jpegs_as_in_pytorch() {
    check_jpegs("resnet20-12fca82f.th", "resnet20", 7_280);
}

#[test]
fn resnet56_is_as_right_on_jpegs_as_in_pytorch() {
    check_jpegs("resnet56-4bfd9763.th", "resnet56", 7_471);
}

/// `imagenet-reference.json`.
#[derive(Deserialize)]
struct ImageNet {
    photos: Vec<Photo>,
}

#[derive(Deserialize)]
struct Photo {
    wnid: String,
    argmax: u32,
}

/// ResNet-50 as published: the stride lies on the first 1x1 convolution. The shapes are v1.5's, so
/// only predictions tell the two apart.
#[test]
fn resnet50_v1_predicts_as_pytorch_does_and_is_not_taken_for_v1_5() {
    let weights = match std::env::var_os("RESNET50_V1_WEIGHTS") {
        Some(path) => Some(PathBuf::from(path)),
        None => shared("resnet50-imagenet-v1.safetensors"),
    };
    let (Some(weights), Some(reference), Some(data)) =
        (weights, shared("imagenet-reference.json"), shared("imagenet-photos-125.tar"))
    else {
        return;
    };
    let classes = shared("imagenet_classes.tsv");
    let expected: ImageNet = read(&reference);
    let found = evaluate(&mut predictor(weights.clone(), "resnet50-v1", classes.clone()), &data);
    assert_eq!(hits(&found), (117, 122));
    // Both are in the order of the class folders.
    assert!(expected.photos.is_sorted_by_key(|photo| &photo.wnid));
    let differ = expected.photos.iter().zip(&found.predictions);
    let differ = differ.filter(|(photo, found)| photo.argmax != **found).count();
    assert!(differ <= 2, "{differ} of {} predictions differ", found.predictions.len());
    println!("{differ} of {} predictions differ from PyTorch's", found.predictions.len());
    let mistaken = evaluate(&mut predictor(weights.clone(), "resnet50", classes.clone()), &data);
    assert_eq!(hits(&mistaken), (104, 119));
    let mut in_bf16 = predictor_in(Precision::Bf16, weights, "resnet50-v1", classes);
    let (correct, _) = hits(&evaluate(&mut in_bf16, &data));
    assert!(correct.abs_diff(117) <= BF16_SLACK, "{correct} right in bf16");
}
