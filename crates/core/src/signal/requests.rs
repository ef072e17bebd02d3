//! What the kernel knows of the requests of a target's clients that get no response.
use std::time::Duration;

use agent_common::{AGES, Counters, Latencies};
use paramedic_protocol::latency::upper_bound;

/// Nearly all responses.
const NEARLY_ALL: f64 = 0.99;
/// Even where responses take a millisecond, this is no long time.
const LEAST: u64 = 1;
/// Groups of waiting requests, by whole seconds; the last is all longer ones.
pub const SECONDS: usize = 32;
/// What became overdue longer ago is of the past: shorter than any sensible patience, so that some
/// slow requests at one time are told and no more.
pub const RECENT: Duration = Duration::from_secs(5);

/// What the kernel knows of the clients' requests, as read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// The time after which one is overdue, in seconds: see [`overdue_after`]. `None`: cannot be
    /// told.
    pub overdue_after: Option<u8>,
    /// Those that became overdue within the last 5 s and still wait.
    pub overdue: u32,
    /// All that the target has dropped.
    pub dropped: u64,
    /// All that clients have given up, by the time that they had waited: [`Counters::given_up`].
    pub given_up: [u64; AGES],
    /// Those of them that the agent itself gave up, at most.
    pub own: u64,
    /// Clients that hold a connection now without ending their request, byte by byte or not at all.
    pub holding: u32,
}

/// The time after which a request is overdue, in seconds, from how long all responses took so far.
/// `None` if there were none, or if they take longer than can be told.
#[must_use]
pub fn overdue_after(latencies: &Latencies) -> Option<u8> {
    let all: u64 = latencies.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count));
    let wanted = ((all as f64 * NEARLY_ALL).ceil() as u64).max(1);
    let mut sum = 0_u64;
    let bucket = latencies.buckets.iter().position(|count| {
        sum = sum.saturating_add(*count);
        sum >= wanted
    })?;
    let twice = upper_bound(bucket)?.checked_mul(2)?.div_ceil(1_000_000_000).max(LEAST);
    // The waiting requests of the last 10 s before must be in groups of their own.
    let longest = SECONDS as u64 - 1 - RECENT.as_secs();
    u8::try_from(twice).ok().filter(|_| twice <= longest)
}

impl Requests {
    /// From the kernel's counts, the responses' times, and the waiting requests by whole seconds.
    /// `own` requests were the agent's, which it gave up; `holding` clients do not end theirs.
    #[must_use]
    pub fn of(
        counters: &Counters,
        latencies: &Latencies,
        ages: &[u16; SECONDS],
        own: u64,
        holding: u32,
    ) -> Self {
        let overdue_after = overdue_after(latencies);
        let overdue = overdue_after.map_or(0, |after| {
            let recent = usize::from(after)..usize::from(after) + RECENT.as_secs() as usize;
            ages[recent].iter().map(|count| u32::from(*count)).sum()
        });
        let (dropped, given_up) = (counters.dropped, counters.given_up);
        Self { overdue_after, overdue, dropped, given_up, own, holding }
    }

    /// All that were left unanswered so far, except for those that still wait.
    #[must_use]
    pub fn ended(&self) -> u64 {
        let after = self.overdue_after.map_or(u64::MAX, u64::from);
        // A group begins at half of its end: 0, 1, 2, 4 seconds and so on.
        let begins = |group: usize| if group == 0 { 0 } else { 1_u64 << (group - 1) };
        let late = self.given_up.iter().enumerate().filter(|(group, _)| begins(*group) >= after);
        let late = late.map(|(_, count)| *count).fold(0, u64::saturating_add);
        self.dropped.saturating_add(late.saturating_sub(self.own))
    }
}
