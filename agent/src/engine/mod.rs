//! The loop's judgement, without its hands: events and `now` in, commands out.
//!
//! [`Engine`] owns one [`Case`] per target and walks it through
//! `Watching → Healing → Verifying → Watching`. It reads no clock, file or socket and never
//! waits, so a whole incident can be played in a test in microseconds, and a recorded trace
//! replayed. `run` does what the commands say and feeds back what came of it.
mod case;
mod pace;

use std::{sync::Arc, time::Duration};

pub use case::{Case, State};
use pace::NodePace;

use crate::{
    decide::{Action, Brain, Decision},
    features::{FeatureVector, Notable},
    guard::{self, Gate, NodeState, Policy, Refusal},
    moment::Moment,
    signal::sample::{Sample, Trigger},
    target::{Rung, Target},
    verify::Outcome,
};

/// A target's place in the engine: small, dense, reused after removal.
pub type Index = usize;

/// All that can happen.
#[derive(Debug)]
pub enum Event {
    /// A target was found. Its place is the one that [`Engine::vacant`] named.
    Added(Index, Box<Target>),
    /// The same target in another life.
    Changed(Index, Box<Target>),
    /// The target is gone for good.
    Removed(Index),
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
        /// What went wrong, if something did.
        failed: Option<String>,
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
        /// When it was intended.
        intended: Moment,
    },
    /// Time passed.
    Tick,
}

/// What is to be done or told.
#[derive(Debug)]
pub enum Command {
    /// Look at a target and report back.
    Look(Index, Trigger),
    /// Write the intention down, then give the remedy, then report back.
    Heal(Index, Intent),
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
    /// Something stands out, and calls for no heal. Told once until it changes.
    LeftAlone {
        /// What stands out.
        notable: Notable,
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
    /// A treatment ended.
    Concluded {
        /// The journal's number of the incident, if it has one.
        incident: Option<i64>,
        /// The remedy.
        rung: Rung,
        /// How it ended.
        outcome: Outcome,
        /// Time since the remedy was given.
        took: Duration,
        /// What went wrong, if something did.
        detail: Option<String>,
        /// Whether the target's remedies are now used up.
        exhausted: bool,
    },
}

/// How often to look.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two regular looks at one target, jittered by a tenth.
    pub tick: Duration,
    /// From a remedy to its verdict.
    pub verify_window: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { tick: Duration::from_secs(2), verify_window: Duration::from_secs(15) }
    }
}

/// All targets, and what is going on with each.
#[derive(Debug)]
pub struct Engine {
    brain: Arc<Brain>,
    policy: Policy,
    pace: Pace,
    node: NodeState,
    looks: NodePace,
    cases: Vec<Option<Case>>,
    /// When each case is next to be looked at; apart from the cases, to be scanned quickly.
    due: Vec<Option<Moment>>,
}

impl Engine {
    /// An engine without targets.
    #[must_use]
    pub fn new(brain: Arc<Brain>, policy: Policy, pace: Pace) -> Self {
        Self {
            brain,
            policy,
            pace,
            node: NodeState { journal_writable: true, ..NodeState::default() },
            looks: NodePace::default(),
            cases: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Where the next target goes.
    #[must_use]
    pub fn vacant(&self) -> Index {
        self.cases.iter().position(Option::is_none).unwrap_or(self.cases.len())
    }

    /// The case of one target.
    #[must_use]
    pub fn case(&self, index: Index) -> Option<&Case> {
        self.cases.get(index)?.as_ref()
    }

    /// All cases.
    pub fn cases(&self) -> impl Iterator<Item = (Index, &Case)> {
        self.cases.iter().enumerate().filter_map(|(i, case)| Some((i, case.as_ref()?)))
    }

    /// When [`Event::Tick`] is next needed.
    #[must_use]
    pub fn next_due(&self) -> Option<Moment> {
        self.due.iter().flatten().min().copied()
    }

    /// Switches healing off or on; looking goes on.
    pub const fn set_paused(&mut self, paused: bool) {
        self.node.paused = paused;
    }

    /// Whether the journal takes intentions; without it nothing hard is done.
    pub const fn set_journal_writable(&mut self, writable: bool) {
        self.node.journal_writable = writable;
    }

    /// Takes in one event. `hour` is the hour of the day, UTC. Commands are appended to `out`.
    pub fn handle(&mut self, now: Moment, hour: u8, event: Event, out: &mut Vec<Command>) {
        match event {
            Event::Added(index, target) => self.added(index, *target, now),
            Event::Changed(index, target) => self.changed(index, *target, now, out),
            Event::Removed(index) => self.removed(index),
            Event::Woken { index, at, throttled } => self.woken(index, at, throttled, now),
            Event::Looked(index, sample) => self.looked(index, &sample, now, hour, out),
            Event::Treated { index, incident, failed } => {
                self.treated(index, incident, failed, now, out);
            }
            Event::Recovered { index, incident, rung, before, intended } => {
                self.recovered(index, incident, rung, before, intended, now);
            }
            Event::Tick => {}
        }
        self.look_where_due(now, out);
    }

    fn added(&mut self, index: Index, target: Target, now: Moment) {
        while self.cases.len() <= index {
            self.cases.push(None);
            self.due.push(None);
        }
        self.cases[index] = Some(Case::new(target));
        self.due[index] = Some(now + pace::jitter(self.pace.tick, index));
    }

    fn changed(&mut self, index: Index, target: Target, now: Moment, out: &mut Vec<Command>) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        let lost = case.succeeded_by(target);
        if let Some(verification) = lost {
            // It was replaced by somebody else while a soft remedy was under observation: what
            // the remedy did can no longer be told.
            out.push(conclude(index, case, &verification, Outcome::Unverified, None, now));
        }
        self.due[index] = Some(now);
    }

    fn removed(&mut self, index: Index) {
        if let Some(case) = self.cases.get_mut(index).and_then(Option::take) {
            self.node.polled -= u32::from(case.counts_as_polled);
            self.node.failing -= u32::from(case.counts_as_failing);
            self.due[index] = None;
        }
    }

    fn woken(&mut self, index: Index, at: Moment, throttled: bool, now: Moment) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        if let Some(when) = case.pace.woken(at, throttled, now)
            && !case.is_confirming()
            && !case.state.is_healing()
        {
            let due = &mut self.due[index];
            if due.is_none_or(|due| when < due) && !case.looking {
                *due = Some(when);
                case.trigger = Trigger::Wakeup;
            } else if case.looking {
                case.pace.owe(at, when);
            }
        }
    }

    /// Sends out looks that are due, as many as the node's budget permits; the rest stay due.
    fn look_where_due(&mut self, now: Moment, out: &mut Vec<Command>) {
        for (index, due) in self.due.iter_mut().enumerate() {
            if due.is_none_or(|due| due > now) {
                continue;
            }
            let Some(case) = self.cases[index].as_mut() else { continue };
            if case.looking || case.state.is_healing() {
                *due = None;
                continue;
            }
            if !self.looks.take(now) {
                *due = Some(now + pace::NODE_REFILL);
                continue;
            }
            *due = None;
            case.looking = true;
            out.push(Command::Look(index, case.trigger));
        }
    }

    fn looked(
        &mut self,
        index: Index,
        sample: &Sample,
        now: Moment,
        hour: u8,
        out: &mut Vec<Command>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        case.looking = false;
        case.pace.looked(sample.at);
        case.window.push(sample);
        count_for_node(case, &mut self.node);
        let row = case.window.features(hour, case.target.started);
        case.row = row;
        let delay = match self.brain.decide(&row) {
            Err(_) => {
                out.push(Command::Tell(index, Fact::Undecided));
                self.pace.tick
            }
            Ok(decision) => {
                out.push(Command::Tell(index, Fact::Decided { decision, row }));
                case.take_decision(decision, sample, &self.policy, now);
                self.act_on(index, decision, now, out)
            }
        };
        self.schedule(index, now, delay);
    }

    /// What follows from a decision; returns how long to wait before the next look.
    fn act_on(
        &mut self,
        index: Index,
        decision: Decision,
        now: Moment,
        out: &mut Vec<Command>,
    ) -> Duration {
        let Some(case) = self.cases[index].as_mut() else { return self.pace.tick };
        match &mut case.state {
            State::Healing { .. } => self.pace.tick,
            State::Verifying { verification, .. } => {
                let mut verification = verification.clone();
                let finding = case.finding(decision.action);
                let outcome =
                    verification.judge(now, &finding, self.pace.verify_window, self.policy.warm_up);
                if let Some(outcome) = outcome {
                    out.push(conclude(index, case, &verification, outcome, None, now));
                    case.confirm_delay()
                } else {
                    case.observe(verification);
                    case.pace.verifying(decision.action)
                }
            }
            State::Watching => self.consider(index, &decision, now, out),
        }
    }

    /// Nothing is under way: is a remedy called for, and may we?
    fn consider(
        &mut self,
        index: Index,
        decision: &Decision,
        now: Moment,
        out: &mut Vec<Command>,
    ) -> Duration {
        let Some(case) = self.cases[index].as_mut() else { return self.pace.tick };
        let question = case.question(decision, &self.node, now);
        let Some(rung) = guard::wanted(&question, &self.policy) else {
            case.confirms = 0;
            case.refused = None;
            tell_if_left_alone(index, case, decision, out);
            return case.pace.at_rest(&self.pace, case.window.is_failing());
        };
        let answer = guard::permit(&question, rung, &self.policy);
        case.left_alone = None;
        match answer {
            Ok(permit) => {
                let rung = permit.rung();
                case.begin_healing(rung, decision.action, now);
                if rung.is_hard() {
                    self.node.history.hard_heal(now);
                }
                let intent = Intent {
                    rung,
                    decision: *decision,
                    row: case.row,
                    climbed_from: case.climbed_from.take(),
                };
                out.push(Command::Heal(index, intent));
                self.pace.tick
            }
            Err(refusal) => {
                let news = case.refused.replace(refusal.gate) != Some(refusal.gate);
                let fact = Fact::Refused { rung, refusal, decision: *decision, news };
                out.push(Command::Tell(index, fact));
                if refusal.gate == Gate::Evidence && refusal.why != guard::Why::NothingCurrent {
                    case.confirm_delay()
                } else {
                    case.confirms = 0;
                    case.pace.at_rest(&self.pace, case.window.is_failing())
                }
            }
        }
    }

    fn treated(
        &mut self,
        index: Index,
        incident: Option<i64>,
        failed: Option<String>,
        now: Moment,
        out: &mut Vec<Command>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        let Some(verification) = case.begin_verifying(incident, now) else { return };
        if let Some(detail) = failed {
            out.push(conclude(index, case, &verification, Outcome::Failed, Some(detail), now));
        }
        self.schedule(index, now, Duration::ZERO);
    }

    fn recovered(
        &mut self,
        index: Index,
        incident: i64,
        rung: Rung,
        before: Action,
        intended: Moment,
        now: Moment,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        case.resume(incident, rung, before, intended, now);
        if rung.is_hard() {
            self.node.history.hard_heal(intended);
        }
        self.schedule(index, now, Duration::ZERO);
    }

    fn schedule(&mut self, index: Index, now: Moment, delay: Duration) {
        let Some(case) = self.cases[index].as_mut() else { return };
        let regular = now + pace::jitter(delay, index);
        let owed = if case.is_confirming() { None } else { case.pace.settle(regular) };
        case.trigger = if owed.is_some() { Trigger::Wakeup } else { case.next_trigger() };
        self.due[index] = Some(owed.unwrap_or(regular));
    }
}

/// Ends a treatment: back to watching, remembered in the target's history.
fn conclude(
    index: Index,
    case: &mut Case,
    verification: &crate::verify::Verification,
    outcome: Outcome,
    detail: Option<String>,
    now: Moment,
) -> Command {
    let incident = case.end_treatment(verification.rung, outcome, now);
    let fact = Fact::Concluded {
        incident,
        rung: verification.rung,
        outcome,
        took: now.since(verification.began),
        detail,
        exhausted: case.history.is_exhausted(),
    };
    Command::Tell(index, fact)
}

/// Says once why a target that looks bad is left alone.
fn tell_if_left_alone(index: Index, case: &mut Case, decision: &Decision, out: &mut Vec<Command>) {
    let notable = Notable::first(&case.row);
    if let Some(notable) = notable
        && case.left_alone != Some(notable)
    {
        let value = case.row[notable.feature()];
        let fact = Fact::LeftAlone { notable, value, confidence: decision.confidence };
        out.push(Command::Tell(index, fact));
    }
    case.left_alone = notable;
}

/// Keeps the node's tally of polled and failing targets.
fn count_for_node(case: &mut Case, node: &mut NodeState) {
    let polled = case.window.has_answered();
    let failing = case.window.is_failing();
    node.polled = node.polled + u32::from(polled) - u32::from(case.counts_as_polled);
    node.failing = node.failing + u32::from(failing) - u32::from(case.counts_as_failing);
    case.counts_as_polled = polled;
    case.counts_as_failing = failing;
}

#[cfg(test)]
mod tests;
