//! The files that belong to the project, read once.

use std::io;
use std::path::Path;
use std::process::Command;

/// A text file of the project.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Path from the root of the workspace, with forward slashes.
    pub path: String,
    /// Its whole text.
    pub text: String,
}

/// Every text file of the project.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// In order of path.
    pub files: Vec<SourceFile>,
}

/// Larger files are data, not text that somebody wrote.
const MAX_BYTES: u64 = 1 << 20;

/// Folders that never belong to the project, for when git cannot be asked.
const NOT_OURS: [&str; 3] = [".git", "target", "runs"];

/// Workspaces of their own beside ours, with rules of their own: what others' engines are run with.
const OTHER_WORKSPACES: [&str; 2] = ["bench/rten/", "fuzz/"];

impl Tree {
    /// Reads what git tracks, and what it would track, below `root`; without git, all files below it.
    ///
    /// # Errors
    /// When a folder or file cannot be read. Files that are not UTF-8 are left out.
    pub fn read(root: &Path) -> io::Result<Tree> {
        let mut paths = match list_with_git(root) {
            Some(paths) => paths,
            None => list_folder(root)?,
        };
        paths.sort();
        let mut files = Vec::new();
        let theirs = |path: &str| OTHER_WORKSPACES.iter().any(|folder| path.starts_with(folder));
        for path in paths.into_iter().filter(|path| !theirs(path)) {
            let full = root.join(&path);
            // Tracked but deleted in the working tree, or a link to a folder.
            let Ok(metadata) = full.metadata() else { continue };
            if !metadata.is_file() || MAX_BYTES < metadata.len() {
                continue;
            }
            if let Ok(text) = String::from_utf8(std::fs::read(&full)?) {
                files.push(SourceFile { path, text });
            }
        }
        Ok(Tree { files })
    }
}

fn list_with_git(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .output()
        .ok()?;
    if !output.status.success() {
        return None;
    }
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.split_terminator('\0').map(str::to_owned).collect())
}

fn list_folder(root: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root.join(&folder))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            if !entry.file_type()?.is_dir() {
                paths.push(path);
            } else if !NOT_OURS.contains(&name.as_str()) {
                folders.push(path);
            }
        }
    }
    Ok(paths)
}
