//! Habits as code: what `cargo xtask` can do, as a library so that tests run the same checks.
#![forbid(unsafe_code)]

pub mod oracle;
pub mod prove;
pub mod tidy;
