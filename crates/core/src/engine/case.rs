//! The state of one target: what is known of it, and what is in progress.
use std::time::Duration;

use paramedic_pod_metrics::{FRESH, HELD};

use super::{
    instance::Instance,
    message::{Preferred, Recovered},
};
use crate::{
    boot_time::BootTime,
    decide::{Action, Decision},
    features::{Blind, Causes, Durations, FailsSinceStart, FeatureVector, Load, Notable, Window},
    guard::{
        Asked, Gate, History, Memories, NodeState, Observation, Policy, Preflight, Question,
        Refusal, Symptom,
    },
    health::Word,
    resize::Track,
    signal::{Sample, Trigger, Waiting, Witnesses},
    target::{Obstacle, Remedy, Request, Soft, Target},
    verify::{Finding, Outcome, RELOAD, Verification},
};

/// A sample that takes longer is lost: a poll takes at most a second.
pub(super) const SAMPLE_LIMIT: Duration = Duration::from_secs(10);
/// A remedy that takes longer is lost: the longest permitted grace and command take 600 s, after a
/// drain of 120 s.
pub(super) const HEAL_LIMIT: Duration = Duration::from_secs(780);
/// A cluster check that takes longer is lost.
pub(super) const ASK_LIMIT: Duration = Duration::from_secs(30);

/// What is in progress.
#[derive(Debug)]
pub enum State {
    /// Nothing.
    Watching,
    /// A remedy is being applied.
    Healing {
        /// The remedy.
        remedy: Remedy,
        /// The action of the decision.
        before: Action,
        /// Start of the remedy.
        since: BootTime,
        /// The instance that was judged.
        judged: String,
    },
    /// A remedy was applied and is being verified.
    Verifying {
        /// The treatment.
        verification: Verification,
        /// The instance that was judged.
        judged: String,
        /// The journal's number of the incident, if it has one.
        incident: Option<i64>,
        /// Whether this agent process applied the remedy.
        applied: Applied,
    },
}

/// Whether a remedy was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It was, by this agent process.
    Certainly,
    /// An earlier agent process intended it and may have died before.
    Perhaps,
}

/// Whether a target has an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It has one.
    Present,
    /// Its process has ended and no successor was found yet. Only its supervisor may start it
    /// again: it may have been stopped on purpose.
    Absent,
    /// It was removed; its case is kept until what is in progress has ended.
    Removed,
}

/// How a target counts among those of its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Counted {
    /// It has not responded to a poll.
    #[default]
    No,
    /// It responds.
    Polled,
    /// It has responded, and fails now or has just failed.
    Failing,
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

/// The state of one target.
#[derive(Debug)]
pub struct Case {
    /// The target.
    pub target: Target,
    /// What is in progress.
    pub state: State,
    /// The last decision.
    pub decision: Option<Decision>,
    /// Time of the sample behind the decision.
    pub decided_at: BootTime,
    /// The row of the decision.
    pub row: FeatureVector,
    /// The load in the last window that was long enough. A remedy refreshes the window, and the
    /// earlier load stays until a new one is known.
    load: Option<Load>,
    /// Earlier remedies.
    pub history: History,
    /// The last refusal, while the verdict stands.
    pub refused: Option<Refusal>,
    /// The symptom that needs no remedy.
    pub left_alone: Option<Notable>,
    /// The symptom of the present treatment.
    symptom: Symptom,
    /// Whether a signal had stopped the process that the present treatment is for.
    was_stopped: bool,
    /// The key of its past treatments, and that of the present one: a restart may start another
    /// version of the program.
    workload: String,
    treated_workload: String,
    /// The remedy that goes first because it helped before, and the one that would without that.
    preferred: Option<Preferred>,
    pub(super) presence: Presence,
    pub(super) instance: Instance,
    pub(super) trigger: Trigger,
    pub(super) climbed_from: Option<i64>,
    pub(super) counted: Counted,
    /// Time of the last failed poll of this instance. The node remembers it even after a remedy.
    pub(super) failed_at: Option<BootTime>,
    /// The last response of the cluster, and how long a refusal is valid.
    preflight: Preflight,
    refused_until: BootTime,
    /// Whether it is a time at which its owner wants no remedy.
    pub(super) not_now: bool,
    /// The last request to people.
    asked: Option<Asked>,
    /// The side track of resizing in place, if its owner permits that.
    pub(super) resize: Option<Box<Track>>,
}

impl Case {
    /// A target that is watched from now on; `watched_from_start` if the agent saw its instance
    /// start.
    #[must_use]
    pub fn new(target: Target, watched_from_start: bool) -> Self {
        Self {
            workload: target.workload(),
            treated_workload: target.workload(),
            resize: Self::track_of(&target),
            preferred: None,
            target,
            state: State::Watching,
            decision: None,
            decided_at: BootTime::default(),
            row: FeatureVector::default(),
            load: None,
            history: History::default(),
            refused: None,
            left_alone: None,
            symptom: Symptom::Errors,
            was_stopped: false,
            presence: Presence::Present,
            instance: Instance::new(watched_from_start),
            trigger: Trigger::Tick,
            climbed_from: None,
            counted: Counted::No,
            failed_at: None,
            preflight: Preflight::Unasked,
            refused_until: BootTime::default(),
            not_now: false,
            asked: None,
        }
    }

    /// The target as it is now.
    pub(super) fn set(&mut self, target: Target) {
        self.workload = target.workload();
        self.target = target;
        self.keep_track();
    }

    /// The target has another instance: samples of the old one are cleared, and earlier remedies
    /// stay. Returns a treatment that this ends.
    pub(super) fn succeeded_by(&mut self, target: Target) -> Option<(Verification, Outcome)> {
        self.set(target);
        self.presence = Presence::Present;
        self.instance = self.instance.successor();
        self.asked = None;
        let State::Verifying { verification, .. } = &self.state else { return None };
        Some((verification.clone(), verification.replaced()?))
    }

    /// Whether it has an instance.
    #[must_use]
    pub const fn is_present(&self) -> bool {
        matches!(self.presence, Presence::Present)
    }

    /// Result of the last poll of its instance.
    #[must_use]
    pub const fn health(&self) -> Option<&Word> {
        self.instance.health.as_ref()
    }

    /// Why the kernel does not see its traffic, if that was reported.
    #[must_use]
    pub const fn blind(&self) -> Option<Blind> {
        self.instance.blind
    }

    /// Takes the cluster's response; returns whether it still matters.
    pub(super) fn answered(
        &mut self,
        remedy: Remedy,
        answer: Result<(), (Refusal, Duration)>,
        now: BootTime,
    ) -> bool {
        let expected = self.instance.end_asking() && matches!(self.state, State::Watching);
        if expected {
            self.preflight = match answer {
                Ok(()) => Preflight::Given(remedy),
                Err((refusal, wait)) => {
                    self.refused_until = now + wait;
                    Preflight::Refused(remedy, refusal)
                }
            };
        }
        expected
    }

    /// What the cluster refused to another pod of its workload, it refuses to this one too.
    pub(super) fn refused_with(&mut self, remedy: Remedy, refusal: &Refusal, until: BootTime) {
        if matches!(self.preflight, Preflight::Unasked) {
            self.preflight = Preflight::Refused(remedy, refusal.clone());
            self.refused_until = until;
        }
    }

    /// A refusal expires, because the cluster changes.
    pub(super) fn forget_old_answer(&mut self, now: BootTime) {
        if matches!(self.preflight, Preflight::Refused(..)) && now >= self.refused_until {
            self.preflight = Preflight::Unasked;
        }
    }

    /// Gives up what the cluster granted; returns whether it must be released.
    pub(super) fn give_back(&mut self) -> bool {
        let granted = matches!(self.preflight, Preflight::Given(_));
        if granted {
            self.preflight = Preflight::Unasked;
        }
        granted
    }

    /// Its process has ended.
    pub(super) fn lost(&mut self) {
        self.presence = Presence::Absent;
        self.instance.ended();
    }

    /// Stores its load. An instance that is yet to start, or has just started, does little. So the
    /// earlier load stays until a hard remedy is verified; otherwise a healed workload would be
    /// scaled down.
    pub(super) fn measure(&mut self) {
        let under_hard = match &self.state {
            State::Watching => false,
            State::Healing { remedy, .. } => remedy.is_hard(),
            State::Verifying { verification, .. } => verification.remedy.is_hard(),
        };
        if self.load.is_none() || !under_hard {
            self.load = self.instance.window.load().or(self.load);
        }
    }

    /// How long a measured load stays valid.
    #[must_use]
    pub const fn counts_for(&self) -> Duration {
        if matches!(self.state, State::Watching) { FRESH } else { HELD }
    }

    /// Its load, if it was measured recently.
    #[must_use]
    pub fn recent_load(&self, now: BootTime) -> Option<Load> {
        self.load.filter(|load| now.since(load.at) <= self.counts_for())
    }

    pub(super) fn take_decision(
        &mut self,
        decision: Decision,
        sample: &Sample,
        policy: &Policy,
        now: BootTime,
    ) {
        self.decision = Some(decision);
        self.decided_at = sample.at;
        self.instance.evidence.push(Observation {
            at: sample.at,
            action: decision.action,
            polled: sample.poll.now().is_some(),
        });
        let well = decision.action == Action::NoAction && self.instance.is_alive();
        self.history.seen(well, now, policy);
    }

    pub(super) fn is_ready(&self) -> bool {
        self.instance.is_ready(self.target.address.is_none())
    }

    pub(super) fn question<'a>(
        &'a self,
        decision: &'a Decision,
        node: &'a NodeState,
        memories: &'a Memories,
        policy: &Policy,
        now: BootTime,
    ) -> Question<'a> {
        let (symptom, causes) = (self.seen_symptom(), self.causes());
        let only_silent = causes.only_failing();
        let only_clients = causes.clients_left && !self.instance.window.service().is_failing();
        Question {
            now,
            decision,
            causes,
            ceiling: self.target.settings.ceiling,
            capped: self.target.settings.capped,
            not_now: self.not_now,
            ask_before: self.target.settings.ask_before,
            asked: self.asked(now),
            names_soft: self.target.settings.soft.is_named(),
            no_soft: self.no_soft(),
            no_restart: self.target.no_restart,
            no_evict: self.target.no_evict,
            preflight: self.target.pod().is_some().then_some(&self.preflight),
            min_confidence: self.target.settings.min_confidence,
            started: self.target.started,
            // A process that was stopped by a signal is not one that still starts.
            ready: self.is_ready() || self.instance.window.service().is_stopped(),
            patience: self.target.settings.patience.or(policy.patience),
            warm_up: self.target.settings.warm_up.or(policy.warm_up),
            excuse: self.instance.window.excuse(),
            symptom,
            ill_since: self.history.ill_since().unwrap_or(now),
            memory: memories.of(&self.workload),
            fails_since_start: self.fails_since_start(symptom),
            resize_first: causes.level && !causes.event() && self.resize_goes_first(now),
            futile: self
                .instance
                .host
                .as_ref()
                .and_then(|host| host.futile(only_silent, only_clients)),
            evidence: &self.instance.evidence,
            history: &self.history,
            node,
        }
    }

    fn no_soft(&self) -> Option<Obstacle> {
        match self.target.settings.soft {
            Soft::None => Some(Obstacle::NoSoft),
            _ if self.instance.no_soft => Some(Obstacle::SoftNotOffered),
            _ => None,
        }
    }

    /// The present symptom.
    pub(super) fn seen_symptom(&self) -> Symptom {
        Symptom::of(&self.causes(), self.instance.window.service().heard())
    }

    fn fails_since_start(&self, symptom: Symptom) -> FailsSinceStart {
        let shows = matches!(symptom, Symptom::Errors | Symptom::Silence | Symptom::SaysIll);
        self.instance.fails_since_start(shows, self.target.address.is_none())
    }

    /// Whether the engine takes it for a time at which its owner wants no remedy.
    #[must_use]
    pub const fn is_not_now(&self) -> bool {
        self.not_now
    }

    /// The request that is open at this moment.
    #[must_use]
    pub fn asked(&self, now: BootTime) -> Option<Asked> {
        self.asked.filter(|asked| asked.stands(self.history.ill_since(), now))
    }

    /// The gate `approval` refuses until people approve this request.
    pub(super) fn ask_people(&mut self, request: Request, now: BootTime) {
        let ill_since = self.history.ill_since().unwrap_or(now);
        let mut asked = self.asked(now).filter(|asked| asked.request == request);
        match &mut asked {
            Some(asked) => asked.wanted_again(now),
            None => asked = Some(Asked::new(request, ill_since, now)),
        }
        self.asked = asked;
    }

    /// People approved a request; returns whether it is the open one.
    pub(super) fn approved(&mut self, request: Request, now: BootTime) -> bool {
        let Some(mut asked) = self.asked(now) else { return false };
        let is_open = asked.approve(request, now);
        self.asked = Some(asked);
        is_open
    }

    /// Whether such a sample also checks on the host whether a remedy would help: if one may follow,
    /// and if one was refused for that reason.
    #[must_use]
    pub fn asks_the_host(&self, trigger: Trigger) -> bool {
        let may_follow = |gate| {
            matches!(gate, Gate::Futile | Gate::Confidence | Gate::Evidence | Gate::Patience)
        };
        trigger == Trigger::Confirm || self.refused.as_ref().is_some_and(|r| may_follow(r.gate))
    }

    /// Stores the health check of a sample; returns what is new.
    pub(super) fn hear(&mut self, sample: &Sample) -> (Option<Word>, Option<Blind>) {
        if self.asks_the_host(sample.trigger) {
            self.instance.examined(sample);
        }
        self.instance.hear(sample, self.target.tls, self.target.settings.tls_probes)
    }

    /// Takes what a sample says of the last poll; returns whether the sample or its decision casts doubt
    /// on it.
    pub(super) fn doubt(&mut self, sample: &Sample, decision: Option<&Decision>) -> bool {
        self.instance.polled(sample);
        let is_well = matches!(self.state, State::Watching)
            && decision.is_some_and(|decision| decision.action == Action::NoAction)
            && self.instance.is_trusted()
            && self.shows_nothing();
        self.instance.doubted = !is_well;
        !is_well
    }

    /// Whether it shows no symptom at all, not even one that needs no remedy.
    fn shows_nothing(&self) -> bool {
        let causes = self.causes();
        let any = causes.event() || causes.level || causes.slow_polls || causes.errors;
        !any && Notable::first(&self.row, self.instance.sight()).is_none()
    }

    /// How long the responses of its instance took.
    #[must_use]
    pub const fn durations(&self) -> &Durations {
        self.instance.window.durations()
    }

    /// Requests to it without a response, if they were read at the last sample.
    #[must_use]
    pub const fn waiting(&self) -> Option<Waiting> {
        self.instance.window.waiting_clients()
    }

    /// What the host showed at the last confirming sample.
    #[must_use]
    pub fn witnesses(&self) -> Option<&Witnesses> {
        self.instance.host.as_ref().map(|host| &host.witnesses)
    }

    /// When it was last seen well.
    #[must_use]
    pub const fn well_at(&self) -> Option<BootTime> {
        self.instance.window.service().well_at()
    }

    /// Whether it serves anybody: `Some(false)` if the kernel sees its traffic, and no client had a
    /// good response within the window.
    #[must_use]
    pub fn serves(&self) -> Option<bool> {
        self.sees_traffic().then(|| self.instance.window.good_responses() > 0)
    }

    /// Whether the kernel sees its HTTP; if not, its columns are missing and not zero.
    #[must_use]
    pub const fn sees_traffic(&self) -> bool {
        self.instance.window.sees_traffic()
    }

    fn causes(&self) -> Causes {
        let mut causes = self.instance.window.causes(&self.row);
        // In a shared cgroup the OOM killer may have killed another process.
        causes.oom_kill &= !self.target.cgroups.shared;
        causes
    }

    pub(super) fn finding(
        &self,
        action: Action,
        remedy: Remedy,
        judged: &str,
        policy: &Policy,
    ) -> Finding {
        let meant = !remedy.is_hard() || self.target.id.instance != judged;
        let causes = self.causes();
        // What serves another protocol shows nothing else.
        let continues = self.was_stopped && self.instance.window.service().runs();
        // A pause of a few seconds is no more a fault after a remedy than before it.
        let pauses = causes.is_pause(self.target.settings.patience.or(policy.patience));
        Finding {
            action,
            evidence: self.instance.evidence.soft().is_none() && causes.event() && !pauses,
            ready: meant && self.is_present() && (self.is_ready() || continues),
            alive: self.instance.is_alive(),
            errors: self.instance.window.total_errors(),
        }
    }

    pub(super) fn begin_healing(&mut self, remedy: Remedy, before: Action, now: BootTime) {
        let judged = self.target.id.instance.clone();
        self.symptom = self.seen_symptom();
        self.treated_workload.clone_from(&self.workload);
        self.was_stopped = self.instance.window.service().is_stopped();
        self.state = State::Healing { remedy, before, since: now, judged };
        self.spend(remedy, now);
    }

    /// Dry run: the case continues as if the remedy had been applied without effect.
    pub(super) fn withhold(&mut self, remedy: Remedy, now: BootTime) {
        self.spend(remedy, now);
    }

    /// The remedy's cooldown begins; what led to it counts no more.
    fn spend(&mut self, remedy: Remedy, now: BootTime) {
        self.history.treated(remedy, now);
        self.instance.clear_evidence();
        self.refused = None;
        self.asked = None;
        self.preflight = Preflight::Unasked;
    }

    /// The remedy was applied: verifies it in a fresh window. One that has `ended` was verified
    /// while it was applied. Also returns whether the instance that a soft remedy was applied to is
    /// still the present one.
    pub(super) fn begin_verifying(
        &mut self,
        incident: Option<i64>,
        ended: bool,
        now: BootTime,
    ) -> Option<(Verification, bool)> {
        let State::Healing { remedy, before, judged, since } = &self.state else { return None };
        let (remedy, before, judged, since) = (*remedy, *before, judged.clone(), *since);
        let same = remedy.is_hard() || self.target.id.instance == judged;
        self.history.treated(remedy, now);
        let reloads = remedy == Remedy::Soft && self.target.settings.soft.is_named();
        let settle = if reloads { RELOAD } else { Duration::ZERO };
        let verification = Verification::new(remedy, before, if ended { since } else { now });
        let verification = verification.settling(settle);
        let applied = Applied::Certainly;
        Some((self.start_window(verification, judged, incident, applied), same))
    }

    /// An earlier agent process intended a remedy and died: it counts as applied.
    pub(super) fn resume(&mut self, recovered: Recovered, now: BootTime) -> (Verification, bool) {
        let Recovered { incident, remedy, before, judged, symptom } = recovered;
        self.symptom = symptom;
        self.treated_workload.clone_from(&self.workload);
        let same = remedy.is_hard() || self.target.id.instance == judged;
        let verification = Verification::new(remedy, before, now);
        (self.start_window(verification, judged, Some(incident), Applied::Perhaps), same)
    }

    fn start_window(
        &mut self,
        verification: Verification,
        judged: String,
        incident: Option<i64>,
        applied: Applied,
    ) -> Verification {
        if verification.remedy.is_hard() && self.target.id.instance == judged {
            // The next instance has not answered yet. Polls that fail until it does are expected
            // and do not count.
            self.instance.window = Window::new();
        } else {
            self.instance.window.refresh();
        }
        self.instance.evidence.clear();
        let of = verification.clone();
        self.state = State::Verifying { verification: of, judged, incident, applied };
        verification
    }

    /// The window of a reload opens: what was before it does not count.
    pub(super) fn has_settled(&mut self) {
        self.instance.window.refresh_from_here();
        self.instance.evidence.clear();
    }

    pub(super) fn observe(&mut self, now_is: Verification) {
        if let State::Verifying { verification, .. } = &mut self.state {
            *verification = now_is;
        }
    }

    /// A missing successor proves that the remedy was wrong only if nothing else may have delayed
    /// it: neither the kubelet's back-off nor a slow start, and if the remedy was really applied
    /// (an earlier agent process may have died before it).
    pub(super) fn as_far_as_known(&self, outcome: Outcome, of: &Verification) -> Outcome {
        let State::Verifying { judged, applied, .. } = &self.state else { return outcome };
        let perhaps_not_applied =
            *applied == Applied::Perhaps && self.target.id.instance == *judged && self.is_present();
        let no_successor = of.remedy.is_hard() && !of.is_open();
        match outcome {
            Outcome::NotHealed
                if no_successor && (self.target.is_of_runtime() || perhaps_not_applied) =>
            {
                Outcome::Unverified
            }
            outcome => outcome,
        }
    }

    /// Returns to watching. Returns the journal's number of the incident.
    pub(super) fn end_treatment(
        &mut self,
        remedy: Remedy,
        outcome: Outcome,
        ceiling: Remedy,
        now: BootTime,
    ) -> Option<i64> {
        self.history.concluded(remedy, outcome, ceiling, now);
        let before = std::mem::replace(&mut self.state, State::Watching);
        // What was withheld meanwhile counts now.
        self.measure();
        let State::Verifying { incident, .. } = before else { return None };
        self.climbed_from = match outcome {
            Outcome::NotHealed | Outcome::Worse => incident,
            Outcome::Healed | Outcome::Unverified | Outcome::Failed => None,
        };
        incident
    }

    /// Ends what has taken too long: a remedy without a result, or a restarted target that does not
    /// return. Also gives up a lost sample.
    pub(super) fn overdue(
        &mut self,
        now: BootTime,
    ) -> Option<(Verification, Outcome, &'static str)> {
        self.instance.sampling = false;
        match &self.state {
            State::Healing { remedy, before, since, .. } if now.since(*since) >= HEAL_LIMIT => {
                let verification = Verification::new(*remedy, *before, *since);
                Some((verification, Outcome::Failed, "no result of the remedy"))
            }
            State::Verifying { verification, .. } if !self.is_present() => {
                let outcome = match verification.remedy.is_hard() {
                    true => self.as_far_as_known(Outcome::NotHealed, verification),
                    false => Outcome::Unverified,
                };
                Some((verification.clone(), outcome, "its process ended and no successor came"))
            }
            _ => None,
        }
    }

    /// The symptom of the treatment that just ended.
    pub(super) const fn treated_symptom(&self) -> Symptom {
        self.symptom
    }

    /// The key of its past treatments.
    #[must_use]
    pub fn workload(&self) -> &str {
        &self.workload
    }

    /// The key under which the present treatment is remembered.
    pub(super) fn treated_workload(&self) -> &str {
        &self.treated_workload
    }

    /// Stores what its memory changes at the first remedy; returns it if it is new.
    pub(super) fn prefer(&mut self, preferred: Option<Preferred>) -> Option<Preferred> {
        let before = std::mem::replace(&mut self.preferred, preferred);
        preferred.filter(|_| preferred != before)
    }

    pub(super) const fn next_trigger(&self) -> Trigger {
        match self.state {
            State::Verifying { .. } => Trigger::Verify,
            _ if self.instance.is_confirming() => Trigger::Confirm,
            _ => Trigger::Tick,
        }
    }
}
