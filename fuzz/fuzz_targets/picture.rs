//! Decoders of pictures: an error or a picture within the limits.
#![no_main]

use resnet_io::decode::{Exif, decode_by};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(picture) = decode_by("fuzz", bytes, Exif::Apply) {
        assert_eq!(picture.pixels.len(), 3 * picture.width * picture.height);
    }
});
