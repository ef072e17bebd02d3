//! Paramedic's decisions as pure functions: values and `now` in, values out.
//!
//! The modules are in the order of the data flow: what is watched, what is seen, what it means,
//! what it calls for, whether it is permitted, and whether it helped. [`engine`] moves each target
//! through all of them. Nothing here reads a clock, a file or a socket, or waits; the list of
//! dependencies and `tests/purity.rs` enforce that.
pub mod boot_time;

pub mod target;
pub mod signal;
pub mod health;
pub mod features;
pub mod decide;
pub mod guard;
pub mod verify;
pub mod resize;
pub mod engine;
pub mod notice;
