//! The responses of a target to an HTTP call, and the errors of a call without a response.
use std::io;

use http::StatusCode;

/// Maximum size of a response's body, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;

/// Number of responses of each class to a call: 1xx, 2xx, 3xx, 4xx, 5xx.
///
/// They are subtracted from the kernel's counts. A response counts once its head is complete,
/// whatever happens to its body; interim 1xx heads are not seen.
pub type Responses = [u32; 5];

/// Counts one response under its class.
pub fn count(responses: &mut Responses, status: StatusCode) {
    let class = usize::from(status.as_u16() / 100);
    if let Some(count) = class.checked_sub(1).and_then(|i| responses.get_mut(i)) {
        *count += 1;
    }
}

/// Why no complete response came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Transport {
    /// Connecting, head and body together took longer than permitted.
    #[error("no complete answer in time")]
    Timeout,
    /// Nothing listens there.
    #[error("connection refused: nothing listens on the port")]
    ConnectRefused,
    /// Connecting failed for another reason.
    #[error("cannot connect: {0}")]
    ConnectFailed(io::ErrorKind),
    /// The target reset the connection.
    #[error("the target reset the connection")]
    Reset,
    /// The target closed the connection before the response was complete.
    #[error("the target closed the connection before its answer was complete")]
    Closed,
    /// The response is not HTTP/1.x.
    #[error("the answer is not HTTP/1.x: is the port right, and does it speak TLS (https)?")]
    NotHttp,
    /// The response is HTTP/2, although the request was HTTP/1.
    #[error(
        "the answer is HTTP/2: for a gRPC server, watch grpc://, or set the health path to `grpc`"
    )]
    Http2,
    /// The response is not HTTP/2.
    #[error("the answer is not HTTP/2: is the port right, and is it gRPC without TLS?")]
    NotHttp2,
    /// The response is not TLS, or not a version that the agent supports.
    #[error("no TLS 1.2 or 1.3 there: is the port right, and is it plain http?")]
    NotTls,
    /// Head or body are larger than the agent accepts.
    #[error("the answer is larger than the agent accepts")]
    TooLarge,
    /// Not the target's fault: the agent could not open a socket, or got no CPU itself.
    #[error("the agent could not send the request: {0}")]
    Agent(&'static str),
}

impl Transport {
    /// A label for metrics: finite, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::ConnectRefused => "connect_refused",
            Self::ConnectFailed(_) => "connect_failed",
            Self::Reset => "reset",
            Self::Closed => "closed",
            Self::NotHttp => "not_http",
            Self::Http2 => "http2",
            Self::NotHttp2 => "not_http2",
            Self::NotTls => "not_tls",
            Self::TooLarge => "too_large",
            Self::Agent(_) => "agent",
        }
    }

    /// Whether dropping the connection now hangs up on a target that may not have finished: the
    /// target's kernel may then count one reset received, which is the agent's and no symptom.
    #[must_use]
    pub const fn hangs_up(self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::NotHttp
                | Self::Http2
                | Self::NotHttp2
                | Self::NotTls
                | Self::TooLarge
        )
    }

    /// Whether the target gave no response at all.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        matches!(
            self,
            Self::Timeout
                | Self::ConnectRefused
                | Self::ConnectFailed(_)
                | Self::Reset
                | Self::Closed
        )
    }
}
