//! The command line of `resnet`.
#![forbid(unsafe_code)]

fn main() {}
