//! Asking people first: for how long a request stands, and what an approval permits.
use std::time::Duration;

use crate::{boot_time::BootTime, target::Request};

/// How long a request stays open after the remedy was last wanted, and how long an approval counts.
const VALID: Duration = Duration::from_secs(600);

/// An open request and its approval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The request.
    pub request: Request,
    /// The incident, by the start of the sickness.
    ill_since: BootTime,
    wanted: BootTime,
    approved: Option<BootTime>,
}

impl Asked {
    /// A new request.
    #[must_use]
    pub const fn new(request: Request, ill_since: BootTime, now: BootTime) -> Self {
        Self { request, ill_since, wanted: now, approved: None }
    }

    /// The remedy is wanted again.
    pub const fn wanted_again(&mut self, now: BootTime) {
        self.wanted = now;
    }

    /// Takes an approval; returns whether it is one of this request.
    pub fn approve(&mut self, request: Request, now: BootTime) -> bool {
        let matches = request == self.request;
        if matches {
            self.approved.get_or_insert(now);
        }
        matches
    }

    /// Whether it was approved.
    #[must_use]
    pub const fn is_approved(&self) -> bool {
        self.approved.is_some()
    }

    /// Whether it still stands in the incident that began at `ill_since`.
    #[must_use]
    pub fn stands(&self, ill_since: Option<BootTime>, now: BootTime) -> bool {
        let since = self.approved.unwrap_or(self.wanted);
        ill_since == Some(self.ill_since) && now.since(since) <= VALID
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Remedy;

    fn at(seconds: u64) -> BootTime {
        BootTime::from(Duration::from_secs(seconds))
    }

    #[test]
    fn a_request_stands_while_its_remedy_is_wanted() {
        let request = Request::new(Remedy::Restart, at(10));
        let mut asked = Asked::new(request, at(5), at(10));
        assert!(asked.stands(Some(at(5)), at(610)));
        assert!(!asked.stands(Some(at(5)), at(611)));
        asked.wanted_again(at(600));
        assert!(asked.stands(Some(at(5)), at(1200)));
        assert!(!asked.stands(Some(at(6)), at(601)), "another incident");
        assert!(!asked.stands(None, at(601)), "it is well");
    }

    #[test]
    fn an_approval_is_of_one_request_and_expires() {
        let request = Request::new(Remedy::Restart, at(10));
        let mut asked = Asked::new(request, at(5), at(10));
        assert!(!asked.approve(Request::new(Remedy::Evict, at(10)), at(20)));
        assert!(!asked.approve(Request::new(Remedy::Restart, at(11)), at(20)));
        assert!(!asked.is_approved());
        assert!(asked.approve(request, at(100)));
        assert!(asked.approve(request, at(300)), "approved twice is approved once");
        asked.wanted_again(at(650));
        assert!(asked.is_approved() && asked.stands(Some(at(5)), at(700)));
        assert!(!asked.stands(Some(at(5)), at(701)));
    }
}
