//! Rules about single words: what must not be left behind, printed, slept or hidden.

use super::{Findings, RustFile, has_word};

/// Where in a file a word is forbidden.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Everywhere,
    /// Outside tests, in crates that other programs link.
    Library,
    Tests,
}

struct Forbidden {
    word: &'static str,
    scope: Scope,
    instead: &'static str,
}

const FORBIDDEN: [Forbidden; 14] = [
    forbid("dbg!", Scope::Everywhere, "remove it"),
    forbid("todo!", Scope::Everywhere, "return an error that says what is not supported"),
    forbid("unimplemented!", Scope::Everywhere, "return an error that says what is not supported"),
    forbid("catch_unwind", Scope::Everywhere, "return an error: a panic is a bug to be found"),
    forbid("print!", Scope::Library, "return the text: printing is the command line's"),
    forbid("println!", Scope::Library, "return the text: printing is the command line's"),
    forbid("eprint!", Scope::Library, "return the text: printing is the command line's"),
    forbid("eprintln!", Scope::Library, "return the text: printing is the command line's"),
    forbid("process::exit", Scope::Library, "return an error"),
    forbid("#[ignore", Scope::Tests, "make it quick, or an `xtask` command"),
    forbid("#[should_panic", Scope::Tests, "return an error and compare it"),
    forbid("thread::sleep", Scope::Tests, "wait for the thing itself, or inject the clock"),
    forbid("temp_dir()", Scope::Tests, "use `tempfile`: fixed paths collide"),
    forbid("SystemTime::now", Scope::Tests, "inject the clock"),
];

const fn forbid(word: &'static str, scope: Scope, instead: &'static str) -> Forbidden {
    Forbidden { word, scope, instead }
}

pub(super) fn check(file: &RustFile, found: &mut Findings) {
    for (index, line) in file.lines.iter().enumerate() {
        for rule in &FORBIDDEN {
            let applies = match rule.scope {
                Scope::Everywhere => true,
                Scope::Library => file.is_library() && !file.is_test(index),
                Scope::Tests => file.is_test(index),
            };
            if applies && contains(&line.code, rule.word) {
                let what = format!("`{}`", rule.word.trim_start_matches("#["));
                found.fault(file.path, index + 1, what, rule.instead);
            }
        }
        if has_open_note(&line.comment) {
            let instead = "name the issue: `TODO(#41)`";
            found.fault(file.path, index + 1, "a note that nobody owns", instead);
        }
        if let Some(attribute) = suppression_without_reason(file, index) {
            let what = format!("`{attribute}` without a reason");
            let instead = "use `#[expect(lint, reason = \"…\")]`";
            found.fault(file.path, index + 1, what, instead);
        }
    }
    check_op_wildcards(file, found);
}

/// As a word where it begins like one, anywhere otherwise.
fn contains(code: &str, word: &str) -> bool {
    if !word.starts_with(char::is_alphabetic) {
        return code.contains(word);
    }
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(start, _)| !code[..start].ends_with(joins))
}

/// Whether a comment promises work without the number of an issue.
fn has_open_note(comment: &str) -> bool {
    ["TODO", "FIXME"].iter().any(|note| {
        has_word(comment, note)
            && comment.match_indices(note).any(|(start, _)| {
                let number = comment[start + note.len()..].strip_prefix("(#");
                !number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
            })
    })
}

/// The name of a lint attribute that begins on this line and has no `reason`.
fn suppression_without_reason(file: &RustFile, index: usize) -> Option<&'static str> {
    let code = file.lines[index].code.trim_start();
    let attribute = ["allow", "expect"].into_iter().find(|name| {
        code.starts_with(&format!("#[{name}(")) || code.starts_with(&format!("#![{name}("))
    })?;
    let mut text = String::new();
    for line in &file.lines[index..] {
        text.push_str(&line.code);
        if line.code.trim_end().ends_with(']') {
            break;
        }
    }
    (!has_word(&text, "reason")).then_some(attribute)
}

/// A new op must break the build wherever it is not handled: clippy sees the types, so it holds the
/// rule, and this only sees to it that it is asked.
fn check_op_wildcards(file: &RustFile, found: &mut Findings) {
    const LINT: &str = "wildcard_enum_match_arm";
    if file.path == "crates/resnet-core/src/lib.rs"
        && !file.lines.iter().any(|line| line.code.contains(LINT))
    {
        let instead = "add `#![warn(clippy::wildcard_enum_match_arm)]`";
        found.fault(file.path, 1, "wildcard arms on `Op` are not refused", instead);
    }
}
