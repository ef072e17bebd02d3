//! The summary of a replay.
use std::{collections::BTreeMap, time::Duration};

use paramedic_core::{boot_time::BootTime, guard::Refusal, target::Remedy};
use paramedic_record::trace::Header;
use serde::Serialize;

/// A longer gap between two samples does not count as watched.
const GAP: Duration = Duration::from_secs(10);

/// A remedy, applied or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deed {
    /// The target.
    pub target: String,
    /// The remedy.
    pub remedy: Remedy,
}

/// How often the outcomes of earlier treatments changed what was done, repetitions not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ByMemory {
    /// Another remedy went first, because it had helped.
    pub preferred: u64,
    /// A remedy was refused, because it had not helped.
    pub refused: u64,
}

/// Counts over the whole replay.
#[derive(Debug, Default, Serialize)]
pub struct Summary {
    /// Files read.
    pub parts: u32,
    /// Number of samples.
    pub samples: u64,
    /// Number of targets.
    pub targets: usize,
    /// Time watched, over all targets, in minutes.
    pub target_minutes: f64,
    /// Remedies that were, or would have been, applied, by name.
    pub remedies: BTreeMap<&'static str, u64>,
    /// Refusals by gate, repetitions not counted.
    pub refusals: BTreeMap<&'static str, u64>,
    /// What earlier treatments of the workloads changed.
    pub memory: ByMemory,
    /// Number of missing lines.
    pub missing: u64,
    /// Whether the recording is truncated.
    pub truncated: bool,
    /// Whether earlier parts are missing.
    pub begins_late: bool,
    #[serde(skip)]
    seen: BTreeMap<String, BootTime>,
    #[serde(skip)]
    given: Vec<Deed>,
    #[serde(skip)]
    recorded: Vec<Deed>,
}

impl Summary {
    pub(super) fn part(&mut self, header: &Header, goes_on: bool) {
        self.parts += 1;
        if !goes_on {
            self.begins_late |= header.part > 0;
            self.seen.clear();
        }
    }

    pub(super) fn sampled(&mut self, target: &str, at: BootTime) {
        self.samples += 1;
        match self.seen.get_mut(target) {
            Some(last) => {
                let gap = at.since(*last);
                if gap < GAP {
                    self.target_minutes += gap.as_secs_f64() / 60.0;
                }
                *last = at;
            }
            None => {
                self.seen.insert(target.to_owned(), at);
                self.targets += 1;
            }
        }
    }

    pub(super) fn refused(&mut self, refusal: &Refusal) {
        *self.refusals.entry(refusal.gate.name()).or_default() += 1;
        self.memory.refused += u64::from(refusal.is_by_memory());
    }

    pub(super) const fn preferred(&mut self) {
        self.memory.preferred += 1;
    }

    pub(super) fn given(&mut self, deed: Deed) {
        *self.remedies.entry(deed.remedy.name()).or_default() += 1;
        self.given.push(deed);
    }

    pub(super) fn recorded(&mut self, deed: Deed) {
        self.recorded.push(deed);
    }

    /// The remedies of the replay and those of the recorded agent, in order, if they differ.
    #[must_use]
    pub fn difference(&self) -> Option<(&[Deed], &[Deed])> {
        (self.given != self.recorded).then_some((&self.given, &self.recorded))
    }
}
