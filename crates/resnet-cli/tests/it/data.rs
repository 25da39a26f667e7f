//! `resnet data`: what is wrong with a set, and what it is like.

use std::path::PathBuf;

use serde_json::Value;

use crate::pictures::noise;
use crate::session::{Answer, Session};

fn objects(answer: &Answer) -> Vec<Value> {
    answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What was found: (problem, path), sorted.
fn found(answer: &Answer) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found: Vec<_> = objects(answer)
        .iter()
        .filter(|object| object.get("problem").is_some())
        .map(|object| (text(&object["problem"]), text(&object["path"])))
        .collect();
    found.sort();
    found
}

/// Three classes with four pictures each to train on and two each to test with, all different.
pub(crate) fn set(session: &Session) {
    for (class, name) in ["coarse", "fine", "middling"].into_iter().enumerate() {
        for i in 0..6 {
            let part = if i < 4 { "train" } else { "test" };
            let picture = noise(40 + 7 * i, 30 + 11 * class as u32 + i, 9 + class as u32 + 2 * i);
            session.write(&format!("set/{part}/{name}/{i}.bmp"), picture);
        }
    }
}

#[test]
fn a_set_in_order_has_nothing_wrong_with_it() {
    let session = Session::new();
    set(&session);
    let answer = session.run("data check --data set --json");
    assert_eq!(answer.status, Some(0), "{}{}", answer.stdout, answer.stderr);
    let all = objects(&answer);
    assert_eq!(all.len(), 1, "{}", answer.stdout);
    assert_eq!(
        (&all[0]["files"], &all[0]["ok"], &all[0]["bad"]),
        (&18.into(), &18.into(), &0.into())
    );
}

#[test]
fn each_fault_of_a_set_is_found() {
    let session = Session::new();
    set(&session);
    let inside = |path: &str| session.folder().join("set").join(path);
    let read = |path: &str| std::fs::read(inside(path)).unwrap();
    // A name that lies, a truncated file, words, a missing class, a leak, a duplicate, a stray list.
    std::fs::rename(inside("train/fine/0.bmp"), inside("train/fine/0.png")).unwrap();
    let whole = read("train/fine/1.bmp");
    session.write("set/train/fine/1.bmp", &whole[..whole.len() / 2]);
    session.write("set/train/coarse/words.jpg", "these are words");
    std::fs::remove_dir_all(inside("test/coarse")).unwrap();
    session.write("set/test/middling/again.bmp", read("train/middling/2.bmp"));
    session.write("set/train/middling/twice.bmp", read("train/middling/3.bmp"));
    session.write("set/labels.txt", "a list");
    let answer = session.run("data check --data set --json");
    assert_eq!(answer.status, Some(1), "{}", answer.stderr);
    let expected = [
        ("damaged", "set/train/fine/1.bmp"),
        ("duplicate", "set/train/middling/twice.bmp"),
        ("leak", "set/test/middling/again.bmp"),
        ("lying_extension", "set/train/fine/0.png"),
        ("missing_class", "test"),
        ("not_an_image", "set/train/coarse/words.jpg"),
    ];
    assert_eq!(found(&answer), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    let all = objects(&answer);
    let last = all.last().unwrap();
    for (key, value) in
        [("files", 19), ("ok", 17), ("bad", 2), ("duplicates", 1), ("leaks", 1), ("stray", 1)]
    {
        assert_eq!(last[key], value, "{key}: {last}");
    }
    insta::assert_snapshot!(
        "data_check_of_a_faulty_set",
        session.run("data check --data set").transcript()
    );
}

#[test]
fn hashes_are_those_of_the_pixels() {
    let session = Session::new();
    // Two by one pixels, blue and red; a row is padded to four bytes.
    let mut bmp = noise(2, 1, 1);
    bmp[54..60].copy_from_slice(&[255, 0, 0, 0, 0, 255]);
    session.write("two/only/1.bmp", bmp);
    let answer = session.run("data check --data two --hashes --json");
    let all = objects(&answer);
    assert_eq!((&all[0]["width"], &all[0]["height"]), (&2.into(), &1.into()));
    // printf '\0\0\377\377\0\0' | sha256sum
    let expected = "2ac99bb2904d92c5ab8927c24694d8fd70bce8bb55450204103d124dc9d7265c";
    assert_eq!(all[0]["rgb_sha256"], expected);
}

#[test]
fn statistics_are_told_and_drawn_on_a_page() {
    let session = Session::new();
    set(&session);
    let answer = session.run("data stats --data set --html page.html --json");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let all = objects(&answer);
    let parts: Vec<_> = all.iter().map(|part| (&part["part"], &part["images"])).collect();
    assert_eq!(parts, [(&"train".into(), &12.into()), (&"test".into(), &6.into())]);
    assert_eq!(all[0]["width"], serde_json::json!([40, 47, 61]));
    let page = std::fs::read_to_string(session.folder().join("page.html")).unwrap();
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), 18);
    assert_eq!(page.matches("<polyline").count(), 6);
    // One file: nothing is fetched from elsewhere.
    assert!(!page.contains("http://") && !page.contains("https://"));
    let text = session.run("data stats --data set").stdout;
    assert!(text.contains("columns 40 to 61, median 47"), "{text}");
}

#[test]
fn a_preview_is_a_png_of_as_many_pictures() {
    let session = Session::new();
    let line = "data preview --data generated:classes=3,images=40,size=16 --images 12 --columns 4 \
                --out sheet.png --json";
    let answer = session.run(line);
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let told = &objects(&answer)[0];
    // Three rows of four pictures of 16 pixels, each six times as large, with captions.
    let expected = [("images", 12), ("width", 6 + 4 * 102), ("height", 6 + 3 * 116)];
    assert!(expected.iter().all(|&(key, value)| told[key] == value), "{told}");
    let first = std::fs::read(session.folder().join("sheet.png")).unwrap();
    assert!(first.starts_with(b"\x89PNG"));
    session.run(line);
    let again = std::fs::read(session.folder().join("sheet.png")).unwrap();
    assert!(again == first, "the same seed and epoch show the same");
    session.run(&format!("{line} --epoch 2"));
    assert!(std::fs::read(session.folder().join("sheet.png")).unwrap() != first);
}

#[test]
fn a_packed_set_trains_to_the_same_bits() {
    let session = Session::new();
    set(&session);
    let answer = session.run("data pack --data set --out packed --shard-images 5 --json");
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let told = &objects(&answer)[0];
    assert_eq!((&told["shards"], &told["images"]), (&5.into(), &18.into()));
    let losses = |data: &str, run: &str| {
        let line = format!("train --data {data} --run {run} --epochs 1 --batch-size 4 --quiet");
        assert_eq!(session.run(&line).status, Some(0));
        let metrics = std::fs::read_to_string(session.folder().join(run).join("metrics.jsonl"));
        let losses = metrics.unwrap();
        let losses = losses.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        losses.map(|line| line["loss"].to_string()).collect::<Vec<_>>()
    };
    assert_eq!(losses("set", "a"), losses("packed", "b"));
    let answer = session.run("data pack --data set --out packed --shard-images 6");
    assert_eq!(answer.status, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("packed/pack.json: says"), "{}", answer.stderr);
}

/// A file of the folder `shared/data` beside the checkout, or a line that says what was skipped.
fn shared(file: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(file);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: shared/data/{file} is not there");
    None
}

#[test]
fn the_flowers_have_one_pair_of_equal_files() {
    let Some(path) = shared("flowers-8x80.tar") else { return };
    let session = Session::new();
    let answer = session.run(&format!("data check --data {} --json", path.display()));
    assert_eq!(answer.status, Some(0), "{}", answer.stderr);
    let found = found(&answer);
    let duplicates: Vec<_> = found.iter().filter(|(problem, _)| problem == "duplicate").collect();
    assert_eq!(duplicates.len(), 1, "{found:?}");
    assert!(duplicates[0].1.ends_with("train/iris/image_0469.jpg"), "{duplicates:?}");
    let all = objects(&answer);
    let last = all.last().unwrap();
    assert_eq!((&last["files"], &last["bad"]), (&640.into(), &0.into()));
    assert_eq!((&last["duplicates"], &last["leaks"]), (&1.into(), &0.into()));
}
