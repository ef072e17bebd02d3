//! What load to expect of a workload within the next minutes.
//!
//! A [`Load`] learns from one rate a minute, by exponential smoothing with three seasons: the hour,
//! the day and the week. All it knows is 10 KiB, which can be stored and read back. It is pure: it
//! knows no clock, and is told the minute.
//!
//! `cargo xtask bench --only forecast` plays public traces through it.
mod load;
mod smoothing;
mod stored;

pub use load::{Load, Minute, Unknown};
pub use stored::{Malformed, STORED_BYTES};
