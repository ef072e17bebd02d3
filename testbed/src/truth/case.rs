//! What is asked of a server.
use serde::Serialize;

use super::servers::Server;

/// The protocol in which a client asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Http1,
    Http2,
    Grpc,
}

impl Protocol {
    pub(super) const ALL: [Self; 3] = [Self::Http1, Self::Http2, Self::Grpc];

    /// As the client and names of rows have it.
    pub(super) const fn key(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
            Self::Grpc => "grpc",
        }
    }

    /// For people.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
            Self::Grpc => "gRPC",
        }
    }
}

/// A case: `services/client.py` knows it by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Case {
    Mix,
    Head,
    Pipelined,
    First,
    Lure,
    Continue,
    Streams,
    Big,
    Upgrade,
    PassedOn,
    Codes,
    Stream,
    Bare,
    Fails,
    Mid,
}

impl Case {
    pub(super) const ALL: [Self; 15] = [
        Self::Mix,
        Self::Head,
        Self::Pipelined,
        Self::First,
        Self::Lure,
        Self::Continue,
        Self::Streams,
        Self::Big,
        Self::Upgrade,
        Self::PassedOn,
        Self::Codes,
        Self::Stream,
        Self::Bare,
        Self::Fails,
        Self::Mid,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Mix => "mix",
            Self::Head => "head",
            Self::Pipelined => "pipelined",
            Self::First => "first",
            Self::Lure => "lure",
            Self::Continue => "continue",
            Self::Streams => "streams",
            Self::Big => "big",
            Self::Upgrade => "upgrade",
            Self::PassedOn => "passed on",
            Self::Codes => "codes",
            Self::Stream => "stream",
            Self::Bare => "bare",
            Self::Fails => "fails",
            Self::Mid => "mid",
        }
    }

    /// What the client does before it is watched, if it does anything.
    pub(super) const fn unwatched(self) -> Option<&'static str> {
        match self {
            Self::Fails => Some("begin_well"),
            Self::Mid => Some("begin"),
            _ => None,
        }
    }

    /// For people.
    pub(super) const fn about(self) -> &'static str {
        match self {
            Self::Mix => "200, 204, 301, 304, 404, 500, 502 and 503 in turn, on one connection",
            Self::Head => "`HEAD` and `GET` in turn",
            Self::Pipelined => "eight requests in one write, between others",
            Self::First => "eight requests in the first packet of a connection",
            Self::Lure => "bodies whose chunks begin like `HTTP/1.1 500`",
            Self::Continue => "`POST` with `Expect: 100-continue`",
            Self::Streams => "20 requests at a time on one connection",
            Self::Big => "bodies of 1 MB among other responses",
            Self::Upgrade => "from HTTP/1.1 to HTTP/2 by `Upgrade: h2c`",
            Self::PassedOn => {
                "the same as a proxy, whose requests to its backend are compared as well"
            }
            Self::Codes => "every code from 0 to 16, unary, by grpcio's client",
            Self::Stream => "three messages, then every code",
            Self::Bare => {
                "every code both ways, one by one and 17 at a time, by a client that sees whether \
                 a code comes with the head or in trailers"
            }
            Self::Fails => {
                "the kernel begins to watch in the middle of a connection whose calls were all well: \
                 each fault that follows is counted, and what is as before is *unknown*"
            }
            Self::Mid => {
                "the kernel begins to watch in the middle of the connection: no class exceeds what \
                 was given, and what cannot be told is *unknown*"
            }
        }
    }
}

/// A server, a protocol and a case.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub(super) server: &'static Server,
    pub(super) protocol: Protocol,
    /// Which of the server's ports.
    pub(super) port: usize,
    pub(super) case: Case,
}

impl Row {
    pub(super) fn name(&self) -> String {
        let Self { server, protocol, case, .. } = self;
        format!("{}/{}/{}", server.name, protocol.key(), case.name())
    }
}
