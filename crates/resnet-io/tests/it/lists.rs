//! Lists and IDX files.

use std::fs;
use std::io::Write;
use std::path::Path;

use resnet_io::source::{DataSet, Encoded, HeldBack, OpenOptions, Source, open};

fn opened(path: &Path) -> DataSet {
    open(path.to_str().unwrap(), &OpenOptions::default()).unwrap()
}

fn error(path: &Path) -> String {
    match open(path.to_str().unwrap(), &OpenOptions::default()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error.to_string(),
    }
}

/// (file, class) of each sample.
fn samples(source: &dyn Source) -> Vec<(String, String)> {
    let sample = |index| {
        let class = source.classes()[source.label(index) as usize].clone();
        (source.key(index), class)
    };
    (0..source.len()).map(sample).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    expected.iter().map(|&(a, b)| (a.to_string(), b.to_string())).collect()
}

#[test]
fn a_csv_list_names_pictures_classes_and_parts() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    let text = "Filename,width,Label,split\n\"a, b.png\",3,cat,train\nx/2.png,3,dog,train\n3.png,3,dog,test\n";
    fs::write(&list, text).unwrap();
    let set = opened(&list);
    let (train, test) = (set.train.unwrap(), set.test.unwrap());
    assert_eq!(samples(train.as_ref()), pairs(&[("a, b.png", "cat"), ("x/2.png", "dog")]));
    assert_eq!(samples(test.as_ref()), pairs(&[("3.png", "dog")]));
    assert_eq!(test.classes(), train.classes());
    // Paths count from the list's folder.
    fs::write(folder.path().join("3.png"), "bytes").unwrap();
    let Encoded::File(bytes) = test.read(0).unwrap() else { panic!("a file") };
    assert_eq!(&*bytes, b"bytes");
}

#[test]
fn a_list_without_a_header_may_have_blanks_and_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("val.txt");
    fs::write(&list, "a.JPEG 2\nb.JPEG 0\n").unwrap();
    let train = opened(&list).train.unwrap();
    assert_eq!(samples(train.as_ref()), pairs(&[("a.JPEG", "2"), ("b.JPEG", "0")]));
    assert_eq!(train.classes(), ["0", "1", "2"]);
    // A file beside it names them.
    fs::write(folder.path().join("classes.txt"), "tench\nhen\nbulbul\n").unwrap();
    let train = opened(&list).train.unwrap();
    assert_eq!(samples(train.as_ref()), pairs(&[("a.JPEG", "bulbul"), ("b.JPEG", "tench")]));
}

#[test]
fn a_json_list_has_an_object_a_line() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("metadata.jsonl");
    fs::write(
        &list,
        "{\"file_name\":\"a.png\",\"label\":7}\n\n{\"file_name\":\"b.png\",\"label\":2}\n",
    )
    .unwrap();
    let train = opened(&list).train.unwrap();
    assert_eq!(samples(train.as_ref()), pairs(&[("a.png", "7"), ("b.png", "2")]));
    assert_eq!(train.classes().len(), 8);
}

#[test]
fn a_wrong_line_of_a_list_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    fs::write(&list, "path,label,split\na.png,cat,train\nb.png,dog,tset\n").unwrap();
    assert!(
        error(&list).contains("list.csv:3: not an image set: a split \"tset\""),
        "{}",
        error(&list)
    );
    fs::write(&list, "path,label\na.png,cat\nb.png\n").unwrap();
    assert!(error(&list).contains("list.csv:3"), "{}", error(&list));
    fs::write(&list, "{\"path\":\"a.png\",\"label\":1}\n{\"path\":\"a.png\"}\n").unwrap();
    assert!(
        error(&list).contains("list.csv:2: not an image set: an object without"),
        "{}",
        error(&list)
    );
    fs::write(&list, "these are words").unwrap();
    assert!(error(&list).contains("no archive of images, no list"), "{}", error(&list));
}

/// (file, classes) of each sample.
fn labelled(source: &dyn Source) -> Vec<(String, String)> {
    let sample = |index| {
        let labels = source.labels(index);
        let names =
            labels.as_slice().iter().map(|&label| source.classes()[label as usize].as_str());
        (source.key(index), names.collect::<Vec<_>>().join("+"))
    };
    (0..source.len()).map(sample).collect()
}

#[test]
fn several_classes_of_a_line_are_told_apart_by_what_stands_between_them() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    for (text, expected, notice) in [
        // As in ChestX-ray14: blanks within names.
        (
            "image,Finding Labels\na.png,Mass|No Finding\nb.png,No Finding\nc.png,\n",
            ["Mass+No Finding", "No Finding", ""],
            "any number of 2 classes a picture, with '|' between them",
        ),
        // As in fastai's PASCAL.
        (
            "file,labels\na.png,sofa cat cat\nb.png,cat\nc.png,\n",
            ["cat+sofa", "cat", ""],
            "any number of 2 classes a picture, with blanks between them",
        ),
        (
            "file,tags,split\na.png,\"sofa, cat\",train\nb.png,cat,train\nc.png,cat,\n",
            ["cat+sofa", "cat", "cat"],
            "any number of 2 classes a picture, with ',' between them",
        ),
        (
            "file,cat,ape,split\na.png,1,1,train\nb.png,0,1.0,\nc.png,0,0,train\n",
            ["cat+ape", "ape", ""],
            "any number of 2 classes a picture, a column each",
        ),
        (
            "{\"path\":\"a.png\",\"label\":[\"b a\",\"c\"]}\n{\"path\":\"b.png\",\"label\":[\"c\"]}\n\
             {\"path\":\"c.png\",\"labels\":[]}\n",
            ["b a+c", "c", ""],
            "any number of 2 classes a picture",
        ),
    ] {
        fs::write(&list, text).unwrap();
        let set = opened(&list);
        let train = set.train.unwrap();
        assert!(train.is_multi_label());
        let names: Vec<String> = labelled(train.as_ref()).into_iter().map(|(_, n)| n).collect();
        assert_eq!(names, expected, "{text}");
        assert!(set.notices[0].ends_with(&format!("list.csv: {notice}")), "{:?}", set.notices);
    }
}

#[test]
fn numbers_of_classes_are_positions_for_many_as_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.jsonl");
    let lines =
        "{\"file_name\":\"a.png\",\"labels\":[2,0]}\n{\"file_name\":\"b.png\",\"labels\":null}\n";
    fs::write(&list, lines).unwrap();
    fs::write(folder.path().join("classes.txt"), "tench\nhen\nbulbul\n").unwrap();
    let train = opened(&list).train.unwrap();
    let expected = pairs(&[("a.png", "tench+bulbul"), ("b.png", "")]);
    assert_eq!(labelled(train.as_ref()), expected);
}

#[test]
fn wrong_classes_of_a_line_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    let check = |text: &str, expected: &str| {
        fs::write(&list, text).unwrap();
        let found = error(&list);
        assert!(found.contains(expected), "{found}");
    };
    check(
        "path,cat,dog\na.png,1,0\nb.png,1,maybe\n",
        "list.csv:3: not an image set: \"maybe\" in column \"dog\": without a column label or labels, \
         each column is a class and holds 0 or 1",
    );
    check(
        "{\"path\":\"a.png\",\"label\":\"x\"}\n{\"path\":\"b.png\",\"label\":[\"x\"]}\n",
        "list.csv:2: not an image set: a list of classes, where the lines before it have one class each",
    );
    check(
        "{\"path\":\"a.png\",\"label\":[\"x\"]}\n\n{\"path\":\"b.png\",\"label\":\"x\"}\n",
        "list.csv:3: not an image set: one class, where the lines before it have lists of classes",
    );
    check("path,labels\na.png,\n", "list.csv:1: not an image set: no line has a class");
}

#[test]
fn pictures_of_many_classes_are_held_back_all_together() {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("list.csv");
    let line = |i: u32| format!("{i}.png,{}\n", ["", "a", "b", "a|b"][i as usize % 4]);
    fs::write(&list, format!("path,labels\n{}", (0..41).map(line).collect::<String>())).unwrap();
    let held_back = Some(HeldBack::Share(0.25));
    let options = OpenOptions { held_back, ..OpenOptions::default() };
    let set = open(list.to_str().unwrap(), &options).unwrap();
    let (train, val) = (set.train.unwrap(), set.val.unwrap());
    assert_eq!((train.len(), val.len()), (31, 10));
    assert!(val.is_multi_label());
    let expected = |(key, names): &(String, String)| {
        let i: usize = key.trim_end_matches(".png").parse().unwrap();
        *names == ["", "a", "b", "a+b"][i % 4]
    };
    assert!(labelled(val.as_ref()).iter().all(expected));
}

/// An IDX file of bytes.
fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend(bytes);
    file
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn idx_files_are_grey_pictures_compressed_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    let pixels: Vec<u8> = (0..12).collect();
    write("train-images-idx3-ubyte.gz", &gzip(&idx(&[2, 2, 3], &pixels)));
    write("train-labels-idx1-ubyte.gz", &gzip(&idx(&[2], &[3, 1])));
    write("t10k-images-idx3-ubyte", &idx(&[1, 2, 3], &pixels[6..]));
    write("t10k-labels-idx1-ubyte", &idx(&[1], &[2]));
    let set = opened(folder.path());
    let (train, test) = (set.train.unwrap(), set.test.unwrap());
    assert_eq!((train.len(), test.len(), train.label(0), test.label(0)), (2, 1, 3, 2));
    let Encoded::Pixels(picture) = train.read(1).unwrap() else { panic!("pixels") };
    assert_eq!((picture.width, picture.height), (3, 2));
    assert_eq!(picture.pixels[..6], [6, 6, 6, 7, 7, 7]);
    // The same from the file itself.
    let alone = opened(&folder.path().join("t10k-images-idx3-ubyte")).train.unwrap();
    assert_eq!((alone.len(), alone.id(0)), (1, test.id(0)));
}

#[test]
fn idx_files_that_do_not_agree_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(folder.path().join(name), bytes).unwrap();
    write("train-images-idx3-ubyte", &idx(&[2, 2, 3], &[0; 11]));
    assert!(error(folder.path()).contains("it says 2 pictures of 3x2, and has 11 bytes"));
    write("train-images-idx3-ubyte", &idx(&[2, 2, 3], &[0; 12]));
    assert!(error(folder.path()).contains("train-labels-idx1-ubyte"));
    write("train-labels-idx1-ubyte", &idx(&[3], &[0; 3]));
    assert!(error(folder.path()).contains("no IDX file of 2 labels"));
    write("train-images-idx3-ubyte", &idx(&[u32::MAX, u32::MAX, u32::MAX], &[]));
    assert!(error(folder.path()).contains("train-images-idx3-ubyte"));
}
