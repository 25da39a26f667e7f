//! Recipes, schedules, the training loop, checkpoints, metrics and evaluation.
//!
//! A [`recipe::Recipe`] says everything that a run's result depends on; [`schedule`] turns a step into
//! a learning rate; [`checkpoint`] lets a run that was killed go on to the bit.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod recipe;
pub mod schedule;
