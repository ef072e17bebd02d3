//! Faults on demand: what a test can make go wrong.
use std::{collections::BTreeSet, fmt, time::Duration};

use super::log::Logged;
use crate::{FakeApi, api::status::Status};

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
    /// The tokens of the clients that cannot reach the server.
    pub(crate) cut_off: BTreeSet<String>,
    pub(crate) latency: Duration,
    /// How much later watches report changes.
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

/// Faults.
impl FakeApi {
    /// Takes the server down or brings it back. Open watches break when it goes down.
    pub fn down(&self, down: bool) {
        self.with(|state| state.faults.down = down);
        if down {
            self.break_watches();
        }
    }

    pub(crate) fn is_down(&self) -> bool {
        self.with(|state| state.faults.down)
    }

    /// Cuts off one client, by its token, or lets it back: to it the server is down.
    pub fn cut_off(&self, token: &str, cut_off: bool) {
        self.with(|state| {
            let tokens = &mut state.faults.cut_off;
            if cut_off {
                tokens.insert(token.to_owned())
            } else {
                tokens.remove(token)
            };
            state.cluster.pulse += 1;
        });
    }

    /// How long each request takes before it is carried out.
    pub fn set_latency(&self, latency: Duration) {
        self.with(|state| state.faults.latency = latency);
    }

    /// How much later watches report changes.
    pub fn set_watch_lag(&self, lag: Duration) {
        self.with(|state| {
            state.faults.watch_lag = lag;
            state.cluster.pulse += 1;
        });
    }

    /// Breaks the connections of all open watches.
    pub fn break_watches(&self) {
        self.with(|state| {
            state.faults.breaks += 1;
            state.cluster.pulse += 1;
        });
    }

    /// The same, in the middle of a line.
    pub fn cut_watches(&self) {
        self.with(|state| {
            state.faults.breaks += 1;
            state.faults.mid_line = Some(state.faults.breaks);
            state.cluster.pulse += 1;
        });
    }

    /// Gives a fault to the next so many requests for which `when` is true. `when` must not call
    /// the fake: its state is locked meanwhile.
    pub fn fail_next(
        &self,
        requests: usize,
        when: impl Fn(&Logged) -> bool + Send + 'static,
        fault: Fault,
    ) {
        self.with(|state| state.faults.plan(requests, Box::new(when), fault));
    }

    /// Cancels what [`FakeApi::fail_next`] has planned.
    pub fn forget_faults(&self) {
        self.with(|state| state.faults.forget_planned());
    }

    /// Forgets the changes so far: a watch from an older version is expired, as after a restart
    /// of the server.
    pub fn expire_watches(&self) {
        self.with(|state| state.cluster.store.expire_watches());
    }

    /// Forgets the past: a list at an older version is expired, and so are its next pages.
    pub fn compact(&self) {
        self.with(|state| state.cluster.store.compact());
    }

    /// Lets versions pass, as changes of objects of other kinds do.
    pub fn skip_versions(&self, versions: u64) {
        self.with(|state| state.cluster.store.skip_versions(versions));
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
