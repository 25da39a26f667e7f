//! Habits as code.
#![forbid(unsafe_code)]

fn main() {}
