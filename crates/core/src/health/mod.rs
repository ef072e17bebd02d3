//! The app's own report: `GET /health`, or the path that its owner or its container's probe names.
//!
//! A poll is one request, and waits for one second. A request without a response by then keeps
//! waiting on the same connection, and the next poll continues it: a server that hangs sees one
//! connection of ours and not many. No connection outlives its response, because a server that
//! serves one at a time would serve no client meanwhile.
//!
//! The result is one of eight ([`Heard`]), by status and body together:
//!
//! | Status | Body | Heard |
//! |---|---|---|
//! | none: refused, reset, closed, no answer in time | | silent |
//! | 2xx | empty; a good word; a short line of `text/plain` | well |
//! | 2xx | JSON without a word for the whole, or with a good or an unknown one | well |
//! | 2xx | `degraded`, `warn`; JSON that says an ill word, or whose parts alone are down | warns |
//! | 2xx | the words for starting, draining, maintenance, out of service | not now |
//! | 2xx | JSON that is down, and a part that is not the app itself | blames it |
//! | 2xx | plain text that is an ill word | ill |
//! | 2xx | HTML, XML, long text, other JSON, not UTF-8, other encodings, too large | unreadable |
//! | 3xx, 401, 403, 404, 405, 407, 410, 429, 501 | any | unreadable |
//! | other 4xx | a report that is down: `application/health+json`, or it names parts | as 5xx |
//! | other 4xx | else | unreadable |
//! | 503 with `Retry-After` | any | not now |
//! | 5xx | a report or a word: down, and a part that is not the app itself | blames it |
//! | 5xx | a report or a word: down | ill |
//! | 5xx | a report or a word: starting, draining, maintenance, out of service | not now |
//! | 5xx | a report or a word: warns | warns |
//! | 5xx | a report or a word: well, which the status contradicts | warns (503: not now) |
//! | 503 | else | not now |
//! | 502, 504 | else | blames `upstream` |
//! | 500 and other 5xx | else | ill |
//!
//! The codes and words of gRPC's health service ([`grpc`]) are read like these.
//!
//! An unreadable response is no evidence, neither for the app nor against it. Silence counts by
//! time, which the caller measures. Trouble of the agent itself counts as neither.
use std::{sync::Arc, time::Duration};

use crate::boot_time::BootTime;

pub mod classify;
pub mod grpc;
mod body;
mod dialect;
mod error;
mod parse;
mod transport;
mod word;

#[cfg(test)]
mod tests;

pub use error::{HealthError, Packed};
pub use grpc::GrpcError;
pub use parse::{Component, Fault, Field, Health, NotJson, Says};
pub use transport::{BODY_LIMIT, Responses, Transport, count};
pub use word::Word;

/// Maximum duration of a poll, with or without a response.
pub const BUDGET: Duration = Duration::from_secs(1);
/// Maximum time for connecting, sending and reading the whole response, over several polls; then
/// the request is given up.
pub const WAIT_LIMIT: Duration = Duration::from_secs(3);

/// The result of one poll of `/health`.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// Start of the poll.
    pub at: BootTime,
    /// How long the response took, or has been awaited, since the request was sent, possibly in an
    /// earlier poll; at most about [`WAIT_LIMIT`].
    pub latency: Duration,
    /// The responses to it, to be subtracted from the kernel's counts.
    pub responses: Responses,
    /// Those of them that were 502, 503 or 504.
    pub unavailable: u32,
    /// Those of them that are faults in the trailers of a response whose head is counted beside them.
    pub in_trailers: u32,
    /// Connections that the agent has dropped half-way, by this poll or since the last one. For
    /// each, the target's kernel may count one reset received, which is the agent's and no symptom.
    pub hung_up: u32,
    /// The path that gave the result.
    pub path: Arc<str>,
    /// The reading.
    pub result: Result<Health, HealthError>,
}

/// The result of a poll, as in metrics, logs and pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// The app reports that it is well.
    Well,
    /// It serves, but reports a problem.
    Warns,
    /// It reports that it is sick itself.
    Ill,
    /// It blames a dependency.
    Blames,
    /// It starts, drains or is in maintenance.
    NotNow,
    /// It gave an unreadable response, which is no evidence.
    Unreadable,
    /// It did not respond.
    Silent,
    /// The agent could not send the request.
    NotAsked,
}

impl Heard {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Well,
        Self::Warns,
        Self::Ill,
        Self::Blames,
        Self::NotNow,
        Self::Unreadable,
        Self::Silent,
        Self::NotAsked,
    ];

    /// The name in metrics, JSON and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Warns => "warns",
            Self::Ill => "ill",
            Self::Blames => "blames_dependency",
            Self::NotNow => "not_now",
            Self::Unreadable => "unreadable",
            Self::Silent => "silent",
            Self::NotAsked => "not_asked",
        }
    }
}

impl Poll {
    /// The result of the poll.
    #[must_use]
    pub const fn heard(&self) -> Heard {
        match &self.result {
            Ok(health) => match &health.says {
                Says::Well => Heard::Well,
                Says::Warns => Heard::Warns,
                Says::Ill => Heard::Ill,
                Says::Blames(_) => Heard::Blames,
                Says::NotNow => Heard::NotNow,
            },
            Err(HealthError::Transport(Transport::Agent(_))) => Heard::NotAsked,
            Err(error) if error.is_silence() => Heard::Silent,
            Err(_) => Heard::Unreadable,
        }
    }

    /// Whether it gave a response that is no fault of a server: any but a 5xx, or one that is
    /// unreadable, which needs a server that understood the request (501, `UNIMPLEMENTED`).
    #[must_use]
    pub fn is_served(&self) -> bool {
        let [_, success, redirection, client_error, _] = self.responses;
        match &self.result {
            Err(error) if error.is_answer() => true,
            _ => success + redirection + client_error > self.in_trailers,
        }
    }

    /// A poll without duration and responses, for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn for_tests(at: BootTime, result: Result<Health, HealthError>) -> Self {
        let path = "/health".into();
        Self {
            at,
            latency: Duration::ZERO,
            responses: [0; 5],
            unavailable: 0,
            in_trailers: 0,
            hung_up: 0,
            path,
            result,
        }
    }
}
