//! Describes this agent, for the status page and `top`.
use std::fs;

use paramedic_core::target::Remedy;
use serde::Serialize;

/// Facts that do not change while the agent runs.
#[derive(Clone, Debug, Serialize)]
pub struct BuildInfo {
    /// Name of the node; outside a cluster, of the machine.
    pub node: String,
    /// The agent's version.
    pub version: &'static str,
    /// The strongest remedy on this node.
    pub max_remedy: Remedy,
    /// Whether remedies are only recorded.
    pub dry_run: bool,
    /// Whether there is a journal of incidents.
    pub journal: bool,
}

impl BuildInfo {
    /// The machine's name.
    #[must_use]
    pub fn this_machine() -> String {
        let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match name.trim() {
            "" => "this machine".to_owned(),
            name => name.to_owned(),
        }
    }
}
