//! Stage 4: may we? Turns a decision into a [`Permit`] or a [`Refusal`] that names its gate.
//!
//! A fast wrong healer is worse than none. So every gate is a reason *not* to act, and any doubt
//! refuses: a row that is not a number, a journal that cannot be written, an instance that has not
//! yet answered. Gates are asked in a fixed order and the first refusal counts; metrics and logs
//! show that order. Everything here is pure: values and `now` in.
//!
//! A pod belongs to a cluster, which is asked last ([`Denial::AskCluster`]): a remedy that nothing
//! on the node forbids may still take down a workload. [`workload`] judges the cluster's answers.
mod evidence;
mod history;
mod manual;
pub mod memory;
mod refusal;
pub mod workload;

use std::time::Duration;

pub use evidence::{Evidence, Look};
pub use history::{History, NodeHistory};
pub use memory::{Memories, Memory, Symptom, Treatment};
pub use refusal::{Gate, Refusal, Why};

use crate::{
    decide::{Action, Decision, Source},
    features::{Causes, Excuse, FailsSinceStart},
    moment::Moment,
    target::{Obstacle, Rung},
};

/// Leave to give one remedy, once, now. Only the guard makes one, and every remedy consumes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Permit {
    rung: Rung,
}

impl Permit {
    /// The remedy that is permitted.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.rung
    }

    /// A permit that no guard gave, for tests of the remedies.
    #[cfg(any(test, feature = "testing"))]
    pub const fn for_tests(rung: Rung) -> Self {
        Self { rung }
    }
}

/// Why there is no permit.
#[derive(Clone, Debug, PartialEq)]
pub enum Denial {
    /// A gate refused.
    Refused(Refusal),
    /// Nobody on the node objects; now the cluster has to be asked.
    AskCluster,
}

/// What the cluster said to one remedy for one pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Clearance {
    /// Nothing yet, or too long ago.
    Unasked,
    /// No, to this remedy, and so to any stronger one.
    Refused(Rung, Refusal),
    /// Nothing against it, just now.
    Given(Rung),
}

/// What the operator permits and how patient the guard is.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The strongest remedy on this node, whatever a target's own ceiling.
    pub max_action: Rung,
    /// Whether rules, deciding without a model, may restart.
    pub rules_may_restart: bool,
    /// Between two soft heals of one target.
    pub soft_cooldown: Duration,
    /// After a soft heal that could not be given: there may be none to give.
    pub soft_retry: Duration,
    /// Between two restarts of one target, and between two evictions.
    pub restart_cooldown: Duration,
    /// After a hard remedy that came to nothing.
    pub hard_retry: Duration,
    /// Hard heals per node per minute.
    pub node_budget: u32,
    /// How long a target may fail to answer before that is held against it.
    pub patience: Duration,
    /// How long a new instance may take to answer well before it counts as failing.
    pub warm_up: Duration,
    /// How long a container, restarted, may take to be there and ready: the kubelet backs off
    /// for up to five minutes. A process is given [`Self::warm_up`].
    pub container_comes_back: Duration,
    /// How long a target must be well before used-up remedies are forgotten.
    pub forgive_after: Duration,
    /// Nothing is done; what would have been is told.
    pub dry_run: bool,
}

impl Policy {
    /// How long to wait for a target's successor after a hard remedy.
    #[must_use]
    pub const fn comes_back(&self, is_of_runtime: bool) -> Duration {
        if is_of_runtime { self.container_comes_back } else { self.warm_up }
    }

    /// The strongest remedy for a target with this ceiling, if `source` decides.
    #[must_use]
    pub fn ceiling(&self, target: Rung, source: Source) -> Rung {
        let by_source = match source {
            Source::Rules if !self.rules_may_restart => Rung::Soft,
            _ => Rung::Evict,
        };
        target.min(self.max_action).min(by_source)
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            max_action: Rung::Evict,
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
        }
    }
}

/// One question to the guard: all that is known of one target at one instant.
#[derive(Debug)]
pub struct Question<'a> {
    /// The instant.
    pub now: Moment,
    /// The decision to be acted on.
    pub decision: &'a Decision,
    /// What of the present would justify a hard heal.
    pub causes: Causes,
    /// The target's own ceiling.
    pub ceiling: Rung,
    /// Why it cannot be restarted in place, if it cannot.
    pub no_restart: Option<Obstacle>,
    /// Why it cannot be evicted, if it cannot.
    pub no_evict: Option<Obstacle>,
    /// What the cluster said; `None` for a target that belongs to none.
    pub clearance: Option<&'a Clearance>,
    /// The confidence it asks for.
    pub min_confidence: f32,
    /// When the instance started, and whether it has answered since.
    pub started: Moment,
    /// Whether the instance has answered well, or cannot be asked.
    pub ready: bool,
    /// How long it may fail to answer, and how long a new instance may take.
    pub patience: Duration,
    /// The latter.
    pub warm_up: Duration,
    /// Whose fault it is instead of the target's.
    pub excuse: Option<Excuse>,
    /// The form of what is seen now, and since when it has been ill.
    pub symptom: Symptom,
    /// The latter.
    pub ill_since: Moment,
    /// What is remembered of its workload.
    pub memory: Option<&'a Memory>,
    /// What this instance never did since it began, if it was watched from there on.
    pub fails_since_start: FailsSinceStart,
    /// Why the host shows that a restart would not help.
    pub futile: Option<&'a str>,
    /// The recent looks at it.
    pub evidence: &'a Evidence,
    /// What was done to it before.
    pub history: &'a History,
    /// The node as a whole.
    pub node: &'a NodeState,
}

/// What is true of the node as a whole.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// Hard heals of the last minute.
    pub history: NodeHistory,
    /// Targets of which a poll failed lately.
    pub failing: u32,
    /// Targets that are polled and have answered before.
    pub polled: u32,
    /// Whether healing is switched off.
    pub paused: bool,
    /// Whether the journal takes intentions.
    pub journal_writable: bool,
}

/// The remedy that a decision asks for, before any gate: the mildest that fits the verdict and
/// what was already tried, within the ceiling. `None`: nothing.
///
/// A verdict that only an old count supports asks for the soft remedy, whatever its class: a
/// count that is not current never justifies a hard heal.
#[must_use]
pub fn wanted(q: &Question<'_>, policy: &Policy) -> Option<Rung> {
    let verdict = match q.decision.action {
        Action::NoAction => return None,
        Action::ResetErrors => Rung::Soft,
        Action::RestartService => Rung::Restart,
    };
    let climbed = q.history.climbed_to(q.now).unwrap_or(Rung::Soft);
    // What helped this workload against this before goes first, unless it was just tried.
    let helped = q.memory.and_then(|memory| memory.helped(q.symptom, q.ill_since, q.now));
    let verdict = match helped {
        Some(helped) if helped.is_hard() || q.history.climbed_to(q.now).is_none() => helped,
        _ => verdict,
    };
    let wanted = if is_current(q) { verdict.max(climbed) } else { climbed };
    let wanted = wanted.min(ceiling(q, policy)).max(Rung::Soft);
    // Where a restart in place is out of the question, the next rung has to do, if it may.
    let skip = wanted == Rung::Restart && q.no_restart.is_some() && q.no_evict.is_none();
    Some(if skip && ceiling(q, policy) >= Rung::Evict { Rung::Evict } else { wanted })
}

/// Whether something that happens now supports a hard heal. A level of CPU or memory does only
/// where the verdict itself is to restart: a busy target is not restarted because a reset, which
/// cannot make it less busy, did not.
const fn is_current(q: &Question<'_>) -> bool {
    q.causes.event() || (q.causes.level && matches!(q.decision.action, Action::RestartService))
}

/// Asks every gate of the node in order, then looks at what the cluster said.
///
/// # Errors
/// The first refusal, or that the cluster has to be asked. A decision for `no_action` is none: ask
/// [`wanted`] first.
pub fn permit(q: &Question<'_>, rung: Rung, policy: &Policy) -> Result<Permit, Denial> {
    type Check = fn(&Question<'_>, Rung, &Policy) -> Option<Why>;
    const CHECKS: [(Gate, Check); 13] = [
        (Gate::Mode, mode),
        (Gate::Confidence, confidence),
        (Gate::Evidence, evidence),
        (Gate::WarmUp, warm_up),
        (Gate::Excused, excused),
        (Gate::Patience, patience),
        (Gate::Cooldown, cooldown),
        (Gate::NodeBudget, node_budget),
        (Gate::NodeNetwork, node_network),
        (Gate::Exhausted, exhausted),
        (Gate::Futile, futile),
        (Gate::Journal, journal),
        (Gate::Paused, paused),
    ];
    for (gate, check) in CHECKS {
        if let Some(why) = check(q, rung, policy) {
            return Err(Denial::Refused(Refusal { gate, why }));
        }
    }
    match q.clearance {
        None => Ok(Permit { rung }),
        Some(Clearance::Given(given)) if *given == rung => Ok(Permit { rung }),
        Some(Clearance::Refused(refused, refusal)) if *refused <= rung => {
            Err(Denial::Refused(refusal.clone()))
        }
        Some(_) => Err(Denial::AskCluster),
    }
}

/// The strongest remedy that owner, operator and source of the decision agree on.
fn ceiling(q: &Question<'_>, policy: &Policy) -> Rung {
    policy.ceiling(q.ceiling, q.decision.source)
}

fn mode(q: &Question<'_>, rung: Rung, policy: &Policy) -> Option<Why> {
    if q.ceiling.min(policy.max_action) < rung {
        return Some(Why::ObserveOnly);
    }
    if ceiling(q, policy) < rung {
        return Some(Why::RulesAreSoft);
    }
    let obstacle = match rung {
        Rung::Observe | Rung::Soft => None,
        Rung::Restart => q.no_restart,
        Rung::Evict => q.no_evict,
    };
    obstacle.map(|obstacle| Why::Impossible(rung, obstacle))
}

fn confidence(q: &Question<'_>, _: Rung, _: &Policy) -> Option<Why> {
    let is = q.decision.confidence;
    // Written so that a NaN refuses.
    let enough = is >= q.min_confidence;
    (!enough).then_some(Why::NotConfident(is, q.min_confidence))
}

fn evidence(q: &Question<'_>, rung: Rung, _: &Policy) -> Option<Why> {
    if !rung.is_hard() {
        return if q.causes.only_slow() { Some(Why::OnlySlow) } else { q.evidence.soft() };
    }
    if !is_current(q) {
        return Some(Why::NothingCurrent);
    }
    let least =
        if q.history.climbed_to(q.now).is_some() { Action::ResetErrors } else { q.decision.action };
    q.evidence.hard(least)
}

fn warm_up(q: &Question<'_>, _: Rung, _: &Policy) -> Option<Why> {
    let young = q.now.since(q.started) < q.warm_up;
    (young && !q.ready).then_some(Why::NotYetReady)
}

/// What the app says of others, and what the kernel saw of its calls, excuses errors and failing
/// polls. It excuses no level of CPU or memory, and no OOM kill: those are its own. An app that does
/// not serve on purpose is not treated at all.
fn excused(q: &Question<'_>, rung: Rung, _: &Policy) -> Option<Why> {
    let excuse = q.excuse.as_ref()?;
    let applies = match excuse {
        Excuse::NotNow | Excuse::Blames(_) => true,
        Excuse::Serves { .. } => q.causes.only_failing(),
        Excuse::Vague => rung.is_hard() && q.causes.only_failing(),
        Excuse::UpstreamFails { .. } | Excuse::CannotConnect { .. } | Excuse::Unanswered { .. } => {
            !q.causes.oom_kill
                && (q.causes.recent_error || q.causes.failed_poll || q.causes.slow_polls)
        }
    };
    applies.then(|| Why::Excused(excuse.clone()))
}

fn patience(q: &Question<'_>, _: Rung, _: &Policy) -> Option<Why> {
    let (is, must) = (q.causes.failing_for, q.patience);
    q.causes.is_pause(must).then_some(Why::NotSilentLongEnough(is, must))
}

fn cooldown(q: &Question<'_>, rung: Rung, policy: &Policy) -> Option<Why> {
    let left = q.history.cooldown(rung, q.now, policy);
    (!left.is_zero()).then_some(Why::CoolingDown(left))
}

fn node_budget(q: &Question<'_>, rung: Rung, policy: &Policy) -> Option<Why> {
    let spent = q.node.history.within_a_minute(q.now);
    (rung.is_hard() && spent >= policy.node_budget).then_some(Why::NodeBudgetSpent(spent))
}

/// A majority, and at least three, of all polled targets: two that fail together may be one pair.
fn node_network(q: &Question<'_>, rung: Rung, _: &Policy) -> Option<Why> {
    let NodeState { failing, polled, .. } = *q.node;
    let together = failing >= 3 && failing * 2 > polled;
    (rung.is_hard() && q.causes.failed_poll && together).then_some(Why::NodeFails(failing, polled))
}

fn exhausted(q: &Question<'_>, _: Rung, _: &Policy) -> Option<Why> {
    q.history.is_exhausted().then_some(Why::RemediesUsedUp)
}

fn futile(q: &Question<'_>, rung: Rung, _: &Policy) -> Option<Why> {
    if !rung.is_hard() {
        return None;
    }
    let fails = q.fails_since_start;
    if fails.never_served || (fails.only_errors && q.symptom == Symptom::Errors) {
        return Some(Why::NeverWell);
    }
    let before = q.memory.and_then(|memory| memory.futile(rung, q.symptom, q.ill_since, q.now));
    if let Some(futile) = before {
        return Some(Why::Futile(rung, futile));
    }
    q.futile.map(|why| Why::HostSays(why.into()))
}

fn journal(q: &Question<'_>, rung: Rung, _: &Policy) -> Option<Why> {
    (rung.is_hard() && !q.node.journal_writable).then_some(Why::NoJournal)
}

fn paused(q: &Question<'_>, _: Rung, _: &Policy) -> Option<Why> {
    q.node.paused.then_some(Why::SwitchedOff)
}

#[cfg(test)]
mod tests;
