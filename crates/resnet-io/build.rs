//! Compiles the C side of the JPEG decoder.

fn main() {}
