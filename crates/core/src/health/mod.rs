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
//! An unreadable response is no evidence, neither for the app nor against it. Silence counts by
//! time, which the caller measures. Trouble of the agent itself counts as neither.
use std::{sync::Arc, time::Duration};

use crate::moment::Moment;

pub mod classify;
mod body;
mod dialect;
mod error;
mod parse;
mod transport;
mod word;

#[cfg(test)]
mod tests;

pub use error::{HealthError, Packed};
pub use parse::{Component, Fault, Field, Health, NotJson, Says};
pub use transport::{BODY_LIMIT, Responses, Transport, count};
pub use word::Word;

/// A poll takes this long at most, with or without an answer.
pub const BUDGET: Duration = Duration::from_secs(1);
/// Connecting, asking and reading the whole answer may take this long, over several polls; then the
/// question is given up.
pub const WAIT_LIMIT: Duration = Duration::from_secs(3);

/// What one poll of `/health` found.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// When it began.
    pub at: Moment,
    /// How long the answer took, or has been waited for, since the question was asked, which may
    /// have been in an earlier poll; at most about [`WAIT_LIMIT`].
    pub latency: Duration,
    /// The responses that it drew from the target, to be subtracted from the kernel's counts.
    pub responses: Responses,
    /// Those of them that were 502, 503 or 504.
    pub unavailable: u32,
    /// Connections that the agent has dropped half-way, by this poll or since the last. For each the
    /// target's kernel can count one reset received, which is the agent's and no illness.
    pub hung_up: u32,
    /// The path that gave the result.
    pub path: Arc<str>,
    /// The reading.
    pub result: Result<Health, HealthError>,
}

/// What a poll came to, as metrics, logs and pages call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// The app says that it is well.
    Well,
    /// It serves, and warns.
    Warns,
    /// It says that it is ill itself.
    Ill,
    /// It blames a dependency.
    Blames,
    /// It starts, drains or is in maintenance.
    NotNow,
    /// It answered something that cannot be read: no evidence of anything.
    Unreadable,
    /// It did not answer.
    Silent,
    /// The agent could not ask.
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
    /// What it came to.
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

    /// A poll that took no time and drew nothing, for tests.
    #[cfg(any(test, feature = "testing"))]
    #[must_use]
    pub fn for_tests(at: Moment, result: Result<Health, HealthError>) -> Self {
        let path = "/health".into();
        Self {
            at,
            latency: Duration::ZERO,
            responses: [0; 5],
            unavailable: 0,
            hung_up: 0,
            path,
            result,
        }
    }
}
