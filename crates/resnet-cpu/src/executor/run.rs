//! Running: one step of a plan, one arm a kind of work, calls its kernel.
