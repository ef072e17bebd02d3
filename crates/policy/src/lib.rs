//! `paramedic-policy`: the CRD `HealingPolicy` and its controller.
//!
//! A policy stands beside the template of a workload: it names pods by their labels, and what may
//! be done to them. The controller writes that on the pods, as the label and annotations that the
//! agents obey, and takes it away again. So pods need no rollout, and no agent needs to know
//! policies: without this controller the agents go on obeying what stands on the pods.
//!
//! What to write is a pure function of policies and pods ([`plan`]). What it set is recorded on the
//! pod ([`record`]), so that it changes only its own keys: those of the template or of a person win.
pub mod policy;
mod crd;
mod settings;
pub mod record;
pub mod plan;
mod incidents;
mod status;
mod store;
mod leader;
mod writes;
mod serve;
mod run;
#[cfg(test)]
mod tests;

pub use crd::{crd, crd_yaml};
pub use policy::{HealingPolicy, HealingPolicySpec};
pub use run::{Config, Controller};
