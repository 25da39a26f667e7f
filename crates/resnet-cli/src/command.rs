//! The commands, one file each.

pub(crate) mod bench;
pub(crate) mod classify;
pub(crate) mod data;
pub(crate) mod eval;
pub(crate) mod info;
pub(crate) mod quantize;
pub(crate) mod train;
