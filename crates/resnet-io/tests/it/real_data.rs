//! Real data that the repository may not hold.

use std::path::PathBuf;

/// A file of the folder `shared/data` beside the checkout, or a line that says what was skipped.
pub(crate) fn shared(file: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let path = root.join(file);
    if !path.exists() {
        println!("skipped: shared/data/{file} is not there");
        return None;
    }
    Some(path)
}

/// SHA-256 as hexadecimal text.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
