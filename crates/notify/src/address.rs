//! The URL of a receiver, in parts.
use std::fmt;

use hyper::Uri;

use crate::secret::Secret;

/// The parts of a URL. Each may contain a secret, even the host.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) tls: bool,
    /// A name or an address; an IPv6 address without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    /// The value of the `Host` header.
    pub(crate) authority: String,
    /// Path and query.
    pub(crate) path: Secret,
}

/// Why a URL is invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlFault {
    #[error("cannot be read: write it as https://HOST/PATH, and encode other characters")]
    Unreadable,
    #[error("must begin with https:// or http://")]
    Scheme,
    #[error("must not contain a user or a password: use a secret path, or webhook+hmac")]
    User,
}

impl Address {
    pub(crate) fn of(url: &str) -> Result<Self, UrlFault> {
        let tls = match url.split_once("://") {
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => true,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err(UrlFault::Scheme),
        };
        if url.contains('#') {
            return Err(UrlFault::Unreadable);
        }
        let uri: Uri = url.parse().map_err(|_| UrlFault::Unreadable)?;
        let authority = uri.authority().ok_or(UrlFault::Unreadable)?;
        if authority.as_str().contains('@') {
            return Err(UrlFault::User);
        }
        // `Uri` takes a port that is no number for none.
        let rest = &authority.as_str()[authority.host().len()..];
        if authority.host().is_empty() || (!rest.is_empty() && authority.port_u16().is_none()) {
            return Err(UrlFault::Unreadable);
        }
        let port = authority.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authority = authority.as_str().to_owned();
        Ok(Self { tls, host, port, authority, path: path.into() })
    }

    /// The address of a path below this one; its query is left out.
    pub(crate) fn below(self, path: &str) -> Self {
        let base = self.path.expose().split('?').next().unwrap_or_default();
        let path = format!("{}{path}", base.trim_end_matches('/'));
        Self { path: path.into(), ..self }
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}
