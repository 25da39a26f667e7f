//! A server that speaks S3.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use resnet_io::augment::Step;
use resnet_io::loader::{Loader, Mode};
use resnet_io::resize::Filter;
use resnet_io::source::{DataSet, OpenOptions, Source, open};
use resnet_io::{DataError, RemoteFault};

use super::{all_batches, error, keyed_tar_of, options, pictures, tar_of, train};
use crate::loader::{batches, spec};
use crate::real_data::shared;

/// A server with one bucket, which ends with it.
struct Moto {
    process: Child,
    endpoint: String,
}

impl Moto {
    /// Starts one, if there is a program for it.
    fn start() -> Option<Moto> {
        let Some(program) = std::env::var_os("RESNET_MOTO") else {
            println!("skipped: RESNET_MOTO does not name moto's program moto_server");
            return None;
        };
        let mut process = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", "0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stderr.take().unwrap()).lines().map(Result::unwrap);
        // It chooses the port, and says so.
        let endpoint = lines
            .find_map(|line| line.split_once("Running on ").map(|(_, url)| url.trim().to_string()))
            .expect("moto says where it runs");
        // Whatever else it says must find someone who reads it.
        std::thread::spawn(move || lines.for_each(drop));
        let moto = Moto { process, endpoint };
        moto.put("", &[]);
        Some(moto)
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        ureq::put(format!("{}/bucket/{path}", self.endpoint)).send(bytes).unwrap();
    }

    /// Puts the files of a folder below a path.
    fn put_all(&self, below: &str, folder: &Path, names: &[String]) {
        for name in names {
            self.put(&format!("{below}{name}"), &fs::read(folder.join(name)).unwrap());
        }
    }

    fn options(&self, cache: &Path) -> OpenOptions {
        let set = |name: &str, value: &str| (name.to_string(), value.to_string());
        let settings = vec![
            set("AWS_ENDPOINT", &self.endpoint),
            set("AWS_ALLOW_HTTP", "true"),
            set("AWS_ACCESS_KEY_ID", "key"),
            set("AWS_SECRET_ACCESS_KEY", "secret"),
            set("AWS_REGION", "us-east-1"),
        ];
        OpenOptions { settings, ..options(cache) }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_bucket_makes_the_batches_of_the_folder_from_files_and_from_archives() {
    let Some(moto) = Moto::start() else { return };
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = pictures(folder.path());
    let local = train(open(folder.path().to_str().unwrap(), &OpenOptions::default()).unwrap());
    let expected = all_batches(&local);
    moto.put_all("insects/", folder.path(), &names);
    moto.put("insects/.hidden.png", b"none");
    moto.put("insects/ant/", b"");
    moto.put("insects.tar", &tar_of(folder.path(), &names));
    moto.put("shards/t-0.tar", &tar_of(folder.path(), &names[..11]));
    moto.put("shards/t-1.tar", &tar_of(folder.path(), &names[11..]));
    let places = ["insects", "insects/", "insects.tar", "shards/t-{0..1}.tar", "shards"];
    for place in places {
        let address = format!("s3://bucket/{place}");
        let set = open(&address, &moto.options(cache.path())).unwrap();
        assert_eq!(set.notices, [""; 0], "{place}");
        let source = train(set);
        assert_eq!((source.len(), source.classes().len()), (40, 3), "{place}");
        assert!(all_batches(&source) == expected, "{place}");
    }
    // The parts of a set, and the same picture twice in an epoch.
    moto.put_all("parts/train/", folder.path(), &names[..30]);
    moto.put_all("parts/val/", folder.path(), &names[30..]);
    let set = open("s3://bucket/parts", &moto.options(cache.path())).unwrap();
    assert_eq!(set.val.as_ref().unwrap().len(), 10);
    let repeated = |source: Arc<dyn Source>| {
        let mut spec = spec(Mode::Train, 2);
        spec.repeats = 2;
        batches(&Loader::new(source, spec).unwrap(), 0, 0).unwrap()
    };
    let first_30 = tempfile::tempdir().unwrap();
    for name in &names[..30] {
        let path = first_30.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::copy(folder.path().join(name), path).unwrap();
    }
    let local = open(first_30.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    assert!(repeated(train(set)) == repeated(train(local)));
}

#[test]
fn lists_parquet_webdataset_and_records_come_from_a_bucket() {
    let Some(moto) = Moto::start() else { return };
    let (folder, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let names = pictures(folder.path());
    let options = moto.options(cache.path());
    let opened =
        |path: &str| -> DataSet { open(&format!("s3://bucket/{path}"), &options).unwrap() };

    moto.put_all("pictures/", folder.path(), &names);
    let lines = names
        .iter()
        .map(|name| format!("{{\"path\":\"pictures/{name}\",\"label\":\"{}\"}}\n", &name[..3]));
    let list: String = lines.collect();
    moto.put("all.jsonl", list.as_bytes());
    fs::create_dir(folder.path().join("pictures")).unwrap();
    for class in ["ant", "bee", "fly"] {
        fs::rename(folder.path().join(class), folder.path().join("pictures").join(class)).unwrap();
    }
    let local = folder.path().join("all.jsonl");
    fs::write(&local, list).unwrap();
    let local = train(open(local.to_str().unwrap(), &OpenOptions::default()).unwrap());
    assert!(all_batches(&train(opened("all.jsonl"))) == all_batches(&local));

    moto.put("web/w-0.tar", &keyed_tar_of(&folder.path().join("pictures"), &names));
    moto.put("web/classes.txt", b"Formica\nApis\nMusca\n");
    let web = train(opened("web/w-{0..0}.tar"));
    assert_eq!((web.len(), web.classes()[2].as_str()), (40, "Musca"));

    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    for entry in fs::read_dir(&fixtures).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.ends_with(".parquet") {
            moto.put(&format!("hf/{name}"), &fs::read(fixtures.join(&name)).unwrap());
        }
    }
    let (hf, local) = (opened("hf"), open(fixtures.to_str().unwrap(), &options).unwrap());
    let ids = |source: Arc<dyn Source>| (0..source.len()).map(|i| source.id(i)).collect::<Vec<_>>();
    assert_eq!(ids(hf.val.unwrap()), ids(local.val.unwrap()));
    assert_eq!(ids(hf.train.unwrap()), ids(local.train.unwrap()));

    let records: Vec<u8> = (0..4).flat_map(|i| [vec![i], vec![i * 9; 3072]].concat()).collect();
    moto.put("cifar/data_batch_1.bin", &records);
    moto.put("cifar/test_batch.bin", &records[3073..]);
    let cifar = opened("cifar");
    assert_eq!((cifar.train.unwrap().len(), cifar.test.unwrap().len()), (4, 3));

    let missing = error("s3://bucket/nothing", &options);
    assert!(matches!(missing, DataError::Remote { kind: RemoteFault::Missing, .. }), "{missing:?}");
    assert!(missing.to_string().starts_with("s3://bucket/nothing: "), "{missing}");
    let bucket = error("s3://other/x.tar", &options);
    assert!(bucket.to_string().starts_with("s3://other/x.tar: "), "{bucket}");
}

#[test]
fn photos_from_a_bucket_are_the_pixels_of_those_from_here() {
    let Some(tar) = shared("imagenet-photos-125.tar") else { return };
    let Some(moto) = Moto::start() else { return };
    let cache = tempfile::tempdir().unwrap();
    moto.put("photos.tar", &fs::read(&tar).unwrap());
    let seen = |set: DataSet| {
        let mut spec = spec(Mode::Eval, 2);
        spec.steps = vec![
            Step::Resize { side: 256, interpolation: Filter::Bilinear },
            Step::CenterCrop { height: 224, width: 224 },
        ];
        (spec.width, spec.height, spec.batch_size) = (224, 224, 32);
        batches(&Loader::new(train(set), spec).unwrap(), 0, 0).unwrap()
    };
    let local = seen(open(tar.to_str().unwrap(), &OpenOptions::default()).unwrap());
    let there = seen(open("s3://bucket/photos.tar", &moto.options(cache.path())).unwrap());
    assert_eq!(local.iter().map(|batch| batch.len()).sum::<usize>(), 125);
    assert!(local == there);
}
