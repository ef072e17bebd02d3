//! Why a poll has no reading, with what to do about it.
use super::{grpc::GrpcError, parse::NotJson};
use crate::health::Transport;

/// Why a poll has no reading. Only the first is evidence, and only if [`HealthError::is_silence`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HealthError {
    /// No complete HTTP response.
    #[error(transparent)]
    Transport(#[from] Transport),
    /// The app has no health endpoint (404, 405, 410 or 501).
    #[error("no health endpoint here (HTTP {0}): if there is one elsewhere, set its path")]
    NotFound(u16),
    /// A redirect, which is never followed.
    #[error("redirected (HTTP {0}), which is never followed: set the path that it leads to")]
    Redirect(u16),
    /// It requires a login (401, 403 or 407).
    #[error("answered HTTP {0}: it requires a login; set a path that needs none")]
    Refused(u16),
    /// It limits the rate of requests (429).
    #[error("answered HTTP {0}: it limits the rate of requests; exempt its health endpoint")]
    TooOften(u16),
    /// Any other status that says nothing about health.
    #[error("answered HTTP {0}, which says nothing about its health: answer 2xx or 5xx")]
    StatusNotOk(u16),
    /// The body cannot be decompressed.
    #[error("the body cannot be unpacked: {0}")]
    Packed(#[from] Packed),
    /// The body is neither a JSON object nor a known word.
    #[error("the body is not a health report: {0}")]
    NotJson(#[from] NotJson),
    /// A gRPC response that says nothing about health.
    #[error(transparent)]
    Grpc(#[from] GrpcError),
}

/// Why a body cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Packed {
    /// Another encoding than gzip.
    #[error("its Content-Encoding is neither gzip nor identity, the only accepted ones")]
    Unknown,
    /// It claims to be gzip and is not, or is cut short.
    #[error("it claims to be gzip, but is not or is cut short")]
    Broken,
    /// It is too large when decompressed.
    #[error("its gzip holds more than 64 KiB")]
    TooLarge,
}

impl HealthError {
    /// A label for metrics: finite, in snake case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transport(error) => error.name(),
            Self::NotFound(_) => "not_found",
            Self::Redirect(_) => "redirect",
            Self::Refused(_) => "refused",
            Self::TooOften(_) => "too_often",
            Self::StatusNotOk(_) => "status_not_ok",
            Self::Packed(_) => "packed",
            Self::NotJson(_) => "not_json",
            Self::Grpc(error) => error.name(),
        }
    }

    /// Whether the target gave no response at all, as opposed to an unreadable one. Trouble of the
    /// agent itself counts as neither.
    #[must_use]
    pub const fn is_silence(self) -> bool {
        matches!(self, Self::Transport(error) if error.is_silence())
    }

    /// Whether the target gave a complete HTTP response, readable or not.
    #[must_use]
    pub const fn is_answer(self) -> bool {
        !matches!(self, Self::Transport(_))
    }
}
