//! Every vector operation on every instruction set of this CPU against plain Rust.

mod aligned;
mod isa;
mod operations;
