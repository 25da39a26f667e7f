//! Rules about the shape of files: heads, sizes, names, tests.

use super::{Findings, RustFile};

/// Lines outside tests from which a file is named in a warning.
const SOFT_LINES: usize = 500;
/// Lines outside tests above which the check fails.
const HARD_LINES: usize = 800;
/// Lines of one function from which it is named in a warning: what fits on a screen.
const FUNCTION_LINES: usize = 70;

/// Files that may be longer than `HARD_LINES`, each with the reason. Kernel tables only.
const LONG_FILES: [(&str, &str); 0] = [];

/// Module names that say nothing about what is inside.
const DRAWERS: [&str; 8] =
    ["util", "utils", "common", "helper", "helpers", "misc", "base", "shared"];

pub(super) fn check(file: &RustFile, found: &mut Findings) {
    check_head(file, found);
    check_size(file, found);
    check_name(file, found);
    check_functions(file, found);
}

fn check_head(file: &RustFile, found: &mut Findings) {
    if !file.text.starts_with("//!") {
        let instead = "begin with `//!` and what the file is about";
        found.fault(file.path, 1, "no head", instead);
    }
}

fn check_size(file: &RustFile, found: &mut Findings) {
    let lines = file.first_test_line.min(file.text.lines().count());
    if LONG_FILES.iter().any(|(path, _)| *path == file.path) {
        return;
    }
    let what = format!("{lines} lines outside tests");
    if HARD_LINES < lines {
        found.fault(file.path, lines, what, "split it by idea: 800 is the limit");
    } else if SOFT_LINES < lines {
        found.warning(file.path, lines, what, "split it by idea: aim below 500");
    }
}

fn check_name(file: &RustFile, found: &mut Findings) {
    let parts: Vec<&str> = file.path.trim_end_matches(".rs").split('/').collect();
    if parts.last() == Some(&"mod") {
        found.fault(file.path, 1, "`mod.rs`", "use `name.rs` beside `name/`");
    }
    for part in parts.iter().filter(|part| DRAWERS.contains(part)) {
        let what = format!("module `{part}` is a drawer");
        found.fault(file.path, 1, what, "name the idea that is inside");
    }
    for (index, line) in file.lines.iter().enumerate() {
        let words: Vec<&str> = line.code.split_whitespace().collect();
        let inline = words.windows(3).find(|w| w[0] == "mod" && w[2] == "{").map(|w| w[1]);
        if let Some(name) = inline.filter(|name| DRAWERS.contains(name)) {
            let what = format!("module `{name}` is a drawer");
            found.fault(file.path, index + 1, what, "name the idea that is inside");
        }
    }
}

fn check_functions(file: &RustFile, found: &mut Findings) {
    for (index, line) in file.lines.iter().enumerate() {
        let Some(name) = function_name(&line.code) else { continue };
        if file.is_test(index) {
            let is_case = (1..=3).any(|back| {
                index.checked_sub(back).is_some_and(|i| file.lines[i].code.trim() == "#[test]")
            });
            if is_case && name.starts_with("test_") {
                let what = format!("test `{name}`");
                found.fault(file.path, index + 1, what, "use a sentence, without `test_`");
            }
            continue;
        }
        let lines = body_length(file, index);
        if FUNCTION_LINES < lines {
            let what = format!("function `{name}` has {lines} lines");
            found.warning(file.path, index + 1, what, "split it: 70 fit on a screen");
        }
    }
}

/// The name in a line that begins a function.
fn function_name(code: &str) -> Option<&str> {
    let mut rest = code.trim_start();
    while !rest.starts_with("fn ") {
        let (word, tail) = rest.split_once(' ')?;
        let qualifies = ["const", "async", "unsafe", "extern", "\"\""].contains(&word)
            || word.starts_with("pub");
        if !qualifies {
            return None;
        }
        rest = tail.trim_start();
    }
    let name = &rest["fn ".len()..];
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
    Some(&name[..end])
}

/// Lines from the head of a function to its closing brace; 0 for one without a body.
fn body_length(file: &RustFile, first: usize) -> usize {
    let mut depth = 0_usize;
    let mut opened = false;
    for (index, line) in file.lines.iter().enumerate().skip(first) {
        for c in line.code.chars() {
            match c {
                '{' => {
                    opened = true;
                    depth += 1;
                }
                '}' => depth = depth.saturating_sub(1),
                ';' if !opened => return 0,
                _ => {}
            }
        }
        if opened && depth == 0 {
            return index - first + 1;
        }
    }
    0
}
