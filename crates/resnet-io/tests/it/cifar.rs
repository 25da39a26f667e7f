//! CIFAR's binary files: records to pictures, whichever of the two sets it is.

use std::fs;
use std::path::Path;

use resnet_io::DataError;
use resnet_io::source::{DataSet, Encoded, OpenOptions, open};

/// Records of `labels`, whose planes count up from the record's number.
fn records(labels: &[&[u8]]) -> Vec<u8> {
    let record = |(i, label): (usize, &&[u8])| {
        let planes = (0..3072usize).map(move |p| (p / 1024 * 50 + p % 1024 % 7 + i) as u8);
        label.iter().copied().chain(planes).collect::<Vec<u8>>()
    };
    labels.iter().enumerate().flat_map(record).collect()
}

fn opened(path: &Path) -> Result<DataSet, DataError> {
    open(path.to_str().unwrap(), &OpenOptions::default())
}

#[test]
fn a_folder_of_batches_is_a_training_and_a_test_part() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("data_batch_2.bin"), records(&[&[3]])).unwrap();
    fs::write(folder.path().join("data_batch_1.bin"), records(&[&[9], &[0]])).unwrap();
    fs::write(folder.path().join("test_batch.bin"), records(&[&[5]])).unwrap();
    let set = opened(folder.path()).unwrap();
    let (train, test) = (set.train.unwrap(), set.test.unwrap());
    assert_eq!((train.classes()[9].as_str(), train.classes().len()), ("truck", 10));
    assert_eq!([train.label(0), train.label(1), train.label(2), test.label(0)], [9, 0, 3, 5]);
    assert_eq!((train.name(2), test.len()), ("data_batch_2.bin:0".to_string(), 1));
    let Encoded::Pixels(picture) = train.read(1).unwrap() else { panic!("they are in memory") };
    assert_eq!((picture.width, picture.height), (32, 32));
    // Record 1, pixel 8: its three planes are side by side.
    assert_eq!(picture.row(0, 8, 1), [1 + 1, 50 + 1 + 1, 100 + 1 + 1]);
}

#[test]
fn the_fine_label_of_cifar_100_is_the_class() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("train.bin");
    fs::write(&path, records(&[&[19, 99], &[4, 0]])).unwrap();
    let train = opened(&path).unwrap().train.unwrap();
    assert_eq!((train.classes().len(), train.label(0), train.label(1)), (100, 99, 0));
    assert_eq!([&train.classes()[0], &train.classes()[99]], ["apple", "worm"]);
}

#[test]
fn files_that_are_no_records_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data_batch_1.bin");
    let error = |bytes: &[u8], place: &Path| {
        fs::write(&path, bytes).unwrap();
        let Err(error) = opened(place) else { panic!("it was read") };
        error.to_string().replace(folder.path().to_str().unwrap(), "FOLDER")
    };
    let whole = records(&[&[1], &[2]]);
    insta::assert_snapshot!(error(&whole[..whole.len() - 1], &path), @"FOLDER/data_batch_1.bin: not an image set: no archive of images, no list of them, no Parquet, no CIFAR or IDX records");
    insta::assert_snapshot!(error(&whole[..whole.len() - 1], folder.path()), @"FOLDER/data_batch_1.bin: not an image set: 6145 bytes that are not whole CIFAR-10 or CIFAR-100 records");
    insta::assert_snapshot!(error(b"", folder.path()), @"FOLDER/data_batch_1.bin: not an image set: 0 bytes that are not whole CIFAR-10 or CIFAR-100 records");
    // Beyond the records that tell the kind.
    let mut labels: Vec<&[u8]> = vec![&[1]; 70];
    labels[69] = &[10];
    insta::assert_snapshot!(error(&records(&labels), folder.path()), @"FOLDER/data_batch_1.bin: record 69 has class 10, expected at most 9");
}
