//! Input and output of the engine: closed enums, so that the compiler checks that every message is
//! handled.
use std::time::Duration;

use crate::{
    decide::{Action, Decision},
    features::{Blind, FeatureVector, Notable},
    guard::{Permit, Refusal, Symptom, Treatment},
    health::Word,
    moment::Moment,
    signal::{Sample, Trigger},
    target::{Rung, Target},
    verify::Outcome,
};

/// A target's place in the engine: small, dense, reused after removal.
pub type Index = usize;

/// All that can happen.
#[derive(Debug)]
pub enum Event {
    /// A target was found. Its place is the one that [`Engine::vacant`](super::Engine::vacant) named.
    Added(Index, Box<Target>),
    /// The same target in another life.
    Changed(Index, Box<Target>),
    /// The target's process has ended, and no successor was found yet.
    Lost(Index),
    /// The target is gone for good. Its place is kept until [`Command::Forget`].
    Removed(Index),
    /// The kubelet calls the target's container ready, or no longer.
    Ready(Index, bool),
    /// The cluster answered what it was asked.
    Cleared {
        /// Which target.
        index: Index,
        /// For which remedy.
        rung: Rung,
        /// Nothing against it, or the first refusal, and when to ask again.
        answer: Result<(), (Refusal, Duration)>,
    },
    /// The kernel reported the first bad event since the target was last read.
    Woken {
        /// Which target.
        index: Index,
        /// When the event happened.
        at: Moment,
        /// Whether only throttling was reported.
        throttled: bool,
    },
    /// A look came back.
    Looked(Index, Box<Sample>),
    /// A remedy was given, or could not be.
    Treated {
        /// Which target.
        index: Index,
        /// The journal's number of the incident, if it has one.
        incident: Option<i64>,
        /// What came of it.
        result: Remedied,
    },
    /// An intention without an outcome, found in the journal of this boot.
    Recovered {
        /// Which target.
        index: Index,
        /// The journal's number of the incident.
        incident: i64,
        /// The remedy that was intended, and counts as given.
        rung: Rung,
        /// What the decision had called for.
        before: Action,
        /// The instance that was judged.
        judged: String,
        /// What it was given against.
        symptom: Symptom,
    },
    /// What was done to a target before, in this boot, by a former life of the agent: its
    /// cooldowns outlive that too.
    Recalled {
        /// Which target.
        index: Index,
        /// The remedy.
        rung: Rung,
        /// When it was given.
        treated: Moment,
        /// How it ended, and when, if that is known.
        ended: Option<(Outcome, Moment)>,
    },
    /// What was done to a workload before, in this or an earlier life of the agent, and what came of
    /// it.
    Remembered {
        /// The workload, by [`Target::workload`].
        workload: String,
        /// What was done.
        treatment: Treatment,
    },
    /// Time passed.
    Tick,
}

/// What came of giving a remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remedied {
    /// It was given; whether it helps is to be seen.
    Given,
    /// It could not be given, and nothing was done.
    Undone(String),
    /// It went wrong, half-way or so that nobody knows.
    Failed(String),
    /// It was given, and its end is known: an evicted pod is not there to be looked at.
    Ended(Outcome, String),
}

/// What is to be done or told.
#[derive(Debug)]
pub enum Command {
    /// Look at a target and report back.
    Look(Index, Trigger),
    /// Ask the cluster whether this remedy may be given, and report back.
    Ask(Index, Rung),
    /// What the cluster granted is not used: give it back.
    Release(Index),
    /// The target is gone, and nothing is under way any more: free its place.
    Forget(Index),
    /// Write the intention down, then give the remedy, then report back.
    Heal(Index, Permit, Intent),
    /// For the record: nothing depends on it.
    Tell(Index, Fact),
}

/// A remedy about to be given, and what it rests on.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The remedy.
    pub rung: Rung,
    /// The decision.
    pub decision: Decision,
    /// The row that was decided on.
    pub row: FeatureVector,
    /// The incident whose remedy did not help, if this one climbs from it.
    pub climbed_from: Option<i64>,
    /// The form of the illness.
    pub symptom: Symptom,
    /// What the last poll of its health came to.
    pub health: Option<Word>,
}

/// Something worth recording.
#[derive(Clone, Debug)]
pub enum Fact {
    /// A look was decided on.
    Decided {
        /// The decision.
        decision: Decision,
        /// The row.
        row: FeatureVector,
    },
    /// A row was not a number: nothing is decided on it.
    Undecided,
    /// The health check came to something else than before.
    Heard(Word),
    /// The kernel does not see the target's traffic. Told once an instance.
    Blind(Blind),
    /// Something stands out, and calls for no heal. Told once until it changes.
    LeftAlone {
        /// What stands out.
        notable: Notable,
        /// What shows it.
        shown_by: &'static str,
        /// Its value.
        value: f32,
        /// Confidence in `no_action`.
        confidence: f32,
    },
    /// A gate refused. Told once until it changes; `news` is false for repetitions.
    Refused {
        /// The remedy that was wanted.
        rung: Rung,
        /// Which gate, and why.
        refusal: Refusal,
        /// The decision that was not acted on.
        decision: Decision,
        /// Whether this differs from the refusal before.
        news: bool,
    },
    /// Every gate permitted a remedy, and it is not given, since nothing is to be done for real.
    Withheld(Intent),
    /// A treatment ended.
    Concluded {
        /// The journal's number of the incident, if it has one.
        incident: Option<i64>,
        /// The remedy.
        rung: Rung,
        /// What it was given against.
        symptom: Symptom,
        /// How it ended.
        outcome: Outcome,
        /// Time since the remedy was given.
        took: Duration,
        /// What went wrong, if something did.
        detail: Option<String>,
        /// Whether anything was, or may have been, done.
        done: bool,
        /// Whether the target's remedies are now used up.
        exhausted: bool,
    },
}
