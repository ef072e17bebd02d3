//! The lines of a trace: events, and a few notes about the recording itself.
//!
//! These types are the schema of the file and nothing else. They change only together with
//! [`VERSION`]; the types of the engine may change at any time.
use std::time::Duration;

use paramedic_core::{
    boot_time::BootTime,
    decide::Action,
    engine::{Event, Index, Recovered, Remedied},
    guard::{Gate, Policy, Refusal, Symptom, Treatment, Why},
    resize::{Answer, NoResize, Reason, Recalled, Step},
    target::{Remedy, Request},
    verify::Outcome,
};
use serde::{Deserialize, Serialize};

use super::{MOST_TARGETS, sample_record::SampleRecord, target_record::TargetRecord};

/// Version of the lines.
pub const VERSION: u32 = 8;
/// The oldest readable version. Version 1 lacks [`Header::model`], [`What::Said`] and
/// [`What::Concluded`]; version 2 lacks [`Header::patience_ns`], [`What::Remembered`], an app's own
/// verdict and the newer counts; version 3 lacks the version of a target's program and the beginning
/// of a remembered treatment; version 4 lacks clients that hold a target, and targets without a soft
/// remedy; version 5 lacks requests to people; version 6 lacks the obstacles of drains and quarantines,
/// and resizes in place; version 7 lacks samples that leave the last poll standing. A reader refuses
/// later versions, which it does not know.
pub(super) const OLDEST: u32 = 1;

/// Maximum time since boot: 292 years. Times are added to it without overflow checks.
const LATEST: u64 = u64::MAX / 2;
/// Maximum interval of samples and of waiting: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// The first line of every part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`VERSION`] of the agent; it also identifies the file as a trace.
    pub paramedic_trace: u32,
    /// Version of the agent that wrote it.
    pub agent: String,
    /// Boot and run, as `BOOT/RUN`. Parts of the same run belong together.
    pub run: String,
    /// Number of the part in its run, from 0.
    pub part: u32,
    /// Start of the part in nanoseconds since boot.
    pub boot_ns: u64,
    /// Start of the part in seconds since 1970.
    pub unix_s: u64,
    /// The strongest remedy that the operator permitted.
    #[serde(rename = "max_action")]
    pub max_remedy: Remedy,
    /// Whether it was a dry run.
    pub dry_run: bool,
    /// Whether the rules may restart.
    pub rules_may_restart: bool,
    /// Maximum hard remedies per node and minute.
    pub node_budget: u32,
    /// Interval of regular samples, in nanoseconds.
    pub tick_ns: u64,
    /// Time from a remedy to its verdict, in nanoseconds.
    pub verify_window_ns: u64,
    /// Patience: how long a target may fail to answer, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience_ns: Option<u64>,
    /// Warm-up: how long a new instance may take, in nanoseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warm_up_ns: Option<u64>,
    /// SHA-256 of the model; `None` if the rules decided, and in version 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
}

impl Header {
    /// The boot of this part. Times of two boots cannot be compared.
    #[must_use]
    pub fn boot(&self) -> &str {
        self.run.split('/').next().unwrap_or_default()
    }

    /// # Errors
    /// If it holds values that no agent writes.
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

    /// The policy of the recorded agent.
    #[must_use]
    pub fn policy(&self) -> Policy {
        let default = Policy::default();
        Policy {
            patience: self.patience_ns.map_or(default.patience, Duration::from_nanos),
            warm_up: self.warm_up_ns.map_or(default.warm_up, Duration::from_nanos),
            max_remedy: self.max_remedy,
            dry_run: self.dry_run,
            rules_may_restart: self.rules_may_restart,
            node_budget: self.node_budget,
            ..default
        }
    }
}

/// A line after the first: nanoseconds since boot, the hour of the day (UTC), and the event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line(pub u64, pub u8, pub What);

/// An event that the engine received, or a note about what the agent did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A sample; by far the most frequent line.
    #[serde(rename = "look")]
    Sample(Box<SampleRecord>),
    /// A wake-up by the kernel: index, nanoseconds since boot, and whether it was only throttling.
    Woken(Index, u64, bool),
    /// A target was found.
    Added(Index, Box<TargetRecord>),
    /// The target has another instance, or other settings.
    Changed(Index, Box<TargetRecord>),
    /// At the start of a later part: a target that an earlier part added.
    Known(Index, Box<TargetRecord>),
    /// The process of the target has ended.
    Lost(Index),
    /// The target was removed.
    Removed(Index),
    /// Readiness according to the kubelet.
    Ready(Index, bool),
    /// Whether it is a time at which the target's owner wants no remedy; since version 5.
    NotNow(Index, bool),
    /// People approved a request: index and its text; since version 6.
    Approved(Index, String),
    /// Response of the cluster: index, remedy, and the refusal if it refused.
    Cleared(Index, Remedy, Option<Refused>),
    /// Result of a remedy: index, number in the journal, result, and detail.
    Treated(Index, Option<i64>, Ended, String),
    /// An intention of an earlier agent process: index, number, remedy, verdict, judged instance,
    /// and symptom.
    Recovered(Index, i64, Remedy, Action, String, #[serde(default)] Symptom),
    /// An earlier treatment of a workload: remedy, symptom, outcome, time of the outcome, and since
    /// version 4 when it began.
    Remembered(String, Remedy, Symptom, Outcome, u64, #[serde(default)] Option<u64>),
    /// A remedy of an earlier agent process: index, remedy, time, and outcome with its time.
    Recalled(Index, Remedy, u64, Option<(Outcome, u64)>),
    /// What became of a wish for more or less of a resource; since version 7.
    Resized(Index, Resized),
    /// An earlier resize: index, number in the journal, step, and whether it had no outcome; since
    /// version 7.
    ResizeRecalled(Index, i64, Step, bool),
    /// The pause switch, and whether the journal accepts intentions; written when they change.
    Switches(bool, bool),
    /// For comparison: a remedy was applied (or, in a dry run, would have been).
    Did(Index, Remedy, f32),
    /// For comparison: the verdict of the agent's model on a target, from the preceding sample on.
    /// Written when it changes, and at the start of a part.
    Said(Index, Action),
    /// For comparison: the outcome of a remedy, as the agent saw it.
    Concluded(Index, Remedy, Outcome),
    /// Number of lines that were lost here because the disk was too slow.
    Missing(u64),
    /// The recording ended in good order, or continues in the next part.
    End,
}

/// A refusal of the cluster: gate, reason, and nanoseconds until the next attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Refused(Gate, String, u64);

/// What became of a wish, with the journal's number of the resize.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resized {
    /// The new limit was accepted.
    Given(Option<i64>, Step),
    /// It may have been, with what happened instead of an answer.
    Unknown(Option<i64>, Step, String),
    /// It was planned and not done.
    Withheld(Step),
    /// It was not done, with the reason.
    Refused(Option<i64>, Reason, String),
}

impl Resized {
    fn of(answer: &Answer) -> Self {
        match answer {
            Answer::Given { id, step } => Self::Given(*id, *step),
            Answer::Unknown { id, step, why } => Self::Unknown(*id, *step, why.clone()),
            Answer::Withheld(step) => Self::Withheld(*step),
            Answer::Refused { id, no } => Self::Refused(*id, no.reason, no.detail.to_string()),
        }
    }

    fn answer(self) -> Result<Answer, Absurd> {
        Ok(match self {
            Self::Given(id, of) => Answer::Given { id, step: step(of)? },
            Self::Unknown(id, of, why) => Answer::Unknown { id, step: step(of)?, why },
            Self::Withheld(of) => Answer::Withheld(step(of)?),
            Self::Refused(id, reason, detail) => {
                Answer::Refused { id, no: NoResize::new(reason, detail) }
            }
        })
    }
}

/// The result of a remedy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// It was applied.
    Given,
    /// It could not be applied.
    NotPerformed,
    /// The target does not offer it.
    NotOffered,
    /// It failed.
    Failed,
    /// It was applied, with this outcome.
    Ended(Outcome),
}

/// Why a line was not written by an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Absurd {
    /// Counts are sums of small numbers.
    #[error("a count or a time is absurdly large")]
    Count,
    /// The interval between two samples, or from a remedy to its verdict.
    #[error("a span of time is not from 1 ns to an hour")]
    Span,
    /// Confidence and percentages.
    #[error("a number is out of its range")]
    Range,
    /// See [`MOST_TARGETS`].
    #[error("more targets than any agent watches")]
    Place,
    /// A sample cannot both poll and leave the last poll standing.
    #[error("a sample has a poll and none")]
    Poll,
    /// The hour of the day.
    #[error("the hour is not from 0 to 23")]
    Hour,
}

impl What {
    /// The recorded form of an event. Passing time is not recorded: a replay knows when the engine
    /// is due.
    pub fn of(event: &Event) -> Option<Self> {
        Some(match event {
            Event::Added(index, target) => Self::Added(*index, Box::new(TargetRecord::of(target))),
            Event::Changed(index, target) => {
                Self::Changed(*index, Box::new(TargetRecord::of(target)))
            }
            Event::Lost(index) => Self::Lost(*index),
            Event::Removed(index) => Self::Removed(*index),
            Event::Ready(index, ready) => Self::Ready(*index, *ready),
            Event::NotNow(index, not_now) => Self::NotNow(*index, *not_now),
            Event::Approved(index, request) => Self::Approved(*index, request.to_string()),
            Event::Cleared { index, remedy, answer } => {
                let refused = answer.as_ref().err().map(|(refusal, wait)| {
                    Refused(refusal.gate, refusal.why.to_string(), nanos(*wait))
                });
                Self::Cleared(*index, *remedy, refused)
            }
            Event::Woken { index, at, throttled } => Self::Woken(*index, at.as_nanos(), *throttled),
            Event::Sampled(index, sample) => {
                Self::Sample(Box::new(SampleRecord::of(*index, sample)))
            }
            Event::Treated { index, incident, result } => {
                let (ended, detail) = match result {
                    Remedied::Given => (Ended::Given, String::new()),
                    Remedied::NotPerformed(why) => (Ended::NotPerformed, why.clone()),
                    Remedied::NotOffered(why) => (Ended::NotOffered, why.clone()),
                    Remedied::Failed(why) => (Ended::Failed, why.clone()),
                    Remedied::Ended(outcome, text) => (Ended::Ended(*outcome), text.clone()),
                };
                Self::Treated(*index, *incident, ended, detail)
            }
            Event::Recovered(index, Recovered { incident, remedy, before, judged, symptom }) => {
                Self::Recovered(*index, *incident, *remedy, *before, judged.clone(), *symptom)
            }
            Event::Remembered { workload, treatment } => Self::Remembered(
                workload.clone(),
                treatment.remedy,
                treatment.symptom,
                treatment.outcome,
                treatment.at.as_nanos(),
                Some(treatment.began.as_nanos()),
            ),
            Event::Recalled { index, remedy, treated, ended } => {
                let ended = ended.map(|(outcome, at)| (outcome, at.as_nanos()));
                Self::Recalled(*index, *remedy, treated.as_nanos(), ended)
            }
            Event::Resized(index, answer) => Self::Resized(*index, Resized::of(answer)),
            Event::ResizeRecalled(index, Recalled { id, step, open }) => {
                Self::ResizeRecalled(*index, *id, *step, *open)
            }
            Event::Tick => return None,
        })
    }

    /// The event for an engine; `None` if the line is about the recording itself.
    ///
    /// # Errors
    /// If the line holds values that no agent writes.
    pub fn event(self) -> Result<Option<Event>, Absurd> {
        Ok(Some(match self {
            Self::Added(index, who) => Event::Added(place(index)?, Box::new(who.target()?)),
            Self::Changed(index, who) | Self::Known(index, who) => {
                Event::Changed(place(index)?, Box::new(who.target()?))
            }
            Self::Lost(index) => Event::Lost(place(index)?),
            Self::Removed(index) => Event::Removed(place(index)?),
            Self::Ready(index, ready) => Event::Ready(place(index)?, ready),
            Self::NotNow(index, not_now) => Event::NotNow(place(index)?, not_now),
            Self::Approved(index, text) => {
                let request = Request::read(&text).map_err(|_| Absurd::Range)?;
                Event::Approved(place(index)?, request)
            }
            Self::Cleared(index, remedy, refused) => {
                let answer = refused.map_or(Ok(()), |Refused(gate, why, wait)| {
                    // The recorded text; the original variant does not matter.
                    let refusal = Refusal { gate, why: Why::Budget(why.into()) };
                    Err((refusal, Duration::from_nanos(wait)))
                });
                Event::Cleared { index: place(index)?, remedy, answer }
            }
            Self::Woken(index, at, throttled) => {
                Event::Woken { index: place(index)?, at: moment(at)?, throttled }
            }
            Self::Sample(record) => {
                Event::Sampled(place(record.index())?, Box::new(record.sample()?))
            }
            Self::Treated(index, incident, ended, detail) => {
                let result = match ended {
                    Ended::Given => Remedied::Given,
                    Ended::NotPerformed => Remedied::NotPerformed(detail),
                    Ended::NotOffered => Remedied::NotOffered(detail),
                    Ended::Failed => Remedied::Failed(detail),
                    Ended::Ended(outcome) => Remedied::Ended(outcome, detail),
                };
                Event::Treated { index: place(index)?, incident, result }
            }
            Self::Recovered(index, incident, remedy, before, judged, symptom) => {
                let recovered = Recovered { incident, remedy, before, judged, symptom };
                Event::Recovered(place(index)?, recovered)
            }
            Self::Remembered(workload, remedy, symptom, outcome, at, began) => {
                let (at, began) = (moment(at)?, moment(began.unwrap_or(at))?);
                let treatment = Treatment { remedy, symptom, outcome, began, at };
                Event::Remembered { workload, treatment }
            }
            Self::Recalled(index, remedy, treated, ended) => Event::Recalled {
                index: place(index)?,
                remedy,
                treated: moment(treated)?,
                ended: ended.map(|(outcome, at)| Ok((outcome, moment(at)?))).transpose()?,
            },
            Self::Resized(index, resized) => Event::Resized(place(index)?, resized.answer()?),
            Self::ResizeRecalled(index, id, of, open) => {
                Event::ResizeRecalled(place(index)?, Recalled { id, step: step(of)?, open })
            }
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

/// A step between plausible limits.
fn step(step: Step) -> Result<Step, Absurd> {
    let plausible = [step.from, step.to, step.base].iter().all(|limit| *limit <= LATEST);
    if plausible { Ok(step) } else { Err(Absurd::Count) }
}

/// A plausible instant.
pub(super) fn moment(nanoseconds: u64) -> Result<BootTime, Absurd> {
    if nanoseconds <= LATEST { Ok(BootTime::from_nanos(nanoseconds)) } else { Err(Absurd::Count) }
}

/// A plausible duration.
pub(super) fn span(nanoseconds: u64) -> Result<Duration, Absurd> {
    if nanoseconds <= LONGEST { Ok(Duration::from_nanos(nanoseconds)) } else { Err(Absurd::Span) }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
