//! Which file fits which network, and what is said when none does.

use insta::assert_snapshot;
use resnet_io::weights::{DType, Expected, Format, Head, Tensor, TensorFile, match_tensors};

type Shapes<'a> = &'a [(&'a str, &'a [usize])];

const TOY: Shapes<'static> = &[
    ("conv1.weight", &[2, 3, 3, 3]),
    ("bn1.weight", &[2]),
    ("bn1.running_mean", &[2]),
    ("fc.weight", &[4, 2]),
    ("fc.bias", &[4]),
];

fn file(shapes: Shapes<'_>) -> TensorFile {
    let zeros = |&(name, shape): &(&str, &[usize])| {
        let bytes = vec![0; shape.iter().product::<usize>() * 4];
        Tensor::new(name.to_string(), DType::F32, shape.to_vec(), bytes)
    };
    TensorFile {
        path: "toy.pth".into(),
        format: Format::TorchZip,
        metadata: Default::default(),
        tensors: shapes.iter().map(zeros).collect(),
        skipped: Vec::new(),
    }
}

/// What matching a file to [`TOY`] says: the taken names, or the message and the hint.
fn outcome(shapes: Shapes<'_>, head: Head) -> String {
    let expected: Vec<_> = TOY.iter().map(|&(name, shape)| Expected { name, shape }).collect();
    match match_tensors("toy", &expected, &file(shapes), head) {
        Ok(matched) => {
            let taken = matched.tensors.iter().map(|t| t.map_or("-", |t| t.name.as_str()));
            taken.collect::<Vec<_>>().join(" ")
        }
        Err(e) => format!("{e}\nhint: {}", e.hint().unwrap_or_default()),
    }
}

#[test]
fn a_file_of_the_network_fits_in_any_order() {
    let mut shapes = TOY.to_vec();
    shapes.reverse();
    shapes.push(("bn1.num_batches_tracked", &[]));
    shapes.push(("optim/velocity/fc.bias", &[4]));
    shapes.push(("ema/fc.bias", &[4]));
    assert_snapshot!(outcome(&shapes, Head::Keep), @"");
}

#[test]
fn a_classifier_that_is_a_convolution_fits() {
    let mut shapes = TOY.to_vec();
    shapes[3].1 = &[4, 2, 1, 1];
    assert_snapshot!(outcome(&shapes, Head::Keep), @"");
}

#[test]
fn another_number_of_classes_is_refused_unless_a_new_head_is_asked_for() {
    let mut shapes = TOY.to_vec();
    shapes[3].1 = &[10, 2];
    shapes[4].1 = &[10];
    assert_snapshot!(outcome(&shapes, Head::Keep), @"");
    assert_snapshot!(outcome(&shapes, Head::New), @"");
}

#[test]
fn a_backbone_without_classifier_fits_with_a_new_head() {
    assert_snapshot!(outcome(&TOY[..3], Head::Keep), @"");
    assert_snapshot!(outcome(&TOY[..3], Head::New), @"");
}

#[test]
fn weights_of_another_network_are_refused_with_all_that_differs() {
    let shapes: Shapes<'_> = &[
        ("conv1.weight", &[2, 3, 7, 7]),
        ("bn1.weight", &[2]),
        ("layer1.0.conv1.weight", &[1]),
        ("layer1.0.conv2.weight", &[1]),
        ("layer1.1.conv1.weight", &[1]),
        ("layer1.1.conv2.weight", &[1]),
        ("layer2.0.conv1.weight", &[1]),
    ];
    assert_snapshot!(outcome(shapes, Head::Keep), @"");
}
