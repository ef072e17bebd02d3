//! Paramedic's judgement, without its hands: values and `now` in, values out.
//!
//! The modules stand in the order in which the data flows: what is watched, what is seen, what it
//! amounts to, what it calls for, whether it may be done, and whether it helped. [`engine`] walks
//! each target through all of them. Nothing here reads a clock, a file or a socket, or waits; the
//! list of dependencies and `tests/purity.rs` hold it to that.
pub mod moment;

pub mod target;
pub mod signal;
pub mod health;
pub mod features;
pub mod decide;
pub mod guard;
pub mod verify;
pub mod engine;
pub mod notice;
