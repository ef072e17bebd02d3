//! Would it help? Earlier treatments of a workload, in any of its instances, and their outcomes.
//!
//! A restart that did not help against a symptom will not help the next time, and if the symptom
//! came back within minutes, it only hid the cause. Neither is repeated: the cause is a bug, a bad
//! configuration or a dependency, which an operator must find. What helped before is tried first.
//!
//! The journal stores this memory: it is read when the agent starts, and kept up to date from then
//! on. It is bounded, and forgets by itself: a treatment after [`REMEMBERED`], the oldest of more
//! than 16, and those of another version of the program, which is another workload to it
//! ([`Target::workload`](crate::target::Target::workload)).
mod tally;

use std::{collections::HashMap, time::Duration};

use serde::{Deserialize, Serialize};

pub use tally::{Follows, Tally};

use crate::{
    boot_time::BootTime, features::Causes, health::Heard, target::Remedy, verify::Outcome,
};

/// A symptom that returns sooner than this after a restart was not cured by it.
pub const COMES_BACK: Duration = Duration::from_secs(600);
/// Older treatments are dropped: the program, or its dependencies, have changed by then.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 3600);
/// Maximum number of treatments per workload, and of workloads.
const TREATMENTS: usize = 16;
const WORKLOADS: usize = 1024;

/// The symptom of a fault, coarse on purpose: what an operator would call the same problem again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Symptom {
    /// It does not respond.
    Silence,
    /// It reports that it is sick.
    SaysIll,
    /// The OOM killer killed one of its processes.
    OomKill,
    /// It answers with errors, or reports them.
    #[default]
    Errors,
    /// CPU or memory is near its limit.
    Level,
}

impl Symptom {
    /// The name in journal, traces and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Silence => "silence",
            Self::SaysIll => "says_ill",
            Self::OomKill => "oom_kill",
            Self::Errors => "errors",
            Self::Level => "level",
        }
    }

    /// The present symptom.
    #[must_use]
    pub fn of(causes: &Causes, heard: Option<Heard>) -> Self {
        match heard {
            Some(Heard::Silent) if causes.failed_poll && !causes.many_errors => Self::Silence,
            Some(Heard::Ill) if causes.failed_poll && !causes.many_errors => Self::SaysIll,
            _ if causes.oom_kill => Self::OomKill,
            _ if causes.clients_left && !causes.many_errors => Self::Silence,
            _ if causes.recent_error || !causes.level => Self::Errors,
            _ => Self::Level,
        }
    }
}

/// A treatment that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Treatment {
    /// The applied remedy.
    pub remedy: Remedy,
    /// The symptom.
    pub symptom: Symptom,
    /// Its outcome.
    pub outcome: Outcome,
    /// When it began.
    pub began: BootTime,
    /// Time of the outcome.
    pub at: BootTime,
}

impl Treatment {
    /// Whether its outcome tells whether the remedy helps, and is not forgotten.
    fn counts(&self, now: BootTime) -> bool {
        matches!(self.outcome, Outcome::Healed | Outcome::NotHealed | Outcome::Worse)
            && now.since(self.at) < REMEMBERED
    }
}

/// The last treatments of one workload, oldest first.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    treatments: Vec<Treatment>,
}

/// Why a remedy would not help again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Futile {
    /// It did not help the last time, this long ago.
    DidNotHelp(Duration),
    /// It seemed to help, but the symptom returned this long after it.
    CameBack(Duration),
}

impl Memory {
    fn push(&mut self, treatment: Treatment) {
        if self.treatments.len() == TREATMENTS {
            self.treatments.remove(0);
        }
        self.treatments.push(treatment);
    }

    /// The last conclusive treatment of this kind.
    fn last(&self, remedy: Remedy, symptom: Symptom, now: BootTime) -> Option<&Treatment> {
        self.treatments.iter().rev().find(|treatment| {
            let same = treatment.remedy == remedy && treatment.symptom == symptom;
            same && treatment.counts(now)
        })
    }

    /// Why this remedy would not help against a symptom since `since`, according to the past.
    #[must_use]
    pub fn futile(
        &self,
        remedy: Remedy,
        symptom: Symptom,
        since: BootTime,
        now: BootTime,
    ) -> Option<Futile> {
        let last = self.last(remedy, symptom, now)?;
        match last.outcome {
            Outcome::Healed => {
                let well_for = since.since(last.at);
                (well_for < COMES_BACK).then_some(Futile::CameBack(well_for))
            }
            _ => Some(Futile::DidNotHelp(now.since(last.at))),
        }
    }

    /// The remedy that cured this symptom before, if a milder one did not: it goes first against
    /// one since `since`. If the symptom was back within minutes, it was not cured.
    #[must_use]
    pub fn helped(&self, symptom: Symptom, since: BootTime, now: BootTime) -> Option<Remedy> {
        let healed = |remedy| {
            self.last(remedy, symptom, now)
                .map(|last| last.outcome == Outcome::Healed && since.since(last.at) >= COMES_BACK)
        };
        match (healed(Remedy::Soft), healed(Remedy::Restart)) {
            (Some(true), _) => Some(Remedy::Soft),
            (Some(false), Some(true)) => Some(Remedy::Restart),
            _ => None,
        }
    }
}

/// The memories of all workloads; bounded.
#[derive(Debug, Default)]
pub struct Memories {
    workloads: HashMap<Box<str>, Memory>,
}

impl Memories {
    /// A treatment of a workload has ended.
    pub fn push(&mut self, workload: &str, treatment: Treatment) {
        if let Some(memory) = self.workloads.get_mut(workload) {
            memory.push(treatment);
            return;
        }
        if self.workloads.len() >= WORKLOADS {
            self.forget_oldest();
        }
        let memory = Memory { treatments: vec![treatment] };
        self.workloads.insert(workload.into(), memory);
    }

    /// The memory of one workload.
    #[must_use]
    pub fn of(&self, workload: &str) -> Option<&Memory> {
        self.workloads.get(workload)
    }

    fn forget_oldest(&mut self) {
        let last = |memory: &Memory| memory.treatments.last().map(|treatment| treatment.at);
        let oldest =
            self.workloads.iter().min_by_key(|(name, memory)| (last(memory), (*name).clone()));
        if let Some(name) = oldest.map(|(name, _)| name.clone()) {
            self.workloads.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ILL: Symptom = Symptom::Errors;

    pub(super) fn at(minutes: u64) -> BootTime {
        BootTime::from(Duration::from_secs(60 * (10_000 + minutes)))
    }

    /// A memory of treatments without duration, with the minutes of their outcomes.
    pub(super) fn memory(treatments: &[(Remedy, Symptom, Outcome, u64)]) -> Memory {
        let mut memory = Memory::default();
        for &(remedy, symptom, outcome, minutes) in treatments {
            let at = at(minutes);
            memory.push(Treatment { remedy, symptom, outcome, began: at, at });
        }
        memory
    }

    #[test]
    fn a_restart_that_did_not_help_is_futile_for_a_day() {
        let memory = memory(&[(Remedy::Restart, ILL, Outcome::NotHealed, 0)]);
        let futile = |minutes| memory.futile(Remedy::Restart, ILL, at(minutes), at(minutes));
        assert_eq!(futile(30), Some(Futile::DidNotHelp(Duration::from_secs(1800))));
        assert!(futile(24 * 60 - 1).is_some());
        assert_eq!(futile(24 * 60), None);
    }

    #[test]
    fn a_symptom_that_returns_within_ten_minutes_was_not_cured() {
        let memory = memory(&[(Remedy::Restart, ILL, Outcome::Healed, 0)]);
        let futile = |since, now| memory.futile(Remedy::Restart, ILL, at(since), at(now));
        assert_eq!(futile(9, 40), Some(Futile::CameBack(Duration::from_secs(540))));
        assert_eq!(futile(10, 40), None);
    }

    #[test]
    fn another_symptom_remedy_or_unknown_outcome_is_ignored() {
        let memory = memory(&[
            (Remedy::Restart, ILL, Outcome::NotHealed, 0),
            (Remedy::Evict, Symptom::Silence, Outcome::Unverified, 1),
        ]);
        assert_eq!(memory.futile(Remedy::Restart, Symptom::Silence, at(2), at(2)), None);
        assert_eq!(memory.futile(Remedy::Evict, Symptom::Silence, at(2), at(2)), None);
        assert_eq!(memory.futile(Remedy::Evict, ILL, at(2), at(2)), None);
    }

    #[test]
    fn what_helped_goes_first_and_the_milder_one_before_the_other() {
        let soft_failed = (Remedy::Soft, ILL, Outcome::NotHealed, 0);
        let restart_helped = (Remedy::Restart, ILL, Outcome::Healed, 1);
        let soft_helped = (Remedy::Soft, ILL, Outcome::Healed, 2);
        let helped = |all: &[_]| memory(all).helped(ILL, at(60), at(61));
        assert_eq!(helped(&[]), None);
        assert_eq!(helped(&[soft_failed]), None);
        assert_eq!(helped(&[restart_helped]), None, "the milder one was not tried");
        assert_eq!(helped(&[soft_failed, restart_helped]), Some(Remedy::Restart));
        assert_eq!(helped(&[soft_failed, restart_helped, soft_helped]), Some(Remedy::Soft));
        let back_at_once = memory(&[soft_helped]).helped(ILL, at(11), at(12));
        assert_eq!(back_at_once, None, "it was back nine minutes later");
    }

    #[test]
    fn memory_is_bounded() {
        let mut memories = Memories::default();
        for n in 0..3 * WORKLOADS as u64 {
            let treatment = Treatment {
                remedy: Remedy::Soft,
                symptom: ILL,
                outcome: Outcome::Healed,
                began: at(n),
                at: at(n),
            };
            memories.push(&format!("w{n}"), treatment);
            memories.push("again", treatment);
        }
        assert_eq!(memories.workloads.len(), WORKLOADS);
        assert_eq!(memories.of("again").unwrap().treatments.len(), TREATMENTS);
        assert!(memories.of("w0").is_none());
    }
}
