//! Schedules samples: soon when something happens, but never so often that sampling becomes a load.
use std::time::Duration;

use super::Pace;
use crate::{boot_time::BootTime, decide::Action};

/// Minimum time between two samples of a target.
pub(super) const GAP: Duration = Duration::from_millis(100);
/// Minimum time between two samples if only throttling woke the agent: it reports every period.
const THROTTLED_GAP: Duration = Duration::from_secs(1);
/// Delay after a failed poll: short, so that the next one soon confirms or refutes it.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// Interval during verification.
const VERIFYING: Duration = Duration::from_secs(1);
/// Samples that wake-ups may cause in a row before they slow down, and how fast the allowance
/// refills. A target whose every response is a 5xx wakes the agent after every sample; without this
/// bound it would be polled ten times a second while it is sick.
const WAKE_BURST: f32 = 10.0;
const WAKE_REFILL_PER_S: f32 = 2.0;
/// Samples per second on one node, and the size of a burst.
const NODE_PER_S: f32 = 200.0;
const NODE_BURST: f32 = 50.0;
/// Of these, what regular samples leave for urgent ones, so that no doubt waits where there are more
/// targets than the node's budget suffices for; and what urgent ones take at most, so that in a storm the
/// others are still looked at.
const NODE_RESERVE: f32 = 10.0;
const URGENT_PER_S: f32 = 150.0;
const URGENT_BURST: f32 = 40.0;
/// Cluster checks for hard remedies: burst, and interval after it. Each takes half a dozen
/// requests, and if a whole cluster is sick every node asks.
const ASK_BURST: f32 = 6.0;
const ASK_PER_S: f32 = 0.1;
/// Polls per second that all targets of a node get together while nothing casts doubt on them, and the
/// longest interval between two polls of one of them.
const POLLS_PER_S: u32 = 25;
const LONGEST_INTERVAL: Duration = Duration::from_secs(10);
/// How long due samples wait when the node's budget is spent: until it permits ten more, since to wake
/// up for each costs more than the sample.
pub(super) const NODE_REFILL: Duration = Duration::from_millis(50);

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f32,
    burst: f32,
    per_s: f32,
    at: BootTime,
}

impl Bucket {
    fn new(burst: f32, per_s: f32) -> Self {
        Self { tokens: burst, burst, per_s, at: BootTime::default() }
    }

    fn refill(&mut self, now: BootTime) {
        let earned = now.since(self.at).as_secs_f32() * self.per_s;
        self.tokens = (self.tokens + earned).min(self.burst);
        self.at = now;
    }

    /// Takes a token if there is one beside those that are reserved.
    fn take_beside(&mut self, reserved: f32, now: BootTime) -> bool {
        self.refill(now);
        let may = self.tokens >= 1.0 + reserved;
        if may {
            self.tokens -= 1.0;
        }
        may
    }

    /// Time until there is a token; zero if it took one.
    fn take_or_wait(&mut self, now: BootTime) -> Duration {
        if self.take_beside(0.0, now) {
            return Duration::ZERO;
        }
        Duration::from_secs_f32((1.0 - self.tokens) / self.per_s)
    }
}

/// The node's budget of samples.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodePace {
    all: Bucket,
    urgent: Bucket,
}

impl Default for NodePace {
    fn default() -> Self {
        let all = Bucket::new(NODE_BURST, NODE_PER_S);
        Self { all, urgent: Bucket::new(URGENT_BURST, URGENT_PER_S) }
    }
}

impl NodePace {
    /// Takes one sample from the budget, if there is one.
    pub(super) fn take(&mut self, urgent: bool, now: BootTime) -> bool {
        if !urgent {
            return self.all.take_beside(NODE_RESERVE, now);
        }
        self.urgent.take_beside(0.0, now) && self.all.take_beside(0.0, now)
    }
}

/// When a target is sampled next.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    pub(super) at: BootTime,
    /// Whether it goes before others that are due: anything but a regular sample.
    pub(super) urgent: bool,
}

impl Due {
    pub(super) const fn regular(at: BootTime) -> Self {
        Self { at, urgent: false }
    }
}

/// The node's budget of cluster checks for hard remedies.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskPace(Bucket);

impl Default for AskPace {
    fn default() -> Self {
        Self(Bucket::new(ASK_BURST, ASK_PER_S))
    }
}

impl AskPace {
    /// Takes one check from the budget, if there is one.
    pub(super) fn take(&mut self, now: BootTime) -> bool {
        self.0.take_beside(0.0, now)
    }
}

/// The sampling schedule of one target.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetPace {
    /// Time at which the counters were last read; the target was re-armed just before.
    last_read: Option<BootTime>,
    /// A wake-up that came during a sample: the time of its event, and when to sample.
    owed: Option<(BootTime, BootTime)>,
    wakes: Bucket,
}

impl Default for TargetPace {
    fn default() -> Self {
        Self { last_read: None, owed: None, wakes: Bucket::new(WAKE_BURST, WAKE_REFILL_PER_S) }
    }
}

impl TargetPace {
    /// The counters were read at `at`: earlier events are known by now.
    pub(super) fn sampled(&mut self, at: BootTime) {
        self.last_read = Some(at);
        self.owed = self.owed.filter(|(event, _)| *event > at);
    }

    /// Time of the sample that a wake-up of an event at `at` requests; `None` if the last sample
    /// already saw that event.
    pub(super) fn woken(
        &mut self,
        at: BootTime,
        throttled: bool,
        now: BootTime,
    ) -> Option<BootTime> {
        let gap = if throttled { THROTTLED_GAP } else { GAP };
        let earliest = match self.last_read {
            Some(read) if at <= read => return None,
            Some(read) => read + gap,
            None => now,
        };
        let wait = self.wakes.take_or_wait(now);
        Some(earliest.max(now + wait))
    }

    /// Stores a wake-up until the sample in progress is complete.
    pub(super) const fn owe(&mut self, event: BootTime, when: BootTime) {
        self.owed = Some((event, when));
    }

    /// The sample for a stored wake-up, if it comes before the regular one.
    pub(super) fn settle(&mut self, regular: BootTime) -> Option<BootTime> {
        let (_, when) = self.owed.take()?;
        let earliest = self.last_read.map_or(when, |read| when.max(read + GAP));
        (earliest < regular).then_some(earliest)
    }

    /// With nothing in progress.
    pub(super) fn at_rest(&self, pace: &Pace, failing: bool) -> Duration {
        if failing { AFTER_FAILURE.min(pace.tick) } else { pace.tick }
    }

    /// During a verification.
    pub(super) fn verifying(&self, action: Action) -> Duration {
        if action == Action::NoAction { VERIFYING } else { GAP }
    }
}

/// Minimum time between two polls of a target that nothing casts doubt on, on a node where `polled`
/// targets are polled. `None`: every regular sample polls, as on most nodes.
pub(super) fn poll_interval(tick: Duration, polled: u32) -> Option<Duration> {
    let shared = Duration::from_secs(polled.into()) / POLLS_PER_S;
    // The regular sample that comes nearest polls.
    (shared > tick).then(|| shared.min(LONGEST_INTERVAL).saturating_sub(tick / 2))
}

/// Spreads regular samples by up to a tenth, so that targets found together are not sampled
/// together.
pub(super) fn jitter(delay: Duration, index: usize) -> Duration {
    delay - share(delay / 10, index)
}

/// Time of the first sample: targets that are found together are spread over a tick, and a single
/// one is sampled at once.
pub(super) fn first(tick: Duration, index: usize) -> Duration {
    share(tick, index)
}

/// Aligns regular samples on a grid, so that one wake-up of the agent serves several: on an idle
/// node waking up costs more than sampling.
pub(super) const fn on_grid(at: BootTime) -> BootTime {
    const GRID_NS: u64 = GAP.as_nanos() as u64;
    BootTime::from_nanos(at.as_nanos().div_ceil(GRID_NS).saturating_mul(GRID_NS))
}

/// A share of `whole` that differs between targets, by Fibonacci hashing: consecutive indices get
/// distant values.
fn share(whole: Duration, index: usize) -> Duration {
    let share = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    whole * u32::try_from(share).unwrap_or(0) / 256
}
