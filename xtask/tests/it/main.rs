//! The rules of the house, on the tree as it is and on small trees that break them.

use std::path::Path;

use xtask::tidy::{self, SourceFile, Tree};

#[test]
fn the_tree_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is below the root");
    let report = tidy::check(&Tree::read(root).expect("the project's files can be read"));
    assert!(report.passes(), "\n{report}");
}

/// The findings for one file, without the advice.
fn findings(path: &str, text: &str) -> Vec<String> {
    let file = SourceFile { path: path.to_owned(), text: text.to_owned() };
    let report = tidy::check(&Tree { files: vec![file] });
    report.findings.iter().map(|finding| format!("{}: {}", finding.line, finding.what)).collect()
}

#[track_caller]
fn check(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(findings(path, text), expected);
}

/// A library file with a proper head and `body` from line 2 on.
#[track_caller]
fn check_library(body: &str, expected: &[&str]) {
    check("crates/resnet-cpu/src/tile.rs", &format!("//! Tiles.\n{body}\n"), expected);
}

#[test]
fn a_file_without_a_head_is_a_fault() {
    check("crates/resnet-cpu/src/tile.rs", "fn f() {}\n", &["1: no head"]);
}

#[test]
fn a_long_file_warns_and_a_longer_one_fails() {
    let lines = |n: usize| "// Why.\n".repeat(n);
    check_library(&lines(498), &[]);
    check_library(&lines(500), &["502: 502 lines outside tests"]);
    let report = tidy::check(&Tree {
        files: vec![SourceFile {
            path: "crates/resnet-cpu/src/tile.rs".to_owned(),
            text: format!("//! Tiles.\n{}", lines(800)),
        }],
    });
    assert!(!report.passes());
}

#[test]
fn tests_do_not_count_as_length() {
    check_library(&format!("#[cfg(test)]\nmod tests {{\n{}}}", "\n".repeat(900)), &[]);
}

#[test]
fn a_long_function_warns() {
    let body = "    x += 1;\n".repeat(70);
    check_library(&format!("fn f() {{\n{body}}}"), &["2: function `f` has 72 lines"]);
}

#[test]
fn drawers_are_faults() {
    check("crates/resnet-io/src/utils.rs", "//! x\n", &["1: module `utils` is a drawer"]);
    check("crates/resnet-io/src/decode/mod.rs", "//! x\n", &["1: `mod.rs`"]);
    check_library("mod helpers {}", &[]);
    check_library("mod helpers {\n}", &["2: module `helpers` is a drawer"]);
}

#[test]
fn unsafe_needs_a_proof_and_a_place() {
    check_library("fn f() {\n    unsafe { g() }\n}", &["3: `unsafe` without a proof"]);
    check_library("// SAFETY: `g` has no conditions.\nfn f() { unsafe { g() } }", &[]);
    check(
        "crates/resnet-train/src/loop.rs",
        "//! x\n// SAFETY: y\nunsafe impl Send for X {}\n",
        &["3: `unsafe` is not allowed here"],
    );
    check("crates/resnet-io/src/weights/map.rs", "//! x\nunsafe fn f() {}\n", &[]);
}

#[test]
fn words_in_strings_and_comments_are_not_code() {
    check_library("fn f() -> &'static str { \"unsafe { println!() }\" } // unsafe {", &[]);
}

#[test]
fn crate_roots_forbid_unsafe() {
    check("crates/resnet-train/src/lib.rs", "//! x\n", &["1: `unsafe` is not forbidden"]);
    check("crates/resnet-io/src/lib.rs", "//! x\n#![deny(unsafe_code)]\n", &[]);
    check("crates/resnet-simd/src/lib.rs", "//! x\n", &[]);
}

#[test]
fn libraries_do_not_print() {
    check_library("fn f() { println!(\"\"); }", &["2: `println!`"]);
    check("crates/resnet-cli/src/view.rs", "//! x\nfn f() { println!(\"\"); }\n", &[]);
    check("crates/resnet-io/tests/it/main.rs", "//! x\nfn f() { eprintln!(\"\"); }\n", &[]);
}

#[test]
fn notes_name_their_issue() {
    let note = ["TO", "DO"].concat();
    check_library(&format!("// {note}: later"), &["2: a note that nobody owns"]);
    check_library(&format!("// {note}(#41): later"), &[]);
}

#[test]
fn tests_neither_sleep_nor_hide() {
    let path = "crates/resnet-io/tests/it/loader.rs";
    check(path, "//! x\nfn f() { std::thread::sleep(D); }\n", &["2: `thread::sleep`"]);
    check(path, "//! x\n#[ignore]\n", &["2: `ignore`"]);
    check(path, "//! x\n#[should_panic]\n", &["2: `should_panic`"]);
    check(path, "//! x\n#[test]\nfn test_f() {}\n", &["3: test `test_f`"]);
}

#[test]
fn lints_are_silenced_with_a_reason() {
    check_library("#[allow(dead_code)]\nfn f() {}", &["2: `allow` without a reason"]);
    check_library("#[expect(dead_code, reason = \"x\")]\nfn f() {}", &[]);
}

#[test]
fn paths_and_hosts_of_a_machine_are_faults() {
    let path = ["/ho", "me/me"].concat();
    check(
        "README.md",
        &format!("see {path}\n"),
        &[&format!("1: `{path}` is a path of one machine")],
    );
    check("README.md", "a/home/b and ~/home/c and home/d\n", &[]);
    let host = ["pypi", ".org"].concat();
    check(
        "docs/x.md",
        &format!("https://{host}/x\n"),
        &[&format!("1: `{host}` is a download host")],
    );
}

/// A manifest of `name` with the given dependency lines.
#[track_caller]
fn check_manifest(name: &str, dependencies: &str, expected: &[&str]) {
    let text = format!("[package]\nname = \"{name}\"\n[lints]\nworkspace = true\n{dependencies}");
    check(&format!("crates/{name}/Cargo.toml"), &text, expected);
}

#[test]
fn arrows_point_one_way() {
    let uses = |name: &str| format!("[dependencies]\n{name}.workspace = true\n");
    check_manifest("resnet-cpu", &uses("resnet-core"), &[]);
    check_manifest(
        "resnet-core",
        &uses("resnet-cpu"),
        &["6: `resnet-core` must not depend on `resnet-cpu`"],
    );
    check_manifest(
        "resnet-cli",
        "[dev-dependencies]\nresnet-io.workspace = true\n",
        &["6: `resnet-cli` must not depend on `resnet-io`"],
    );
    check_manifest("resnet-new", "", &["1: crate `resnet-new` has no place in the layering"]);
}

#[test]
fn versions_live_in_the_workspace() {
    check_manifest(
        "resnet-io",
        "[dependencies]\ntar = \"0.4\"\n",
        &["6: `tar` has a version of its own"],
    );
}

#[test]
fn every_crate_has_the_shared_lints() {
    let path = "crates/resnet-io/Cargo.toml";
    check(
        path,
        "[package]\nname = \"resnet-io\"\n",
        &["1: the workspace's lints are not in force"],
    );
}

#[test]
fn every_fixture_is_what_its_script_makes() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies below the root");
    let stale = xtask::oracle::stale(root).map_err(|error| format!("{error:#}"))?;
    if stale.is_empty() {
        return Ok(());
    }
    Err(format!("`cargo xtask oracle` must make these again: {stale:?}"))
}
