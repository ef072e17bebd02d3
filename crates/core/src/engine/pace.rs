//! Schedules samples: soon when something happens, but never so often that sampling becomes a load.
use std::time::Duration;

use super::Pace;
use crate::{decide::Action, moment::Moment};

/// Least time between two looks at one target.
pub(super) const GAP: Duration = Duration::from_millis(100);
/// Least time between two looks when only throttling woke us: it reports every period.
const THROTTLED_GAP: Duration = Duration::from_secs(1);
/// After a failed poll: soon, since three in a row are an illness.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// During verification.
const VERIFYING: Duration = Duration::from_secs(1);
/// Looks that wake-ups may cause in a row before they are slowed down, and how fast the
/// allowance refills. A target whose every response is a 5xx wakes us after every look; without
/// this bound it would be polled ten times a second for as long as it is ill.
const WAKE_BURST: f32 = 10.0;
const WAKE_REFILL_PER_S: f32 = 2.0;
/// Looks per second on one node, and the size of a burst.
const NODE_PER_S: f32 = 200.0;
const NODE_BURST: f32 = 50.0;
/// Questions to the cluster about hard remedies: so many at once, and then one in so long. Each is
/// half a dozen requests, and where a whole cluster is sick every node asks.
const ASK_BURST: f32 = 6.0;
const ASK_PER_S: f32 = 0.1;
/// How long until the node's budget has a look to spare again.
pub(super) const NODE_REFILL: Duration = Duration::from_millis(5);

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f32,
    burst: f32,
    per_s: f32,
    at: Moment,
}

impl Bucket {
    fn new(burst: f32, per_s: f32) -> Self {
        Self { tokens: burst, burst, per_s, at: Moment::default() }
    }

    fn refill(&mut self, now: Moment) {
        let earned = now.since(self.at).as_secs_f32() * self.per_s;
        self.tokens = (self.tokens + earned).min(self.burst);
        self.at = now;
    }

    /// Time until there is a token; zero if one was taken.
    fn take_or_wait(&mut self, now: Moment) -> Duration {
        self.refill(now);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Duration::ZERO;
        }
        Duration::from_secs_f32((1.0 - self.tokens) / self.per_s)
    }
}

/// The node's budget of looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodePace(Bucket);

impl Default for NodePace {
    fn default() -> Self {
        Self(Bucket::new(NODE_BURST, NODE_PER_S))
    }
}

impl NodePace {
    /// Takes one look from the budget, if there is one.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        self.0.take_or_wait(now).is_zero()
    }
}

/// The node's budget of questions about hard remedies.
#[derive(Clone, Copy, Debug)]
pub(super) struct AskPace(Bucket);

impl Default for AskPace {
    fn default() -> Self {
        Self(Bucket::new(ASK_BURST, ASK_PER_S))
    }
}

impl AskPace {
    /// Takes one question from the budget, if there is one.
    pub(super) fn take(&mut self, now: Moment) -> bool {
        self.0.take_or_wait(now).is_zero()
    }
}

/// When one target was and will be looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct TargetPace {
    /// When the counters were last read, and the target re-armed just before.
    last_read: Option<Moment>,
    /// A wake-up that came while a look was under way: when its event happened, and when to look.
    owed: Option<(Moment, Moment)>,
    wakes: Bucket,
}

impl Default for TargetPace {
    fn default() -> Self {
        Self { last_read: None, owed: None, wakes: Bucket::new(WAKE_BURST, WAKE_REFILL_PER_S) }
    }
}

impl TargetPace {
    /// The counters were read at `at`: what happened before is known by now.
    pub(super) fn looked(&mut self, at: Moment) {
        self.last_read = Some(at);
        self.owed = self.owed.filter(|(event, _)| *event > at);
    }

    /// When a wake-up of an event at `at` calls for a look; `None` if the last look already saw
    /// that event.
    pub(super) fn woken(&mut self, at: Moment, throttled: bool, now: Moment) -> Option<Moment> {
        let gap = if throttled { THROTTLED_GAP } else { GAP };
        let earliest = match self.last_read {
            Some(read) if at <= read => return None,
            Some(read) => read + gap,
            None => now,
        };
        let wait = self.wakes.take_or_wait(now);
        Some(earliest.max(now + wait))
    }

    /// Remembers a wake-up for when the look under way is back.
    pub(super) const fn owe(&mut self, event: Moment, when: Moment) {
        self.owed = Some((event, when));
    }

    /// The look that a wake-up is owed, if it comes before the regular one.
    pub(super) fn settle(&mut self, regular: Moment) -> Option<Moment> {
        let (_, when) = self.owed.take()?;
        let earliest = self.last_read.map_or(when, |read| when.max(read + GAP));
        (earliest < regular).then_some(earliest)
    }

    /// With nothing under way.
    pub(super) fn at_rest(&self, pace: &Pace, failing: bool) -> Duration {
        if failing { AFTER_FAILURE.min(pace.tick) } else { pace.tick }
    }

    /// While a treatment is under observation.
    pub(super) fn verifying(&self, action: Action) -> Duration {
        if action == Action::NoAction { VERIFYING } else { GAP }
    }
}

/// Spreads regular looks by up to a tenth, so that targets found together are not looked at
/// together.
pub(super) fn jitter(delay: Duration, index: usize) -> Duration {
    delay - share(delay / 10, index)
}

/// When the first look at a target is due: those that are found together are spread over a tick,
/// and a single one is looked at at once.
pub(super) fn first(tick: Duration, index: usize) -> Duration {
    share(tick, index)
}

/// Regular looks meet on a grid, so that one wake-up of the agent serves several: on an idle node
/// waking up costs more than looking.
pub(super) const fn on_grid(at: Moment) -> Moment {
    const GRID_NS: u64 = GAP.as_nanos() as u64;
    Moment::from_nanos(at.as_nanos().div_ceil(GRID_NS).saturating_mul(GRID_NS))
}

/// A share of `whole` that differs between targets, by Fibonacci hashing: consecutive indices land
/// far apart.
fn share(whole: Duration, index: usize) -> Duration {
    let share = (index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56;
    whole * u32::try_from(share).unwrap_or(0) / 256
}
