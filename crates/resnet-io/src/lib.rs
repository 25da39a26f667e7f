//! Pixels and files: decoders, resize, augmentation, data sources, loader; weights and model files.
//!
//! From an address to a batch: [`source::open`] finds pictures and splits, a [`source::Source`] hands out
//! files or ready pixels, [`augment`] turns each into the picture the network sees, and
//! [`loader::Loader`] does so in worker threads and delivers u8 NHWC batches in order.
//! The crate reads bytes that strangers wrote: everything wrong with them is a [`DataError`].
#![deny(unsafe_code)]

pub mod augment;
pub mod decode;
pub mod download;
pub mod encode;
mod error;
pub mod loader;
pub mod mix;
pub mod pack;
mod picture;
pub mod readable;
pub mod resize;
pub mod sheet;
pub mod source;
pub mod survey;
pub mod weights;

pub use crate::error::{DataError, RemoteFault, system_hint};
pub use crate::picture::{Colour, Image, ImageRef, Part, luma};
