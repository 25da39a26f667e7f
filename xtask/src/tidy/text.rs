//! Rules for every text file: nothing of a particular machine gets into the project.

use super::{Findings, SourceFile};

/// First folders of paths that exist on one machine only.
const MACHINE_FOLDERS: [&str; 5] = ["home", "root", "work", "farm", "Users"];

/// Download hosts and mirrors, in two parts so that this file passes its own check. A name belongs in
/// a manifest, the place it is fetched from in the settings of the machine.
const REGISTRY_HOSTS: [(&str, &str); 6] = [
    ("index.", "crates.io"),
    ("static.", "crates.io"),
    ("pypi.", "org"),
    ("python", "hosted.org"),
    ("registry.", "npmjs"),
    ("deb.", "debian.org"),
];

pub(super) fn check(file: &SourceFile, found: &mut Findings) {
    if file.path.ends_with(".lock") {
        return;
    }
    for (index, line) in file.text.lines().enumerate() {
        if let Some(path) = machine_path(line) {
            let what = format!("`{path}` is a path of one machine");
            found.fault(&file.path, index + 1, what, "use a path relative to the workspace");
        }
        for (name, rest) in REGISTRY_HOSTS {
            let host = format!("{name}{rest}");
            if line.contains(&host) {
                let what = format!("`{host}` is a download host");
                found.fault(&file.path, index + 1, what, "use the package's name");
            }
        }
    }
}

/// The first absolute path in `line` that begins in a machine's own folder and names something in it.
fn machine_path(line: &str) -> Option<&str> {
    for (start, _) in line.match_indices('/') {
        let before = line[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || "_./~}".contains(c)) {
            continue;
        }
        let rest = &line[start + 1..];
        let Some((folder, inside)) = rest.split_once('/') else { continue };
        let end = inside.find(|c: char| !c.is_alphanumeric() && !"_.-".contains(c));
        let name_length = end.unwrap_or(inside.len());
        if MACHINE_FOLDERS.contains(&folder) && 0 < name_length {
            return Some(&line[start..start + 2 + folder.len() + name_length]);
        }
    }
    None
}
