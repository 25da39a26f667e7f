//! Rules for `Cargo.toml`: which crate may use which, shared lints, versions in one place.

use toml::{Table, Value};

use super::{Findings, SourceFile};

/// Which of our crates a crate may depend on. Arrows point one way only; a new one is a change of
/// the design, and is made here.
const ARROWS: [(&str, &[&str]); 8] = [
    ("resnet-simd", &[]),
    ("resnet-core", &[]),
    ("resnet-cpu", &["resnet-simd", "resnet-core"]),
    ("resnet-io", &["resnet-simd", "resnet-core"]),
    ("resnet-train", &["resnet-core", "resnet-cpu", "resnet-io"]),
    ("resnet", &["resnet-core", "resnet-cpu", "resnet-io", "resnet-train"]),
    ("resnet-cli", &["resnet"]),
    ("xtask", &["resnet", "resnet-core", "resnet-cpu", "resnet-io", "resnet-train"]),
];

const DEPENDENCY_TABLES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];

pub(super) fn check(file: &SourceFile, found: &mut Findings) {
    let manifest: Table = match file.text.parse() {
        Ok(manifest) => manifest,
        Err(error) => {
            let what = format!("not TOML: {}", error.message());
            return found.fault(&file.path, 1, what, "use what cargo accepts");
        }
    };
    let package = manifest.get("package").and_then(|package| package.get("name"));
    let Some(name) = package.and_then(Value::as_str) else {
        return; // the virtual manifest at the root
    };
    check_lints(file, &manifest, found);
    let allowed = ARROWS.iter().find(|(from, _)| *from == name).map(|(_, to)| *to);
    if allowed.is_none() {
        let what = format!("crate `{name}` has no place in the layering");
        found.fault(&file.path, 1, what, "add it to ARROWS in xtask/src/tidy/manifest.rs");
    }
    for table in DEPENDENCY_TABLES {
        for (dependency, value) in
            manifest.get(table).and_then(Value::as_table).into_iter().flatten()
        {
            let line = line_of(&file.text, dependency);
            if value.get("workspace").and_then(Value::as_bool) != Some(true) {
                let what = format!("`{dependency}` has a version of its own");
                let instead =
                    "use `workspace = true` and put the version into the root's Cargo.toml";
                found.fault(&file.path, line, what, instead);
            }
            let ours = ARROWS.iter().any(|(crate_name, _)| crate_name == dependency);
            if ours && !allowed.unwrap_or(&[]).contains(&dependency.as_str()) {
                let what = format!("`{name}` must not depend on `{dependency}`");
                let instead = "use only the crates below it (ARCHITECTURE.md, code map)";
                found.fault(&file.path, line, what, instead);
            }
        }
    }
}

fn check_lints(file: &SourceFile, manifest: &Table, found: &mut Findings) {
    let shared = manifest.get("lints").and_then(|lints| lints.get("workspace"));
    if shared.and_then(Value::as_bool) != Some(true) {
        let what = "the workspace's lints are not in force";
        found.fault(&file.path, 1, what, "add `[lints] workspace = true`");
    }
}

/// The line that begins with `key`, or the first.
fn line_of(text: &str, key: &str) -> usize {
    let begins =
        |line: &str| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(['.', ' ', '=']));
    text.lines().position(begins).map_or(1, |index| index + 1)
}
