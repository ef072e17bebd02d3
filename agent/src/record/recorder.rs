//! Turns facts into log lines, metrics and journal entries. Nothing depends on what it does:
//! were it silent, the agent would heal the same.
use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::task::spawn_blocking;
use tracing::{debug, error, info, warn};

use super::{
    Intent as Recorded, Metrics, RecordedReason, SharedJournal, incident::name_of,
    metrics::TargetState,
};
use crate::{
    decide::{Action, Brain, Decision, Reason, top_reasons},
    engine::{Case, Fact, Intent, State},
    features::FeatureVector,
    moment::{Moment, unix_seconds},
    signal::{
        kernel::Cause,
        sample::{Sample, Trigger},
    },
    target::Target,
    verify::Outcome,
};

/// A verdict that stays the same is logged again after this long.
const REPEAT: Duration = Duration::from_secs(30);
/// Reasons that a log line names.
const REASONS_TOLD: usize = 3;

/// Where facts go.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    journal: Option<SharedJournal>,
    /// The last verdict told of each target, and when.
    told: HashMap<String, (Action, Moment)>,
}

impl Recorder {
    /// Without a journal, incidents are told and counted but not kept.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>, journal: Option<SharedJournal>) -> Self {
        Self { metrics, journal, told: HashMap::new() }
    }

    /// Whether an intention could be made durable, as far as is known.
    #[must_use]
    pub fn can_intend(&self) -> bool {
        self.journal.as_ref().is_some_and(SharedJournal::is_writable)
    }

    pub(crate) fn journal(&self) -> Option<SharedJournal> {
        self.journal.clone()
    }

    /// A look brought this.
    pub(crate) fn sampled(&self, target: &str, sample: &Sample) {
        if let Some(poll) = &sample.poll {
            let result = poll.result.as_ref().map_or_else(|error| error.name(), |_| "ok");
            self.metrics.health_poll(result);
        }
        self.metrics.set_journal_writable(self.can_intend());
        if let Some(kernel) = &sample.kernel {
            self.metrics.target_responses(target, &kernel.counters.responses);
        }
    }

    /// A look ended, this long after it began to read.
    pub(crate) fn looked(&self, trigger: Trigger, took: Duration) {
        self.metrics.look(trigger, took);
    }

    /// The kernel woke the agent.
    pub(crate) fn woken(&self, cause: Cause) {
        self.metrics.wakeup(cause);
    }

    /// A target was found, or found again in another life.
    pub(crate) fn found(&self, target: &Target, again: bool) {
        let cgroup = target.cgroups.unified.as_ref().map(|c| c.path.display().to_string());
        info!(
            target = target.name,
            instance = target.id.instance,
            cgroup,
            shared = target.cgroups.shared,
            ceiling = target.ceiling.name(),
            again,
            "watching"
        );
    }

    /// So many targets are watched.
    pub(crate) fn targets(&self, count: usize) {
        self.metrics.set_targets(count);
    }

    /// A remedy is about to be given.
    pub(crate) fn healing(&self, target: &Target, intent: &Intent) {
        let decision = &intent.decision;
        info!(
            target = target.name,
            rung = intent.rung.name(),
            action = decision.action.name(),
            confidence = rounded(decision.confidence),
            source = name_of(decision.source),
            reasons = reasons(&intent.row, decision),
            climbed_from = intent.climbed_from,
            boot_ns = Moment::now().as_nanos(),
            "healing"
        );
    }

    /// Records one fact about a case.
    pub(crate) fn tell(&mut self, case: &Case, fact: Fact) {
        let target = case.target.name.as_str();
        match fact {
            Fact::Decided { decision, row } => {
                self.metrics.decision(decision.action, decision.source);
                self.metrics.target_verdict(target, &row, &decision);
                self.metrics.target_state(target, state(case));
                self.tell_verdict(target, &decision, &row);
            }
            Fact::Undecided => {
                warn!(target, "what was measured is not a number: nothing is decided on it");
            }
            Fact::LeftAlone { notable, value, confidence } => {
                info!(
                    target,
                    feature = notable.feature().name(),
                    value = rounded(value),
                    confidence = rounded(confidence),
                    reason = %notable,
                    shared = case.target.cgroups.shared,
                    boot_ns = Moment::now().as_nanos(),
                    "left alone"
                );
            }
            Fact::Refused { rung, refusal, decision, news } => {
                self.metrics.refusal(refusal.gate);
                let gate = refusal.gate.name();
                let reason = refusal.why.to_string();
                let (rung, confidence) = (rung.name(), rounded(decision.confidence));
                if news {
                    info!(target, rung, gate, reason, confidence, "not healed");
                } else {
                    debug!(target, rung, gate, reason, confidence, "not healed");
                }
            }
            Fact::Concluded { incident, rung, outcome, took, detail, exhausted } => {
                self.metrics.heal(rung, outcome, Some(took));
                self.metrics.target_state(target, state(case));
                tell_outcome(target, incident, rung.name(), outcome, took, detail.as_deref());
                if exhausted {
                    error!(target, "every permitted remedy was tried and none helped: look at it");
                }
                self.conclude(incident, outcome, detail);
            }
        }
    }

    fn tell_verdict(&mut self, target: &str, decision: &Decision, row: &FeatureVector) {
        let now = Moment::now();
        let news = self
            .told
            .get(target)
            .is_none_or(|(action, at)| *action != decision.action || now.since(*at) >= REPEAT);
        if !news {
            return;
        }
        match self.told.get_mut(target) {
            Some(told) => *told = (decision.action, now),
            None => {
                self.told.insert(target.to_owned(), (decision.action, now));
            }
        }
        info!(
            target,
            action = decision.action.name(),
            confidence = rounded(decision.confidence),
            source = name_of(decision.source),
            reasons = reasons(row, decision),
            "verdict"
        );
    }

    fn conclude(&self, incident: Option<i64>, outcome: Outcome, detail: Option<String>) {
        let (Some(journal), Some(incident)) = (self.journal.clone(), incident) else { return };
        spawn_blocking(move || {
            if let Err(error) = journal.conclude(incident, outcome, detail.as_deref()) {
                error!(incident, %error, "the outcome could not be written down");
            }
        });
    }
}

fn tell_outcome(
    target: &str,
    incident: Option<i64>,
    rung: &str,
    outcome: Outcome,
    took: Duration,
    detail: Option<&str>,
) {
    let seconds = took.as_secs_f64();
    let outcome_name = outcome.name();
    match outcome {
        Outcome::Healed | Outcome::Unverified => {
            info!(target, incident, rung, outcome = outcome_name, seconds, "treatment ended");
        }
        Outcome::NotHealed | Outcome::Worse | Outcome::Failed => {
            warn!(
                target,
                incident,
                rung,
                outcome = outcome_name,
                seconds,
                detail,
                "treatment ended"
            );
        }
    }
}

/// To four decimals: more say nothing, and an `f32` widened shows digits that it does not have.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}

/// The strongest reasons of a decision, for a log line.
fn reasons(row: &FeatureVector, decision: &Decision) -> String {
    top_reasons(row, &decision.shares, REASONS_TOLD).to_string()
}

/// What the journal keeps of an intention: with exact shares, since it is to be acted on.
pub(crate) fn intent_of(target: &Target, intent: &Intent, brain: &Brain) -> Recorded {
    let shares = brain.explain(&intent.row, intent.decision.action);
    let recorded = |reason: &Reason| RecordedReason {
        feature: reason.feature.name().to_owned(),
        value: reason.value,
        share: reason.share,
    };
    Recorded {
        target: target.id.clone(),
        name: target.name.clone(),
        rung: intent.rung,
        action: intent.decision.action,
        confidence: intent.decision.confidence,
        source: intent.decision.source,
        reasons: top_reasons(&intent.row, &shares, shares.len()).iter().map(recorded).collect(),
        intended: Moment::now(),
        wall_time: i64::try_from(unix_seconds()).unwrap_or(i64::MAX),
        climbed_from: intent.climbed_from,
    }
}

/// How the agent stands to a target, in one word.
const fn state(case: &Case) -> TargetState {
    match (&case.state, &case.decision) {
        (State::Healing { .. }, _) => TargetState::Healing,
        (State::Verifying { .. }, _) => TargetState::Verifying,
        (State::Watching, _) if case.history.is_exhausted() => TargetState::Exhausted,
        (State::Watching, None) => TargetState::Unknown,
        (State::Watching, Some(Decision { action: Action::NoAction, .. })) => TargetState::Well,
        (State::Watching, Some(_)) => TargetState::Sick,
    }
}
