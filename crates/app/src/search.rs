//! Finds the health path of an app, if neither its owner nor its container's probe names it.
//!
//! It tries the known paths until one answers, liveness before readiness, because readiness
//! includes dependencies. A guess proves little: a path that does not answer, or fails, may not
//! exist. So silence counts at the first path only, and a 5xx without a report does not end the
//! search.
use std::time::Duration;

use paramedic_core::health::{HealthError, Transport, classify::Reading};
use tokio::time::Instant;

/// The paths in the order in which they are tried.
pub const KNOWN_PATHS: [&str; 8] = [
    "/health",
    "/healthz",
    "/livez",
    "/actuator/health/liveness",
    "/actuator/health",
    "/health/live",
    "/q/health/live",
    "/live",
];

/// If none answers, minimum time before all are tried again.
const AGAIN: Duration = Duration::from_secs(60);

/// The state of a search.
#[derive(Debug)]
pub(crate) struct Search {
    /// Number of paths.
    paths: usize,
    stage: Stage,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// This one is next.
    Trying {
        at: usize,
        /// The first gave a 5xx.
        failed: bool,
    },
    /// This one answers.
    Found(usize),
    /// None answers: only the first is polled.
    Alone {
        since: Instant,
        /// It gave a 5xx when all were tried, as a starting app does everywhere.
        failed: bool,
    },
}

/// What to do with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Use it as the result of the poll.
    Take,
    /// Try the next path.
    Next,
    /// None answers: use the result of the first path.
    GiveUp,
}

impl Search {
    /// A search among this many paths; a single one needs no search.
    pub(crate) const fn new(paths: usize) -> Self {
        let first = Stage::Trying { at: 0, failed: false };
        Self { paths, stage: if paths == 1 { Stage::Found(0) } else { first } }
    }

    /// The path to poll now.
    pub(crate) fn next(&mut self, now: Instant) -> usize {
        match self.stage {
            Stage::Found(at) | Stage::Trying { at, .. } => at,
            Stage::Alone { since, .. } => {
                if now.saturating_duration_since(since) >= AGAIN {
                    self.stage = Stage::Trying { at: 0, failed: false };
                }
                0
            }
        }
    }

    /// Whether the next path is one after the first, whose silence says nothing.
    pub(crate) const fn is_guessing(&self) -> bool {
        matches!(self.stage, Stage::Trying { at: 1.., .. })
    }

    /// Takes the result of the polled path.
    pub(crate) fn heard(&mut self, result: &Result<Reading, HealthError>, now: Instant) -> Step {
        let (at, failed) = match self.stage {
            Stage::Found(_) => return Step::Take,
            Stage::Trying { at, failed } => (at, failed),
            Stage::Alone { .. } => (0, false),
        };
        if matches!(result, Ok(reading) if !reading.by_status_alone) {
            self.stage = Stage::Found(at);
            return Step::Take;
        }
        match (self.stage, result) {
            (Stage::Trying { .. }, Err(HealthError::Transport(error))) if ends_search(*error) => {
                if at == 0 {
                    return Step::Take;
                }
                self.stage = Stage::Alone { since: now, failed };
                Step::GiveUp
            }
            (Stage::Trying { .. }, result) => {
                let failed = if at == 0 { result.is_ok() } else { failed };
                if at + 1 == self.paths {
                    self.stage = Stage::Alone { since: now, failed };
                    return Step::GiveUp;
                }
                self.stage = Stage::Trying { at: at + 1, failed };
                Step::Next
            }
            // It has started, or its maintenance is over: an existing path can be found now.
            (Stage::Alone { failed: true, .. }, Err(error)) if error.is_answer() => {
                self.stage = Stage::Trying { at: 1, failed: false };
                Step::Next
            }
            _ => Step::Take,
        }
    }
}

/// Whether other paths would fail in the same way.
const fn ends_search(error: Transport) -> bool {
    !matches!(error, Transport::TooLarge)
}
