//! Builds the C side of the JPEG decoder against the headers of libjpeg that `mozjpeg-sys` builds.

fn main() {
    println!("cargo:rerun-if-changed=src/decode/jpeg.c");
    let include =
        std::env::var_os("DEP_JPEG_INCLUDE").expect("mozjpeg-sys tells where its headers are");
    cc::Build::new()
        .includes(std::env::split_paths(&include))
        .file("src/decode/jpeg.c")
        .warnings(true)
        .compile("resnet_jpeg");
}
