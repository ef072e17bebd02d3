//! The `paramedic` binary: the command line, the wiring, and the one event loop.
//!
//! Judgement is `paramedic_core`'s; this crate carries out what it decides and feeds back what came of
//! it.

pub mod heal;
pub mod run;
pub mod serve;
pub mod replay;
pub mod cli;
