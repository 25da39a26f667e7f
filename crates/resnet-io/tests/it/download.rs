//! Downloading, from a server on the loopback that can also be a bad one.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use resnet_io::DataError;
use resnet_io::download::{KNOWN, Known, Progress, Remote, download};

/// What the server does with a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// Sends what is asked for.
    Good,
    /// The first connection breaks in the middle.
    Breaks,
    /// Sends the whole, whatever range is asked for; the first connection breaks.
    KnowsNoRanges,
    /// Other bytes of the same length.
    Other,
    /// Has nothing.
    Empty,
}

/// A server of one file; it keeps where the ranges began that were asked for.
struct Loopback {
    address: SocketAddr,
    ranges: Arc<Mutex<Vec<usize>>>,
}

fn serve(content: Vec<u8>, manner: Manner) -> Loopback {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let asked = ranges.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let begin = begin_of(&stream);
            asked.lock().unwrap().push(begin);
            let is_first = asked.lock().unwrap().len() == 1;
            // The client may have seen enough.
            let _ = stream.write_all(&answer(&content, begin, manner, is_first));
        }
    });
    Loopback { address, ranges }
}

/// Where the range begins that a request asks for.
fn begin_of(stream: &TcpStream) -> usize {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let mut begin = None;
    for line in lines.take_while(|line| !line.is_empty()) {
        let line = line.to_ascii_lowercase();
        begin = line.strip_prefix("range: bytes=").map_or(begin, |range| Some(range.to_string()));
    }
    begin.unwrap().strip_suffix('-').unwrap().parse().unwrap()
}

/// All that goes over the connection, which ends then.
fn answer(content: &[u8], begin: usize, manner: Manner, is_first: bool) -> Vec<u8> {
    let (status, body) = match manner {
        Manner::Good | Manner::Breaks if begin == content.len() => {
            ("416 Range Not Satisfiable", vec![])
        }
        Manner::Good | Manner::Breaks => ("206 Partial Content", content[begin..].to_vec()),
        Manner::KnowsNoRanges => ("200 OK", content.to_vec()),
        Manner::Other => ("200 OK", vec![7; content.len()]),
        Manner::Empty => ("404 Not Found", vec![]),
    };
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    let breaks = is_first && matches!(manner, Manner::Breaks | Manner::KnowsNoRanges);
    let sent = if breaks { length / 2 } else { length };
    [head.as_bytes(), &body[..sent]].concat()
}

/// A `.tar.gz` of a folder `set` with one file, and its sum.
fn archive() -> (Vec<u8>, &'static str) {
    let encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    let mut tar = tar::Builder::new(encoder);
    let content: Vec<u8> =
        (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, "set/data.bin", &content[..]).unwrap();
    let bytes = tar.into_inner().unwrap().finish().unwrap();
    let digits: String =
        <md5::Md5 as md5::Digest>::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    // A set's sums are constants; a test may leak one.
    (bytes, digits.leak())
}

fn set_of(md5: &'static str) -> Known {
    let files = vec![Remote { base: "http://127.0.0.1:9", name: "set.tar.gz", md5 }];
    Known { name: "set", about: "", folder: "set", files: files.leak(), is_archive: true }
}

/// Downloads from a server of this manner; returns bytes and the ranges that it was asked for.
fn bring(out: &Path, manner: Manner) -> (Result<u64, DataError>, Vec<usize>) {
    let (content, md5) = archive();
    let server = serve(content, manner);
    let mirror = format!("http://{}/", server.address);
    let done = download(&set_of(md5), Some(&mirror), out, &mut |_| {});
    let ranges = server.ranges.lock().unwrap().clone();
    (done.map(|done| done.bytes), ranges)
}

#[track_caller]
fn check_whole(out: &Path) {
    let content = fs::read(out.join("set/data.bin")).unwrap();
    assert_eq!(content.len(), 300_000);
    let left: Vec<_> = fs::read_dir(out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["set"], "nothing else stays");
}

#[test]
fn a_set_comes_whole_and_is_left_alone_then() {
    let out = tempfile::tempdir().unwrap();
    let (bytes, ranges) = bring(out.path(), Manner::Good);
    assert_eq!((bytes.unwrap(), ranges.len()), (archive().0.len() as u64, 1));
    check_whole(out.path());
    let (bytes, ranges) = bring(out.path(), Manner::Good);
    assert_eq!((bytes.unwrap(), ranges.len()), (0, 0));
}

#[test]
fn a_broken_connection_goes_on_where_it_broke() {
    let out = tempfile::tempdir().unwrap();
    let (content, _) = archive();
    let (bytes, ranges) = bring(out.path(), Manner::Breaks);
    assert_eq!(bytes.unwrap(), content.len() as u64, "nothing comes twice");
    assert_eq!(ranges, [0, content.len() / 2]);
    check_whole(out.path());
}

#[test]
fn a_server_without_ranges_sends_the_whole_again() {
    let out = tempfile::tempdir().unwrap();
    let (bytes, ranges) = bring(out.path(), Manner::KnowsNoRanges);
    bytes.unwrap();
    assert_eq!(ranges.len(), 2);
    check_whole(out.path());
}

#[test]
fn what_an_earlier_run_left_is_used() {
    let out = tempfile::tempdir().unwrap();
    let (content, _) = archive();
    fs::write(out.path().join("set.tar.gz.part"), &content[..1000]).unwrap();
    let (bytes, ranges) = bring(out.path(), Manner::Good);
    assert_eq!(bytes.unwrap(), content.len() as u64 - 1000);
    assert_eq!(ranges, [1000]);
    check_whole(out.path());
    fs::remove_dir_all(out.path().join("set")).unwrap();
    fs::write(out.path().join("set.tar.gz.part"), &content).unwrap();
    assert_eq!(bring(out.path(), Manner::Good).0.unwrap(), 0);
    check_whole(out.path());
}

#[test]
fn another_file_is_refused_and_removed() {
    let out = tempfile::tempdir().unwrap();
    let error = bring(out.path(), Manner::Other).0.unwrap_err();
    assert!(
        matches!(&error, DataError::WrongSum { url, .. } if url.ends_with("/set.tar.gz")),
        "{error}"
    );
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
}

#[test]
fn a_missing_file_and_a_missing_server_are_errors_that_name_the_address() {
    let out = tempfile::tempdir().unwrap();
    let error = bring(out.path(), Manner::Empty).0.unwrap_err();
    assert!(error.to_string().ends_with("/set.tar.gz: 404 Not Found"), "{error}");
    // Port 9 discards, where anything listens at all.
    let error = download(&set_of(archive().1), None, out.path(), &mut |_| {}).unwrap_err();
    assert!(error.to_string().starts_with("http://127.0.0.1:9/set.tar.gz: "), "{error}");
}

#[test]
fn progress_names_the_file_and_adds_up() {
    let out = tempfile::tempdir().unwrap();
    let (content, md5) = archive();
    let server = serve(content.clone(), Manner::Good);
    let (mut names, mut bytes) = (Vec::new(), 0);
    let mirror = format!("http://{}", server.address);
    let mut note = |progress: Progress<'_>| match progress {
        Progress::File { name, have, of } => names.push(format!("{name} {have} {of:?}")),
        Progress::Bytes(came) => bytes += came,
        Progress::Unpack(name) => names.push(format!("unpack {name}")),
    };
    download(&set_of(md5), Some(&mirror), out.path(), &mut note).unwrap();
    assert_eq!(bytes, content.len() as u64);
    let len = content.len();
    assert_eq!(names, [format!("set.tar.gz 0 Some({len})"), "unpack set.tar.gz".to_string()]);
}

#[test]
fn known_sets_have_names_and_sums_of_their_own() {
    let mut names: Vec<_> = KNOWN.iter().map(|set| set.name).collect();
    let mut sums: Vec<_> = KNOWN.iter().flat_map(|set| set.files).map(|file| file.md5).collect();
    assert!(sums.iter().all(|sum| sum.len() == 32));
    let counts = (names.len(), sums.len());
    names.sort_unstable();
    names.dedup();
    sums.sort_unstable();
    sums.dedup();
    assert_eq!((names.len(), sums.len()), counts);
}
