//! The trained CIFAR-10 networks of akamaster/pytorch_resnet_cifar10: legacy pickles from the wild.

use std::path::Path;

use resnet_io::weights::{self, Format};

/// Elements that are parameters, not statistics or counters.
#[track_caller]
fn check(name: &str, parameters: usize) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    if !path.exists() {
        println!("skipped: {} is not there", path.display());
        return;
    }
    let file = weights::open(&path).unwrap();
    assert_eq!(file.format, Format::TorchLegacy);
    let statistic =
        |name: &str| name.contains(".running_") || name.ends_with(".num_batches_tracked");
    let learned = file.tensors.iter().filter(|tensor| !statistic(&tensor.name));
    assert_eq!(learned.map(|tensor| tensor.to_f32().len()).sum::<usize>(), parameters);
    for tensor in &file.tensors {
        let known = ["conv1.weight", "bn1.", "layer", "fc."];
        assert!(known.iter().any(|k| tensor.name.starts_with(k)), "{}", tensor.name);
        assert!(tensor.to_f32().iter().all(|v| v.is_finite()), "{}", tensor.name);
    }
    assert_eq!(file.get("fc.weight").unwrap().shape(), [10, 64]);
    let skipped: Vec<_> = file.skipped.iter().map(ToString::to_string).collect();
    assert_eq!(skipped, ["best_prec1 (number)"]);
}

#[test]
fn resnet20_is_read() {
    check("resnet20-12fca82f.th", 269_722);
}

#[test]
fn resnet32_is_read() {
    check("resnet32-d509ac18.th", 464_154);
}

#[test]
fn resnet44_is_read() {
    check("resnet44-014dd654.th", 658_586);
}

#[test]
fn resnet56_is_read() {
    check("resnet56-4bfd9763.th", 853_018);
}
