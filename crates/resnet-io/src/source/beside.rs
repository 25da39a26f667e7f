//! Small files that lie beside the pictures, or above them: names of classes, ImageNet's ground truth.

use std::fs;
use std::path::{Path, PathBuf};

#[cfg(feature = "remote")]
use super::remote::Remote;

/// A folder whose files are asked for by name.
#[derive(Clone)]
pub(super) enum Beside {
    /// Here.
    Local(PathBuf),
    /// On a server.
    #[cfg(feature = "remote")]
    Remote(Remote),
}

impl Beside {
    /// The folder that a file lies in.
    pub(super) fn file(path: &Path) -> Beside {
        Beside::Local(path.parent().unwrap_or(Path::new("")).to_path_buf())
    }

    /// What to call it.
    pub(super) fn name(&self) -> String {
        match self {
            Beside::Local(folder) => folder.display().to_string(),
            #[cfg(feature = "remote")]
            Beside::Remote(folder) => folder.address(),
        }
    }

    /// The name and text of a file in it, if it is there and is text.
    pub(super) fn text(&self, name: &str) -> Option<(PathBuf, String)> {
        match self {
            Beside::Local(folder) => {
                let path = folder.join(name);
                let text = fs::read_to_string(&path).ok()?;
                Some((path, text))
            }
            #[cfg(feature = "remote")]
            Beside::Remote(folder) => {
                let file = folder.join(name)?;
                let text = String::from_utf8(file.read().ok()?.to_vec()).ok()?;
                Some((file.address().into(), text))
            }
        }
    }

    /// It and up to so many folders above it, the nearest first.
    pub(super) fn and_above(&self, folders: usize) -> Vec<Beside> {
        match self {
            Beside::Local(folder) => {
                let Ok(folder) = fs::canonicalize(folder) else { return Vec::new() };
                let all = folder.ancestors().take(1 + folders);
                all.map(|folder| Beside::Local(folder.to_path_buf())).collect()
            }
            #[cfg(feature = "remote")]
            Beside::Remote(folder) => {
                let all = std::iter::successors(Some(folder.clone()), Remote::parent);
                all.take(1 + folders).map(Beside::Remote).collect()
            }
        }
    }

    /// The names in its `classes.txt`, one a line, if it has one.
    pub(super) fn class_names(&self) -> Option<Vec<String>> {
        let (_, text) = self.text("classes.txt")?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Some(lines.map(str::to_string).collect())
    }
}
