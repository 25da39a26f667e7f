//! The documents keep up with the program.

use std::collections::BTreeSet;
use std::path::Path;

use crate::session::{COMMANDS, Session};

fn document(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path);
    std::fs::read_to_string(&path).expect("the documents are part of the project")
}

/// The words of a text that look like long flags.
fn long_flags(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    let is_flag = |word: &&str| {
        word.strip_prefix("--").is_some_and(|name| name.starts_with(char::is_alphabetic))
    };
    words.filter(is_flag).collect()
}

/// The long flags that a command declares: the first of each line of its options.
fn declared(help: &str) -> BTreeSet<&str> {
    let is_option = |line: &&str| line.trim_start().starts_with('-');
    help.lines().filter(is_option).flat_map(|line| long_flags(line).pop_first()).collect()
}

/// The part of a page below a heading of the second level.
fn section<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n## {heading}\n")).expect("the page has the heading");
    let rest = &page[start + 4..];
    &rest[..rest.find("\n## ").unwrap_or(rest.len())]
}

#[test]
fn every_flag_is_in_the_reference() {
    let page = document("docs/reference.md");
    let shared = long_flags(section(&page, "All commands"));
    for command in COMMANDS {
        let help = Session::new().run(&format!("{command} --help")).stdout;
        let declared = declared(&help);
        assert!(declared.contains("--json") && declared.contains("--help"), "{command}: {help}");
        let own = long_flags(section(&page, command));
        let described = &shared | &own;
        let missing: Vec<_> = declared.difference(&described).collect();
        assert!(missing.is_empty(), "docs/reference.md, {command}: {missing:?} missing");
    }
}

#[test]
fn the_reference_has_no_flag_that_does_not_exist() {
    let mut helps = Session::new().run("--help").stdout;
    for command in COMMANDS {
        helps += &Session::new().run(&format!("{command} --help")).stdout;
    }
    let exist = declared(&helps);
    for path in ["docs/reference.md", "docs/guide.md"] {
        let page = document(path);
        let unknown: Vec<_> = long_flags(&page).difference(&exist).copied().collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?} are no flags");
    }
}

/// The keys that `--json` prints are those that the reference lists.
#[test]
fn every_json_key_is_in_the_reference() {
    let page = document("docs/reference.md");
    let session = Session::new();
    crate::data::set(&session);
    // A set that is there is not downloaded.
    std::fs::create_dir_all(session.folder().join("data/cifar-10-batches-bin")).unwrap();
    let train = "train --json --data generated:images=40,size=16 --model cifar-resnet8 --epochs 1 \
                 --batch-size 20 --run r --set optimizer.clip_norm=1";
    for (command, line) in [
        ("train", train),
        (
            "eval",
            "eval --json --weights r/checkpoints/last.safetensors --data generated:images=40,size=16",
        ),
        ("info", "info --json resnet20"),
        ("info", "info --json --build"),
        ("data check", "data check --json --hashes --data set"),
        ("data stats", "data stats --json --data set"),
        ("data preview", "data preview --json --data set --images 4"),
        ("data pack", "data pack --json --data set --out packed"),
        ("data download", "data download --json cifar10"),
        ("bench", "bench --json --mode data --data set --batch-size 4 --size 32 --seconds 0.01"),
        ("bench", "bench --json --model resnet20 --batch-size 1 --seconds 0.01 --threads 1"),
    ] {
        let answer = session.run(line);
        assert_eq!(answer.status, Some(0), "{line}: {}", answer.stderr);
        let section = section(&page, command);
        for object in answer.stdout.lines() {
            let object: serde_json::Value = serde_json::from_str(object).unwrap();
            for key in object.as_object().unwrap().keys() {
                assert!(section.contains(&format!("`{key}`")), "{command}: `{key}` is missing");
            }
        }
    }
}
