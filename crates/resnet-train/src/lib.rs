//! Recipes, schedules, the training loop, checkpoints, metrics and evaluation.
//!
//! A [`recipe::Recipe`] says everything that a run's result depends on; [`schedule`] turns a step into
//! a learning rate.
#![forbid(unsafe_code)]

pub mod recipe;
pub mod schedule;
