//! Parquet files that Hugging Face's datasets wrote (`xtask/oracle/parquet.py`).

use std::fs;
use std::path::{Path, PathBuf};

use resnet_io::decode::decode;
use resnet_io::source::{DataSet, Encoded, OpenOptions, Source, open};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet")
}

/// Options that keep nothing: what cannot be a folder is none.
fn options() -> OpenOptions {
    OpenOptions {
        cache: Some(fixtures().join("train-00001-of-00002.parquet/none")),
        ..OpenOptions::default()
    }
}

fn opened(address: &Path) -> DataSet {
    open(address.to_str().unwrap(), &options()).unwrap()
}

/// (key, class, red value) of each sample.
fn samples(source: &dyn Source) -> Vec<(String, String, u8)> {
    let sample = |index| {
        let Encoded::File(bytes) = source.read(index).unwrap() else { panic!("files") };
        let picture = decode(&source.name(index), &bytes).unwrap();
        assert_eq!((picture.width, picture.height), (4, 3));
        let class = source.classes()[source.label(index) as usize].clone();
        (source.key(index), class, picture.pixels[0])
    };
    (0..source.len()).map(sample).collect()
}

fn expected(rows: &[(&str, &str, u8)]) -> Vec<(String, String, u8)> {
    rows.iter().map(|&(key, class, red)| (key.into(), class.into(), red)).collect()
}

#[test]
fn a_folder_of_parquet_has_its_parts_and_the_classes_names() {
    let set = opened(&fixtures());
    let train = set.train.unwrap();
    let rows = [
        ("train-00000-of-00002/0", "newt", 0),
        ("train-00000-of-00002/1", "cat", 1),
        ("train-00000-of-00002/2", "dog", 2),
        ("train-00001-of-00002/0", "dog", 3),
        ("train-00001-of-00002/1", "newt", 4),
    ];
    assert_eq!(samples(train.as_ref()), expected(&rows));
    let val = set.val.unwrap();
    assert_eq!(samples(val.as_ref()), expected(&[("validation-00000-of-00001/0", "cat", 5)]));
    assert_eq!(val.classes(), train.classes());
    assert!(set.test.is_none());
}

#[test]
fn one_file_and_a_pattern_of_files_are_sets_too() {
    let file = fixtures().join("train-00001-of-00002.parquet");
    let train = opened(&file).train.unwrap();
    assert_eq!(train.len(), 2);
    assert_eq!(train.name(1), format!("{}:train-00001-of-00002/1", file.display()));
    let pattern = fixtures().join("train-{00000..00001}-of-00002.parquet");
    assert_eq!(opened(&pattern).train.unwrap().len(), 5);
}

/// The same rows, compressed in each way that others write.
fn of_each_codec() -> Vec<PathBuf> {
    let codecs = ["brotli", "gzip", "lz4", "none", "snappy", "zstd"];
    codecs.map(|codec| fixtures().join(format!("codecs/{codec}.parquet"))).into()
}

#[test]
fn pictures_are_the_same_bytes_from_every_codec() {
    let bytes = |path: &Path| -> Vec<(u32, Vec<u8>)> {
        let train = opened(path).train.unwrap();
        let sample = |index| match train.read(index).unwrap() {
            Encoded::File(bytes) => (train.label(index), bytes.into_owned()),
            Encoded::Pixels(_) => panic!("files"),
        };
        (0..train.len()).map(sample).collect()
    };
    let expected = bytes(&fixtures().join("train-00000-of-00002.parquet"));
    assert_eq!(expected.iter().map(|(label, _)| *label).collect::<Vec<_>>(), [2, 0, 1]);
    for path in of_each_codec() {
        assert_eq!(bytes(&path), expected, "{}", path.display());
    }
}

#[test]
fn a_list_of_classes_is_any_number_of_them() {
    let set = opened(&fixtures().join("codecs/labels.parquet"));
    assert_eq!(set.notices, ["any number of 3 classes a picture"]);
    let train = set.train.unwrap();
    assert!(train.is_multi_label());
    assert_eq!(train.classes(), ["cat", "dog", "newt"]);
    let labels = |index| train.labels(index).as_slice().to_vec();
    assert_eq!([0, 1, 2, 3].map(labels), [vec![0, 2], vec![], vec![1], vec![2]]);
}

#[test]
fn pictures_are_copied_once_and_again_when_the_file_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("cache");
    let options = OpenOptions { cache: Some(cache.clone()), ..OpenOptions::default() };
    let path = folder.path().join("a.parquet");
    let put = |name: &str| fs::write(&path, fs::read(fixtures().join(name)).unwrap()).unwrap();
    let content = || {
        let set = open(path.to_str().unwrap(), &options).unwrap();
        (samples(set.train.unwrap().as_ref()), set.notices)
    };
    let copies = || -> Vec<(PathBuf, std::time::SystemTime)> {
        let entries = fs::read_dir(&cache).unwrap().map(Result::unwrap);
        entries.map(|entry| (entry.path(), entry.metadata().unwrap().modified().unwrap())).collect()
    };
    put("train-00000-of-00002.parquet");
    let (first, notices) = content();
    assert_eq!((first.len(), first[2].1.as_str()), (3, "dog"));
    assert!(notices[0].starts_with("1 Parquet file unpacked into 1 MB in "), "{notices:?}");
    let made = copies();
    assert_eq!(made.len(), 1);
    assert_eq!(content(), (first.clone(), vec![]));
    assert_eq!(copies(), made);
    // One that was cut short is made again.
    let copy = fs::read(&made[0].0).unwrap();
    fs::write(&made[0].0, &copy[..copy.len() - 9]).unwrap();
    assert_eq!(content().0, first);
    assert_eq!(fs::read(&made[0].0).unwrap(), copy);
    put("validation-00000-of-00001.parquet");
    assert_eq!(content().0.len(), 1);
    assert_eq!(copies().len(), 1);
}

#[test]
fn files_cut_short_or_altered_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let whole = fs::read(fixtures().join("train-00001-of-00002.parquet")).unwrap();
    let path = folder.path().join("a.parquet");
    let try_with = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        open(path.to_str().unwrap(), &options()).err().map(|error| error.to_string())
    };
    for len in [4, 5, 100, whole.len() / 2, whole.len() - 1] {
        let error = try_with(&whole[..len]).expect("a part of a file is none");
        assert!(error.contains("a.parquet: not an image set: not readable as Parquet"), "{error}");
    }
    // Any byte may be wrong: an error or other pictures, but no panic.
    let codecs = of_each_codec().into_iter().map(|path| (fs::read(path).unwrap(), 9));
    for (whole, each) in std::iter::once((whole, 1)).chain(codecs) {
        for at in (0..whole.len()).step_by(each) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x55;
            if let Some(error) = try_with(&bytes) {
                assert!(error.contains("a.parquet"), "{error}");
            }
        }
    }
}
