//! Rules about `unsafe`: where it may stand, and that each use is proven.

use super::{Findings, RustFile, has_word};

/// Where `unsafe` may stand: the vector types, the engine, the memory map, the resampler's vector code.
const UNSAFE_PLACES: [&str; 7] = [
    "crates/resnet-simd/",
    "crates/resnet-cpu/",
    "crates/resnet-io/src/weights/map.rs",
    "crates/resnet-io/src/weights/map/",
    // Two calls into C: libjpeg, whose pixels Pillow has.
    "crates/resnet-io/src/decode/jpeg.rs",
    "crates/resnet-io/src/resize/simd.rs",
    "crates/resnet-io/src/resize/simd/",
];

/// Crates that hold such a place; all others forbid `unsafe` altogether.
const UNSAFE_CRATES: [&str; 3] = ["resnet-simd", "resnet-cpu", "resnet-io"];

/// How many lines above an `unsafe` its proof may begin.
const PROOF_LINES: usize = 5;

pub(super) fn check(file: &RustFile, found: &mut Findings) {
    check_root(file, found);
    let allowed = UNSAFE_PLACES.iter().any(|place| file.path.starts_with(place));
    for (index, line) in file.lines.iter().enumerate() {
        if !has_word(&line.code, "unsafe") {
            continue;
        }
        if !allowed {
            let instead =
                "use the safe form, or move it to one of the places that may (ARCHITECTURE.md)";
            found.fault(file.path, index + 1, "`unsafe` is not allowed here", instead);
        }
        if needs_proof(&line.code) && !has_proof(file, index) {
            let instead =
                "say which fact makes it sound and where it is established: `// SAFETY: …`";
            found.fault(file.path, index + 1, "`unsafe` without a proof", instead);
        }
    }
}

/// A crate's root says by attribute what this check says by path: rustc sees through macros.
fn check_root(file: &RustFile, found: &mut Findings) {
    let is_root = file.path.ends_with("/src/lib.rs") || file.path.ends_with("/src/main.rs");
    if !is_root || UNSAFE_CRATES[..2].contains(&file.crate_name()) {
        return;
    }
    let (attribute, why) = if UNSAFE_CRATES.contains(&file.crate_name()) {
        ("#![deny(unsafe_code)]", "`unsafe` is not denied")
    } else {
        ("#![forbid(unsafe_code)]", "`unsafe` is not forbidden")
    };
    if !file.lines.iter().any(|line| line.code.trim() == attribute) {
        found.fault(file.path, 1, why, &format!("add `{attribute}`"));
    }
}

fn needs_proof(code: &str) -> bool {
    let mut rest = code;
    while let Some(start) = rest.find("unsafe") {
        rest = rest[start + "unsafe".len()..].trim_start();
        if rest.starts_with('{') || rest.starts_with("impl") {
            return true;
        }
    }
    false
}

fn has_proof(file: &RustFile, index: usize) -> bool {
    let first = index.saturating_sub(PROOF_LINES);
    file.lines[first..=index].iter().any(|line| line.comment.contains("SAFETY:"))
}
