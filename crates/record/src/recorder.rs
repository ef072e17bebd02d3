//! Turns facts into log lines, metrics and journal entries. No decision depends on it: without it
//! the agent would heal in the same way.
use std::{collections::HashMap, sync::Arc, time::Duration};

use paramedic_core::{
    boot_time::BootTime,
    decide::{Action, Classifier, Decision, Reason, top_reasons},
    engine::{Case, Event, Fact, Index, Intent, Preferred, State},
    features::{Feature, FeatureVector},
    guard::Gate,
    health::{Heard, Word},
    notice::Notice,
    signal::{Sample, Trigger, Witnesses},
    target::{Remedy, Target},
    verify::Outcome,
};
use paramedic_host::clock::{Clock, wall_time};
use paramedic_probes::Cause;
use tokio::{sync::mpsc, task::spawn_blocking};
use tracing::{debug, error, info, warn};

use super::{
    EvidenceStore, Intent as Recorded, Metrics, RecordedReason, SharedJournal, evidence::Look,
    incident::name_of, metrics::TargetState, outcomes::Remembered, past::Past, trace::Trace,
};

/// An unchanged verdict is logged again after this time.
const REPEAT: Duration = Duration::from_secs(30);
/// Maximum number of reasons in a log line.
const REASONS_TOLD: usize = 3;

/// Receives facts and writes them to log, metrics, journal, Events and trace.
#[derive(Debug)]
pub struct Recorder {
    metrics: Arc<Metrics>,
    /// Gives the reasons of its decisions.
    classifier: Arc<Classifier>,
    journal: Option<SharedJournal>,
    /// Receives the Events for pods, if there are pods.
    notices: Option<mpsc::Sender<Notice>>,
    clock: Clock,
    /// The last logged verdict of each target, and its time.
    told: HashMap<String, (Action, BootTime)>,
    trace: Option<Trace>,
    /// Where the evidence before hard remedies is kept, if it is collected.
    evidence: Option<EvidenceStore>,
    /// The rows of the last minute; of use only for evidence.
    past: Past,
}

impl Recorder {
    /// Without a journal, incidents are logged and counted but not stored.
    #[must_use]
    pub fn new(
        metrics: Arc<Metrics>,
        classifier: Arc<Classifier>,
        journal: Option<SharedJournal>,
        notices: Option<mpsc::Sender<Notice>>,
        clock: Clock,
    ) -> Self {
        Self {
            metrics,
            classifier,
            journal,
            notices,
            clock,
            told: HashMap::new(),
            trace: None,
            evidence: None,
            past: Past::default(),
        }
    }

    /// Adds a trace.
    #[must_use]
    pub fn with_trace(self, trace: Option<Trace>) -> Self {
        Self { trace, ..self }
    }

    /// Keeps evidence before hard remedies in this store, and from now on the rows of the last
    /// minute.
    #[must_use]
    pub fn with_evidence(self, evidence: Option<EvidenceStore>) -> Self {
        Self { evidence, ..self }
    }

    /// The store of evidence, and the rows of the target's instance within the last 60 s; `None` if
    /// no evidence is collected.
    #[must_use]
    pub fn evidence(&self, index: Index, target: &Target) -> Option<(EvidenceStore, Vec<Look>)> {
        let store = self.evidence.clone()?;
        Some((store, self.past.looks(index, &target.id.instance, self.clock.now())))
    }

    /// Records an event that the engine is about to receive, with the state of the switches.
    pub fn event(&mut self, now: BootTime, hour: u8, event: &Event, switches: (bool, bool)) {
        if let Some(trace) = &mut self.trace {
            trace.event(now, hour, event, switches);
        }
    }

    /// Records a remedy that the engine wants to apply, or in a dry run would apply.
    pub fn intends(&mut self, index: Index, intent: &Intent) {
        if let Some(trace) = &mut self.trace {
            trace.did(index, intent.remedy, intent.decision.confidence);
        }
    }

    /// Whether the journal can probably store an intention.
    #[must_use]
    pub fn can_intend(&self) -> bool {
        self.journal.as_ref().is_some_and(SharedJournal::is_writable)
    }

    /// The treatments of workloads within the last day, with their outcomes.
    pub fn remembered(&self) -> Vec<Remembered> {
        let Some(journal) = &self.journal else { return Vec::new() };
        journal.remembered().unwrap_or_else(|error| {
            warn!(%error, "cannot read past treatments; a remedy that did not help may be repeated");
            Vec::new()
        })
    }

    /// The journal, if there is one.
    #[must_use]
    pub fn journal(&self) -> Option<SharedJournal> {
        self.journal.clone()
    }

    /// Records the values of a sample.
    pub fn sampled(&self, target: &Target, sample: &Sample) {
        if let Some(poll) = sample.poll.now() {
            let result = match &poll.result {
                Ok(_) => poll.heard().name(),
                Err(error) => error.name(),
            };
            self.metrics.health_poll(result);
        }
        self.metrics.set_journal_writable(self.can_intend());
        if let Some(kernel) = &sample.kernel {
            self.metrics.target_responses(target, &kernel.counters.responses);
            self.metrics.target_traffic(target, kernel);
        }
    }

    /// Records the duration of a sample.
    pub fn judged(&self, trigger: Trigger, took: Duration) {
        self.metrics.sample(trigger, took);
    }

    /// Records a wake-up by the kernel.
    pub fn woken(&self, cause: Cause) {
        self.metrics.wakeup(cause);
    }

    /// Records that a target was found, or found again as another instance.
    pub fn found(&self, target: &Target, again: bool) {
        let cgroup = target.cgroups.unified.as_ref().map(|c| c.path.display().to_string());
        info!(
            target = target.name,
            instance = target.id.instance,
            cgroup,
            shared = target.cgroups.shared,
            ceiling = target.settings.ceiling.name(),
            again,
            "watching"
        );
    }

    /// Records the number of watched targets.
    pub fn targets(&self, count: usize) {
        self.metrics.set_targets(count);
    }

    /// Records what became of the drain before a restart.
    pub fn drained(&self, result: &'static str) {
        self.metrics.drain(result);
    }

    /// Records that a remedy is about to be applied.
    pub fn healing(&self, target: &Target, intent: &Intent) {
        let decision = &intent.decision;
        let reasons = self.reasons(&intent.row, decision);
        let drains = target.settings.drain.filter(|_| intent.remedy == Remedy::Restart);
        info!(
            target = target.name,
            remedy = target.settings.called(intent.remedy),
            drain_s = drains.map(|drain| drain.as_secs()),
            soft = (intent.remedy == Remedy::Soft).then(|| target.settings.soft.to_string()),
            action = decision.action.name(),
            confidence = rounded(decision.confidence),
            source = name_of(decision.source),
            reasons,
            climbed_from = intent.climbed_from,
            witnesses = unusual(intent.witnesses.as_deref()),
            boot_ns = self.clock.now().as_nanos(),
            "healing"
        );
        self.announce(target, false, "Healing", None, || {
            told_of(target, intent, &reasons, "begins")
        });
    }

    fn reasons(&self, row: &FeatureVector, decision: &Decision) -> String {
        self.classifier.reasons(row, decision.action, REASONS_TOLD).to_string()
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Sends an Event for the pod. Other targets have no Events.
    pub(crate) fn announce(
        &self,
        target: &Target,
        warning: bool,
        reason: &'static str,
        series: Option<&'static str>,
        note: impl FnOnce() -> String,
    ) {
        if let (Some(notices), Some(pod)) = (&self.notices, target.pod()) {
            let notice = Notice { pod: Arc::clone(pod), warning, reason, note: note(), series };
            if notices.try_send(notice).is_err() {
                debug!(target = target.name, reason, "too many Events; dropped this one");
            }
        }
    }

    /// Records whether the agent receives the watch of the API server.
    pub fn api_server(&self, heard: bool) {
        self.metrics.set_api_server_heard(heard);
    }

    /// A target's process has ended: removes its values, which are out of date.
    pub fn lost(&self, target: &Target) {
        self.metrics.target_absent(target);
    }

    /// A target was removed: removes its series.
    pub fn forget(&mut self, index: Index, target: &Target) {
        info!(target = target.name, "no longer watched");
        self.past.forget(index);
        self.metrics.forget_target(target);
        self.told.remove(&target.name);
    }

    /// Records a fact about a case.
    pub fn tell(&mut self, index: Index, case: &Case, fact: Fact) {
        let (target, of) = (case.target.name.as_str(), &case.target);
        if let Some(trace) = &mut self.trace {
            match &fact {
                Fact::Decided { decision, .. } => trace.said(index, decision.action),
                Fact::Concluded { remedy, outcome, .. } => {
                    trace.concluded(index, *remedy, *outcome);
                }
                _ => {}
            }
        }
        match fact {
            Fact::Decided { decision, row } => {
                self.metrics.decision(decision.action, decision.source);
                self.metrics.target_verdict(of, &row, &decision, case.sees_traffic());
                self.metrics.target_load(of, case.recent_load(self.clock.now()).as_ref());
                self.metrics.target_state(of, state(case));
                if self.evidence.is_some() {
                    self.past.push(index, case, &decision, &row);
                }
                self.tell_verdict(case, &decision, &row);
            }
            Fact::Heard(word) => tell_health(target, &word),
            Fact::Blind(blind) => {
                self.metrics.target_blind(of);
                warn!(target, reason = %blind, "the kernel does not see its HTTP: these columns are missing, not zero");
            }
            Fact::Undecided => {
                warn!(target, "a measurement is not a number; sample ignored");
            }
            Fact::LeftAlone { notable, shown_by, value, confidence } => {
                info!(
                    target,
                    feature = shown_by,
                    value = rounded(value),
                    confidence = rounded(confidence),
                    reason = %notable,
                    shared = case.target.cgroups.shared,
                    boot_ns = self.clock.now().as_nanos(),
                    "left alone"
                );
            }
            Fact::Preferred(Preferred { first, otherwise, symptom }) => {
                let (remedy, otherwise) = (first.name(), otherwise.name());
                let symptom = symptom.name();
                info!(target, remedy, otherwise, symptom, "what helped before goes first");
            }
            Fact::Refused { remedy, refusal, decision, news } => {
                self.metrics.refusal(refusal.gate);
                let gate = refusal.gate.name();
                let reason = refusal.why.to_string();
                let (remedy, confidence) = (remedy.name(), rounded(decision.confidence));
                if news {
                    info!(target, remedy, gate, reason, confidence, "not healed");
                } else {
                    debug!(target, remedy, gate, reason, confidence, "not healed");
                }
                // These gates only wait for further samples, which is not worth an Event.
                if !matches!(refusal.gate, Gate::Evidence | Gate::WarmUp) {
                    self.announce(of, false, "HealRefused", Some(gate), || {
                        format!("{remedy} refused by gate {gate}: {reason}")
                    });
                }
            }
            Fact::Resizing(news) => self.tell_resizing(case, *news),
            Fact::DryRun(intent) => {
                let (remedy, confidence) = (intent.remedy.name(), intent.decision.confidence);
                self.metrics.withheld(intent.remedy);
                let reasons = self.reasons(&intent.row, &intent.decision);
                let confidence = rounded(confidence);
                info!(target, remedy, confidence, reasons, "would heal; this is a dry run");
                self.announce(of, false, "WouldHeal", Some(remedy), || {
                    told_of(of, &intent, &reasons, "would be applied (dry run)")
                });
            }
            Fact::Concluded { incident, remedy, outcome, took, detail, exhausted, .. } => {
                self.metrics.heal(remedy, of.settings.means(remedy), outcome, Some(took));
                self.metrics.target_state(of, state(case));
                let called = of.settings.called(remedy);
                tell_outcome(target, incident, called, outcome, took, detail.as_deref());
                if exhausted {
                    error!(
                        target,
                        "every permitted remedy was tried and none helped: an operator must look"
                    );
                    self.announce(of, true, "Exhausted", Some("exhausted"), || {
                        "every permitted remedy was tried and none helped: an operator must look"
                            .to_owned()
                    });
                }
                let well = matches!(outcome, Outcome::Healed | Outcome::Unverified);
                self.announce(of, !well, reason_of(outcome), None, || {
                    let detail = detail.as_deref().map(|d| format!(": {d}")).unwrap_or_default();
                    let (remedy, seconds) = (of.settings.called(remedy), took.as_secs());
                    format!("{remedy}: {} after {seconds} s{detail}", outcome.name())
                });
                self.conclude(incident, outcome, detail);
            }
        }
    }

    fn tell_verdict(&mut self, case: &Case, decision: &Decision, row: &FeatureVector) {
        let of = &case.target;
        let (target, now) = (of.name.as_str(), self.clock.now());
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
            reasons = self.reasons(row, decision),
            health_check = case.health().map(|word| health_check(word, row)),
            "verdict"
        );
    }

    /// Stores an outcome.
    pub fn conclude(&self, incident: Option<i64>, outcome: Outcome, detail: Option<String>) {
        let (Some(journal), Some(incident)) = (self.journal.clone(), incident) else { return };
        spawn_blocking(move || {
            if let Err(error) = journal.conclude(incident, outcome, detail.as_deref()) {
                error!(incident, %error, "cannot write the outcome to the journal");
            }
        });
    }
}

fn tell_outcome(
    target: &str,
    incident: Option<i64>,
    remedy: &str,
    outcome: Outcome,
    took: Duration,
    detail: Option<&str>,
) {
    let seconds = took.as_secs_f64();
    let outcome_name = outcome.name();
    match outcome {
        Outcome::Healed | Outcome::Unverified => {
            info!(target, incident, remedy, outcome = outcome_name, seconds, "treatment ended");
        }
        Outcome::NotHealed | Outcome::Worse | Outcome::Failed => {
            warn!(
                target,
                incident,
                remedy,
                outcome = outcome_name,
                seconds,
                detail,
                "treatment ended"
            );
        }
    }
}

/// Rounds to four decimals: an `f32` has no more, and widened to `f64` it would print false digits.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e4).round() / 1e4
}

/// The result of a health check in one line, with the row's values. Only a response has a latency.
fn health_check(word: &Word, row: &FeatureVector) -> String {
    let failed = row[Feature::HealthFailures];
    let in_a_row = if failed > 1.0 { format!(", {failed:.0} in a row") } else { String::new() };
    match word.heard {
        Heard::Silent | Heard::NotAsked => format!("{}: {word}{in_a_row}", word.heard.name()),
        heard => format!(
            "{} in {:.1} ms: {word}{in_a_row}; {:.0} errors, CPU {:.0} %, memory {:.0} %",
            heard.name(),
            row[Feature::HealthLatency] * 1e3,
            row[Feature::ErrorCount],
            row[Feature::CpuUsage],
            row[Feature::MemoryUsage]
        ),
    }
}

/// Logs a new result of the health check.
fn tell_health(target: &str, word: &Word) {
    let (result, path) = (word.heard.name(), &*word.path);
    match word.heard {
        Heard::Well => info!(target, result, path, reason = %word, "health check"),
        Heard::Unreadable => warn!(
            target, result, path, reason = %word,
            "health check: unreadable response, ignored"
        ),
        _ => warn!(target, result, path, reason = %word, "health check"),
    }
}

/// The strongest reasons of a decision, for a log line.
/// What is unusual on the host, if anything is.
fn unusual(witnesses: Option<&Witnesses>) -> Option<String> {
    witnesses.map(Witnesses::to_string).filter(|text| !text.is_empty())
}

/// A remedy and its reasons, for an Event.
fn told_of(target: &Target, intent: &Intent, reasons: &str, what: &str) -> String {
    let decision = &intent.decision;
    let climbed =
        if intent.climbed_from.is_some() { ", since a milder remedy did not help" } else { "" };
    format!(
        "{} {what}{climbed}: {} with confidence {:.2} ({}); {reasons}",
        target.settings.called(intent.remedy),
        decision.action.name(),
        decision.confidence,
        name_of(decision.source),
    )
}

/// The reason of an Event for an outcome.
const fn reason_of(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Healed => "Healed",
        Outcome::NotHealed => "NotHealed",
        Outcome::Worse => "HealMadeWorse",
        Outcome::Unverified => "HealUnverified",
        Outcome::Failed => "HealFailed",
    }
}

/// The journal's record of an intention. Its shares are exact, because the intention is acted on.
pub fn intent_of(
    target: &Target,
    intent: &Intent,
    classifier: &Classifier,
    now: BootTime,
) -> Recorded {
    let shares = classifier.explain(&intent.row, intent.decision.action);
    let recorded = |reason: &Reason| RecordedReason {
        feature: reason.feature.name().to_owned(),
        value: reason.value,
        share: reason.share,
    };
    Recorded {
        target: target.id.clone(),
        name: target.name.clone(),
        remedy: intent.remedy,
        action: intent.decision.action,
        confidence: intent.decision.confidence,
        source: intent.decision.source,
        reasons: top_reasons(&intent.row, intent.decision.action, &shares, shares.len())
            .iter()
            .map(recorded)
            .collect(),
        intended: now,
        wall_time: wall_time(),
        climbed_from: intent.climbed_from,
        workload: target.workload(),
        means: Some(target.settings.means(intent.remedy))
            .filter(|m| !m.is_empty())
            .map(str::to_owned),
        symptom: intent.symptom,
        health: intent.health.as_ref().map(|word| format!("{word} (GET {})", word.path)),
    }
}

/// The state of a target in one word.
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
