//! What stands in a line: the events, and a few words about the recording itself.
//!
//! These types are the file's schema and nothing else: they change only together with [`VERSION`],
//! while those of the engine may change at will.
use std::time::Duration;

use paramedic_core::{
    decide::Action,
    engine::{Event, Index, Remedied},
    guard::{Gate, Policy, Refusal, Symptom, Treatment, Why},
    moment::Moment,
    target::Rung,
    verify::Outcome,
};
use serde::{Deserialize, Serialize};

use super::{MOST_TARGETS, look::Look, who::Who};

/// Version of the lines below.
pub const VERSION: u32 = 3;
/// The oldest version that a reader takes. What 1 lacks is [`Header::model`], [`What::Said`] and
/// [`What::Concluded`]; what 2 lacks is [`Header::patience_ns`], [`What::Remembered`], an app's own
/// verdict and the newer counts. A reader refuses any later version, which it does not know.
pub(super) const OLDEST: u32 = 1;

/// No node has been up for longer: 292 years. Times are added to it without care.
const LATEST: u64 = u64::MAX / 2;
/// The longest span that an agent can be told to look or to wait after: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// The first line of every part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`VERSION`] of its agent; also says what kind of file this is.
    pub paramedic_trace: u32,
    /// Version of the agent that wrote it.
    pub agent: String,
    /// Which run of which boot, as `BOOT/RUN`: parts of one run belong together.
    pub run: String,
    /// Which part of the run, from 0.
    pub part: u32,
    /// Nanoseconds since boot, and seconds since 1970, when the part began.
    pub boot_ns: u64,
    /// The latter.
    pub unix_s: u64,
    /// The strongest remedy that the operator permitted.
    pub max_action: Rung,
    /// Whether nothing was done for real.
    pub dry_run: bool,
    /// Whether rules may restart.
    pub rules_may_restart: bool,
    /// Hard heals per node per minute.
    pub node_budget: u32,
    /// Between two regular looks, in nanoseconds.
    pub tick_ns: u64,
    /// From a remedy to its verdict, in nanoseconds.
    pub verify_window_ns: u64,
    /// How long a target may fail to answer, and how long a new instance may take, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_ns: Option<u64>,
    /// The latter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_ns: Option<u64>,
    /// SHA-256 of the model that decided; `None` where the rules did, and in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Header {
    /// Which boot it is of: instants of two boots cannot be compared.
    #[must_use]
    pub fn boot(&self) -> &str {
        self.run.split('/').next().unwrap_or_default()
    }

    /// # Errors
    /// If it says what no agent writes.
    pub(super) fn check(&self) -> Result<(), Absurd> {
        moment(self.boot_ns)?;
        let spans = [self.tick_ns, self.verify_window_ns];
        if !spans.iter().all(|span| (1..=LONGEST).contains(span)) {
            return Err(Absurd::Span);
        }
        [self.patience_ns, self.warm_up_ns]
            .into_iter()
            .flatten()
            .try_for_each(|ns| span(ns).map(drop))
    }

    /// The policy that was recorded under.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let default = Policy::default();
        Policy {
            patience: self.patience_ns.map_or(default.patience, Duration::from_nanos),
            warm_up: self.warm_up_ns.map_or(default.warm_up, Duration::from_nanos),
            max_action: self.max_action,
            dry_run: self.dry_run,
            rules_may_restart: self.rules_may_restart,
            node_budget: self.node_budget,
            ..default
        }
    }
}

/// One line after the first: nanoseconds since boot, the hour of the day (UTC), and what was told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line(pub u64, pub u8, pub What);

/// What the engine was told, and a little of what the agent did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A look: by far the most lines.
    Look(Box<Look>),
    /// The kernel's wake-up: place, nanoseconds since boot, whether only throttling.
    Woken(Index, u64, bool),
    /// A target was found.
    Added(Index, Box<Who>),
    /// The same in another life, or under other settings.
    Changed(Index, Box<Who>),
    /// At the beginning of a later part: a target that an earlier one told of.
    Known(Index, Box<Who>),
    /// Its process has ended.
    Lost(Index),
    /// It is gone for good.
    Removed(Index),
    /// What the kubelet says of it.
    Ready(Index, bool),
    /// What the cluster answered: place, remedy, and the refusal if there was one.
    Cleared(Index, Rung, Option<Refused>),
    /// What came of a remedy: place, the journal's number, how, and a word about it.
    Treated(Index, Option<i64>, Ended, String),
    /// An intention of a former life: place, number, remedy, verdict, judged instance, and what it
    /// was given against.
    Recovered(Index, i64, Rung, Action, String, #[serde(default)] Symptom),
    /// What was done to a workload before: remedy, against what, how it ended, and when.
    Remembered(String, Rung, Symptom, Outcome, u64),
    /// What a former life did: place, remedy, when, and how and when it ended.
    Recalled(Index, Rung, u64, Option<(Outcome, u64)>),
    /// The pause switch, and whether the journal takes intentions: told when they change.
    Switches(bool, bool),
    /// For comparison: a remedy was given (or, in a dry run, would have been).
    Did(Index, Rung, f32),
    /// For comparison: what the agent's model says of a target from the look before on. Told when
    /// that changes, and at the beginning of a part.
    Said(Index, Action),
    /// For comparison: how a remedy ended, as the agent saw it.
    Concluded(Index, Rung, Outcome),
    /// So many lines are missing here, because the disk did not keep up.
    Missing(u64),
    /// The recording ended in good order, or goes on in the next part.
    End,
}

/// A refusal of the cluster: gate, words, nanoseconds until it is asked again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused(Gate, String, u64);

/// What came of giving a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was given.
    Given,
    /// It could not be given.
    Undone,
    /// It went wrong.
    Failed,
    /// It was given, and ended so.
    Ended(Outcome),
}

/// A line that no agent writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absurd {
    /// Counts are sums of small numbers.
    #[error("a count or a time is absurdly large")]
    Count,
    /// Between two looks, or from a remedy to its verdict.
    #[error("a span of time is not from 1 ns to an hour")]
    Span,
    /// Confidence and percentages.
    #[error("a number is out of its range")]
    Range,
    /// See [`MOST_TARGETS`].
    #[error("more targets than any agent watches")]
    Place,
    /// The hour of the day.
    #[error("the hour is not from 0 to 23")]
    Hour,
}

impl What {
    /// What a trace keeps of an event; passing time is not kept, since whoever replays knows when
    /// the engine wants to be told.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Added(index, target) => Self::Added(*index, Box::new(Who::of(target))),
            Event::Changed(index, target) => Self::Changed(*index, Box::new(Who::of(target))),
            Event::Lost(index) => Self::Lost(*index),
            Event::Removed(index) => Self::Removed(*index),
            Event::Ready(index, ready) => Self::Ready(*index, *ready),
            Event::Cleared { index, rung, answer } => {
                let refused = answer.as_ref().err().map(|(refusal, wait)| {
                    Refused(refusal.gate, refusal.why.to_string(), nanos(*wait))
                });
                Self::Cleared(*index, *rung, refused)
            }
            Event::Woken { index, at, throttled } => Self::Woken(*index, at.as_nanos(), *throttled),
            Event::Looked(index, sample) => Self::Look(Box::new(Look::of(*index, sample))),
            Event::Treated { index, incident, result } => {
                let (ended, detail) = match result {
                    Remedied::Given => (Ended::Given, String::new()),
                    Remedied::Undone(why) => (Ended::Undone, why.clone()),
                    Remedied::Failed(why) => (Ended::Failed, why.clone()),
                    Remedied::Ended(outcome, text) => (Ended::Ended(*outcome), text.clone()),
                };
                Self::Treated(*index, *incident, ended, detail)
            }
            Event::Recovered { index, incident, rung, before, judged, symptom } => {
                Self::Recovered(*index, *incident, *rung, *before, judged.clone(), *symptom)
            }
            Event::Remembered { workload, treatment } => Self::Remembered(
                workload.clone(),
                treatment.rung,
                treatment.symptom,
                treatment.outcome,
                treatment.at.as_nanos(),
            ),
            Event::Recalled { index, rung, treated, ended } => {
                let ended = ended.map(|(outcome, at)| (outcome, at.as_nanos()));
                Self::Recalled(*index, *rung, treated.as_nanos(), ended)
            }
            Event::Tick => return None,
        })
    }

    /// The event to tell an engine; `None` where the line is about the recording itself.
    ///
    /// # Errors
    /// If the line holds what no agent writes.
    pub fn event(self) -> Result<Option<Event>, Absurd> {
        Ok(Some(match self {
            Self::Added(index, who) => Event::Added(place(index)?, Box::new(who.target()?)),
            Self::Changed(index, who) | Self::Known(index, who) => {
                Event::Changed(place(index)?, Box::new(who.target()?))
            }
            Self::Lost(index) => Event::Lost(place(index)?),
            Self::Removed(index) => Event::Removed(place(index)?),
            Self::Ready(index, ready) => Event::Ready(place(index)?, ready),
            Self::Cleared(index, rung, refused) => {
                let answer = refused.map_or(Ok(()), |Refused(gate, why, wait)| {
                    // The words as they were; which variant they come from does not matter.
                    let refusal = Refusal { gate, why: Why::Budget(why.into()) };
                    Err((refusal, Duration::from_nanos(wait)))
                });
                Event::Cleared { index: place(index)?, rung, answer }
            }
            Self::Woken(index, at, throttled) => {
                Event::Woken { index: place(index)?, at: moment(at)?, throttled }
            }
            Self::Look(look) => Event::Looked(place(look.index())?, Box::new(look.sample()?)),
            Self::Treated(index, incident, ended, detail) => {
                let result = match ended {
                    Ended::Given => Remedied::Given,
                    Ended::Undone => Remedied::Undone(detail),
                    Ended::Failed => Remedied::Failed(detail),
                    Ended::Ended(outcome) => Remedied::Ended(outcome, detail),
                };
                Event::Treated { index: place(index)?, incident, result }
            }
            Self::Recovered(index, incident, rung, before, judged, symptom) => {
                Event::Recovered { index: place(index)?, incident, rung, before, judged, symptom }
            }
            Self::Remembered(workload, rung, symptom, outcome, at) => Event::Remembered {
                workload,
                treatment: Treatment { rung, symptom, outcome, at: moment(at)? },
            },
            Self::Recalled(index, rung, treated, ended) => Event::Recalled {
                index: place(index)?,
                rung,
                treated: moment(treated)?,
                ended: ended.map(|(outcome, at)| Ok((outcome, moment(at)?))).transpose()?,
            },
            Self::Switches(..)
            | Self::Did(..)
            | Self::Said(..)
            | Self::Concluded(..)
            | Self::Missing(_)
            | Self::End => return Ok(None),
        }))
    }
}

fn place(index: Index) -> Result<Index, Absurd> {
    if index < MOST_TARGETS { Ok(index) } else { Err(Absurd::Place) }
}

/// An instant that a node can tell.
pub(super) fn moment(nanoseconds: u64) -> Result<Moment, Absurd> {
    if nanoseconds <= LATEST { Ok(Moment::from_nanos(nanoseconds)) } else { Err(Absurd::Count) }
}

/// A span that an agent can be told to wait.
pub(super) fn span(nanoseconds: u64) -> Result<Duration, Absurd> {
    if nanoseconds <= LONGEST { Ok(Duration::from_nanos(nanoseconds)) } else { Err(Absurd::Span) }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
