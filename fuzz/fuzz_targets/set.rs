//! Readers of sets: tar, CIFAR, IDX, lists, Parquet. All samples found can be asked for.
#![no_main]

use std::fs;

use resnet_io::source::{OpenOptions, open_any};

/// Samples that are read of each part.
const SAMPLES: usize = 8;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let folder = std::env::temp_dir().join(format!("resnet-fuzz-set-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("the temporary folder can be written");
    let path = folder.join("set");
    fs::write(&path, bytes).expect("the temporary folder can be written");
    let address = path.to_str().expect("a plain path");
    let options = OpenOptions { cache: Some(folder.join("cache")), ..OpenOptions::default() };
    if let Ok(set) = open_any(address, &options) {
        for part in [set.train, set.val, set.test, set.others].into_iter().flatten() {
            for index in 0..part.len().min(SAMPLES) {
                assert!((part.label(index) as usize) < part.classes().len());
                let _ = (part.name(index), part.id(index), part.read(index).is_ok());
            }
        }
    }
});
