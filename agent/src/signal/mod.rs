//! Stage 1: what is seen of one target at one instant.
//!
//! Cumulative counts and last readings, as they are: rates, windows and judgement begin in
//! `features`. What could not be read is `None`, never a made-up zero.
pub mod cgroup;
pub mod health;
pub mod kernel;
pub mod sample;
pub mod usage;
