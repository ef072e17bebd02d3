//! The words that reports use for the state of a whole or a part.
use super::Tree;

/// The meaning of a word; a worse one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) enum Word {
    /// Well.
    Good,
    /// It serves, but reports a problem.
    Warn,
    /// It intentionally does not serve now.
    Later,
    /// Down.
    Bad,
}

/// Maximum length of a word.
const LONGEST: usize = 64;

const GOOD: &[&str] = &[
    "active",
    "alive",
    "available",
    "good",
    "green",
    "healthy",
    "live",
    "normal",
    "ok",
    "online",
    "operational",
    "pass",
    "passed",
    "passing",
    "pong",
    "ready",
    "running",
    "server_is_ready",
    "serving",
    "success",
    "up",
    "well",
    "working",
];
const WARN: &[&str] =
    &["degraded", "partial", "partially_available", "unstable", "warn", "warning", "yellow"];
const LATER: &[&str] = &[
    "draining",
    "initializing",
    "loading",
    "maintenance",
    "not_ready",
    "out_of_service",
    "paused",
    "refusing_traffic",
    "server_is_not_ready",
    "server_is_shutting_down",
    "shutting_down",
    "standby",
    "starting",
    "starting_up",
    "stopping",
    "terminating",
    "under_maintenance",
    "warming_up",
];
const BAD: &[&str] = &[
    "bad",
    "broken",
    "critical",
    "dead",
    "down",
    "err",
    "error",
    "fail",
    "failed",
    "failing",
    "failure",
    "not_ok",
    "not_serving",
    "red",
    "sick",
    "unavailable",
    "unexpected_result",
    "unhealthy",
    "unknown_error",
];

impl Word {
    /// A word in any case, with spaces, hyphens or underscores.
    pub(in super::super) fn of(text: &str) -> Option<Self> {
        let text = text.trim().trim_end_matches(['.', '!']);
        if text.len() > LONGEST {
            return None;
        }
        let plain: String = text
            .chars()
            .map(|c| if matches!(c, ' ' | '-') { '_' } else { c.to_ascii_lowercase() })
            .collect();
        let has = |words: &[&str]| words.contains(&plain.as_str());
        match () {
            () if has(GOOD) => Some(Self::Good),
            () if has(WARN) => Some(Self::Warn),
            () if has(LATER) => Some(Self::Later),
            () if has(BAD) => Some(Self::Bad),
            () => None,
        }
    }

    /// A word with an explanation: `unavailable: connection refused`.
    pub(super) fn before_colon(text: &str) -> Option<Self> {
        Self::of(text.split(':').next().unwrap_or_default())
    }

    /// A string or a boolean.
    pub(super) fn of_value(value: &Tree) -> Option<Self> {
        match value {
            Tree::Bool(true) => Some(Self::Good),
            Tree::Bool(false) => Some(Self::Bad),
            Tree::Text(text) => Self::before_colon(text),
            _ => None,
        }
    }
}
