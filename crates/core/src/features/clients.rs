//! [`Clients`]: whether the clients of one instance get responses, whatever its health check says.
//!
//! A request without a response is *overdue* if it has waited for twice as long as nearly all
//! responses of this service took. So a service of long polls is judged by its own measure, and one
//! whose usual responses take longer than this can tell is not judged at all.
//!
//! Clients are left unanswered if a fifth of the recent requests, and at least ten, were left
//! overdue, were given up by clients that had waited as long, or were dropped by the target, if new
//! ones are among them all the time, and if that is not usual here. It says nothing of the cause.
use std::time::Duration;

use super::window::SPAN;
use crate::{
    boot_time::BootTime,
    signal::{RECENT, Requests},
};

/// Fewer such requests are an accident.
const FEW: u64 = 10;
/// A longer time without a new one ends it: a burst is no state.
const STILL: Duration = Duration::from_secs(5);
/// A smaller share of the recent requests, in percent, is no symptom.
const SHARE: u64 = 20;
/// So many responses in a row, with no request left, are what is usual here.
const KNOWN: u64 = 20;

/// The requests of one instance's clients at one sample.
#[derive(Clone, Copy, Debug, Default)]
struct Point {
    at: BootTime,
    answered: u64,
    ended: u64,
}

/// Whether its clients get responses.
#[derive(Debug, Default)]
pub struct Clients {
    /// Two earlier samples, which span one to two windows.
    base: Point,
    next: Point,
    last: Option<Point>,
    overdue: u32,
    /// Responses since the last request that was left.
    calm: u64,
    /// When the last request was left, if that was not a window ago; and whether all was calm before
    /// the first one.
    left_at: Option<BootTime>,
    was_calm: bool,
    /// Since when clients are left unanswered.
    since: Option<BootTime>,
}

impl Clients {
    /// Takes one sample: its responses to clients so far, and their requests.
    pub(super) fn push(&mut self, at: BootTime, answered: u64, requests: &Requests) {
        let now = Point { at, answered, ended: requests.ended() };
        let Some(last) = self.last.replace(now) else {
            (self.base, self.next) = (now, now);
            return;
        };
        // The groups that count depend on the time after which a request is overdue.
        if now.ended < last.ended {
            (self.base, self.next) = (now, now);
        } else if at.since(self.next.at) >= SPAN {
            (self.base, self.next) = (self.next, now);
        }
        self.overdue = requests.overdue;
        if now.ended > last.ended || requests.overdue > 0 {
            if self.left_at.is_none() {
                self.was_calm = self.calm >= KNOWN;
            }
            self.left_at = Some(at);
            self.calm = 0;
        } else {
            self.calm = self.calm.saturating_add(answered.saturating_sub(last.answered));
            self.left_at = self.left_at.filter(|left| at.since(*left) < SPAN);
        }
        if self.are_left(now) {
            let after = requests.overdue_after.map_or(0, u64::from);
            let began = at.as_nanos().saturating_sub(after * 1_000_000_000);
            self.since.get_or_insert(BootTime::from_nanos(began));
        } else {
            self.forgive();
        }
    }

    fn are_left(&self, now: Point) -> bool {
        let (left, answered) = self.recent(now);
        let few = now.ended.saturating_sub(self.base.ended) + u64::from(self.overdue) < FEW;
        let many = !few && left * 100 >= (left + answered) * SHARE;
        let still = self.left_at.is_some_and(|left| now.at.since(left) < STILL);
        many && self.was_calm && still
    }

    /// Requests of the last one to two windows that got no response, and those that got one. What
    /// waits is known of a shorter time, and taken to have been so all the time.
    fn recent(&self, last: Point) -> (u64, u64) {
        let span = last.at.since(self.base.at).max(RECENT);
        let overdue = f64::from(self.overdue) * span.as_secs_f64() / RECENT.as_secs_f64();
        let left = last.ended.saturating_sub(self.base.ended) + overdue as u64;
        (left, last.answered.saturating_sub(self.base.answered))
    }

    /// After a remedy: what was before it says nothing any more.
    pub(super) fn forgive(&mut self) {
        self.since = None;
    }

    /// After a remedy that is to be judged by what comes now.
    pub(super) fn restart(&mut self) {
        self.forgive();
        if let Some(last) = self.last {
            (self.base, self.next) = (last, last);
        }
    }

    /// Since when its clients are left unanswered.
    #[must_use]
    pub const fn left_since(&self) -> Option<BootTime> {
        self.since
    }

    /// The share of recent requests without a response, 0–1; 0 unless clients are left unanswered.
    #[must_use]
    pub fn left_share(&self) -> f32 {
        let (Some(last), Some(_)) = (self.last, self.since) else { return 0.0 };
        let (left, answered) = self.recent(last);
        if left == 0 { 0.0 } else { left as f32 / (left + answered) as f32 }
    }
}

#[cfg(test)]
mod tests {
    use agent_common::{Counters, Latencies};

    use super::*;
    use crate::signal::{SECONDS, overdue_after};

    fn at(seconds: u64) -> BootTime {
        BootTime::from_nanos((1000 + seconds) * 1_000_000_000)
    }

    /// Responses of which all took about this long.
    fn taking(milliseconds: u64) -> Latencies {
        let mut latencies = Latencies::default();
        latencies.buckets[paramedic_protocol::latency::bucket(milliseconds * 1_000_000)] = 100;
        latencies
    }

    /// A service with five requests a second, and what becomes of them in each second.
    #[derive(Default)]
    struct Service {
        clients: Clients,
        counters: Counters,
        ages: Vec<u16>,
        answered: u64,
        latencies: Latencies,
        now: u64,
    }

    impl Service {
        fn new(milliseconds: u64) -> Self {
            Self { latencies: taking(milliseconds), ..Self::default() }
        }

        /// Some seconds with so many answered, and so many left waiting, in each.
        fn live(&mut self, seconds: u64, answered: u64, left: u16) -> Option<BootTime> {
            for _ in 0..seconds {
                self.now += 1;
                self.answered += answered;
                self.ages.insert(0, left);
                self.ages.truncate(SECONDS);
                let mut ages = [0; SECONDS];
                ages[..self.ages.len()].copy_from_slice(&self.ages);
                let requests = Requests::of(&self.counters, &self.latencies, &ages, 0, 0);
                self.clients.push(at(self.now), self.answered, &requests);
            }
            self.clients.left_since()
        }
    }

    #[test]
    fn a_hang_is_seen_within_seconds_and_dated_from_its_begin() {
        let mut service = Service::new(20);
        assert_eq!(service.live(15, 5, 0), None);
        let since = (1..=7).find_map(|_| service.live(1, 0, 5)).unwrap();
        assert!((at(15)..=at(20)).contains(&since), "{since:?}");
        assert!(service.now <= 22, "{}", service.now);
        assert!(service.clients.left_share() > 0.2);
        // It answers again, and the old requests are given up.
        service.ages.clear();
        service.live(20, 5, 0);
        assert_eq!(service.clients.left_since(), None);
    }

    #[test]
    fn a_share_that_is_never_answered_is_seen_beside_the_others() {
        let mut service = Service::new(20);
        service.live(15, 6, 0);
        assert!((1..=15).any(|_| service.live(1, 4, 2).is_some()));
    }

    #[test]
    fn what_clients_gave_up_in_time_counts_and_what_they_cut_off_at_once_does_not() {
        let mut service = Service::new(20);
        service.live(15, 5, 0);
        service.counters.given_up[0] += 50;
        assert_eq!(service.live(1, 5, 0), None, "scanners and impatient clients");
        service.counters.given_up[1] += 50;
        assert!(service.live(1, 5, 0).is_some());
        let mut service = Service::new(20);
        service.live(15, 5, 0);
        service.counters.dropped += 50;
        assert!(service.live(1, 5, 0).is_some(), "the target closed them");
    }

    #[test]
    fn a_service_is_judged_by_its_own_measure() {
        // Responses take six seconds here, so that those of seven are as usual.
        let mut slow = Service::new(6_000);
        slow.live(15, 5, 0);
        slow.ages = vec![5; 8];
        assert_eq!(slow.live(1, 5, 5), None);
        // Long polls of half a minute: not judged at all.
        let mut long = Service::new(16_000);
        long.live(15, 5, 0);
        long.counters.given_up[5] += 500;
        assert_eq!(long.live(10, 0, 5), None);
        assert_eq!(overdue_after(&Latencies::default()), None, "nothing is known");
        assert_eq!(overdue_after(&taking(1)), Some(1));
        assert_eq!(overdue_after(&taking(30_000)), None);
    }

    #[test]
    fn what_was_so_from_the_start_is_usual() {
        let mut service = Service::new(20);
        service.live(30, 2, 3);
        assert_eq!(service.live(10, 0, 5), None, "it never answered 20 in a row");
    }

    #[test]
    fn a_few_and_a_small_share_are_no_symptom() {
        let mut service = Service::new(20);
        service.live(15, 5, 0);
        assert_eq!(service.live(4, 0, 2), None);
        assert_eq!(service.live(30, 50, 1), None);
    }

    #[test]
    fn a_burst_of_slow_requests_is_over_before_the_patience() {
        let mut service = Service::new(20);
        service.live(15, 5, 0);
        service.live(1, 5, 100);
        let seen = (1..=30).filter(|_| service.live(1, 5, 0).is_some()).count();
        assert!((1..8).contains(&seen), "for {seen} s");
        service.counters.given_up[2] += 100;
        let seen = (1..=30).filter(|_| service.live(1, 5, 0).is_some()).count();
        assert!((1..8).contains(&seen), "for {seen} s");
    }

    #[test]
    fn a_remedy_is_judged_by_what_comes_after_it() {
        let mut service = Service::new(20);
        service.live(15, 5, 0);
        assert!(service.live(10, 0, 5).is_some());
        service.clients.restart();
        service.ages.clear();
        assert_eq!(service.live(2, 5, 0), None);
        assert_eq!(service.clients.left_share(), 0.0);
    }
}
