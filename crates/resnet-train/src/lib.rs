//! Recipes, schedules, the training loop, checkpoints, metrics and evaluation.
#![forbid(unsafe_code)]
