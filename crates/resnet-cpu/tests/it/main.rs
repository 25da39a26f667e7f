//! The engine against the reference executor.

mod networks;
