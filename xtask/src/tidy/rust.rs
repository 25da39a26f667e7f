//! Rules for Rust files.

mod lexer;
mod shape;
mod soundness;
mod words;

use super::{Findings, SourceFile};
use lexer::Line;

/// A Rust file as the rules see it.
struct RustFile<'a> {
    path: &'a str,
    text: &'a str,
    lines: Vec<Line>,
    /// Index of the first line that is test code; the number of lines where there is none.
    first_test_line: usize,
}

impl RustFile<'_> {
    fn is_test(&self, index: usize) -> bool {
        self.first_test_line <= index
    }

    /// Whether the file belongs to a library, whose users own the terminal; not to a program, an
    /// example or a build script.
    fn is_library(&self) -> bool {
        let is_program = self.path.starts_with("crates/resnet-cli/")
            || self.path.starts_with("xtask/")
            || self.path.contains("/examples/")
            || self.path.ends_with("/build.rs");
        !is_program
    }

    /// The name of the crate's folder.
    fn crate_name(&self) -> &str {
        self.path.strip_prefix("crates/").unwrap_or(self.path).split('/').next().unwrap_or("")
    }
}

pub(super) fn check(file: &SourceFile, found: &mut Findings) {
    let lines = lexer::split(&file.text);
    let first_test_line = if is_test_path(&file.path) { 0 } else { test_module_start(&lines) };
    let file = RustFile { path: &file.path, text: &file.text, lines, first_test_line };
    shape::check(&file, found);
    soundness::check(&file, found);
    words::check(&file, found);
}

fn is_test_path(path: &str) -> bool {
    path.contains("/tests/") || path.contains("/benches/") || path.ends_with("tests.rs")
}

/// The index of a closing `#[cfg(test)] mod … {`: by habit a file's last item.
fn test_module_start(lines: &[Line]) -> usize {
    let opens_tests = |pair: &[Line]| {
        pair[0].code.trim() == "#[cfg(test)]"
            && pair[1].code.trim_start().starts_with("mod ")
            && pair[1].code.trim_end().ends_with('{')
    };
    lines.windows(2).position(opens_tests).unwrap_or(lines.len())
}

/// Whether `word` stands in `code` with no letter, digit or underscore beside it.
fn has_word(code: &str, word: &str) -> bool {
    let joins = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(word).any(|(start, _)| {
        !code[..start].ends_with(joins) && !code[start + word.len()..].starts_with(joins)
    })
}
