//! Tests with real processes and cgroups, and of the whole agent as a user runs it. Most need root, and
//! fail without it: they are ignored, and `cargo xtask test` runs them.
// Clippy recognises tests by `cfg(test)`, not by the file's place.
#[cfg(test)]
#[path = "live/process.rs"]
mod process;

/// The `paramedic` command, and queries of it.
#[cfg(test)]
#[path = "live/agent.rs"]
mod agent;
/// The watched servers.
#[cfg(test)]
#[path = "live/servers.rs"]
mod servers;
/// The environment of a cluster node.
#[cfg(test)]
#[path = "live/node.rs"]
mod node;

#[cfg(test)]
#[path = "live/cluster.rs"]
mod cluster;

#[cfg(test)]
#[path = "live/command_line.rs"]
mod command_line;
#[cfg(test)]
#[path = "live/evidence.rs"]
mod evidence;
#[cfg(test)]
#[path = "live/foreign.rs"]
mod foreign;
#[cfg(test)]
#[path = "live/grpc.rs"]
mod grpc;
#[cfg(test)]
#[path = "live/held_back.rs"]
mod held_back;
#[cfg(test)]
#[path = "live/notified.rs"]
mod notified;
#[cfg(test)]
#[path = "live/recording.rs"]
mod recording;
#[cfg(test)]
#[path = "live/restart_command.rs"]
mod restart_command;
#[cfg(test)]
#[path = "live/serving.rs"]
mod serving;
#[cfg(test)]
#[path = "live/v1_alone.rs"]
mod v1_alone;
