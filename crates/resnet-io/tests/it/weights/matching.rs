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
        Err(e) => format!("{e}\nhint: {}", e.hint()),
    }
}

#[test]
fn a_file_of_the_network_fits_in_any_order() {
    let mut shapes = TOY.to_vec();
    shapes.reverse();
    shapes.push(("bn1.num_batches_tracked", &[]));
    shapes.push(("optim/velocity/fc.bias", &[4]));
    shapes.push(("ema/fc.bias", &[4]));
    assert_snapshot!(outcome(&shapes, Head::Keep), @"conv1.weight bn1.weight bn1.running_mean fc.weight fc.bias");
}

#[test]
fn a_classifier_that_is_a_convolution_fits() {
    let mut shapes = TOY.to_vec();
    shapes[3].1 = &[4, 2, 1, 1];
    assert_snapshot!(outcome(&shapes, Head::Keep), @"conv1.weight bn1.weight bn1.running_mean fc.weight fc.bias");
}

#[test]
fn another_number_of_classes_is_refused_unless_a_new_head_is_asked_for() {
    let mut shapes = TOY.to_vec();
    shapes[3].1 = &[10, 2];
    shapes[4].1 = &[10];
    assert_snapshot!(outcome(&shapes, Head::Keep), @r#"
    toy.pth: does not fit toy: 2 of another shape (fc.weight is [10, 2], expected [4, 2], fc.bias is [10], expected [4])
    hint: the file has 10 classes, not 4: --new-head starts a new classifier
    "#);
    assert_snapshot!(outcome(&shapes, Head::New), @"conv1.weight bn1.weight bn1.running_mean - -");
}

#[test]
fn a_backbone_without_classifier_fits_with_a_new_head() {
    assert_snapshot!(outcome(&TOY[..3], Head::Keep), @r#"
    toy.pth: does not fit toy: 2 missing (fc.weight [4, 2], fc.bias [4])
    hint: the file has no classifier: --new-head starts one
    "#);
    assert_snapshot!(outcome(&TOY[..3], Head::New), @"conv1.weight bn1.weight bn1.running_mean - -");
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
    assert_snapshot!(outcome(shapes, Head::Keep), @r#"
    toy.pth: does not fit toy: 3 missing (bn1.running_mean [2], fc.weight [4, 2], fc.bias [4]); 5 unexpected (layer1.0.conv1.weight [1], layer1.0.conv2.weight [1], layer1.1.conv1.weight [1] and 2 more); 1 of another shape (conv1.weight is [2, 3, 7, 7], expected [2, 3, 3, 3])
    hint: these are weights of another network: name it with --model
    "#);
}
