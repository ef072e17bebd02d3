//! Parses the URL of `paramedic watch URL`: HTTP, HTTPS or gRPC on this machine.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs, UdpSocket},
};

use hyper::Uri;
use paramedic_core::health::grpc::is_service;

/// A service of this machine, by its URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchUrl {
    /// The URL in its shortest form, such as `http://localhost:5000`.
    pub url: String,
    /// Whether it uses TLS.
    pub tls: bool,
    /// The service whose health to call for, if it is gRPC; empty for the whole server.
    pub grpc: Option<String>,
    /// The port.
    pub port: u16,
    /// The local addresses of the host name; at least one.
    pub addresses: Vec<IpAddr>,
}

impl WatchUrl {
    /// Host and port, as in a `Host` header.
    #[must_use]
    pub fn host(&self) -> &str {
        self.url.split_once("://").map_or(self.url.as_str(), |(_, host)| host)
    }
}

/// Why a URL cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is not a URL.
    #[error("{url:?} is not a URL ({why}): write it like http://localhost:5000")]
    Malformed {
        /// The given text.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// Another scheme.
    #[error(
        "{0:?} is not watched: only http, https and grpc can be, such as http://localhost:5000"
    )]
    Scheme(String),
    /// User and password.
    #[error("leave the user name and password out of the URL: they would end up in the logs")]
    UserInfo,
    /// More than scheme, host and port.
    #[error("{0:?} has more than scheme, host and port; --health-path sets the path")]
    TooLong(String),
    /// More than scheme, host, port and service.
    #[error("{0:?} has more than host, port and service: write it like grpc://localhost:50051/a.B")]
    NoService(String),
    /// The name cannot be resolved.
    #[error("cannot resolve {host:?}: {source}")]
    Unresolved {
        /// The host.
        host: String,
        /// The resolver's error.
        source: io::Error,
    },
    /// An address of another machine.
    #[error("{0:?} is not an address of this machine: run paramedic on the machine it runs on")]
    Elsewhere(String),
}

/// Parses a URL and resolves its addresses on this machine. Blocks while the name is resolved.
///
/// # Errors
/// See [`UrlError`].
pub fn target_from_url(text: &str) -> Result<WatchUrl, UrlError> {
    let Parsed { scheme, host, port, service } = parse(text)?;
    let unresolved = |source| UrlError::Unresolved { host: host.clone(), source };
    let name = host.trim_start_matches('[').trim_end_matches(']');
    let found = (name, port).to_socket_addrs().map_err(unresolved)?;
    let mut addresses: Vec<IpAddr> = Vec::new();
    for ip in found.map(|a| loopback_if_any(a.ip().to_canonical())) {
        if is_local(ip) && !addresses.contains(&ip) {
            addresses.push(ip);
        }
    }
    if addresses.is_empty() {
        return Err(UrlError::Elsewhere(host));
    }
    let grpc = (scheme == Scheme::Grpc).then_some(service);
    let url = format!("{}://{host}:{port}", scheme.name());
    Ok(WatchUrl { url, tls: scheme == Scheme::Https, grpc, port, addresses })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
    Grpc,
}

impl Scheme {
    const ALL: [Self; 3] = [Self::Http, Self::Https, Self::Grpc];

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Grpc => "grpc",
        }
    }

    /// gRPC has no usual port.
    const fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
            Self::Grpc => 0,
        }
    }
}

struct Parsed {
    scheme: Scheme,
    host: String,
    port: u16,
    /// Of gRPC.
    service: String,
}

fn parse(text: &str) -> Result<Parsed, UrlError> {
    let malformed = |why: &str| UrlError::Malformed { url: text.to_owned(), why: why.to_owned() };
    // First, so that no other error message repeats a password.
    if text.contains('@') {
        return Err(UrlError::UserInfo);
    }
    if text.contains('#') {
        return Err(UrlError::TooLong(text.to_owned()));
    }
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(malformed("it has no http://"));
    };
    let mut schemes = Scheme::ALL.into_iter();
    let scheme = schemes
        .find(|known| scheme.eq_ignore_ascii_case(known.name()))
        .ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
    let invalid = |why: hyper::http::uri::InvalidUri| malformed(&why.to_string());
    let uri: Uri = text.parse().map_err(invalid)?;
    let authority = uri.authority().ok_or_else(|| malformed("it has no host"))?;
    let service = uri.path().trim_start_matches('/');
    if scheme != Scheme::Grpc && (uri.query().is_some() || !service.is_empty()) {
        return Err(UrlError::TooLong(text.to_owned()));
    }
    if uri.query().is_some() || service.contains('/') || !is_service(service) {
        return Err(UrlError::NoService(text.to_owned()));
    }
    let host = authority.host();
    let port = match authority.as_str().strip_prefix(host) {
        Some("") => scheme.default_port(),
        Some(port) => port.strip_prefix(':').and_then(|p| p.parse().ok()).unwrap_or(0),
        None => 0,
    };
    match (host, port) {
        ("" | "[]", _) => Err(malformed("it has no host")),
        (_, 0) => Err(malformed("the port is not from 1 to 65535")),
        _ => Ok(Parsed {
            scheme,
            host: host.to_ascii_lowercase(),
            port,
            service: service.to_owned(),
        }),
    }
}

/// Users write `http://0.0.0.0` for any address of this machine.
fn loopback_if_any(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

/// The kernel binds a socket to this machine's own addresses only; nothing is sent.
fn is_local(ip: IpAddr) -> bool {
    !ip.is_multicast() && (ip.is_loopback() || UdpSocket::bind((ip, 0)).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_this_machine_are_understood() {
        for (text, url, ip) in [
            ("http://127.0.0.1:5000", "http://127.0.0.1:5000", "127.0.0.1"),
            ("http://127.0.0.1/", "http://127.0.0.1:80", "127.0.0.1"),
            ("http://[::1]:8080", "http://[::1]:8080", "::1"),
            ("HTTP://LOCALHOST:1", "http://localhost:1", "127.0.0.1"),
            ("http://0.0.0.0:81", "http://0.0.0.0:81", "127.0.0.1"),
            ("https://localhost", "https://localhost:443", "127.0.0.1"),
            ("HTTPS://127.0.0.1:8443", "https://127.0.0.1:8443", "127.0.0.1"),
            ("GRPC://localhost:50051", "grpc://localhost:50051", "127.0.0.1"),
            ("grpc://127.0.0.1:50051/shop.Shop", "grpc://127.0.0.1:50051", "127.0.0.1"),
        ] {
            let target = target_from_url(text).unwrap();
            assert_eq!(target.url, url);
            assert!(target.addresses.contains(&ip.parse().unwrap()), "{target:?}");
        }
    }

    #[test]
    fn the_path_of_grpc_is_a_service() {
        let service = |text| target_from_url(text).unwrap().grpc;
        assert_eq!(service("grpc://localhost:1").as_deref(), Some(""));
        assert_eq!(service("grpc://localhost:1/").as_deref(), Some(""));
        assert_eq!(service("grpc://localhost:1/shop.v1.Shop").as_deref(), Some("shop.v1.Shop"));
        assert_eq!(service("http://localhost:1"), None);
        assert_eq!(target_from_url("grpc://localhost:1/a.B").unwrap().host(), "localhost:1");
    }

    #[test]
    fn other_urls_are_refused_with_the_reason() {
        for (text, why) in [
            ("", "no http://"),
            ("localhost:5000", "no http://"),
            ("/health", "no http://"),
            ("unix:///run/x", "only http, https and grpc"),
            ("http://me:secret@localhost", "user name"),
            ("ftp://me:secret@x y", "user name"),
            ("http://localhost/health", "has more than"),
            ("http://localhost/?a=1", "has more than"),
            ("http://localhost/#top", "has more than"),
            ("http://localhost#top", "has more than"),
            ("http://localhost:0", "1 to 65535"),
            ("grpc://localhost", "1 to 65535"),
            ("grpc://localhost:1/a/b", "host, port and service"),
            ("grpc://localhost:1/a?b", "host, port and service"),
            ("http://localhost:65536", "1 to 65535"),
            ("http://localhost:", "1 to 65535"),
            ("http://:80", "not a URL"),
            ("http://", "not a URL"),
            ("http://loc alhost", "not a URL"),
            ("http://192.0.2.1:80", "not an address of this machine"),
            ("http://224.0.0.1", "not an address of this machine"),
            ("http://[::1", "not a URL"),
        ] {
            let error = target_from_url(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text:?} gave {error:?}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
