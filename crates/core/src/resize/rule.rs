//! When: a rule on a minute of throttling, on memory that rises towards its limit, and on half an
//! hour of quiet. No model takes part.
use std::{collections::VecDeque, time::Duration};

use super::Resource;
use crate::boot_time::BootTime;

/// A share of throttled time at or above this is stress; below the second it is quiet.
pub const THROTTLED: f32 = 0.2;
const HARDLY_THROTTLED: f32 = 0.05;
/// It must last this long.
pub const LASTS: Duration = Duration::from_secs(60);
/// Memory at or above this share of its limit, and rising, is stress; below the second it is quiet.
pub const FULL: f64 = 0.9;
const HALF_EMPTY: f64 = 0.8;
/// Memory rises if it has grown by this share of its limit within the span, as far as that was seen;
/// at this fullness a small rise is enough, because little is left.
const RISE: f64 = 0.01;
const VERY_FULL: f64 = 0.95;
const SMALL_RISE: f64 = 0.001;
const RISE_SPAN: Duration = Duration::from_secs(300);
/// Fewer readings, or closer ones, show no rise.
const RISE_READINGS: usize = 3;
const RISE_LEAST: Duration = Duration::from_secs(3);
/// Time between two remembered readings: samples may come ten times a second.
const READ_EVERY: Duration = Duration::from_secs(1);
/// More requests per second than a probe sends are traffic.
const TRAFFIC: f32 = 1.1;
/// Responses that take this long have waited, in seconds: a throttled container stands still for some
/// ten milliseconds at a time.
const LATE: f32 = 0.02;
/// After so much quiet, limits shrink.
pub const QUIET: Duration = Duration::from_secs(30 * 60);
/// Longer between two samples, nothing is known of the time in between.
const GAP: Duration = Duration::from_secs(30);

/// Whether requests wait. Some have no response at this moment; or there is traffic, and the slowest
/// twentieth of it is late. A sample comes right behind an answered poll, when a throttled container
/// has just run and answered everybody, so what waits at that moment is not all.
#[must_use]
pub fn waits(in_flight: u32, per_second: f32, slowest_twentieth: f32) -> bool {
    in_flight > 0 || (per_second > TRAFFIC && slowest_twentieth >= LATE)
}

/// What one sample shows. `None` is what was not read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Seen {
    /// When.
    pub at: BootTime,
    /// The share of the time in which the quota throttled the target, 0–1.
    pub throttled: Option<f32>,
    /// Whether requests wait: see [`waits`].
    pub waits: Option<bool>,
    /// What is used of each resource: millicores, bytes.
    pub used: [Option<u64>; 2],
    /// The limits of its cgroup, in the same units.
    pub limits: [Option<u64>; 2],
}

impl Seen {
    /// The share of its memory limit that is used; `None` without a limit.
    fn memory_share(&self) -> Option<f64> {
        let at = Resource::Memory.index();
        let (used, limit) = (self.used[at]?, self.limits[at].filter(|limit| *limit > 0)?);
        Some(used as f64 / limit as f64)
    }
}

/// Whether a target is under stress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stress {
    /// It is not, or not yet long enough.
    No,
    /// It is throttled, and the kernel does not see whether requests wait.
    Unseen,
    /// It is.
    Yes,
}

/// A quiet time, and the most that was used in it.
#[derive(Clone, Copy, Debug, Default)]
struct Quiet {
    since: Option<BootTime>,
    peak: u64,
}

impl Quiet {
    /// `quiet`: `None` if that is not known, which ends the quiet time.
    fn see(&mut self, quiet: Option<bool>, used: Option<u64>, at: BootTime) {
        match (quiet, used) {
            (Some(true), Some(used)) => {
                self.since.get_or_insert(at);
                self.peak = self.peak.max(used);
            }
            _ => *self = Self::default(),
        }
    }
}

/// The recent past of one instance.
#[derive(Debug, Default)]
pub struct Rule {
    last: Seen,
    /// Since when it is throttled, and how many samples since then saw requests wait, or could not
    /// see any.
    throttled_since: Option<BootTime>,
    counted_since: BootTime,
    samples: u32,
    waited: u32,
    unseen: u32,
    memory: VecDeque<(BootTime, u64)>,
    quiet: [Quiet; 2],
}

impl Rule {
    /// Takes one sample.
    pub fn see(&mut self, seen: Seen) {
        if seen.at.since(self.last.at) > GAP {
            *self = Self::default();
        }
        self.see_throttling(&seen);
        self.see_memory(&seen);
        let hardly = seen.throttled.map(|share| share < HARDLY_THROTTLED);
        let half_empty = seen.memory_share().map(|share| share < HALF_EMPTY);
        for (resource, quiet) in [(Resource::Cpu, hardly), (Resource::Memory, half_empty)] {
            let at = resource.index();
            self.quiet[at].see(quiet, seen.used[at], seen.at);
        }
        self.last = seen;
    }

    fn see_throttling(&mut self, seen: &Seen) {
        if !seen.throttled.is_some_and(|share| share >= THROTTLED) {
            self.throttled_since = None;
            return;
        }
        if self.throttled_since.is_none() {
            self.throttled_since = Some(seen.at);
            self.counted_since = seen.at;
            (self.samples, self.waited, self.unseen) = (0, 0, 0);
        }
        if seen.at.since(self.counted_since) >= 2 * LASTS {
            // What was long ago says less and less about now.
            self.counted_since = self.counted_since + LASTS;
            (self.samples, self.waited, self.unseen) =
                (self.samples / 2, self.waited / 2, self.unseen / 2);
        }
        self.samples += 1;
        self.waited += u32::from(seen.waits == Some(true));
        self.unseen += u32::from(seen.waits.is_none());
    }

    fn see_memory(&mut self, seen: &Seen) {
        let Some(used) = seen.used[Resource::Memory.index()] else {
            self.memory.clear();
            return;
        };
        while self.memory.front().is_some_and(|(at, _)| seen.at.since(*at) > RISE_SPAN) {
            self.memory.pop_front();
        }
        if self.memory.back().is_none_or(|(at, _)| seen.at.since(*at) >= READ_EVERY) {
            self.memory.push_back((seen.at, used));
        }
    }

    /// What was seen last.
    #[must_use]
    pub const fn last(&self) -> &Seen {
        &self.last
    }

    /// Whether a resource is short, for long enough.
    #[must_use]
    pub fn stress(&self, resource: Resource) -> Stress {
        match resource {
            Resource::Cpu => self.cpu_stress(),
            Resource::Memory if self.is_full() && self.rises() => Stress::Yes,
            Resource::Memory => Stress::No,
        }
    }

    fn cpu_stress(&self) -> Stress {
        let lasts = |since| self.last.at.since(since) >= LASTS;
        if !self.throttled_since.is_some_and(lasts) {
            return Stress::No;
        }
        // In half of the samples: few requests wait at every single instant.
        if self.waited * 2 >= self.samples && self.last.waits.is_some() {
            Stress::Yes
        } else if self.unseen * 2 > self.samples {
            Stress::Unseen
        } else {
            Stress::No
        }
    }

    /// Whether the symptom shows now, however long.
    #[must_use]
    pub fn shows(&self, resource: Resource) -> bool {
        match resource {
            Resource::Cpu => self.last.throttled.is_some_and(|share| share >= THROTTLED),
            Resource::Memory => self.is_full(),
        }
    }

    /// Whether it comes near to that: a restart for a level would come first otherwise.
    #[must_use]
    pub fn nears(&self, resource: Resource) -> bool {
        match resource {
            Resource::Cpu => self.shows(resource),
            Resource::Memory => self.last.memory_share().is_some_and(|share| share >= HALF_EMPTY),
        }
    }

    fn is_full(&self) -> bool {
        self.last.memory_share().is_some_and(|share| share >= FULL)
    }

    /// Whether memory has risen within five minutes, and is at its highest now.
    fn rises(&self) -> bool {
        let at = Resource::Memory.index();
        let (Some(limit), Some(now)) = (self.last.limits[at], self.last.used[at]) else {
            return false;
        };
        let Some((from, before)) = self.memory.front() else { return false };
        let enough = self.memory.len() >= RISE_READINGS && self.last.at.since(*from) >= RISE_LEAST;
        let very_full = self.last.memory_share().is_some_and(|share| share >= VERY_FULL);
        let least = limit as f64 * if very_full { SMALL_RISE } else { RISE };
        let grown = now.saturating_sub(*before) as f64 >= least;
        enough && grown && self.memory.iter().all(|(_, used)| *used <= now)
    }

    /// The most that was used of a resource in a quiet time that is long enough.
    #[must_use]
    pub fn quiet(&self, resource: Resource) -> Option<u64> {
        let Quiet { since, peak } = self.quiet[resource.index()];
        since.filter(|since| self.last.at.since(*since) >= QUIET).map(|_| peak)
    }

    /// A limit has changed: quiet times begin anew, and what was measured against the old limit does
    /// not count.
    pub fn begin_anew(&mut self) {
        let last = self.last;
        *self = Self { last, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn at(seconds: f64) -> BootTime {
        BootTime::from(Duration::from_secs(1000) + Duration::from_secs_f64(seconds))
    }

    fn throttled(seconds: f64, share: f32, waits: Option<bool>) -> Seen {
        Seen {
            at: at(seconds),
            throttled: Some(share),
            waits,
            used: [Some(400), Some(50 * MIB)],
            limits: [Some(500), Some(100 * MIB)],
        }
    }

    fn memory(seconds: f64, tenths: u64) -> Seen {
        let used = [Some(100), Some(tenths * MIB / 10)];
        Seen { used, ..throttled(seconds, 0.0, Some(false)) }
    }

    fn after(seen: impl IntoIterator<Item = Seen>) -> Rule {
        let mut rule = Rule::default();
        seen.into_iter().for_each(|seen| rule.see(seen));
        rule
    }

    fn minute(share: f32, waits: impl Fn(u32) -> Option<bool>) -> Rule {
        after((0..=30).map(|n| throttled(2.0 * f64::from(n), share, waits(n))))
    }

    #[test]
    fn a_minute_of_throttling_with_requests_waiting_is_stress() {
        assert_eq!(minute(0.2, |_| Some(true)).stress(Resource::Cpu), Stress::Yes);
        assert_eq!(minute(0.19, |_| Some(true)).stress(Resource::Cpu), Stress::No);
        assert_eq!(minute(0.2, |_| Some(false)).stress(Resource::Cpu), Stress::No);
        assert_eq!(minute(0.9, |n| Some(n % 2 == 1)).stress(Resource::Cpu), Stress::No);
        assert_eq!(minute(0.9, |n| Some(n % 2 == 0)).stress(Resource::Cpu), Stress::Yes);
        let fifty = after((0..30).map(|n| throttled(2.0 * f64::from(n), 0.9, Some(true))));
        assert_eq!(fifty.stress(Resource::Cpu), Stress::No, "58 s");
    }

    #[test]
    fn throttling_without_sight_of_the_requests_is_told_apart() {
        assert_eq!(minute(0.9, |_| None).stress(Resource::Cpu), Stress::Unseen);
        let unread =
            after((0..=30).map(|n| Seen {
                throttled: None,
                ..throttled(2.0 * f64::from(n), 0.9, Some(true))
            }));
        assert_eq!(unread.stress(Resource::Cpu), Stress::No);
    }

    #[test]
    fn requests_wait_if_some_are_in_flight_or_many_are_late() {
        assert!(waits(1, 0.0, 0.0) && waits(0, 5.0, 0.02));
        assert!(!waits(0, 1.0, 0.5), "a probe is no traffic");
        assert!(!waits(0, 100.0, 0.019), "they are soon answered");
        assert!(!waits(0, 5.0, f32::NAN));
    }

    #[test]
    fn an_interruption_begins_the_minute_anew() {
        let mut rule = minute(0.5, |_| Some(true));
        rule.see(throttled(61.0, 0.1, Some(true)));
        rule.see(throttled(62.0, 0.5, Some(true)));
        assert_eq!(rule.stress(Resource::Cpu), Stress::No);
        let mut slept = minute(0.5, |_| Some(true));
        slept.see(throttled(200.0, 0.5, Some(true)));
        assert_eq!(slept.stress(Resource::Cpu), Stress::No, "nothing is known of the time between");
    }

    #[test]
    fn requests_that_waited_long_ago_do_not_count_for_ever() {
        let mut rule = minute(0.5, |_| Some(true));
        for n in 31..=120 {
            rule.see(throttled(2.0 * f64::from(n), 0.5, Some(false)));
        }
        assert_eq!(rule.stress(Resource::Cpu), Stress::No);
    }

    #[test]
    fn memory_that_is_nearly_full_and_rises_is_stress() {
        let rising = |first: u64| after((0..3).map(|n| memory(2.0 * n as f64, first + 5 * n)));
        assert_eq!(rising(890).stress(Resource::Memory), Stress::Yes, "89, 89.5, 90 %");
        assert_eq!(rising(880).stress(Resource::Memory), Stress::No, "89 % at the end");
        let slow = after((0..150).map(|n| memory(2.0 * n as f64, 930 + n / 12)));
        assert_eq!(slow.stress(Resource::Memory), Stress::Yes, "1.2 % in five minutes");
        let last = after((0..150).map(|n| memory(2.0 * n as f64, 970 + n / 60)));
        assert_eq!(last.stress(Resource::Memory), Stress::Yes, "little is left");
        let flat = after((0..20).map(|n| memory(2.0 * f64::from(n), 950)));
        assert_eq!(flat.stress(Resource::Memory), Stress::No);
        let two = after([memory(0.0, 900), memory(4.0, 950)]);
        assert_eq!(two.stress(Resource::Memory), Stress::No, "two readings are no trend");
        let burst = after((0..10).map(|n| memory(0.1 * n as f64, 900 + 5 * n)));
        assert_eq!(burst.stress(Resource::Memory), Stress::No, "within a second");
        let collected = after([memory(0.0, 850), memory(2.0, 960), memory(4.0, 930)]);
        assert_eq!(collected.stress(Resource::Memory), Stress::No, "it falls again");
    }

    #[test]
    fn without_a_limit_there_is_no_stress() {
        let unlimited =
            (0..10).map(|n| Seen { limits: [None; 2], ..memory(2.0 * n as f64, 990 + n) });
        let rule = after(unlimited);
        assert_eq!(rule.stress(Resource::Memory), Stress::No);
        assert_eq!(rule.quiet(Resource::Memory), None);
    }

    #[test]
    fn half_an_hour_without_stress_is_quiet_and_the_peak_is_remembered() {
        let mut rule = Rule::default();
        for n in 0..900 {
            rule.see(memory(2.0 * f64::from(n), if n == 400 { 700 } else { 300 }));
        }
        assert_eq!(rule.quiet(Resource::Memory), None, "1798 s");
        rule.see(memory(1800.0, 300));
        assert_eq!(rule.quiet(Resource::Memory), Some(70 * MIB));
        assert_eq!(rule.quiet(Resource::Cpu), Some(100));
        rule.see(memory(1802.0, 800));
        assert_eq!(rule.quiet(Resource::Memory), None, "not quiet at 80 %");
        rule.see(Seen { throttled: Some(0.05), ..memory(1804.0, 300) });
        assert_eq!(rule.quiet(Resource::Cpu), None, "a little throttled");
        rule.see(Seen { throttled: None, ..memory(1806.0, 300) });
        assert_eq!(rule.quiet(Resource::Cpu), None, "not known");
    }

    #[test]
    fn after_a_change_quiet_begins_anew() {
        let mut rule = after((0..=900).map(|n| memory(2.0 * f64::from(n), 300)));
        assert!(rule.quiet(Resource::Memory).is_some());
        rule.begin_anew();
        rule.see(memory(1802.0, 300));
        assert_eq!(rule.quiet(Resource::Memory), None);
    }
}
