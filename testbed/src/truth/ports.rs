//! Ports that a service would have.
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context as _, Result};

/// Below those of clients: of a connection that is first seen in its middle, the kernel side tells by
/// the ports who serves.
const FIRST: u16 = 20_000;
const LAST: u16 = 32_000;

/// Three free ones.
pub(super) fn free() -> Result<[u16; 3]> {
    // So that two runs at once rarely try the same.
    let first = FIRST + u16::try_from(std::process::id() % 10_000).unwrap_or_default();
    let bound =
        (first..LAST).filter_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
    let three: Vec<TcpListener> = bound.take(3).collect();
    let ports = three.iter().map(|listener| Ok(listener.local_addr()?.port()));
    let ports: Vec<u16> = ports.collect::<Result<_>>()?;
    ports.try_into().ok().context("no three free ports")
}
