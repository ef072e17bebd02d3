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

/// Where none answers, all are asked again at most this often.
const AGAIN: Duration = Duration::from_secs(60);

/// Where a search stands.
#[derive(Debug)]
pub(crate) struct Search {
    /// How many paths there are.
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
    /// None answers: the first is asked alone.
    Alone {
        since: Instant,
        /// It gave a 5xx when all were asked, as an app that starts does everywhere.
        failed: bool,
    },
}

/// What follows from an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is the poll's result.
    Take,
    /// Another path is next.
    Next,
    /// None answers: what the first path gave is the poll's result.
    GiveUp,
}

impl Search {
    /// Among so many paths; a single one is not searched for.
    pub(crate) const fn new(paths: usize) -> Self {
        let first = Stage::Trying { at: 0, failed: false };
        Self { paths, stage: if paths == 1 { Stage::Found(0) } else { first } }
    }

    /// The path to ask now.
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

    /// Whether the next path is one of those after the first, whose silence says nothing.
    pub(crate) const fn is_guessing(&self) -> bool {
        matches!(self.stage, Stage::Trying { at: 1.., .. })
    }

    /// Takes in what the path that was asked gave.
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
            // It has started, or its maintenance is over: now a path that it has can be found.
            (Stage::Alone { failed: true, .. }, Err(error)) if error.is_answer() => {
                self.stage = Stage::Trying { at: 1, failed: false };
                Step::Next
            }
            _ => Step::Take,
        }
    }
}

/// Whether the other paths would fare no better.
const fn ends_search(error: Transport) -> bool {
    !matches!(error, Transport::TooLarge)
}
