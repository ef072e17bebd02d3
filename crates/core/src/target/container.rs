//! The Docker container of a target.
use std::{net::IpAddr, time::Duration};

/// What the engine needs to restart one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRef {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the engine's leading slash.
    pub name: String,
    /// Its first process, as the engine counts: in the host's PID namespace.
    pub pid: i32,
    /// When that was started, as the engine tells it.
    pub started: String,
    /// From the stop signal to SIGKILL.
    pub grace: Duration,
    /// The signal that asks it to end.
    pub stop_signal: i32,
    /// Its own address, on the first of its networks; none that is this machine's.
    pub ip: Option<IpAddr>,
}
