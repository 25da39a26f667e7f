//! Folders and archives of pictures by class.

use std::fs;
use std::path::Path;

use resnet_io::DataError;
use resnet_io::decode::decode;
use resnet_io::source::{Encoded, OpenOptions, open};

use crate::real_data::shared;

fn write_picture(path: &Path, value: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image::RgbImage::from_pixel(4, 3, image::Rgb([value; 3])).save(path).unwrap();
}

pub(crate) fn tree(folder: &Path, files: &[&str]) {
    for (i, file) in files.iter().enumerate() {
        write_picture(&folder.join(file), i as u8);
    }
}

#[test]
fn a_folder_of_classes_is_one_list_in_the_order_of_bytes() {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), &["b/2.png", "a/10.png", "a/9.PNG", "B/1.png", "b/deeper/0.png"]);
    fs::write(folder.path().join("notes.txt"), "no picture").unwrap();
    fs::write(folder.path().join(".hidden.png"), "").unwrap();
    let set = open(folder.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    let train = set.train.unwrap();
    assert_eq!(train.classes(), ["B", "a", "b"]);
    let labels: Vec<u32> = (0..train.len()).map(|i| train.label(i)).collect();
    assert_eq!(labels, [0, 1, 1, 2, 2]);
    assert!(train.name(1).ends_with("a/10.png"), "{}", train.name(1));
    assert_eq!(set.notices.len(), 1, "{:?}", set.notices);
}

#[test]
fn parts_inside_a_folder_are_splits() {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), &["train/a/1.png", "train/b/1.png", "val/a/1.png", "val/b/2.png"]);
    let set = open(folder.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!((set.train.unwrap().len(), set.val.unwrap().len()), (2, 2));
    assert!(set.test.is_none());
}

#[test]
fn an_archive_holds_the_same_samples_as_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    tree(&data, &["a/1.png", "a/2.png", "b/1.png"]);
    let (plain, zipped) = (folder.path().join("x.tar"), folder.path().join("x.tar.gz"));
    let mut builder = tar::Builder::new(fs::File::create(&plain).unwrap());
    builder.append_dir_all("data", &data).unwrap();
    builder.into_inner().unwrap();
    let file = fs::File::create(&zipped).unwrap();
    let mut encoder = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
    std::io::copy(&mut fs::File::open(&plain).unwrap(), &mut encoder).unwrap();
    encoder.finish().unwrap();
    let cache = Some(folder.path().join("cache"));
    let read = |path: &Path| {
        let options = OpenOptions { cache: cache.clone(), ..OpenOptions::default() };
        let set = open(path.to_str().unwrap(), &options).unwrap();
        let train = set.train.unwrap();
        let bytes = |i| match train.read(i).unwrap() {
            Encoded::File(bytes) => bytes.into_owned(),
            Encoded::Pixels(_) => panic!("files are read as they are"),
        };
        (0..train.len()).map(|i| (train.id(i), train.label(i), bytes(i))).collect::<Vec<_>>()
    };
    let expected = read(&data);
    assert_eq!(expected.len(), 3);
    assert_eq!(read(&plain), expected);
    assert_eq!(read(&zipped), expected);
}

#[test]
fn an_empty_folder_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let Err(error) = open(folder.path().to_str().unwrap(), &OpenOptions::default()) else {
        panic!("found pictures")
    };
    assert!(matches!(error, DataError::Empty { .. }), "{error}");
}

#[test]
fn the_flowers_have_eight_classes_and_two_parts() {
    let Some(path) = shared("flowers-8x80.tar") else { return };
    let set = open(path.to_str().unwrap(), &OpenOptions::default()).unwrap();
    let (train, test) = (set.train.unwrap(), set.test.unwrap());
    assert_eq!((train.len(), test.len(), train.classes().len()), (480, 160, 8));
    let Encoded::File(bytes) = train.read(7).unwrap() else { panic!("a file") };
    let image = decode("flower", &bytes).unwrap();
    assert_eq!((image.width, image.height), (224, 224));
}

#[test]
fn a_change_of_a_folder_is_noticed_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    for class in 0..20 {
        for file in 0..10 {
            let path = folder.path().join(format!("c{class:02}/deeper/{file}.png"));
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
    }
    let names = || {
        let set = open(folder.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
        let train = set.train.unwrap();
        (0..train.len()).map(|index| train.key(index)).collect::<Vec<_>>()
    };
    let before = names();
    assert_eq!(before.len(), 200);
    assert!(before.is_sorted());
    let (one, other) =
        (folder.path().join("c05/deeper/3.png"), folder.path().join("c05/deeper/new.png"));
    fs::write(&other, "").unwrap();
    assert_eq!(names().len(), 201);
    fs::remove_file(&one).unwrap();
    assert_eq!(names().len(), 200);
    assert_ne!(names(), before);
    fs::rename(&other, &one).unwrap();
    assert_eq!(names(), before);
    // What is in a file shows when it is read.
    let set = open(folder.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    fs::write(&one, "changed").unwrap();
    let train = set.train.unwrap();
    let Encoded::File(bytes) = train.read(53).unwrap() else { panic!("a file") };
    assert_eq!(&*bytes, b"changed");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_of_them_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let (data, elsewhere) = (folder.path().join("data"), folder.path().join("elsewhere"));
    tree(&data, &["a/1.png"]);
    tree(&elsewhere, &["1.png", "2.png"]);
    std::os::unix::fs::symlink(&elsewhere, data.join("b")).unwrap();
    let set = open(data.to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert_eq!(set.train.unwrap().len(), 3);
    std::os::unix::fs::symlink(&data, data.join("a/again")).unwrap();
    let Err(error) = open(data.to_str().unwrap(), &OpenOptions::default()) else {
        panic!("a loop was walked")
    };
    assert!(error.to_string().contains("a loop of links"), "{error}");
}

#[cfg(not(feature = "remote"))]
#[test]
fn the_address_of_a_server_is_an_error_that_says_how_to_build() {
    for address in ["s3://bucket/x", "https://example.org/t-{0..3}.tar", "gs://b/x", "az://c/x"] {
        let Err(error) = open(address, &OpenOptions::default()) else { panic!("{address}") };
        let expected = format!("{address}: this build reads no pictures from servers");
        assert_eq!(error.to_string(), expected);
        assert!(error.hint().unwrap().contains("--features remote"));
    }
}
