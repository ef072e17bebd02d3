//! The Docker container of a target.
use std::{net::IpAddr, time::Duration};

/// What the engine needs to restart a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerRef {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the engine's leading slash.
    pub name: String,
    /// Its first process, in the host's PID namespace.
    pub pid: i32,
    /// When it was started, as the engine reports it.
    pub started: String,
    /// Time from the stop signal to SIGKILL.
    pub grace: Duration,
    /// The signal that stops it.
    pub stop_signal: i32,
    /// The version of its image, if the engine reports it.
    pub image: Option<String>,
    /// Its own address, on the first of its networks; `None` if it has none.
    pub ip: Option<IpAddr>,
}
