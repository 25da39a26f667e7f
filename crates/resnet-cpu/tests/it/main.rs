//! The engine against its scalar twins and itself.

mod conv;
