//! A web server.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use resnet_io::loader::{Loader, Mode};
use resnet_io::source::{Encoded, OpenOptions, Source, open};
use resnet_io::{DataError, RemoteFault};

use super::{all_batches, error, files_below, keyed_tar_of, options, pictures, tar_of, train};
use crate::loader::{batches, spec};

/// What the server does with its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// Sends what is asked for.
    Good,
    /// Answers 503 when it is asked for something the first time.
    Busy,
    /// Breaks off in the middle when a body is sent the first time, of files with tags and without.
    Breaks { tags: bool },
    /// Sends whole files, whatever is asked for.
    KnowsNoRanges,
    /// Answers each request for a body with 503.
    Down,
}

/// A request: its method, path, and the range that it asks for.
type Request = (String, String, Option<(usize, usize)>);

struct Loopback {
    address: SocketAddr,
    files: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    manner: Arc<Mutex<Manner>>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Loopback {
    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn put(&self, path: &str, bytes: Vec<u8>) {
        self.files.lock().unwrap().insert(path.to_string(), bytes);
    }

    fn set(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// The requests so far, which are forgotten then.
    fn requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.requests.lock().unwrap())
    }
}

fn serve(manner: Manner) -> Loopback {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let files = Arc::new(Mutex::new(BTreeMap::new()));
    let requests = Arc::new(Mutex::new(Vec::new()));
    let manner = Arc::new(Mutex::new(manner));
    let shared = (files.clone(), requests.clone(), manner.clone());
    thread::spawn(move || {
        let seen = Arc::new(Mutex::new(BTreeSet::new()));
        for stream in listener.incoming() {
            let (mut stream, seen) = (stream.unwrap(), seen.clone());
            let (files, requests, manner) = shared.clone();
            thread::spawn(move || {
                // None comes on a connection that was opened ahead and not used.
                let Some(request) = request_of(&stream) else { return };
                let (method, path, range) = request.clone();
                requests.lock().unwrap().push(request);
                let manner = *manner.lock().unwrap();
                // The rest of what broke off ends where the whole does.
                let what = (method.clone(), path.clone(), range.map(|(_, end)| end));
                let is_first = seen.lock().unwrap().insert(what);
                let file = files.lock().unwrap().get(&path).cloned();
                let answer = answer(file.as_deref(), (&method, range), manner, is_first);
                // The client may have seen enough.
                let _ = stream.write_all(&answer);
            });
        }
    });
    Loopback { address, files, manner, requests }
}

fn request_of(stream: &TcpStream) -> Option<Request> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let first = lines.next()?;
    let mut words = first.split(' ');
    let (method, path) =
        (words.next()?.to_string(), words.next()?.trim_start_matches('/').to_string());
    let mut range = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        if let Some(asked) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (begin, last) = asked.split_once('-').unwrap();
            range = Some((begin.parse().unwrap(), last.parse::<usize>().unwrap() + 1));
        }
    }
    Some((method, path, range))
}

/// All that goes over the connection, which ends then.
fn answer(
    file: Option<&[u8]>,
    (method, range): (&str, Option<(usize, usize)>),
    manner: Manner,
    is_first: bool,
) -> Vec<u8> {
    let head = |status: &str, more: &str, length: usize| {
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n")
            .into_bytes()
    };
    let is_head = method == "HEAD";
    if (manner == Manner::Busy && is_first) || (manner == Manner::Down && !is_head) {
        return head("503 Service Unavailable", "", 0);
    }
    let Some(file) = file else { return head("404 Not Found", "", 0) };
    let tag = match manner {
        Manner::Breaks { tags: false } => String::new(),
        _ => format!("ETag: \"{:x}\"\r\n", xxhash(file)),
    };
    let range = range.filter(|_| manner != Manner::KnowsNoRanges);
    let (status, more, body) = match range {
        None => ("200 OK", tag, file),
        Some((begin, end)) => {
            let end = end.min(file.len());
            let place = format!("Content-Range: bytes {begin}-{}/{}\r\n", end - 1, file.len());
            ("206 Partial Content", tag + &place, &file[begin..end])
        }
    };
    let breaks = matches!(manner, Manner::Breaks { .. }) && is_first;
    let sent = if breaks { body.len() / 2 } else { body.len() };
    let sent = if is_head { 0 } else { sent };
    [&head(status, &more, body.len())[..], &body[..sent]].concat()
}

fn xxhash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(14_695_981_039_346_656_037, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211)
    })
}

#[test]
fn a_tar_file_on_a_server_makes_the_batches_of_its_folder_however_bad_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let local = open(folder.path().to_str().unwrap(), &OpenOptions::default()).unwrap();
    let expected = all_batches(&train(local));
    let tar = tar_of(folder.path(), &names);
    let manners =
        [Manner::Good, Manner::Busy, Manner::Breaks { tags: true }, Manner::Breaks { tags: false }];
    for manner in manners {
        let (server, cache) = (serve(manner), tempfile::tempdir().unwrap());
        server.put("data/insects.tar", tar.clone());
        let address = server.url("data/insects.tar");
        let source = train(open(&address, &options(cache.path())).unwrap());
        assert_eq!(source.classes(), ["ant", "bee", "fly"]);
        assert_eq!(source.name(0), format!("{address}:ant/00.png"));
        assert!(all_batches(&source) == expected, "{manner:?}");
    }
}

#[test]
fn an_archive_is_read_through_once_and_again_when_it_is_another() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let (server, cache) = (serve(Manner::Good), tempfile::tempdir().unwrap());
    server.put("t.tar", tar_of(folder.path(), &names));
    let opened = || train(open(&server.url("t.tar"), &options(cache.path())).unwrap()).len();
    let longest = || {
        let bodies = server.requests().into_iter().filter(|(method, ..)| method == "GET");
        let lengths = bodies.map(|(_, _, range)| range.map_or(usize::MAX, |(a, b)| b - a));
        lengths.max().unwrap()
    };
    assert_eq!(opened(), 40);
    assert!(512 < longest(), "the whole archive");
    assert_eq!(files_below(cache.path()), 1);
    assert_eq!(opened(), 40);
    assert_eq!(longest(), 512, "its beginning says what it is");
    server.put("t.tar", tar_of(folder.path(), &names[..39]));
    assert_eq!(opened(), 39);
    assert!(512 < longest());
    // What is damaged is made again.
    let index = fs::read_dir(cache.path()).unwrap().next().unwrap().unwrap().path();
    let half = fs::read(&index).unwrap();
    fs::write(&index, &half[..half.len() / 2]).unwrap();
    assert_eq!(opened(), 39);
}

#[test]
fn neighbours_come_by_one_request_in_evaluation() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let (server, cache) = (serve(Manner::Good), tempfile::tempdir().unwrap());
    server.put("t.tar", tar_of(folder.path(), &names));
    let source = train(open(&server.url("t.tar"), &options(cache.path())).unwrap());
    server.requests();
    let mut whole = spec(Mode::Eval, 2);
    whole.batch_size = 40;
    batches(&Loader::new(source, whole).unwrap(), 0, 0).unwrap();
    // A batch of 40 has 16 pieces.
    assert_eq!(server.requests().len(), 16);
}

#[test]
fn shards_with_classes_beside_the_pictures_are_one_set() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let shards =
        [keyed_tar_of(folder.path(), &names[..25]), keyed_tar_of(folder.path(), &names[25..])];
    let (server, cache) = (serve(Manner::Busy), tempfile::tempdir().unwrap());
    for (i, shard) in shards.into_iter().enumerate() {
        server.put(&format!("s/t-{i:02}.tar"), shard.clone());
        fs::write(folder.path().join(format!("t-{i:02}.tar")), shard).unwrap();
    }
    server.put("s/classes.txt", b"Formica\nApis\nMusca\n".to_vec());
    let pattern = folder.path().join("t-{00..01}.tar");
    let local = train(open(pattern.to_str().unwrap(), &OpenOptions::default()).unwrap());
    let source = train(open(&server.url("s/t-{00..01}.tar"), &options(cache.path())).unwrap());
    assert_eq!(source.classes(), ["Formica", "Apis", "Musca"]);
    assert!(all_batches(&source) == all_batches(&local));
    let missing = error(&server.url("s/t-{00..02}.tar"), &options(cache.path()));
    assert!(missing.to_string().contains("/s/t-02.tar: "), "{missing}");
    assert!(matches!(missing, DataError::Remote { kind: RemoteFault::Missing, .. }), "{missing:?}");
}

#[test]
fn a_list_on_a_server_counts_its_paths_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let (server, cache) = (serve(Manner::KnowsNoRanges), tempfile::tempdir().unwrap());
    let mut list = "path,label,split\n".to_string();
    for name in &names {
        server.put(&format!("a/pictures/{name}"), fs::read(folder.path().join(name)).unwrap());
        list += &format!("../pictures/{name},{},train\n", &name[..3]);
    }
    list += "gone.png,ant,test\n";
    server.put("a/lists/all.csv", list.into_bytes());
    let set = open(&server.url("a/lists/all.csv"), &options(cache.path())).unwrap();
    let (source, test) = (set.train.clone().unwrap(), set.test.clone().unwrap());
    assert_eq!(source.name(3), server.url(&format!("a/pictures/{}", names[3])));
    for (i, name) in names.iter().enumerate() {
        let Encoded::File(bytes) = source.read(i).unwrap() else { panic!("files") };
        assert!(*bytes == fs::read(folder.path().join(name)).unwrap(), "{name}");
    }
    assert_eq!(all_batches(&source).len(), 10);
    // A file that is not there is a broken picture, and no fault of the server.
    let missing = test.read(0).err().unwrap();
    assert!(missing.to_string().starts_with(&server.url("a/lists/gone.png: ")), "{missing}");
}

#[test]
fn parquet_and_records_come_over_http_too() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet");
    let (server, cache) = (serve(Manner::Breaks { tags: true }), tempfile::tempdir().unwrap());
    let name = "train-00000-of-00002.parquet";
    server.put(name, fs::read(fixtures.join(name)).unwrap());
    let local = train(open(fixtures.join(name).to_str().unwrap(), &options(cache.path())).unwrap());
    let source = train(open(&server.url(name), &options(cache.path())).unwrap());
    assert_eq!(source.classes(), local.classes());
    // Its pictures are kept: the next start asks what it is, and copies nothing.
    server.requests();
    let again = train(open(&server.url(name), &options(cache.path())).unwrap());
    let Encoded::File(bytes) = again.read(2).unwrap() else { panic!("files") };
    let Encoded::File(expected) = local.read(2).unwrap() else { panic!("files") };
    assert!(bytes == expected);
    let requests = server.requests();
    let mut bodies = requests.iter().filter(|(method, ..)| method == "GET");
    assert!(bodies.all(|(_, _, range)| *range == Some((0, 512))), "{requests:?}");
    let keys = |source: &dyn Source| (0..source.len()).map(|i| source.key(i)).collect::<Vec<_>>();
    assert_eq!(keys(source.as_ref()), keys(local.as_ref()));
    // CIFAR's records are copied, once.
    let records: Vec<u8> = (0..4).flat_map(|i| [vec![i], vec![i * 9; 3072]].concat()).collect();
    server.put("x/data_batch_1.bin", records);
    let address = server.url("x/data_batch_1.bin");
    let source = train(open(&address, &options(cache.path())).unwrap());
    assert_eq!((source.len(), source.label(3)), (4, 3));
    server.requests();
    open(&address, &options(cache.path())).unwrap();
    let is_body = |(method, path, _): &&Request| method == "GET" && path.ends_with(".bin");
    assert_eq!(server.requests().iter().filter(is_body).count(), 1, "its beginning");
}

#[test]
fn what_a_server_does_not_give_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let (server, cache) = (serve(Manner::Good), tempfile::tempdir().unwrap());
    let options = options(cache.path());
    server.put("t.tar", tar_of(folder.path(), &names));
    let folder = error(&server.url("pictures/"), &options);
    assert!(matches!(folder, DataError::Remote { kind: RemoteFault::NoListing, .. }), "{folder:?}");
    assert!(folder.hint().unwrap().contains("a pattern of them"));
    let missing = error(&server.url("no.tar"), &options);
    assert!(missing.to_string().starts_with(&server.url("no.tar: ")), "{missing}");
    let query = error(&server.url("t.tar?signature=1"), &options);
    assert!(matches!(query, DataError::Remote { kind: RemoteFault::Address, .. }), "{query:?}");
    server.set(Manner::KnowsNoRanges);
    let whole = error(&server.url("t.tar"), &options);
    assert!(matches!(whole, DataError::Remote { kind: RemoteFault::NoRanges, .. }), "{whole:?}");
    server.set(Manner::Good);
    server.put(
        "half.tar",
        tar_of(Path::new(env!("CARGO_MANIFEST_DIR")), &["Cargo.toml".into()])[..700].to_vec(),
    );
    let cut = error(&server.url("half.tar"), &options);
    assert!(
        cut.to_string().starts_with(&server.url("half.tar: the archive is cut short")),
        "{cut}"
    );
}

#[test]
fn a_server_that_gives_out_ends_the_batches_and_an_archive_that_changes_too() {
    let folder = tempfile::tempdir().unwrap();
    let names = pictures(folder.path());
    let (server, cache) = (serve(Manner::Good), tempfile::tempdir().unwrap());
    server.put("t.tar", tar_of(folder.path(), &names));
    let source = train(open(&server.url("t.tar"), &options(cache.path())).unwrap());
    let loader = Loader::new(source, spec(Mode::Train, 2)).unwrap();
    server.set(Manner::Down);
    let down = batches(&loader, 0, 0).unwrap_err();
    assert!(matches!(down, DataError::Remote { kind: RemoteFault::Failed, .. }), "{down:?}");
    assert!(down.to_string().contains("503"), "{down}");
    server.set(Manner::Good);
    assert_eq!(batches(&loader, 0, 0).unwrap().len(), 5);
}
