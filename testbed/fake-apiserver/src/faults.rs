//! What can be made to go wrong.
use std::{collections::BTreeSet, fmt, time::Duration};

use crate::{log::Logged, status::Status};

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks before the request is carried out.
    Dropped,
    /// The request is carried out, and the connection breaks before the answer.
    Lost,
    /// No answer ever comes.
    Hang {
        /// Whether the request is carried out all the same.
        applied: bool,
    },
    /// The request is carried out, and answered only after this time.
    Slow(Duration),
    /// The request is carried out, and the answer is 200 with a body that is not JSON.
    Garbage,
    /// The request is refused with this status, as a server in trouble does: 429 is throttling
    /// and has no `DisruptionBudget` cause.
    Status {
        /// The code.
        code: u16,
        /// The `Retry-After` header.
        retry_after: Option<u32>,
    },
}

/// Which requests a planned fault is for.
type Predicate = Box<dyn Fn(&Logged) -> bool + Send>;

struct Planned {
    left: usize,
    when: Predicate,
    fault: Fault,
}

/// Everything that is wrong.
#[derive(Default)]
pub(crate) struct Faults {
    pub(crate) down: bool,
    /// The tokens of those who alone cannot reach the server.
    pub(crate) cut_off: BTreeSet<String>,
    pub(crate) latency: Duration,
    /// How much later watches tell of changes.
    pub(crate) watch_lag: Duration,
    /// How often all watches were broken.
    pub(crate) breaks: u64,
    /// Of these, the last one in the middle of a line.
    pub(crate) mid_line: Option<u64>,
    planned: Vec<Planned>,
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Faults").field("down", &self.down).finish_non_exhaustive()
    }
}

impl Faults {
    /// Whether the server cannot be reached with this token.
    pub(crate) fn is_out_of_reach(&self, token: &str) -> bool {
        self.down || self.cut_off.contains(token)
    }

    pub(crate) fn plan(&mut self, requests: usize, when: Predicate, fault: Fault) {
        self.planned.push(Planned { left: requests, when, fault });
    }

    pub(crate) fn forget_planned(&mut self) {
        self.planned.clear();
    }

    /// The fault that the request meets.
    pub(crate) fn meet(&mut self, request: &Logged) -> Option<Fault> {
        let planned = self.planned.iter_mut().find(|p| p.left > 0 && (p.when)(request))?;
        planned.left -= 1;
        let fault = planned.fault;
        self.planned.retain(|p| p.left > 0);
        Some(fault)
    }
}

/// A refusal of a server that is in trouble.
pub(crate) fn trouble(code: u16, retry_after: Option<u32>) -> Status {
    let (reason, message) = match code {
        403 => ("Forbidden", "forbidden: not now"),
        409 => ("Conflict", "Operation cannot be fulfilled: the object has been modified"),
        429 => ("TooManyRequests", "Too many requests, please try again later."),
        500 => ("InternalError", "Internal error occurred: etcdserver: request timed out"),
        503 => ("ServiceUnavailable", "apiserver not ready"),
        504 => ("Timeout", "Timeout: request did not complete within the allotted timeout"),
        _ => ("", "no"),
    };
    let details = retry_after.map(|seconds| serde_json::json!({"retryAfterSeconds": seconds}));
    Status { details, retry_after, ..Status::new(code, reason, message) }
}
