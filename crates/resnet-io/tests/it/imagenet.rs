//! ImageNet's validation pictures as they are shipped.

use std::fs;
use std::path::Path;

use resnet_io::source::{OpenOptions, open};

fn touch(path: &Path) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "bytes").unwrap();
}

fn picture(number: usize) -> String {
    format!("ILSVRC2012_val_{number:08}.JPEG")
}

/// (key, class, label) of each validation sample at an address.
fn samples(address: &Path) -> Vec<(String, String, u32)> {
    let set = open(address.to_str().unwrap(), &OpenOptions::default()).unwrap();
    let val = set.val.unwrap();
    assert_eq!(val.classes().len(), 1000);
    let class = |index| val.classes()[val.label(index) as usize].clone();
    (0..val.len()).map(|index| (val.key(index), class(index), val.label(index))).collect()
}

/// The first three of the real set: a sea snake, an Alpine ski, a Shetland sheepdog.
fn first_three() -> Vec<(String, String, u32)> {
    let of = |number, wnid: &str, label| (picture(number), wnid.to_string(), label);
    vec![of(1, "n01751748", 65), of(2, "n09193705", 970), of(3, "n02105855", 230)]
}

#[test]
fn the_development_kits_numbers_are_classes_in_the_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for number in [3, 1, 2] {
        touch(&folder.path().join("val").join(picture(number)));
    }
    let kit = folder.path().join("ILSVRC2012_devkit_t12/data");
    fs::create_dir_all(&kit).unwrap();
    fs::write(kit.join("ILSVRC2012_validation_ground_truth.txt"), "490\n361\n171\n").unwrap();
    assert_eq!(samples(&folder.path().join("val")), first_three());
    assert_eq!(samples(folder.path()), first_three());
}

#[test]
fn kaggles_layout_has_classes_by_name_and_a_training_part() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("ILSVRC/Data/CLS-LOC");
    for number in [1, 2, 3] {
        touch(&data.join("val").join(picture(number)));
    }
    touch(&data.join("train/n01751748/n01751748_1.JPEG"));
    touch(&data.join("train/n09193705/n09193705_1.JPEG"));
    touch(&data.join("test/ILSVRC2012_test_00000001.JPEG"));
    let text = "ImageId,PredictionString\n\
        ILSVRC2012_val_00000003,n02105855 12 1 20 3 n02105855 1 2 3 4 \n\
        ILSVRC2012_val_00000001,n01751748 111 108 330 200 \n\
        ILSVRC2012_val_00000002,n09193705 1 1 3 3 \n";
    fs::write(folder.path().join("LOC_val_solution.csv"), text).unwrap();
    assert_eq!(samples(&data.join("val")), first_three());
    let set = open(data.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!((set.train.unwrap().len(), set.val.unwrap().len()), (2, 3));
}

#[test]
fn an_archive_finds_the_classes_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(fs::File::create(folder.path().join("val.tar")).unwrap());
    for number in [2, 1] {
        let mut header = tar::Header::new_gnu();
        header.set_size(5);
        tar.append_data(&mut header, picture(number), &b"bytes"[..]).unwrap();
    }
    tar.finish().unwrap();
    fs::write(folder.path().join("ILSVRC2012_validation_ground_truth.txt"), "490\n361\n").unwrap();
    assert_eq!(samples(&folder.path().join("val.tar")), first_three()[..2]);
}

#[test]
fn missing_and_wrong_classes_are_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    touch(&folder.path().join(picture(2)));
    let error = || {
        let error = open(folder.path().to_str().unwrap(), &OpenOptions::default()).err().unwrap();
        error.to_string().replace(folder.path().canonicalize().unwrap().to_str().unwrap(), "FOLDER")
    };
    assert!(error().ends_with(
        "ImageNet's validation pictures, but neither ILSVRC2012_validation_ground_truth.txt nor \
         LOC_val_solution.csv is with them or above"
    ));
    let truth = folder.path().join("ILSVRC2012_validation_ground_truth.txt");
    fs::write(&truth, "490\n").unwrap();
    insta::assert_snapshot!(error(), @"FOLDER/ILSVRC2012_validation_ground_truth.txt: not an image set: no class for picture 2");
    fs::write(&truth, "490\n1001\n").unwrap();
    insta::assert_snapshot!(error(), @"FOLDER/ILSVRC2012_validation_ground_truth.txt: not an image set: line 2 is no number from 1 to 1000");
    fs::remove_file(&truth).unwrap();
    let solution = folder.path().join("LOC_val_solution.csv");
    fs::write(&solution, "ImageId,PredictionString\nILSVRC2012_val_00000002,n00000000 1 1 1 1\n")
        .unwrap();
    insta::assert_snapshot!(error(), @r#"FOLDER/LOC_val_solution.csv: not an image set: "n00000000" is no class of ImageNet's"#);
}
