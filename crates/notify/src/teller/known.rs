//! What the teller remembers of one target, and what follows from it with time.
use std::{collections::HashMap, time::Duration};

use paramedic_core::{boot_time::BootTime, guard::Gate};

use crate::notification::Occasion;

/// How long the same gate must refuse before people are told.
const REFUSED_FOR: Duration = Duration::from_secs(600);
/// A longer time without a refusal ends a series of them.
const LULL: Duration = Duration::from_secs(60);
/// How long a target must be well for its problem to end without a remedy.
const WELL_FOR: Duration = Duration::from_secs(300);
/// Minimum time between two notifications of the same kind about the same target.
const REPEAT: Duration = Duration::from_secs(600);
/// Maximum number of remedies that a notification lists.
const STEPS: usize = 6;

/// What is known of one target.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What was seen before the last remedy, or at the last refusal that was told.
    pub(super) seen: String,
    /// The remedies of the present problem, oldest first.
    pub(super) done: Vec<String>,
    /// Start of the present treatment, in seconds since 1970.
    began: Option<i64>,
    refusals: Option<Refusals>,
    well_since: Option<BootTime>,
    /// When each kind of news was last told, and how often it was left out since.
    told: HashMap<Occasion, (BootTime, u32)>,
}

/// Refusals by one gate without a lull.
#[derive(Clone, Copy, Debug)]
struct Refusals {
    gate: Gate,
    since: BootTime,
    last: BootTime,
    told: bool,
}

impl Known {
    /// A remedy is about to be applied.
    pub(super) fn treats(&mut self, seen: String, unix_s: i64) {
        self.seen = seen;
        self.began = Some(unix_s);
        self.refusals = None;
    }

    /// A remedy has ended. Returns its start, if it is known.
    pub(super) fn treated(&mut self, step: String) -> Option<i64> {
        self.well_since = None;
        self.refusals = None;
        if self.done.len() >= STEPS {
            self.done.remove(0);
        }
        self.done.push(step);
        self.began.take()
    }

    /// A gate has refused. Returns for how long it has done so, once that is worth telling.
    pub(super) fn refused(&mut self, gate: Gate, now: BootTime) -> Option<Duration> {
        let goes_on = |before: &Refusals| before.gate == gate && now.since(before.last) <= LULL;
        let before = self.refusals.filter(goes_on);
        let since = before.map_or(now, |before| before.since);
        let was_told = before.is_some_and(|before| before.told);
        let lasted = now.since(since);
        // Whoever is asked is told at once.
        let is_due = gate == Gate::Approval || lasted >= REFUSED_FOR;
        self.refusals = Some(Refusals { gate, since, last: now, told: is_due });
        (is_due && !was_told).then_some(lasted)
    }

    /// Takes the verdict of one sample; returns whether the target has been well for long enough.
    pub(super) fn is_well_again(&mut self, well: bool, now: BootTime) -> bool {
        if !well {
            self.well_since = None;
            return false;
        }
        now.since(*self.well_since.get_or_insert(now)) >= WELL_FOR
    }

    /// Whether this kind of news may be told again, and how often it was left out before.
    pub(super) fn may_tell(&mut self, occasion: Occasion, now: BootTime) -> Option<u32> {
        if let Some((at, left_out)) = self.told.get_mut(&occasion)
            && now.since(*at) < REPEAT
        {
            *left_out = left_out.saturating_add(1);
            return None;
        }
        Some(self.told.insert(occasion, (now, 0)).map_or(0, |(_, left_out)| left_out))
    }

    /// Whether people know that every remedy was tried.
    pub(super) fn is_exhausted(&self) -> bool {
        self.told.contains_key(&Occasion::Exhausted)
    }

    /// The problem has ended by a remedy: the next one begins its own list.
    pub(super) fn healed(&mut self) {
        self.done.clear();
        self.told.remove(&Occasion::Exhausted);
    }
}
