//! The `paramedic` binary: the command line, the wiring, and the one event loop.
//!
//! `paramedic_core` decides; this crate carries the decisions out and reports the results back.

pub mod heal;
pub mod run;
pub mod serve;
pub mod replay;
pub mod cli;
