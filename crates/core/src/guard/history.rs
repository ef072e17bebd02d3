//! Earlier remedies, for one target and on the node: the state behind cooldowns and budgets.
use std::time::Duration;

use super::Policy;
use crate::{boot_time::BootTime, target::Remedy, verify::Outcome};

/// How long a remedy that did not help permits the next one.
const CLIMB_VALID: Duration = Duration::from_secs(120);
/// The same for an eviction, which must wait until its workload may have another hard remedy: 10
/// min after the restart that did not help.
const CLIMB_TO_EVICT_VALID: Duration = Duration::from_secs(1200);

/// The treatments of one target over all its instances: a restart must not clear its own cooldown.
#[derive(Clone, Debug, Default)]
pub struct History {
    last_soft: Option<BootTime>,
    soft_failed: bool,
    last_restart: Option<BootTime>,
    last_evict: Option<BootTime>,
    /// The last hard remedy that was not applied, and how many in a row were not.
    last_undone: Option<BootTime>,
    undone: u32,
    climbed: Option<(Remedy, BootTime)>,
    exhausted: bool,
    well_since: Option<BootTime>,
    /// Start of the sickness, short well periods included.
    ill_since: Option<BootTime>,
}

impl History {
    /// A remedy was applied at `at`.
    pub fn treated(&mut self, remedy: Remedy, at: BootTime) {
        match remedy {
            Remedy::Observe => {}
            Remedy::Soft => {
                self.last_soft = Some(at);
                self.soft_failed = false;
            }
            Remedy::Restart => self.last_restart = Some(at),
            Remedy::Evict => self.last_evict = Some(at),
        }
        self.well_since = None;
    }

    /// A hard remedy was not applied, for external reasons: its cooldown does not start, but it is
    /// not retried at once.
    pub fn not_performed(&mut self, remedy: Remedy, now: BootTime) {
        match remedy {
            Remedy::Observe | Remedy::Soft => return,
            Remedy::Restart => self.last_restart = None,
            Remedy::Evict => self.last_evict = None,
        }
        self.last_undone = Some(now);
        self.undone = self.undone.saturating_add(1);
    }

    /// The retry delay grows while the remedy keeps failing to be applied.
    fn hard_retry(&self, policy: &Policy) -> Duration {
        let doublings = self.undone.saturating_sub(1).min(10);
        (policy.hard_retry * 2_u32.pow(doublings)).min(policy.restart_cooldown)
    }

    /// A treatment ended. One that did not help escalates by a remedy, up to `ceiling`; beyond it the
    /// remedies are exhausted. One that could not be applied proves nothing, and so permits nothing
    /// stronger: it is retried, but not soon.
    pub fn concluded(&mut self, remedy: Remedy, outcome: Outcome, ceiling: Remedy, now: BootTime) {
        if remedy.is_hard() && outcome != Outcome::Failed {
            self.undone = 0;
        }
        match outcome {
            Outcome::Healed => {
                self.climbed = None;
                self.ill_since = None;
            }
            Outcome::Unverified => {}
            Outcome::Failed => self.soft_failed |= remedy == Remedy::Soft,
            Outcome::NotHealed | Outcome::Worse => match remedy.next() {
                Some(next) if next <= ceiling => self.climbed = Some((next, now)),
                _ => {
                    self.climbed = None;
                    self.exhausted = true;
                }
            },
        }
    }

    /// A sample found it well, or not. After a long enough well period the history is cleared.
    pub fn seen(&mut self, well: bool, now: BootTime, policy: &Policy) {
        if !well {
            self.well_since = None;
            self.ill_since.get_or_insert(now);
            return;
        }
        let since = *self.well_since.get_or_insert(now);
        if now.since(since) >= policy.forgive_after {
            self.exhausted = false;
            self.climbed = None;
            self.ill_since = None;
        }
    }

    /// Start of the sickness.
    #[must_use]
    pub const fn ill_since(&self) -> Option<BootTime> {
        self.ill_since
    }

    /// The remedy to which failed remedies have escalated, while that is recent.
    #[must_use]
    pub fn climbed_to(&self, now: BootTime) -> Option<Remedy> {
        let (remedy, at) = self.climbed?;
        let valid = if remedy == Remedy::Evict { CLIMB_TO_EVICT_VALID } else { CLIMB_VALID };
        (now.since(at) < valid).then_some(remedy)
    }

    /// Whether every permitted remedy was tried and none helped.
    #[must_use]
    pub const fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    /// Time until `remedy` may be applied again.
    #[must_use]
    pub fn cooldown(&self, remedy: Remedy, now: BootTime, policy: &Policy) -> Duration {
        let left = |last: Option<BootTime>, wait: Duration| {
            last.map_or(Duration::ZERO, |at| wait.saturating_sub(now.since(at)))
        };
        match remedy {
            Remedy::Observe => Duration::ZERO,
            Remedy::Soft if self.soft_failed => left(self.last_soft, policy.soft_retry),
            Remedy::Soft => left(self.last_soft, policy.soft_cooldown),
            Remedy::Restart => left(self.last_restart, policy.restart_cooldown)
                .max(left(self.last_undone, self.hard_retry(policy))),
            Remedy::Evict => left(self.last_evict, policy.restart_cooldown)
                .max(left(self.last_undone, self.hard_retry(policy))),
        }
    }
}

/// Times of the last hard remedies on this node.
#[derive(Clone, Debug, Default)]
pub struct NodeHistory {
    hard: [Option<BootTime>; 16],
}

impl NodeHistory {
    /// A hard remedy starts.
    pub fn hard_heal(&mut self, at: BootTime) {
        self.hard.rotate_left(1);
        self.hard[15] = Some(at);
    }

    /// Number of hard remedies within the minute before `now`.
    #[must_use]
    pub fn within_a_minute(&self, now: BootTime) -> u32 {
        self.hard
            .iter()
            .flatten()
            .filter(|at| now.since(**at) < Duration::from_secs(60))
            .fold(0, |n, _| n + 1)
    }
}
