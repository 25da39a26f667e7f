//! Tar shards: as WebDataset writes them, and as we pack them.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use resnet_io::DataError;
use resnet_io::decode::decode;
use resnet_io::pack::{PackOptions, PackReport, pack};
use resnet_io::source::{DataSet, Encoded, OpenOptions, Source, open};
use resnet_io::survey::{Side, Statistics};

use crate::sources::tree;

fn opened(address: &Path) -> DataSet {
    open(address.to_str().unwrap(), &OpenOptions::default()).unwrap()
}

fn write_tar(path: &Path, files: &[(&str, &[u8])]) {
    let mut builder = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.finish().unwrap();
}

fn gzip(plain: &Path, packed: &Path) {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut fs::File::open(plain).unwrap(), &mut encoder).unwrap();
    fs::write(packed, encoder.finish().unwrap()).unwrap();
}

#[test]
fn compressed_shards_are_unpacked_once_and_again_when_they_are_others() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (i, name) in ["t-0", "t-1"].into_iter().enumerate() {
        write_tar(
            &at(name),
            &[(&format!("a/{i}.jpg"), &[i as u8; 700]), (&format!("b/{i}.jpg"), b"22")],
        );
        gzip(&at(name), &at(&format!("{name}.tar.gz")));
    }
    let opened = |cache: &str| {
        let options = OpenOptions { cache: Some(at(cache)), ..OpenOptions::default() };
        open(at("t-{0..1}.tar.gz").to_str().unwrap(), &options).unwrap()
    };
    let kept = || {
        let entries = fs::read_dir(at("cache")).unwrap().map(|entry| entry.unwrap().path());
        let mut paths: Vec<_> = entries.collect();
        paths.sort();
        paths
    };
    let first = opened("cache");
    assert_eq!(first.notices.len(), 1);
    let said = &first.notices[0];
    assert!(
        said.starts_with("2 archives unpacked into 1 MB in ") && said.contains("cache"),
        "{said}"
    );
    let train = first.train.unwrap();
    assert!(train.name(0).ends_with("t-0.tar.gz:a/0.jpg"), "{}", train.name(0));
    assert_eq!((train.len(), bytes(train.as_ref(), 1)), (4, vec![1; 700]));
    let before = kept();
    assert_eq!(before.len(), 2);
    let second = opened("cache");
    assert_eq!(second.notices, [""; 0]);
    assert_eq!(content(second.train.unwrap().as_ref()), content(train.as_ref()));
    // Another archive of the same name takes the place of the one before.
    write_tar(&at("t-1"), &[("a/1.jpg", b"333"), ("b/1.jpg", b"22"), ("b/2.jpg", b"1")]);
    gzip(&at("t-1"), &at("t-1.tar.gz"));
    let third = opened("cache");
    assert!(third.notices[0].starts_with("1 archive unpacked"), "{:?}", third.notices);
    assert_eq!((third.train.unwrap().len(), kept().len()), (5, 2));
    assert_ne!(kept(), before);
    // Without a folder that can be written it works as well, and leaves nothing.
    let fourth = opened("t-0/no-folder-below-a-file");
    assert_eq!((fourth.train.unwrap().len(), fourth.notices), (5, vec![]));
}

#[test]
fn a_compressed_shard_that_is_damaged_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let noise: Vec<u8> =
        (0..9000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    write_tar(&at("t"), &[("a/1.jpg", &noise), ("b/1.jpg", b"22")]);
    gzip(&at("t"), &at("t.tgz"));
    let whole = fs::read(at("t.tgz")).unwrap();
    fs::write(at("t.tgz"), &whole[..whole.len() / 2]).unwrap();
    let options = OpenOptions { cache: Some(at("cache")), ..OpenOptions::default() };
    let Err(error) = open(at("t.tgz").to_str().unwrap(), &options) else { panic!("half a file") };
    assert!(error.to_string().contains("t.tgz: "), "{error}");
    assert_eq!(fs::read_dir(at("cache")).unwrap().count(), 0);
    fs::write(at("t.tgz"), [&whole[..], &whole[..]].concat()).unwrap();
    assert_eq!(open(at("t.tgz").to_str().unwrap(), &options).unwrap().train.unwrap().len(), 2);
}

fn bytes(source: &dyn Source, index: usize) -> Vec<u8> {
    match source.read(index).unwrap() {
        Encoded::File(bytes) => bytes.into_owned(),
        Encoded::Pixels(_) => panic!("files are read as they are"),
    }
}

#[test]
fn a_pattern_of_shards_is_one_list_with_the_classes_beside_the_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    write_tar(
        &at("t-00.tar"),
        &[("a.jpg", b"1"), ("a.cls", b"2\n"), ("b.jpg", b"22"), ("b.cls", b"0")],
    );
    write_tar(
        &at("t-01.tar"),
        &[("a.json", b"{\"label\": 1}"), ("a.png", b"333"), ("a.txt", b"words")],
    );
    let train = opened(&at("t-{00..01}.tar")).train.unwrap();
    assert_eq!(train.classes(), ["0", "1", "2"]);
    let all: Vec<_> = (0..3).map(|i| (train.label(i), bytes(train.as_ref(), i).len())).collect();
    assert_eq!(all, [(2, 1), (0, 2), (1, 3)]);
    assert!(train.name(2).ends_with("t-01.tar:a.png"), "{}", train.name(2));
    let missing = at("t-{00..02}.tar");
    let Err(error) = open(missing.to_str().unwrap(), &OpenOptions::default()) else {
        panic!("t-02.tar is not there")
    };
    assert!(error.to_string().contains("t-02.tar"), "{error}");
}

#[test]
fn a_picture_without_a_class_beside_it_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    write_tar(&path, &[("a.jpg", b"1"), ("a.cls", b"2"), ("b.jpg", b"22")]);
    let Err(error) = open(path.to_str().unwrap(), &OpenOptions::default()) else {
        panic!("b has no class")
    };
    assert!(error.to_string().contains("x.tar:b.jpg: not an image set: no class"), "{error}");
}

#[test]
fn an_archive_that_is_cut_short_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.tar");
    write_tar(&path, &[("a/1.jpg", &[7; 2000]), ("b/1.jpg", &[7; 2000])]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..3500]).unwrap();
    let Err(error) = open(path.to_str().unwrap(), &OpenOptions::default()) else {
        panic!("half an archive was opened")
    };
    assert!(matches!(error, DataError::Io { .. }), "{error}");
}

#[test]
fn a_part_that_lacks_classes_keeps_the_numbers_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), &["train/a/1.png", "train/b/1.png", "train/c/1.png", "val/c/2.png"]);
    let set = opened(folder.path());
    let val = set.val.unwrap();
    assert_eq!((val.classes().len(), val.label(0)), (3, 2));
}

fn options(out: &Path) -> PackOptions {
    PackOptions { out: out.into(), side: None, quality: 95, shard_images: 2, threads: 2 }
}

fn packed(data: &Path, options: &PackOptions) -> Result<PackReport, DataError> {
    pack(&opened(data), options, &|_| {})
}

/// What a set consists of: (identity, class, bytes).
fn content(source: &dyn Source) -> Vec<(u64, u32, Vec<u8>)> {
    (0..source.len()).map(|i| (source.id(i), source.label(i), bytes(source, i))).collect()
}

#[test]
fn a_packed_set_is_the_set() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("packed"));
    tree(
        &data,
        &["train/a/1.png", "train/a/2.png", "train/b/x/1.png", "val/a/3.png", "val/b/3.png"],
    );
    fs::write(data.join("train/b/broken.png"), "words").unwrap();
    let report = packed(&data, &options(&out)).unwrap();
    assert_eq!((report.shards, report.kept, report.images), (3, 0, 5));
    assert_eq!(report.broken.len(), 1, "{report:?}");
    fs::remove_file(data.join("train/b/broken.png")).unwrap();
    let (before, after) = (opened(&data), opened(&out));
    assert_eq!(content(before.train.unwrap().as_ref()), content(after.train.unwrap().as_ref()));
    assert_eq!(content(before.val.unwrap().as_ref()), content(after.val.unwrap().as_ref()));
    assert_eq!(after.notices, [""; 0]);
}

/// The names of each sample's classes.
fn classes_of(source: &dyn Source) -> Vec<Vec<String>> {
    let name = |&label: &u32| source.classes()[label as usize].clone();
    (0..source.len()).map(|i| source.labels(i).as_slice().iter().map(name).collect()).collect()
}

#[test]
fn a_json_file_beside_a_picture_may_have_any_number_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.tar");
    write_tar(
        &path,
        &[
            ("0.jpg", b"0"),
            ("0.json", b"{\"labels\": [\"sun\", \"rain\"], \"author\": \"x\"}"),
            ("1.jpg", b"1"),
            ("1.json", b"{\"labels\": []}"),
            ("2.jpg", b"2"),
            ("2.json", b"{\"label\": [\"rain\"]}"),
        ],
    );
    let set = opened(&path);
    assert_eq!(set.notices, ["any number of 2 classes a picture"]);
    let train = set.train.unwrap();
    assert!(train.is_multi_label());
    assert_eq!(classes_of(train.as_ref()), [vec!["rain", "sun"], vec![], vec!["rain"]]);
    // One class and a file about other things.
    write_tar(&path, &[("0.jpg", b"0"), ("0.cls", b"0"), ("0.json", b"{\"labels\": [3]}")]);
    let train = opened(&path).train.unwrap();
    assert!(!train.is_multi_label());
    assert_eq!((train.classes().len(), train.label(0)), (1, 0));
    write_tar(
        &path,
        &[("0.jpg", b"0"), ("0.cls", b"0"), ("1.jpg", b""), ("1.json", b"{\"labels\": [3]}")],
    );
    let Err(error) = open(path.to_str().unwrap(), &OpenOptions::default()) else {
        panic!("opened two kinds of classes")
    };
    assert!(
        error.to_string().contains("a.tar:1.jpg: not an image set: a list of classes"),
        "{error}"
    );
}

#[test]
fn a_packed_set_of_any_number_of_classes_is_the_set() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("packed"));
    tree(&data, &["x/a.1.png", "x/a.2.png", "x/b.png", "y/b.png", "y/c.png"]);
    // The class of number 0 is none's.
    fs::write(data.join("classes.txt"), "fog\nrain\nsun\n").unwrap();
    let lines = "path,labels,split\nx/a.1.png,1|2,train\nx/a.2.png,,train\nx/b.png,2,train\n\
                 y/b.png,1,val\ny/c.png,2|1,val\n";
    let list = data.join("list.csv");
    fs::write(&list, lines).unwrap();
    let report = packed(&list, &options(&out)).unwrap();
    assert_eq!((report.shards, report.images, report.broken.len()), (3, 5, 0));
    let (before, after) = (opened(&list), opened(&out));
    for (before, after) in [(before.train, after.train), (before.val, after.val)] {
        let (before, after) = (before.unwrap(), after.unwrap());
        assert!(after.is_multi_label());
        assert_eq!(after.classes(), ["fog", "rain", "sun"]);
        assert_eq!(classes_of(after.as_ref()), classes_of(before.as_ref()));
        for index in 0..before.len() {
            assert_eq!(bytes(after.as_ref(), index), bytes(before.as_ref(), index));
        }
    }
    // Other classes are another set, even of the same pictures.
    fs::write(&list, lines.replace("y/c.png,2|1", "y/c.png,2|0")).unwrap();
    let Err(error) = packed(&list, &options(&out)) else { panic!("packed over another set") };
    assert!(matches!(error, DataError::OtherPack { .. }), "{error}");
}

#[test]
fn a_packing_that_was_stopped_goes_on_and_another_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("packed"));
    tree(&data, &["a/1.png", "a/2.png", "b/1.png", "b/2.png", "b/3.png"]);
    packed(&data, &options(&out)).unwrap();
    let second = out.join("train-000001.tar");
    let whole = fs::read(&second).unwrap();
    fs::remove_file(&second).unwrap();
    fs::write(out.join("train-000001.tar.part"), &whole[..100]).unwrap();
    let told = AtomicUsize::new(0);
    let count = |samples| {
        told.fetch_add(samples, Ordering::Relaxed);
    };
    let report = pack(&opened(&data), &options(&out), &count).unwrap();
    assert_eq!((report.shards, report.kept, report.images), (3, 2, 2));
    assert_eq!(told.into_inner(), 5);
    assert!(fs::read(&second).unwrap() == whole, "the same bytes as in one go");
    let smaller = PackOptions { side: Some(2), ..options(&out) };
    assert!(matches!(packed(&data, &smaller), Err(DataError::OtherPack { .. })));
    fs::remove_file(data.join("a/1.png")).unwrap();
    assert!(matches!(packed(&data, &options(&out)), Err(DataError::OtherPack { .. })));
}

#[test]
fn larger_pictures_are_scaled_and_smaller_ones_copied() {
    let folder = tempfile::tempdir().unwrap();
    let (data, out) = (folder.path().join("data"), folder.path().join("packed"));
    // 4x3 pixels of one colour each.
    tree(&data, &["a/1.png", "b/1.png"]);
    fs::create_dir_all(data.join("a")).unwrap();
    image::RgbImage::from_pixel(40, 20, image::Rgb([90, 120, 60]))
        .save(data.join("a/2.png"))
        .unwrap();
    packed(&data, &PackOptions { side: Some(10), ..options(&out) }).unwrap();
    let train = opened(&out).train.unwrap();
    let picture = |index| decode("packed", &bytes(train.as_ref(), index)).unwrap();
    let sizes: Vec<_> = (0..3).map(|i| (picture(i).width, picture(i).height)).collect();
    assert_eq!(sizes, [(4, 3), (20, 10), (4, 3)]);
    assert!(train.name(1).ends_with(":a/2.jpg"), "{}", train.name(1));
    // JPEG at quality 95 keeps a colour within two levels.
    for (found, expected) in picture(1).pixels.iter().zip([90u8, 120, 60].iter().cycle()) {
        assert!(found.abs_diff(*expected) <= 2, "{found} {expected}");
    }
}

#[test]
fn statistics_are_those_of_all_pixels() {
    let folder = tempfile::tempdir().unwrap();
    tree(folder.path(), &["a/1.png", "a/2.png"]);
    image::RgbImage::from_pixel(2, 12, image::Rgb([5, 0, 255]))
        .save(folder.path().join("a/3.png"))
        .unwrap();
    fs::write(folder.path().join("a/broken.png"), "words").unwrap();
    let train = opened(folder.path()).train.unwrap();
    let one = Statistics::of(train.as_ref(), 1, &|| {});
    assert_eq!(one, Statistics::of(train.as_ref(), 2, &|| {}));
    assert_eq!((one.images, one.broken), (3, 1));
    assert_eq!((one.extent(Side::Columns), one.extent(Side::Rows)), ([2, 4, 4], [3, 3, 12]));
    // 12 pixels of 0, 12 of 1 and 24 of (5, 0, 255).
    assert_eq!((one.histogram[0][0], one.histogram[0][5], one.histogram[2][255]), (12, 24, 24));
    let (mean, std) = one.mean_and_std();
    let values = [[0.0; 12], [1.0; 12], [5.0; 12], [5.0; 12]].concat();
    let expected = values.iter().sum::<f64>() / 48.0;
    let square = values.iter().map(|value| (value - expected).powi(2)).sum::<f64>() / 48.0;
    assert!((mean[0] * 255.0 - expected).abs() < 1e-12, "{mean:?}");
    assert!((std[0] * 255.0 - square.sqrt()).abs() < 1e-12, "{std:?}");
}
