//! Checks the tree against the rules of the house that neither rustc nor clippy can hold.
//!
//! Every file is read once, all faults are listed at once, each as
//! `file:line: what, use this instead`. The rules themselves live in the modules below, one kind of
//! file each; all of them are functions from text to faults, so that tests need no file system.

mod manifest;
mod rust;
mod text;
mod tree;

use std::fmt;

pub use tree::{SourceFile, Tree};

/// Whether a finding fails the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// Printed, but the check passes.
    Warning,
    /// The check fails.
    Fault,
}

/// One departure from the rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Path from the root of the workspace, with forward slashes.
    pub path: String,
    /// Line, counted from 1.
    pub line: usize,
    /// Whether it fails the check.
    pub severity: Severity,
    /// What is wrong there.
    pub what: String,
    /// What to do instead.
    pub instead: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { path, line, severity, what, instead } = self;
        let mark = match severity {
            Severity::Warning => "warning: ",
            Severity::Fault => "",
        };
        write!(f, "{path}:{line}: {mark}{what}, {instead}")
    }
}

/// All findings of one run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// In order of path and line.
    pub findings: Vec<Finding>,
    /// How many files were read.
    pub files: usize,
}

impl Report {
    /// Whether there is no fault; warnings pass.
    pub fn passes(&self) -> bool {
        self.count(Severity::Fault) == 0
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|finding| finding.severity == severity).count()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        let (faults, warnings) = (self.count(Severity::Fault), self.count(Severity::Warning));
        writeln!(f, "tidy: {} files, {faults} faults, {warnings} warnings", self.files)
    }
}

/// Applies every rule to every file.
pub fn check(tree: &Tree) -> Report {
    let mut found = Findings::default();
    for file in &tree.files {
        text::check(file, &mut found);
        if file.path.ends_with(".rs") {
            rust::check(file, &mut found);
        }
        if file.path.ends_with("Cargo.toml") {
            manifest::check(file, &mut found);
        }
    }
    found.list.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    Report { findings: found.list, files: tree.files.len() }
}

/// Where rules put what they find.
#[derive(Default)]
struct Findings {
    list: Vec<Finding>,
}

impl Findings {
    fn fault(&mut self, path: &str, line: usize, what: impl Into<String>, instead: &str) {
        self.push(Severity::Fault, path, line, what.into(), instead);
    }

    fn warning(&mut self, path: &str, line: usize, what: impl Into<String>, instead: &str) {
        self.push(Severity::Warning, path, line, what.into(), instead);
    }

    fn push(&mut self, severity: Severity, path: &str, line: usize, what: String, instead: &str) {
        let (path, instead) = (path.to_owned(), instead.to_owned());
        self.list.push(Finding { path, line, severity, what, instead });
    }
}
