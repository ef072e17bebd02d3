//! Stage 4: may we? Turns a decision into a [`Permit`] or a [`Refusal`] that names its gate.
//!
//! A fast wrong healer is worse than none. So every gate is a reason *not* to act, and any doubt
//! refuses: a row that is not a number, a journal that cannot be written, an instance that has not
//! yet answered. Gates are asked in a fixed order and the first refusal counts; metrics and logs
//! show that order. Everything here is pure: values and `now` in.
//!
//! A pod belongs to a cluster, which is asked last ([`Denial::AskCluster`]): a remedy that nothing
//! on the node forbids may still take down a workload. [`workload`] judges the cluster's answers.
mod again;
mod approval;
mod evidence;
mod history;
mod manual;
pub mod memory;
mod refusal;
pub mod workload;

use std::time::Duration;

pub use again::still_permitted;
pub use approval::Asked;
pub use evidence::{Evidence, Observation};
pub use history::{History, NodeHistory};
pub use memory::{Follows, Memories, Memory, Symptom, Tally, Treatment};
pub use refusal::{Gate, Refusal, Why};

use crate::{
    boot_time::BootTime,
    decide::{Action, Decision, Source},
    features::{Causes, Excuse, FailsSinceStart},
    target::{Capped, Obstacle, Remedy, Request},
};

/// Permission to apply one remedy, once, now. Only the guard creates one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    remedy: Remedy,
}

impl Permit {
    /// The permitted remedy.
    #[must_use]
    pub const fn remedy(&self) -> Remedy {
        self.remedy
    }

    /// A permit without a guard, for tests of the remedies.
    #[cfg(any(test, feature = "testing"))]
    pub const fn for_tests(remedy: Remedy) -> Self {
        Self { remedy }
    }
}

/// Why there is no permit.
#[derive(Clone, Debug, PartialEq)]
pub enum Denial {
    /// A gate refused.
    Refused(Refusal),
    /// The node permits it; now the cluster must be asked.
    AskCluster,
}

/// The cluster's answer about one remedy for one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Preflight {
    /// None yet, or too long ago.
    Unasked,
    /// It refuses this remedy, and so any stronger one.
    Refused(Remedy, Refusal),
    /// It has no objection, at this moment.
    Given(Remedy),
}

/// The operator's limits, and the guard's patience.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The strongest remedy on this node, whatever a target's own ceiling.
    pub max_remedy: Remedy,
    /// Whether the rules, without a model, may restart.
    pub rules_may_restart: bool,
    /// Minimum time between two soft remedies for a target.
    pub soft_cooldown: Duration,
    /// Delay after a soft remedy that could not be applied: the app may not offer one.
    pub soft_retry: Duration,
    /// Minimum time between two restarts of a target, and between two evictions.
    pub restart_cooldown: Duration,
    /// Delay after a hard remedy that was not applied.
    pub hard_retry: Duration,
    /// Maximum number of hard remedies per node and minute.
    pub node_budget: u32,
    /// How long a target may fail to answer before that counts.
    pub patience: Duration,
    /// How long a new instance may take to answer well before it counts as failing.
    pub warm_up: Duration,
    /// How long a restarted container may take to be ready: the kubelet backs off for up to five
    /// minutes. A process has [`Self::warm_up`].
    pub container_comes_back: Duration,
    /// How long a target must be well before its exhausted remedies are cleared.
    pub forgive_after: Duration,
    /// Apply nothing, but report what would have been done.
    pub dry_run: bool,
    /// Examine the host before every remedy. A trial on a recording cannot.
    pub examine: bool,
}

impl Policy {
    /// How long to wait for a target's successor after a hard remedy.
    #[must_use]
    pub const fn comes_back(&self, is_of_runtime: bool) -> Duration {
        if is_of_runtime { self.container_comes_back } else { self.warm_up }
    }

    /// The strongest remedy for a target with this ceiling, if `source` decides.
    #[must_use]
    pub fn ceiling(&self, target: Remedy, source: Source) -> Remedy {
        let by_source = match source {
            Source::Rules if !self.rules_may_restart => Remedy::Soft,
            _ => Remedy::Evict,
        };
        target.min(self.max_remedy).min(by_source)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_remedy: Remedy::Evict,
            rules_may_restart: false,
            soft_cooldown: Duration::from_secs(10),
            soft_retry: Duration::from_secs(300),
            restart_cooldown: Duration::from_secs(600),
            hard_retry: Duration::from_secs(30),
            node_budget: 2,
            patience: Duration::from_secs(10),
            warm_up: Duration::from_secs(60),
            container_comes_back: Duration::from_secs(420),
            forgive_after: Duration::from_secs(300),
            dry_run: false,
            examine: true,
        }
    }
}

/// The guard's input: all facts about one target at one instant.
#[derive(Debug)]
pub struct Question<'a> {
    /// The instant.
    pub now: BootTime,
    /// The decision to be acted on.
    pub decision: &'a Decision,
    /// Present facts that would justify a hard remedy.
    pub causes: Causes,
    /// The target's own ceiling.
    pub ceiling: Remedy,
    /// What lowered it below what its owner consents to.
    pub capped: Option<Capped>,
    /// Whether it is a time at which its owner wants no remedy.
    pub not_now: bool,
    /// The mildest remedy before which its owner wants to be asked.
    pub ask_before: Option<Remedy>,
    /// The request that is open in this incident.
    pub asked: Option<Asked>,
    /// Whether its owner names its soft remedy.
    pub names_soft: bool,
    /// Why it cannot be reset, if so.
    pub no_soft: Option<Obstacle>,
    /// Why it cannot be restarted in place, if so.
    pub no_restart: Option<Obstacle>,
    /// Why it cannot be evicted, if so.
    pub no_evict: Option<Obstacle>,
    /// The cluster's answer; `None` for a target outside a cluster.
    pub preflight: Option<&'a Preflight>,
    /// The required confidence.
    pub min_confidence: f32,
    /// When the instance started.
    pub started: BootTime,
    /// Whether the instance has answered well, or cannot be polled.
    pub ready: bool,
    /// How long it may fail to answer.
    pub patience: Duration,
    /// How long a new instance may take.
    pub warm_up: Duration,
    /// The excuse: the cause is outside the target.
    pub excuse: Option<Excuse>,
    /// The present symptom.
    pub symptom: Symptom,
    /// Start of the sickness.
    pub ill_since: BootTime,
    /// The memory of its workload.
    pub memory: Option<&'a Memory>,
    /// What this instance has never done since its start, if the agent saw it start.
    pub fails_since_start: FailsSinceStart,
    /// Whether only a level is a cause, and a resize in place is tried first.
    pub resize_first: bool,
    /// Why no remedy would help, according to the host.
    pub futile: Option<&'a str>,
    /// Its recent samples.
    pub evidence: &'a Evidence,
    /// Its earlier remedies.
    pub history: &'a History,
    /// The node as a whole.
    pub node: &'a NodeState,
}

/// The state of the node as a whole.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// Hard remedies of the last minute.
    pub history: NodeHistory,
    /// Number of targets with a recent failed poll.
    pub failing: u32,
    /// Number of targets that are polled and have answered before.
    pub polled: u32,
    /// Whether healing is paused.
    pub paused: bool,
    /// Whether the journal accepts intentions.
    pub journal_writable: bool,
}

/// The remedy that a decision asks for, before any gate: the mildest that fits the verdict and what
/// was already tried, within the ceiling. `None`: nothing.
///
/// A verdict that only an old count supports asks for the soft remedy, whatever its class: a count
/// that is not current never justifies a hard remedy.
#[must_use]
pub fn wanted(q: &Question<'_>, policy: &Policy) -> Option<Remedy> {
    let verdict = verdict(q)?;
    // What helped this workload against this symptom before goes first, unless it was just tried.
    let helped = q.memory.and_then(|memory| memory.helped(q.symptom, q.ill_since, q.now));
    let helped = helped.filter(|helped| helped.is_hard() || q.history.climbed_to(q.now).is_none());
    Some(within_ceiling(q, policy, helped.unwrap_or_else(|| mildest(q, policy, verdict))))
}

/// What the owner names as soft remedy comes before a restart for errors, once. What does not answer
/// is not asked to reload.
fn mildest(q: &Question<'_>, policy: &Policy, verdict: Remedy) -> Remedy {
    let possible = q.names_soft && q.no_soft.is_none();
    let due = q.history.cooldown(Remedy::Soft, q.now, policy).is_zero();
    let first = q.history.climbed_to(q.now).is_none();
    if possible && due && first && q.symptom == Symptom::Errors { Remedy::Soft } else { verdict }
}

/// What the memory of the workload changes at the first remedy: the one that would be wanted without
/// it, if another.
#[must_use]
pub fn wanted_without_memory(q: &Question<'_>, policy: &Policy) -> Option<Remedy> {
    let without = verdict(q).map(|verdict| within_ceiling(q, policy, verdict));
    without.filter(|_| without != wanted(q, policy))
}

/// The remedy that the decision itself asks for.
const fn verdict(q: &Question<'_>) -> Option<Remedy> {
    match q.decision.action {
        Action::NoAction => None,
        Action::ResetErrors => Some(Remedy::Soft),
        Action::RestartService => Some(Remedy::Restart),
    }
}

/// This remedy, or the one to which failed ones have escalated, as far as the ceiling permits.
fn within_ceiling(q: &Question<'_>, policy: &Policy, verdict: Remedy) -> Remedy {
    let climbed = q.history.climbed_to(q.now).unwrap_or(Remedy::Soft);
    let wanted = if is_current(q) { verdict.max(climbed) } else { climbed };
    let wanted = wanted.min(ceiling(q, policy)).max(Remedy::Soft);
    // If a restart in place is impossible, the next remedy takes its place, if permitted.
    let skip = wanted == Remedy::Restart && q.no_restart.is_some() && q.no_evict.is_none();
    if skip && ceiling(q, policy) >= Remedy::Evict { Remedy::Evict } else { wanted }
}

/// Whether something that happens now supports a hard remedy. A level of CPU or memory does so only
/// if the verdict itself is to restart: a busy target is not restarted because a reset, which
/// cannot make it less busy, did not help.
const fn is_current(q: &Question<'_>) -> bool {
    q.causes.event() || (q.causes.level && matches!(q.decision.action, Action::RestartService))
}

/// Asks every gate of the node in order, then checks the cluster's answer.
///
/// # Errors
/// The first refusal, or that the cluster must be asked. For a decision of `no_action`, ask
/// [`wanted`] first.
pub fn permit(q: &Question<'_>, remedy: Remedy, policy: &Policy) -> Result<Permit, Denial> {
    type Check = fn(&Question<'_>, Remedy, &Policy) -> Option<Why>;
    const CHECKS: [(Gate, Check); 17] = [
        (Gate::Mode, mode),
        (Gate::Confidence, confidence),
        (Gate::Unfamiliar, unfamiliar),
        (Gate::Evidence, evidence),
        (Gate::WarmUp, warm_up),
        (Gate::Excused, excused),
        (Gate::Patience, patience),
        (Gate::Resize, resize),
        (Gate::Cooldown, cooldown),
        (Gate::NodeBudget, node_budget),
        (Gate::NodeNetwork, node_network),
        (Gate::Exhausted, exhausted),
        (Gate::Futile, futile),
        (Gate::Journal, journal),
        (Gate::Paused, paused),
        (Gate::Window, window),
        (Gate::Approval, approval),
    ];
    for (gate, check) in CHECKS {
        if let Some(why) = check(q, remedy, policy) {
            return Err(Denial::Refused(Refusal { gate, why }));
        }
    }
    match q.preflight {
        None => Ok(Permit { remedy }),
        Some(Preflight::Given(given)) if *given == remedy => Ok(Permit { remedy }),
        Some(Preflight::Refused(refused, refusal)) if *refused <= remedy => {
            Err(Denial::Refused(refusal.clone()))
        }
        Some(_) => Err(Denial::AskCluster),
    }
}

/// The strongest remedy that owner, operator and source of the decision permit.
fn ceiling(q: &Question<'_>, policy: &Policy) -> Remedy {
    policy.ceiling(q.ceiling, q.decision.source)
}

fn mode(q: &Question<'_>, remedy: Remedy, policy: &Policy) -> Option<Why> {
    if q.ceiling.min(policy.max_remedy) < remedy {
        let capped = q.capped.filter(|capped| capped.cap.most() < remedy);
        return Some(match (q.no_evict, capped) {
            (Some(Obstacle::InQuarantine), _) => Why::Impossible(remedy, Obstacle::InQuarantine),
            (_, Some(capped)) => Why::Capped(capped),
            _ => Why::ObserveOnly,
        });
    }
    if ceiling(q, policy) < remedy {
        return Some(Why::RulesAreSoft);
    }
    let obstacle = match remedy {
        Remedy::Observe => None,
        Remedy::Soft => q.no_soft,
        Remedy::Restart => q.no_restart,
        Remedy::Evict => q.no_evict,
    };
    obstacle.map(|obstacle| Why::Impossible(remedy, obstacle))
}

fn confidence(q: &Question<'_>, _: Remedy, _: &Policy) -> Option<Why> {
    let is = q.decision.confidence;
    // This form also refuses NaN.
    let enough = is >= q.min_confidence;
    (!enough).then_some(Why::NotConfident(is, q.min_confidence))
}

/// A reset costs little and may be tried on anything.
fn unfamiliar(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    q.decision.unfamiliar.filter(|_| remedy.is_hard()).map(Why::Unlike)
}

fn evidence(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    if !remedy.is_hard() {
        return if q.causes.only_slow() { Some(Why::OnlySlow) } else { q.evidence.soft() };
    }
    if !is_current(q) {
        return Some(Why::NothingCurrent);
    }
    let least =
        if q.history.climbed_to(q.now).is_some() { Action::ResetErrors } else { q.decision.action };
    q.evidence.hard(least)
}

fn warm_up(q: &Question<'_>, _: Remedy, _: &Policy) -> Option<Why> {
    let young = q.now.since(q.started) < q.warm_up;
    (young && !q.ready).then_some(Why::NotYetReady)
}

/// The app's report about others, and the kernel's counts of its calls, excuse errors and failing
/// polls. They excuse no level of CPU or memory, and no OOM kill: those are its own. An app that
/// intentionally does not serve is not treated at all.
fn excused(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    let excuse = q.excuse.as_ref()?;
    let applies = match excuse {
        Excuse::NotNow | Excuse::Blames(_) => true,
        Excuse::Serves { .. } | Excuse::Held { .. } => q.causes.only_failing(),
        Excuse::Vague => remedy.is_hard() && q.causes.only_failing(),
        Excuse::UpstreamFails { .. }
        | Excuse::CannotConnect { .. }
        | Excuse::Denied { .. }
        | Excuse::Unanswered { .. } => {
            !q.causes.oom_kill
                && (q.causes.recent_error || q.causes.failed_poll || q.causes.slow_polls)
        }
    };
    applies.then(|| Why::Excused(excuse.clone()))
}

fn patience(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    let (is, must) = (q.causes.failing_for, q.patience);
    let pause = q.causes.is_pause(must).then_some(Why::NotSilentLongEnough(is, must));
    let moment = remedy.is_hard() && q.causes.is_moment();
    pause.or_else(|| moment.then_some(Why::MayBeAMoment(q.causes.erring_for)))
}

/// A level that more CPU or memory may end needs neither a reset nor a restart.
fn resize(q: &Question<'_>, _: Remedy, _: &Policy) -> Option<Why> {
    q.resize_first.then_some(Why::ResizeFirst)
}

fn cooldown(q: &Question<'_>, remedy: Remedy, policy: &Policy) -> Option<Why> {
    let left = q.history.cooldown(remedy, q.now, policy);
    (!left.is_zero()).then_some(Why::CoolingDown(left))
}

fn node_budget(q: &Question<'_>, remedy: Remedy, policy: &Policy) -> Option<Why> {
    let spent = q.node.history.within_a_minute(q.now);
    (remedy.is_hard() && spent >= policy.node_budget).then_some(Why::NodeBudgetSpent(spent))
}

/// A majority, and at least three, of all polled targets: two that fail together may be a pair.
fn node_network(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    let NodeState { failing, polled, .. } = *q.node;
    let together = failing >= 3 && failing * 2 > polled;
    (remedy.is_hard() && q.causes.failed_poll && together)
        .then_some(Why::NodeFails(failing, polled))
}

fn exhausted(q: &Question<'_>, _: Remedy, _: &Policy) -> Option<Why> {
    q.history.is_exhausted().then_some(Why::RemediesUsedUp)
}

/// A remedy clears what a process has gathered since its start. An instance that began with errors
/// has gathered nothing, and a full disk is not the process's.
fn futile(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    let fails = q.fails_since_start;
    let only_errors = fails.only_errors && q.symptom == Symptom::Errors;
    if only_errors || (remedy.is_hard() && fails.never_served) {
        return Some(Why::NeverWell);
    }
    let memory = q.memory.filter(|_| remedy.is_hard());
    let before = memory.and_then(|memory| memory.futile(remedy, q.symptom, q.ill_since, q.now));
    if let Some(futile) = before {
        return Some(Why::Futile(remedy, futile));
    }
    q.futile.map(|why| Why::HostSays(why.into()))
}

fn journal(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    (remedy.is_hard() && !q.node.journal_writable).then_some(Why::NoJournal)
}

fn paused(q: &Question<'_>, _: Remedy, _: &Policy) -> Option<Why> {
    q.node.paused.then_some(Why::SwitchedOff)
}

fn window(q: &Question<'_>, _: Remedy, _: &Policy) -> Option<Why> {
    q.not_now.then_some(Why::NotNow)
}

/// An approval is of one remedy: what is wanted now may be another.
fn approval(q: &Question<'_>, remedy: Remedy, _: &Policy) -> Option<Why> {
    let must_ask = remedy.is_hard() && q.ask_before.is_some_and(|least| remedy >= least);
    let asked = q.asked.filter(|asked| asked.request.remedy == remedy);
    let is_approved = asked.is_some_and(|asked| asked.is_approved());
    let request = || asked.map_or_else(|| Request::new(remedy, q.now), |asked| asked.request);
    (must_ask && !is_approved).then(|| Why::AskPeople(request()))
}

#[cfg(test)]
mod tests;
