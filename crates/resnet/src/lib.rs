//! Residual networks as a library: one door to the crates below it.
//!
//! [`Training`] trains a recipe in a run's folder; [`Predictor`] uses what was trained, here or
//! elsewhere. What they take and give are plain data of [`train`], [`io`] and [`core`].
//!
//! ```no_run
//! use std::sync::atomic::AtomicBool;
//!
//! use resnet::{Device, Model, ModelRequest, Predictor, Training};
//!
//! let device = Device::detect();
//! let training = Training::begin("runs/first".as_ref(), None, &[], device)?;
//! let end = training.run(&AtomicBool::new(false), &mut |event| println!("{event}"))?;
//!
//! let weights = end.run.join("checkpoints/best.safetensors");
//! let model = Model::load(&ModelRequest { weights, ..ModelRequest::default() })?;
//! let mut predictor = Predictor::new(model, device)?;
//! for prediction in predictor.classify("cat.jpg", &std::fs::read("cat.jpg")?, 5)? {
//!     println!("{} {:.1} %", prediction.label, 100.0 * prediction.probability);
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod bench;
mod device;
mod inference;
pub mod quantize;
mod training;

pub use resnet_core as core;
pub use resnet_cpu as cpu;
pub use resnet_io as io;
pub use resnet_train as train;
pub use resnet_train::model::{Model, ModelRequest};

pub use crate::device::Device;
pub use crate::inference::{EvaluateOptions, Predictor};
pub use crate::training::{Training, default_recipe, is_wrong_usage, set_up};
