//! Paramedic: the first responder on every node.
//!
//! The modules stand in the order in which the data flows: who is watched, what is seen, what it
//! amounts to, what it calls for, whether we may, the act itself, whether it helped, and the
//! record of it all.
mod locked;
pub mod moment;

pub mod target;
pub mod signal;
pub mod features;
pub mod decide;
pub mod guard;
pub mod heal;
pub mod verify;
pub mod record;

pub mod cluster;
pub mod docker;
pub mod engine;
pub mod run;
pub mod serve;
pub mod replay;
pub mod autoscale;
pub mod metrics_api;
pub mod cli;

#[cfg(test)]
mod granted;
