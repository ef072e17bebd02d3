//! Excuses: signs that the cause of a target's errors, or of its silence, is outside the target.
//!
//! A restart repairs the process itself. It repairs no database, no backend and no maintenance, and
//! it takes down a service that would have recovered with them. So every sign of an external cause
//! is an excuse, and one excuse is enough to do nothing.
use std::fmt;

use agent_common::Counters;

use crate::health::Component;

/// The requests that a target sent as a client; cumulative, or within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    pub(super) requests: u64,
    pub(super) responses: u64,
    /// 5xx responses received.
    pub(super) errors: u64,
    /// Failed connects.
    pub(super) refused: u64,
    /// 401, 403 and 407 responses received.
    pub(super) denied: u64,
}

impl Calls {
    pub(super) const fn of(counters: &Counters) -> Self {
        Self {
            requests: counters.upstream_requests,
            responses: counters.upstream_responses,
            errors: counters.upstream_5xx,
            refused: counters.connects_failed,
            denied: counters.upstream_denied,
        }
    }

    pub(super) const fn since(&self, base: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(base.requests),
            responses: self.responses.saturating_sub(base.responses),
            errors: self.errors.saturating_sub(base.errors),
            refused: self.refused.saturating_sub(base.refused),
            denied: self.denied.saturating_sub(base.denied),
        }
    }

    /// Requests without a response so far.
    pub(super) const fn unanswered(&self) -> u64 {
        self.requests.saturating_sub(self.responses)
    }

    /// The excuse in the calls of one window, in which the target sent `errors` of its own, and
    /// `waiting` requests have had no response since it was last well.
    pub(super) const fn excuse(&self, errors: u64, waiting: u64) -> Option<Excuse> {
        if self.errors > 0 && self.errors * SHARE >= errors {
            return Some(Excuse::UpstreamFails { received: self.errors });
        }
        if self.refused > 0 && self.refused * SHARE >= errors {
            return Some(Excuse::CannotConnect { failed: self.refused });
        }
        if self.denied > 0 && self.denied * SHARE >= errors {
            return Some(Excuse::Denied { received: self.denied });
        }
        let waiting =
            if waiting > self.mostly_unanswered() { waiting } else { self.mostly_unanswered() };
        if waiting > 0 && waiting * SHARE >= errors {
            return Some(Excuse::Unanswered { waiting });
        }
        None
    }

    /// Requests without a response, if most have none: it is uncertain why, or the responses may be
    /// unreadable.
    const fn mostly_unanswered(&self) -> u64 {
        let unanswered = self.unanswered();
        if self.requests >= FEW && unanswered * 2 > self.requests { unanswered } else { 0 }
    }
}

/// One failed call excuses this many errors: an app may retry, or fail two requests for one lost
/// connection.
const SHARE: u64 = 3;

/// Fewer requests than this may all still be in flight.
const FEW: u64 = 3;

/// The target serves if it gave at least this many good responses to other clients while polls
/// failed, and this many per error.
const SERVED: u64 = 3;
const SERVED_PER_ERROR: u64 = 4;

/// Why the cause is outside the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// Its health check blames a dependency.
    Blames(Component),
    /// It reports that it does not serve now: it starts, drains or is in maintenance.
    NotNow,
    /// It reports that it is sick, by a 503 that names no cause.
    Vague,
    /// Its backends answer 5xx.
    UpstreamFails {
        /// 5xx responses received as a client.
        received: u64,
    },
    /// Its backends cannot be reached.
    CannotConnect {
        /// Failed connects.
        failed: u64,
    },
    /// Its backends do not accept it: its credential has expired, or was changed.
    Denied {
        /// 401, 403 and 407 responses received as a client.
        received: u64,
    },
    /// Its backends do not respond.
    Unanswered {
        /// Requests without a response.
        waiting: u64,
    },
    /// Clients hold its connections without ending their requests, and it has none, or no thread,
    /// left for others.
    Held {
        /// Such clients.
        clients: u32,
    },
    /// Its health check fails while the kernel sees it answer other clients well.
    Serves {
        /// Good responses since then.
        good: u64,
    },
}

impl Excuse {
    /// One or two may have lost their network.
    pub(super) fn held(clients: u32) -> Option<Self> {
        const SEVERAL: u32 = 3;
        (clients >= SEVERAL).then_some(Self::Held { clients })
    }

    pub(super) const fn serves(good: u64, errors: u64) -> Option<Self> {
        if good >= SERVED && good >= errors * SERVED_PER_ERROR {
            Some(Self::Serves { good })
        } else {
            None
        }
    }
}

impl fmt::Display for Excuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blames(component) => {
                write!(
                    f,
                    "its health check blames {:?}, which no remedy for this target can repair",
                    component.as_str()
                )
            }
            Self::NotNow => f.write_str(
                "it reports that it does not serve now: it starts, drains or is in maintenance",
            ),
            Self::Vague => f.write_str(
                "it reports that it is sick without naming the cause, which may be a dependency (let \
                 its health check name what is down)",
            ),
            Self::UpstreamFails { received } => {
                write!(f, "its backends answer 5xx ({received} within 10 s)")
            }
            Self::CannotConnect { failed } => {
                write!(f, "it cannot connect to its backends ({failed} failed within 10 s)")
            }
            Self::Denied { received } => write!(
                f,
                "its backends do not accept it (401, 403 or 407, {received} within 10 s): look at its \
                 credential"
            ),
            Self::Unanswered { waiting } => {
                write!(f, "its backends do not answer ({waiting} requests wait)")
            }
            Self::Held { clients } => write!(
                f,
                "{clients} clients hold its connections and do not end their requests: look at who \
                 they are, and at its limits of time for a request"
            ),
            Self::Serves { good } => write!(
                f,
                "its health check fails, but it has answered other clients well ({good} times since)"
            ),
        }
    }
}

/// Why the kernel does not see a target's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blind {
    /// The agent's own polls were answered, but the kernel counted no response.
    NotCounted,
    /// It uses TLS.
    Tls,
}

impl fmt::Display for Blind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotCounted => {
                "the kernel does not see its responses, although it answers the agent's polls: its \
                 socket was probably created in another cgroup (socket activation)"
            }
            Self::Tls => "it uses TLS: the kernel cannot read its responses",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(requests: u64, responses: u64, errors: u64, refused: u64) -> Calls {
        Calls { requests, responses, errors, refused, denied: 0 }
    }

    #[test]
    fn errors_received_excuse_up_to_three_times_as_many_errors() {
        let five = calls(9, 9, 5, 0);
        assert_eq!(five.excuse(15, 0), Some(Excuse::UpstreamFails { received: 5 }));
        assert_eq!(five.excuse(16, 0), None);
        assert_eq!(calls(9, 9, 0, 0).excuse(0, 0), None, "calls that are answered well");
    }

    #[test]
    fn refused_connects_and_missing_responses_are_excuses() {
        assert_eq!(calls(0, 0, 0, 2).excuse(6, 0), Some(Excuse::CannotConnect { failed: 2 }));
        assert_eq!(calls(0, 0, 0, 2).excuse(7, 0), None, "one lost connection excuses no outage");
        assert_eq!(calls(0, 0, 0, 0).excuse(0, 4), Some(Excuse::Unanswered { waiting: 4 }));
    }

    #[test]
    fn a_credential_that_backends_do_not_accept_is_an_excuse() {
        let denied = |denied| Calls { denied, ..calls(9, 9, 0, 0) };
        assert_eq!(denied(3).excuse(9, 0), Some(Excuse::Denied { received: 3 }));
        assert_eq!(denied(3).excuse(10, 0), None, "the errors are more than these");
    }

    #[test]
    fn mostly_unanswered_requests_are_an_excuse() {
        assert_eq!(calls(3, 0, 0, 0).excuse(9, 0), Some(Excuse::Unanswered { waiting: 3 }));
        assert_eq!(calls(2, 0, 0, 0).excuse(2, 0), None, "they may be on their way");
        assert_eq!(calls(10, 5, 0, 0).excuse(5, 0), None, "half of them were answered");
        assert_eq!(calls(3, 0, 0, 0).excuse(10, 0), None, "too few for so many errors");
    }

    #[test]
    fn several_clients_that_do_not_end_their_requests_are_an_excuse() {
        assert_eq!(Excuse::held(2), None, "they lost their network");
        assert_eq!(Excuse::held(3), Some(Excuse::Held { clients: 3 }));
    }

    #[test]
    fn three_good_responses_and_four_per_error_are_a_service() {
        assert_eq!(Excuse::serves(2, 0), None, "too few to tell");
        assert_eq!(Excuse::serves(3, 0), Some(Excuse::Serves { good: 3 }));
        assert_eq!(Excuse::serves(8, 2), Some(Excuse::Serves { good: 8 }));
        assert_eq!(Excuse::serves(7, 2), None);
    }
}
