//! Readers of weights: pickles in zip files and streams, safetensors.
#![no_main]

use std::fs;

use resnet_io::weights;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let path = std::env::temp_dir().join(format!("resnet-fuzz-weights-{}", std::process::id()));
    fs::write(&path, bytes).expect("the temporary folder can be written");
    if let Ok(file) = weights::open(&path) {
        for tensor in &file.tensors {
            assert_eq!(tensor.to_f32().len(), tensor.shape().iter().product::<usize>());
        }
    }
});
