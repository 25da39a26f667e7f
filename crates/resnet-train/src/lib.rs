//! Recipes, schedules, the training loop, checkpoints, metrics and evaluation.
//!
//! A [`recipe::Recipe`] says everything that a run's result depends on; [`schedule`] turns a step into
//! a learning rate; [`setup`] makes a run of a recipe, and [`trainer`] trains it, step by step, through
//! an [`engine`] in any executor; [`checkpoint`] lets a run that was killed go on to the bit.
//! [`model`] loads what was trained, here or elsewhere, [`evaluate`] and [`predict`] use it.
//! The crate prints nothing: what happens is an [`event::Event`], handed to the caller.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod classes;
pub mod engine;
mod error;
pub mod evaluate;
pub mod event;
pub mod int8;
pub mod metrics;
pub mod model;
pub mod predict;
pub mod preprocess;
pub mod recipe;
pub mod run_folder;
pub mod schedule;
pub mod score;
pub mod setup;
mod suggest;
pub mod trainer;

pub use crate::error::TrainError;
