//! The decision loop as a pure state machine: events and `now` in, commands out.
//!
//! [`Engine`] owns one [`Case`] per target and moves it through `Watching → Healing → Verifying →
//! Watching`. It reads no clock, file or socket and never waits, so a test runs a whole incident in
//! microseconds, and a recorded trace can be replayed. `run` carries out the commands and reports
//! the results.
mod case;
mod instance;
mod message;
mod pace;
mod pod_metrics;
mod presence;
mod resizing;
mod treatments;

use std::{sync::Arc, time::Duration};

use case::Counted;
pub use case::{Applied, Case, Presence, State};
pub use message::{Command, Event, Fact, Index, Intent, Preferred, Recovered, Remedied};
use pace::{AskPace, Due, NodePace};
pub use pod_metrics::pod_metrics_of;
pub use resizing::Resizing;
use treatments::conclude;

use crate::{
    boot_time::BootTime,
    decide::{Classifier, Decision},
    features::Notable,
    guard::{self, Denial, Gate, Memories, Memory, NodeState, Policy, Question, Refusal, Why},
    health::Heard,
    signal::{Polled, Sample, Trigger},
    target::{Remedy, Request},
};

/// Intervals of the engine.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Interval between two regular samples of a target, jittered by a tenth.
    pub tick: Duration,
    /// Time from a remedy to its verdict.
    pub verify_window: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { tick: Duration::from_secs(2), verify_window: Duration::from_secs(15) }
    }
}

/// A round of samples over all targets.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    /// Where it starts, so that a spent budget does not always affect the same targets.
    start: Index,
    /// End of the wait for the node's budget; in the past if it is not spent.
    spent_until: BootTime,
}

/// All targets and their states.
#[derive(Debug)]
pub struct Engine {
    classifier: Arc<Classifier>,
    policy: Policy,
    pace: Pace,
    node: NodeState,
    /// Earlier treatments of the workloads, with their outcomes.
    memories: Memories,
    /// Time of the first event. The agent saw instances start that began later.
    began: Option<BootTime>,
    samples: NodePace,
    asks: AskPace,
    /// The round of regular samples, and that of urgent ones.
    rounds: [Round; 2],
    cases: Vec<Option<Case>>,
    /// Each case's next sample; separate from the cases for fast scans.
    due: Vec<Option<Due>>,
}

impl Engine {
    /// An engine without targets.
    #[must_use]
    pub fn new(classifier: Arc<Classifier>, policy: Policy, pace: Pace) -> Self {
        Self {
            classifier,
            policy,
            pace,
            node: NodeState { journal_writable: true, ..NodeState::default() },
            memories: Memories::default(),
            began: None,
            samples: NodePace::default(),
            asks: AskPace::default(),
            rounds: [Round::default(); 2],
            cases: Vec::new(),
            due: Vec::new(),
        }
    }

    /// The index for the next target.
    #[must_use]
    pub fn vacant(&self) -> Index {
        self.cases.iter().position(Option::is_none).unwrap_or(self.cases.len())
    }

    /// The case of one target.
    #[must_use]
    pub fn case(&self, index: Index) -> Option<&Case> {
        self.cases.get(index)?.as_ref()
    }

    /// The memory of a target's workload, if it has any.
    #[must_use]
    pub fn memory(&self, index: Index) -> Option<&Memory> {
        self.memories.of(self.case(index)?.workload())
    }

    /// All cases.
    pub fn cases(&self) -> impl Iterator<Item = (Index, &Case)> {
        self.cases.iter().enumerate().filter_map(|(i, case)| Some((i, case.as_ref()?)))
    }

    /// Whether the restart in progress is still permitted after a drain; see
    /// [`guard::still_permitted`]. Changes nothing: the result comes back as [`Event::Treated`].
    ///
    /// # Errors
    /// Why not.
    pub fn still_permits(
        &self,
        index: Index,
        heard: Option<Heard>,
        now: BootTime,
    ) -> Result<(), String> {
        let under_way = self.case(index).filter(|case| case.is_present());
        let Some((case, State::Healing { remedy, .. })) = under_way.map(|c| (c, &c.state)) else {
            return Err("its container ended meanwhile".to_owned());
        };
        let Some(decision) = &case.decision else {
            return Err("nothing is known of it".to_owned());
        };
        let question = case.question(decision, &self.node, &self.memories, &self.policy, now);
        let question = Question { symptom: case.treated_symptom(), ..question };
        guard::still_permitted(&question, *remedy, heard, &self.policy)
    }

    /// When [`Event::Tick`] is next needed.
    #[must_use]
    pub fn next_due(&self) -> Option<BootTime> {
        let dues = self.due.iter().flatten();
        dues.map(|due| due.at.max(self.rounds[usize::from(due.urgent)].spent_until)).min()
    }

    /// Pauses or resumes healing; sampling continues.
    pub const fn set_paused(&mut self, paused: bool) {
        self.node.paused = paused;
    }

    /// Sets whether the journal accepts intentions; without it no hard remedy is applied.
    pub const fn set_journal_writable(&mut self, writable: bool) {
        self.node.journal_writable = writable;
    }

    /// Whether healing is paused, and whether the journal accepts intentions.
    #[must_use]
    pub const fn switches(&self) -> (bool, bool) {
        (self.node.paused, self.node.journal_writable)
    }

    /// Handles one event. `hour` is the hour of the day, UTC. Appends commands to `out`.
    pub fn handle(&mut self, now: BootTime, hour: u8, event: Event, out: &mut Vec<Command>) {
        self.began.get_or_insert(now);
        let from = out.len();
        match event {
            Event::Added(index, target) => self.added(index, *target, now),
            Event::Changed(index, target) => self.changed(index, *target, now, out),
            Event::Lost(index) => self.lost(index, now, out),
            Event::Removed(index) => self.removed(index, now, out),
            Event::NotNow(index, not_now) => {
                if let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) {
                    case.not_now = not_now;
                }
            }
            Event::Approved(index, request) => self.approved(index, request, now),
            Event::Ready(index, ready) => {
                if let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) {
                    case.instance.kubelet_says(ready);
                }
            }
            Event::Cleared { index, remedy, answer } => {
                self.cleared(index, remedy, answer, now, out);
            }
            Event::Woken { index, at, throttled } => self.woken(index, at, throttled, now),
            Event::Sampled(index, sample) => self.sampled(index, &sample, now, hour, out),
            Event::Treated { index, incident, result } => {
                self.treated(index, incident, result, now, out);
            }
            Event::Recovered(index, recovered) => self.recovered(index, recovered, now, out),
            Event::Remembered { workload, treatment } => self.memories.push(&workload, treatment),
            Event::Recalled { index, remedy, treated, ended } => {
                self.recalled(index, remedy, treated, ended);
            }
            Event::Resized(index, answer) => self.resized(index, &answer, now, out),
            Event::ResizeRecalled(index, recalled) => self.recall_resize(index, &recalled, now),
            Event::Tick => {}
        }
        self.sample_where_due(now, out);
        self.remember(&out[from..], now);
    }

    fn cleared(
        &mut self,
        index: Index,
        remedy: Remedy,
        answer: Result<(), (Refusal, Duration)>,
        now: BootTime,
        out: &mut Vec<Command>,
    ) {
        let granted = answer.is_ok();
        if let Err((refusal, wait)) = &answer
            && refusal.gate.is_of_workload()
        {
            self.refuse_siblings(index, remedy, refusal, now + *wait);
        }
        let case = self.cases.get_mut(index).and_then(Option::as_mut);
        match case.map(|case| case.answered(remedy, answer, now)) {
            // The node's gates may have changed meanwhile: ask them again.
            Some(true) => self.schedule(index, now, pace::GAP),
            _ if granted => out.push(Command::Release(index)),
            _ => {}
        }
    }

    /// People approved a request: if the remedy is still wanted at the next sample, it is applied.
    fn approved(&mut self, index: Index, request: Request, now: BootTime) {
        let case = self.cases.get_mut(index).and_then(Option::as_mut);
        let waits = case.is_some_and(|case| {
            case.approved(request, now)
                && case.is_present()
                && !case.instance.sampling
                && matches!(case.state, State::Watching)
        });
        if waits {
            self.schedule(index, now, pace::GAP);
        }
    }

    /// Applies a refusal to all pods of the workload: a hundred sick pods make one request.
    fn refuse_siblings(
        &mut self,
        index: Index,
        remedy: Remedy,
        refusal: &Refusal,
        until: BootTime,
    ) {
        let owner = |case: &Case| Some(case.target.pod()?.owner.as_ref()?.uid.clone());
        let Some(owner_of_asker) = self.case(index).and_then(owner) else { return };
        for case in self.cases.iter_mut().flatten() {
            if owner(case).as_ref() == Some(&owner_of_asker) {
                case.refused_with(remedy, refusal, until);
            }
        }
    }

    fn woken(&mut self, index: Index, at: BootTime, throttled: bool, now: BootTime) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        if let Some(when) = case.instance.pace.woken(at, throttled, now)
            && !case.instance.is_confirming()
            && !case.state.is_healing()
            && case.is_present()
        {
            let due = &mut self.due[index];
            if case.instance.sampling {
                case.instance.pace.owe(at, when);
            } else if due.is_none_or(|due| when < due.at) {
                *due = Some(Due { at: when, urgent: true });
                case.trigger = Trigger::Wakeup;
            }
        }
    }

    /// Starts due samples, as many as the node's budget permits; the others stay due.
    fn sample_where_due(&mut self, now: BootTime, out: &mut Vec<Command>) {
        for urgent in [true, false] {
            let start = self.rounds[usize::from(urgent)].start;
            self.rounds[usize::from(urgent)] = match self.sample_due(urgent, start, now, out) {
                Ok(()) => Round { start, spent_until: BootTime::default() },
                Err(start) => Round { start, spent_until: now + pace::NODE_REFILL },
            };
        }
    }

    /// Starts the due samples that are urgent, or those that are not. The error is the target for which
    /// there was no budget left.
    fn sample_due(
        &mut self,
        urgent: bool,
        start: Index,
        now: BootTime,
        out: &mut Vec<Command>,
    ) -> Result<(), Index> {
        let apart = pace::poll_interval(self.pace.tick, self.node.polled);
        let n = self.due.len();
        for index in (0..n).map(|i| (start + i) % n) {
            if self.due[index].is_none_or(|due| due.urgent != urgent || due.at > now) {
                continue;
            }
            let Some(case) = self.cases[index].as_mut() else { continue };
            if let Some((verification, outcome, detail)) = case.overdue(now) {
                let detail = Some(detail.to_owned());
                out.push(conclude(index, case, &self.policy, &verification, outcome, detail, now));
                if case.presence == Presence::Removed {
                    self.due[index] = None;
                    out.push(Command::Forget(index));
                    continue;
                }
            }
            if let State::Healing { since, .. } = case.state {
                self.due[index] = Some(Due::regular(since + case::HEAL_LIMIT));
                continue;
            }
            if !case.is_present() {
                self.due[index] = None;
                continue;
            }
            if !self.samples.take(urgent, now) {
                return Err(index);
            }
            // If the response is lost, the cluster is asked again.
            self.due[index] = Some(Due::regular(now + case::SAMPLE_LIMIT));
            case.instance.sampling = true;
            let polls = case.instance.must_poll(now, case.trigger, apart);
            out.push(Command::Sample { index, trigger: case.trigger, polls });
        }
        Ok(())
    }

    fn sampled(
        &mut self,
        index: Index,
        sample: &Sample,
        now: BootTime,
        hour: u8,
        out: &mut Vec<Command>,
    ) {
        let Some(case) = self.cases.get_mut(index).and_then(Option::as_mut) else { return };
        case.instance.sampling = false;
        if !case.is_present() {
            // A sample in progress at the end of its process says nothing about the successor.
            return;
        }
        case.instance.pace.sampled(sample.at);
        case.instance.window.push(sample);
        let (word, blind) = case.hear(sample);
        out.extend(word.map(|word| Command::Tell(index, Fact::Heard(word))));
        out.extend(blind.map(|blind| Command::Tell(index, Fact::Blind(blind))));
        count_for_node(case, &mut self.node, now);
        let row = case.instance.window.features(hour, case.target.started);
        case.row = row;
        case.measure();
        self.look_at_limits(index, sample, now, out);
        let Some(case) = self.cases[index].as_mut() else { return };
        let decision = self.classifier.decide(&row);
        let is_doubted = case.doubt(sample, decision.as_ref().ok());
        let delay = match decision {
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
        // The first doubt is settled by a poll at once.
        let asks_now = is_doubted && matches!(sample.poll, Polled::LastStands);
        self.schedule(index, now, if asks_now { delay.min(pace::GAP) } else { delay });
    }

    /// Acts on a decision; returns the delay until the next sample.
    fn act_on(
        &mut self,
        index: Index,
        decision: Decision,
        now: BootTime,
        out: &mut Vec<Command>,
    ) -> Duration {
        let Some(case) = self.cases[index].as_mut() else { return self.pace.tick };
        match &mut case.state {
            State::Healing { .. } => self.pace.tick,
            State::Verifying { verification, judged, .. } => {
                let (mut verification, judged) = (verification.clone(), judged.clone());
                let finding =
                    case.finding(decision.action, verification.remedy, &judged, &self.policy);
                let comes_back = self.policy.comes_back(case.target.is_of_runtime());
                let was_open = verification.is_open();
                let outcome =
                    verification.judge(now, &finding, self.pace.verify_window, comes_back);
                if !was_open && verification.is_open() && !verification.remedy.is_hard() {
                    case.has_settled();
                }
                let outcome = outcome.map(|outcome| case.as_far_as_known(outcome, &verification));
                if let Some(outcome) = outcome {
                    let policy = &self.policy;
                    out.push(conclude(index, case, policy, &verification, outcome, None, now));
                    case.instance.confirm_delay()
                } else {
                    case.observe(verification);
                    case.instance.pace.verifying(decision.action)
                }
            }
            State::Watching => self.consider(index, &decision, now, out),
        }
    }

    /// Nothing is in progress: is a remedy called for, and is it permitted?
    fn consider(
        &mut self,
        index: Index,
        decision: &Decision,
        now: BootTime,
        out: &mut Vec<Command>,
    ) -> Duration {
        let Some(case) = self.cases[index].as_mut() else { return self.pace.tick };
        case.forget_old_answer(now);
        let question = case.question(decision, &self.node, &self.memories, &self.policy, now);
        let Some(remedy) = guard::wanted(&question, &self.policy) else {
            give_back(index, case, out);
            case.instance.end_confirming();
            case.refused = None;
            case.prefer(None);
            tell_if_left_alone(index, case, decision, out);
            return case
                .instance
                .pace
                .at_rest(&self.pace, case.instance.window.service().is_failing());
        };
        let answer = guard::permit(&question, remedy, &self.policy);
        let preferred = guard::wanted_without_memory(&question, &self.policy)
            .map(|otherwise| Preferred { first: remedy, otherwise, symptom: question.symptom });
        case.left_alone = None;
        let news = case.prefer(preferred).map(|news| Command::Tell(index, Fact::Preferred(news)));
        out.extend(news);
        match answer {
            Err(Denial::AskCluster) if case.instance.is_asking(now) => self.pace.tick,
            // A remedy may have come into question only now, as at the end of the patience.
            Ok(_) | Err(Denial::AskCluster)
                if self.policy.examine && !case.instance.is_examined(now) =>
            {
                case.instance.confirm_delay()
            }
            Ok(permit) => {
                let remedy = permit.remedy();
                let intent = Intent {
                    remedy,
                    decision: *decision,
                    row: case.row,
                    climbed_from: case.climbed_from.take(),
                    symptom: case.seen_symptom(),
                    health: case.health().cloned(),
                    witnesses: case.witnesses().copied().map(Box::new),
                };
                if remedy.is_hard() {
                    self.node.history.hard_heal(now);
                }
                if self.policy.dry_run {
                    give_back(index, case, out);
                    case.withhold(remedy, now);
                    out.push(Command::Tell(index, Fact::DryRun(intent)));
                } else {
                    case.begin_healing(remedy, decision.action, now);
                    out.push(Command::Heal(index, permit, intent));
                }
                self.pace.tick
            }
            Err(Denial::AskCluster) if remedy.is_hard() && !self.asks.take(now) => {
                give_back(index, case, out);
                let refusal = Refusal { gate: Gate::NodeBudget, why: Why::OthersFirst };
                case.instance.end_confirming();
                out.push(refuse(index, case, remedy, refusal, decision));
                case.instance.pace.at_rest(&self.pace, case.instance.window.service().is_failing())
            }
            Err(Denial::AskCluster) => {
                give_back(index, case, out);
                // Sampling continues meanwhile; the response brings the next sample forward.
                case.instance.begin_asking(now);
                out.push(Command::Ask(index, remedy));
                self.pace.tick
            }
            Err(Denial::Refused(refusal)) => {
                give_back(index, case, out);
                if let Why::AskPeople(request) = refusal.why {
                    case.ask_people(request, now);
                }
                let confirms = refusal.gate == Gate::Evidence && refusal.why != Why::NothingCurrent;
                out.push(refuse(index, case, remedy, refusal, decision));
                if confirms {
                    case.instance.confirm_delay()
                } else {
                    case.instance.end_confirming();
                    case.instance
                        .pace
                        .at_rest(&self.pace, case.instance.window.service().is_failing())
                }
            }
        }
    }

    fn schedule(&mut self, index: Index, now: BootTime, delay: Duration) {
        let Some(case) = self.cases[index].as_mut() else { return };
        let regular = if delay == self.pace.tick {
            pace::on_grid(now + pace::jitter(delay, index))
        } else {
            now + delay
        };
        let owed =
            if case.instance.is_confirming() { None } else { case.instance.pace.settle(regular) };
        case.trigger = if owed.is_some() { Trigger::Wakeup } else { case.next_trigger() };
        let urgent = case.trigger != Trigger::Tick || delay < self.pace.tick;
        self.due[index] = Some(Due { at: owed.unwrap_or(regular), urgent });
    }
}

/// A refusal is news if another gate refused before, or if the request to people is a new one.
fn refuse(
    index: Index,
    case: &mut Case,
    remedy: Remedy,
    refusal: Refusal,
    decision: &Decision,
) -> Command {
    let before = case.refused.replace(refusal.clone());
    let asks = matches!(refusal.why, Why::AskPeople(_));
    let other =
        |before: Refusal| before.gate != refusal.gate || (asks && before.why != refusal.why);
    let news = before.is_none_or(other);
    Command::Tell(index, Fact::Refused { remedy, refusal, decision: *decision, news })
}

/// Releases an unused grant of the cluster at once: other agents may wait for it.
fn give_back(index: Index, case: &mut Case, out: &mut Vec<Command>) {
    if case.give_back() {
        out.push(Command::Release(index));
    }
}

/// Reports once why a target with a symptom is left alone.
fn tell_if_left_alone(index: Index, case: &mut Case, decision: &Decision, out: &mut Vec<Command>) {
    let sight = case.instance.sight();
    let notable = Notable::first(&case.row, sight);
    if let Some(notable) = notable
        && case.left_alone != Some(notable)
    {
        let (shown_by, value) = notable.shown(&case.row, sight);
        let fact = Fact::LeftAlone { notable, shown_by, value, confidence: decision.confidence };
        out.push(Command::Tell(index, fact));
    }
    case.left_alone = notable;
}

/// Targets that failed within this time fail together. If a resource is scarce, they fail in turns:
/// one is answered late while the other hangs or has just been reset.
const TOGETHER: Duration = Duration::from_secs(20);

/// Updates the node's numbers of polled and failing targets.
fn count_for_node(case: &mut Case, node: &mut NodeState, now: BootTime) {
    let service = case.instance.window.service();
    let polled = service.has_responded();
    if service.is_failing() {
        case.failed_at = Some(now);
    } else if !polled {
        // Another instance, or none.
        case.failed_at = None;
    }
    let counted = match case.failed_at {
        _ if !polled => Counted::No,
        Some(at) if now.since(at) < TOGETHER => Counted::Failing,
        _ => Counted::Polled,
    };
    let before = std::mem::replace(&mut case.counted, counted);
    let polled = |counted| u32::from(counted != Counted::No);
    let failing = |counted| u32::from(counted == Counted::Failing);
    node.polled = node.polled + polled(counted) - polled(before);
    node.failing = node.failing + failing(counted) - failing(before);
}

#[cfg(test)]
mod tests;
