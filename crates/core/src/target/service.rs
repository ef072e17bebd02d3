//! A service that the user names by its URL.
use std::net::IpAddr;

use super::Settings;

/// A service of this machine, named by its URL.
#[derive(Clone, Debug)]
pub struct WatchedService {
    /// The URL as the user gave it: the target's name and uid.
    pub url: String,
    /// The port that it listens on.
    pub port: u16,
    /// The addresses of this machine at which it may listen, in the order of preference.
    pub addresses: Vec<IpAddr>,
    /// The `Host` header.
    pub host: String,
    /// Whether it speaks TLS.
    pub tls: bool,
    /// Its settings.
    pub settings: Settings,
}
