//! Input and output of the engine: closed enums, so that the compiler checks that every message is
//! handled.
use std::time::Duration;

use super::Resizing;
use crate::{
    boot_time::BootTime,
    decide::{Action, Decision},
    features::{Blind, FeatureVector, Notable},
    guard::{Permit, Refusal, Symptom, Treatment},
    health::Word,
    resize::{Answer, Recalled, Wish},
    signal::{Sample, Trigger, Witnesses},
    target::{Remedy, Request, Target},
    verify::Outcome,
};

/// Index of a target in the engine: small, dense, reused after removal.
pub type Index = usize;

/// Every possible input.
#[derive(Debug)]
pub enum Event {
    /// A target was found. Its index is the one that [`Engine::vacant`](super::Engine::vacant)
    /// returned.
    Added(Index, Box<Target>),
    /// The target has another instance, or other settings.
    Changed(Index, Box<Target>),
    /// The target's process has ended, and no successor was found yet.
    Lost(Index),
    /// The target was removed. Its index stays in use until [`Command::Forget`].
    Removed(Index),
    /// The kubelet calls the target's container ready, or no longer.
    Ready(Index, bool),
    /// The cluster answered a check.
    Cleared {
        /// The target.
        index: Index,
        /// The remedy that the check was for.
        remedy: Remedy,
        /// No objection, or the first refusal, and when to ask again.
        answer: Result<(), (Refusal, Duration)>,
    },
    /// The kernel reported the first bad event since the target was last sampled.
    Woken {
        /// The target.
        index: Index,
        /// Time of the event.
        at: BootTime,
        /// Whether only throttling was reported.
        throttled: bool,
    },
    /// A sample is complete.
    Sampled(Index, Box<Sample>),
    /// A remedy was applied, or could not be.
    Treated {
        /// The target.
        index: Index,
        /// The journal's number of the incident, if it has one.
        incident: Option<i64>,
        /// Its result.
        result: Remedied,
    },
    /// An intention without an outcome, found in the journal of this boot.
    Recovered(Index, Recovered),
    /// An earlier remedy for a target, in this boot, by an earlier agent process: its cooldowns
    /// still hold.
    Recalled {
        /// The target.
        index: Index,
        /// The remedy.
        remedy: Remedy,
        /// Time of the remedy.
        treated: BootTime,
        /// Its outcome and when it came, if known.
        ended: Option<(Outcome, BootTime)>,
    },
    /// An earlier treatment of a workload, by this or an earlier agent process, and its outcome.
    Remembered {
        /// The workload, by [`Target::workload`].
        workload: String,
        /// The treatment.
        treatment: Treatment,
    },
    /// Whether it is a time at which the target's owner wants no remedy.
    NotNow(Index, bool),
    /// People approved a request.
    Approved(Index, Request),
    /// What became of a [`Command::Resize`].
    Resized(Index, Answer),
    /// A resize of the target by this or an earlier agent process.
    ResizeRecalled(Index, Recalled),
    /// Time passed.
    Tick,
}

/// An intention of an earlier agent process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The journal's number of the incident.
    pub incident: i64,
    /// The intended remedy, which counts as applied.
    pub remedy: Remedy,
    /// The action of the decision.
    pub before: Action,
    /// The instance that was judged.
    pub judged: String,
    /// The symptom that it was for.
    pub symptom: Symptom,
}

/// The result of a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedied {
    /// It was applied; verification shows whether it helps.
    Given,
    /// It was not applied, and nothing was done.
    NotPerformed(String),
    /// The target does not offer it: nothing was done, and it need not be tried again.
    NotOffered(String),
    /// It failed, half-way or in an unknown state.
    Failed(String),
    /// It was applied, and its outcome is known: an evicted pod cannot be sampled.
    Ended(Outcome, String),
}

/// Every possible output.
#[derive(Debug)]
pub enum Command {
    /// Sample a target and report back.
    Sample {
        /// The target.
        index: Index,
        /// What triggers the sample.
        trigger: Trigger,
        /// Whether to poll the app; otherwise its last poll stands.
        polls: bool,
    },
    /// Ask the cluster whether this remedy is permitted, and report back.
    Ask(Index, Remedy),
    /// The cluster's grant is not used: release it.
    Release(Index),
    /// The target was removed, and nothing is in progress any more: free its index.
    Forget(Index),
    /// Write the intention, then apply the remedy, then report back.
    Heal(Index, Permit, Intent),
    /// Ask whether this change of a limit is possible, write it down, make it, and report back.
    Resize(Index, Wish),
    /// For the record; no behaviour depends on it.
    Tell(Index, Fact),
}

/// A remedy about to be applied, and its reasons.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The remedy.
    pub remedy: Remedy,
    /// The decision.
    pub decision: Decision,
    /// The row of the decision.
    pub row: FeatureVector,
    /// The incident whose remedy did not help, if this one escalates it.
    pub climbed_from: Option<i64>,
    /// The symptom.
    pub symptom: Symptom,
    /// Result of the last health poll.
    pub health: Option<Word>,
    /// What the host showed.
    pub witnesses: Option<Box<Witnesses>>,
}

/// What the memory of a workload changes at the first remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preferred {
    /// The remedy that goes first: it helped this workload against this symptom before.
    pub first: Remedy,
    /// The one that would go first without that memory.
    pub otherwise: Remedy,
    /// The symptom.
    pub symptom: Symptom,
}

/// A fact worth recording.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A sample was decided on.
    Decided {
        /// The decision.
        decision: Decision,
        /// The row.
        row: FeatureVector,
    },
    /// A row was not a number: no decision.
    Undecided,
    /// The health check has another result than before.
    Heard(Word),
    /// The kernel does not see the target's traffic. Reported once per instance.
    Blind(Blind),
    /// A symptom that needs no remedy. Reported once until it changes.
    LeftAlone {
        /// The symptom.
        notable: Notable,
        /// The value that shows it, by name.
        shown_by: &'static str,
        /// Its value.
        value: f32,
        /// Confidence in `no_action`.
        confidence: f32,
    },
    /// Another remedy goes first, because it helped before. Reported once until it changes.
    Preferred(Preferred),
    /// A gate refused. Reported once until it changes; `news` is false for repetitions.
    Refused {
        /// The refused remedy.
        remedy: Remedy,
        /// The gate, and why.
        refusal: Refusal,
        /// The decision that was not acted on.
        decision: Decision,
        /// Whether this differs from the last refusal.
        news: bool,
    },
    /// Every gate permitted a remedy, which the dry run does not apply.
    DryRun(Intent),
    /// News of a resize in place.
    Resizing(Box<Resizing>),
    /// A treatment ended.
    Concluded {
        /// The journal's number of the incident, if it has one.
        incident: Option<i64>,
        /// The remedy.
        remedy: Remedy,
        /// The symptom that it was for.
        symptom: Symptom,
        /// Its outcome.
        outcome: Outcome,
        /// Time since the remedy was applied.
        took: Duration,
        /// The error, if there was one.
        detail: Option<String>,
        /// Whether anything was done, or may have been.
        done: bool,
        /// Whether the target's remedies are now exhausted.
        exhausted: bool,
    },
}
