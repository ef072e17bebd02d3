//! One target's case: what is known of it, and what is under way.
use std::time::Duration;

use super::pace::TargetPace;
use crate::{
    decide::{Action, Decision},
    features::{FeatureVector, Notable, Window},
    guard::{Evidence, Gate, History, Look, NodeState, Policy, Question},
    moment::Moment,
    signal::sample::{Sample, Trigger},
    target::{Rung, Target},
    verify::{Finding, Outcome, Verification},
};

/// From the first look that calls for an action to the second.
const FIRST_CONFIRM: Duration = Duration::from_millis(100);
/// Between later ones: four looks then span 400 ms, which a hard heal asks for.
const LATER_CONFIRM: Duration = Duration::from_millis(150);

/// What is under way.
#[derive(Debug)]
pub enum State {
    /// Nothing.
    Watching,
    /// A remedy is being given.
    Healing {
        /// Which.
        rung: Rung,
        /// What the decision had called for.
        before: Action,
        /// Since when.
        since: Moment,
    },
    /// A remedy was given; did it help?
    Verifying {
        /// The treatment.
        verification: Verification,
        /// The journal's number of the incident, if it has one.
        incident: Option<i64>,
    },
}

impl State {
    /// The state's name, as in metrics and on pages.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Watching => "watching",
            Self::Healing { .. } => "healing",
            Self::Verifying { .. } => "verifying",
        }
    }

    pub(super) const fn is_healing(&self) -> bool {
        matches!(self, Self::Healing { .. })
    }
}

/// All that the engine knows of one target.
#[derive(Debug)]
pub struct Case {
    /// The target.
    pub target: Target,
    /// What is under way.
    pub state: State,
    /// The last decision.
    pub decision: Option<Decision>,
    /// The row that it rests on.
    pub row: FeatureVector,
    /// What was done to it before.
    pub history: History,
    /// The gate that refused last, while its verdict stands.
    pub refused: Option<Gate>,
    /// What stands out and is left alone.
    pub left_alone: Option<Notable>,
    pub(super) window: Window,
    pub(super) evidence: Evidence,
    pub(super) pace: TargetPace,
    pub(super) looking: bool,
    pub(super) trigger: Trigger,
    pub(super) confirms: u32,
    pub(super) climbed_from: Option<i64>,
    pub(super) counts_as_polled: bool,
    pub(super) counts_as_failing: bool,
}

impl Case {
    pub(super) fn new(target: Target) -> Self {
        Self {
            target,
            state: State::Watching,
            decision: None,
            row: FeatureVector::default(),
            history: History::default(),
            refused: None,
            left_alone: None,
            window: Window::new(),
            evidence: Evidence::default(),
            pace: TargetPace::default(),
            looking: false,
            trigger: Trigger::Tick,
            confirms: 0,
            climbed_from: None,
            counts_as_polled: false,
            counts_as_failing: false,
        }
    }

    /// The same target lives on in another instance: what was seen of the old one says nothing of
    /// the new one, what was done to the target stays. Returns a soft treatment that can no
    /// longer be verified.
    pub(super) fn succeeded_by(&mut self, target: Target) -> Option<Verification> {
        self.target = target;
        self.window = Window::new();
        self.evidence.clear();
        self.confirms = 0;
        self.pace = TargetPace::default();
        match &self.state {
            State::Verifying { verification, .. } if !verification.rung.is_hard() => {
                Some(verification.clone())
            }
            _ => None,
        }
    }

    pub(super) fn take_decision(
        &mut self,
        decision: Decision,
        sample: &Sample,
        policy: &Policy,
        now: Moment,
    ) {
        self.decision = Some(decision);
        self.evidence.push(Look {
            at: sample.at,
            action: decision.action,
            polled: sample.poll.is_some(),
        });
        self.history.seen(decision.action == Action::NoAction, now, policy);
    }

    /// Whether the instance has shown that it serves: by answering a poll or, where it gets or
    /// answers none, by responses that the kernel saw.
    fn is_ready(&self) -> bool {
        self.window.has_answered() || self.target.address.is_none() || self.window.responses().0 > 0
    }

    pub(super) fn question<'a>(
        &'a self,
        decision: &'a Decision,
        node: &'a NodeState,
        now: Moment,
    ) -> Question<'a> {
        let mut causes = self.window.causes(&self.row);
        // In a shared cgroup the OOM killer may have struck somebody else.
        causes.oom_kill &= !self.target.cgroups.shared;
        Question {
            now,
            decision,
            causes,
            ceiling: self.target.ceiling,
            min_confidence: self.target.min_confidence,
            started: self.target.started,
            ready: self.is_ready(),
            evidence: &self.evidence,
            history: &self.history,
            node,
        }
    }

    pub(super) fn finding(&self, action: Action) -> Finding {
        Finding {
            action,
            evidence: self.evidence.soft().is_none(),
            ready: self.is_ready(),
            alive: self.window.is_answering() || self.window.responses().0 > 0,
            errors: self.window.total_errors(),
        }
    }

    pub(super) fn begin_healing(&mut self, rung: Rung, before: Action, now: Moment) {
        self.state = State::Healing { rung, before, since: now };
        self.history.treated(rung, now);
        self.evidence.clear();
        self.confirms = 0;
        self.refused = None;
    }

    /// The remedy was given: watch what comes of it, from a fresh window.
    pub(super) fn begin_verifying(
        &mut self,
        incident: Option<i64>,
        now: Moment,
    ) -> Option<Verification> {
        let State::Healing { rung, before, .. } = self.state else { return None };
        self.history.treated(rung, now);
        Some(self.start_window(Verification::new(rung, before, now), incident))
    }

    /// A former life of the agent intended a remedy and died: it counts as given.
    pub(super) fn resume(
        &mut self,
        incident: i64,
        rung: Rung,
        before: Action,
        intended: Moment,
        now: Moment,
    ) {
        self.history.treated(rung, intended);
        self.start_window(Verification::new(rung, before, now), Some(incident));
    }

    fn start_window(&mut self, verification: Verification, incident: Option<i64>) -> Verification {
        if verification.rung.is_hard() {
            // The instance that is to come has not answered yet; polls that fail until it does
            // are expected and count for nothing.
            self.window = Window::new();
        } else {
            self.window.refresh();
        }
        self.evidence.clear();
        self.state = State::Verifying { verification: verification.clone(), incident };
        verification
    }

    pub(super) fn observe(&mut self, now_is: Verification) {
        if let State::Verifying { verification, .. } = &mut self.state {
            *verification = now_is;
        }
    }

    /// Back to watching. Returns the journal's number of the incident.
    pub(super) fn end_treatment(
        &mut self,
        rung: Rung,
        outcome: Outcome,
        now: Moment,
    ) -> Option<i64> {
        self.history.concluded(rung, outcome, self.target.ceiling, now);
        let before = std::mem::replace(&mut self.state, State::Watching);
        let State::Verifying { incident, .. } = before else { return None };
        self.climbed_from = match outcome {
            Outcome::NotHealed | Outcome::Worse | Outcome::Failed => incident,
            Outcome::Healed | Outcome::Unverified => None,
        };
        incident
    }

    pub(super) const fn is_confirming(&self) -> bool {
        self.confirms > 0
    }

    /// The next look confirms the last one, or does not.
    pub(super) const fn confirm_delay(&mut self) -> Duration {
        self.confirms = self.confirms.saturating_add(1);
        if self.confirms == 1 { FIRST_CONFIRM } else { LATER_CONFIRM }
    }

    pub(super) const fn next_trigger(&self) -> Trigger {
        match self.state {
            State::Verifying { .. } => Trigger::Verify,
            _ if self.confirms > 0 => Trigger::Confirm,
            _ => Trigger::Tick,
        }
    }
}
