//! Stage 4: may we? A decision becomes a [`Permit`] or a [`Refusal`] that names its gate.
//!
//! A fast wrong healer is worse than none, so every gate is a reason *not* to act, and any doubt
//! (a row that is not a number, a journal that cannot be written, an instance that has not yet
//! answered) refuses. Gates are asked in a fixed order and the first refusal counts: the order is
//! part of what people see in metrics and logs. Everything here is pure: values and `now` in.
//!
//! A pod belongs to a cluster, which is asked last ([`Denial::AskCluster`]): what nobody on the
//! node objects to may still take down a workload. What the cluster answers is judged by
//! [`workload`], by whoever asks.
mod evidence;
mod history;
pub mod workload;

use std::{fmt, sync::Arc, time::Duration};

pub use evidence::{Evidence, Look};
pub use history::{History, NodeHistory};
use serde::Serialize;
use workload::Rolling;

use crate::{
    decide::{Action, Decision, Source},
    features::Causes,
    moment::Moment,
    target::{Obstacle, Rung},
};

/// The gates, in the order in which they are asked: first those of the node, then, for pods, those
/// of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The target's ceiling, the node's, or deciding by rules alone.
    Mode,
    /// The decision is not confident enough.
    Confidence,
    /// Too few looks agree, or nothing current supports a hard heal.
    Evidence,
    /// The instance is new and has not yet answered.
    WarmUp,
    /// A remedy was given too recently.
    Cooldown,
    /// Too many hard heals on this node within the last minute.
    NodeBudget,
    /// Most targets of the node fail together: the node is the patient.
    NodeNetwork,
    /// The remedies are used up; people have to look.
    Exhausted,
    /// The intention could not be made durable.
    Journal,
    /// Healing is switched off, on this node or in the whole cluster.
    Paused,
    /// The API server does not answer, and what it would say matters.
    ApiServer,
    /// The pod is no longer the one that was judged.
    Identity,
    /// The workload is rolling out or being scaled.
    Rollout,
    /// A PodDisruptionBudget does not permit it.
    DisruptionBudget,
    /// Most pods of the workload are sick: scale or wait, never restart.
    Overload,
    /// Another pod of the workload is being treated, or its share of hard heals is spent.
    WorkloadLock,
}

impl Gate {
    /// All gates, in the order in which they are asked.
    pub const ALL: [Self; 16] = [
        Self::Mode,
        Self::Confidence,
        Self::Evidence,
        Self::WarmUp,
        Self::Cooldown,
        Self::NodeBudget,
        Self::NodeNetwork,
        Self::Exhausted,
        Self::Journal,
        Self::Paused,
        Self::ApiServer,
        Self::Identity,
        Self::Rollout,
        Self::DisruptionBudget,
        Self::Overload,
        Self::WorkloadLock,
    ];

    /// The gate's name, as in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Confidence => "confidence",
            Self::Evidence => "evidence",
            Self::WarmUp => "warm_up",
            Self::Cooldown => "cooldown",
            Self::NodeBudget => "node_budget",
            Self::NodeNetwork => "node_network",
            Self::Exhausted => "exhausted",
            Self::Journal => "journal",
            Self::Paused => "paused",
            Self::ApiServer => "api_server",
            Self::Identity => "identity",
            Self::Rollout => "rollout",
            Self::DisruptionBudget => "disruption_budget",
            Self::Overload => "overload",
            Self::WorkloadLock => "workload_lock",
        }
    }
}

/// Why a gate refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Why {
    /// The ceiling is `observe`.
    ObserveOnly,
    /// The remedy cannot be given to this target.
    Impossible(Rung, Obstacle),
    /// Rules alone may not do more than reset.
    RulesAreSoft,
    /// Confidence and what was asked for.
    NotConfident(f32, f32),
    /// Looks that agree, and how many must.
    TooFewLooks(u8, u8),
    /// The agreeing looks lie too close together.
    TooShort,
    /// Too few of the agreeing looks brought a fresh poll.
    NoFreshPoll,
    /// The count is old: nothing happening now supports a hard heal.
    NothingCurrent,
    /// The instance has not answered since it started.
    NotYetReady,
    /// Time until the cooldown ends.
    CoolingDown(Duration),
    /// Hard heals within the last minute.
    NodeBudgetSpent(u32),
    /// Targets failing, of all polled.
    NodeFails(u32, u32),
    /// All permitted remedies were tried and did not help.
    RemediesUsedUp,
    /// The journal cannot be written.
    NoJournal,
    /// Healing is switched off on this node.
    SwitchedOff,
    /// Healing is switched off in the cluster, by this namespace's annotation.
    ClusterPaused(Arc<str>),
    /// What the API server, or the way to it, said.
    NoAnswer(Arc<str>),
    /// How the pod differs from the one that was judged.
    MovedOn(Arc<str>),
    /// What the workload is in the middle of.
    Rolling(Rolling),
    /// What the API server said of the budget, which names it.
    Budget(Arc<str>),
    /// Sick pods, of all that the workload has.
    MostAreSick(u32, u32),
    /// Who holds the workload's lock.
    LockedBy(Arc<str>),
    /// Hard heals within ten minutes, and how many the workload may have.
    ShareSpent(u32, u32),
    /// Hard heals in a row that did not help, on whichever node.
    InVain(u32),
    /// What is wrong with the workload's Lease.
    BadLease(Arc<str>),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ObserveOnly => f.write_str("its ceiling is observe"),
            Self::RulesAreSoft => {
                f.write_str("rules alone heal softly at most (--rules-may-restart permits more)")
            }
            Self::NotConfident(is, must) => {
                write!(f, "confidence {is:.2} is below {must:.2}")
            }
            Self::TooFewLooks(agree, must) => write!(f, "{agree} of {must} looks agree so far"),
            Self::TooShort => f.write_str("the looks that agree span less than 400 ms"),
            Self::NoFreshPoll => f.write_str("fewer than two fresh polls support it"),
            Self::NothingCurrent => {
                f.write_str("only an old count supports it, nothing that happens now")
            }
            Self::NotYetReady => f.write_str("it has not answered since it started"),
            Self::CoolingDown(left) => {
                write!(f, "treated recently, {:.0} s to wait", left.as_secs_f64().ceil())
            }
            Self::NodeBudgetSpent(n) => write!(f, "{n} hard heals on this node within a minute"),
            Self::NodeFails(failing, polled) => {
                write!(f, "{failing} of {polled} targets fail together: suspect the node")
            }
            Self::RemediesUsedUp => {
                f.write_str("every permitted remedy was tried; people must look")
            }
            Self::NoJournal => f.write_str("the journal cannot be written"),
            Self::SwitchedOff => f.write_str("healing is paused"),
            Self::Impossible(rung, obstacle) => write!(f, "no {}: {obstacle}", rung.name()),
            Self::ClusterPaused(namespace) => {
                write!(f, "healing is paused by an annotation of namespace {namespace}")
            }
            Self::NoAnswer(error) => write!(f, "the API server cannot be asked: {error}"),
            Self::MovedOn(how) => write!(f, "not the pod that was judged: {how}"),
            Self::Rolling(rolling) => rolling.fmt(f),
            Self::Budget(said) => f.write_str(said),
            Self::MostAreSick(sick, all) => {
                write!(f, "{sick} of the workload's {all} pods are sick: scale or wait")
            }
            Self::LockedBy(holder) => write!(f, "another of its pods is treated by {holder}"),
            Self::ShareSpent(heals, most) => {
                write!(f, "{heals} hard heals of its workload in 10 min, at most {most} are due")
            }
            Self::InVain(heals) => {
                write!(f, "{heals} hard heals of its workload did not help; people must look")
            }
            Self::BadLease(what) => f.write_str(what),
        }
    }
}

/// A gate said no.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// Which gate.
    pub gate: Gate,
    /// Why.
    pub why: Why,
}

/// Leave to give one remedy, once, now. Only the guard makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    rung: Rung,
}

impl Permit {
    /// The remedy that is permitted.
    #[must_use]
    pub const fn rung(&self) -> Rung {
        self.rung
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
    /// No.
    Refused(Refusal),
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
    /// Between two restarts of one target.
    pub restart_cooldown: Duration,
    /// Hard heals per node per minute.
    pub node_budget: u32,
    /// How long a new instance may take to answer before it counts as failing.
    pub warm_up: Duration,
    /// How long a target must be well before used-up remedies are forgotten.
    pub forgive_after: Duration,
    /// Nothing is done; what would have been is told.
    pub dry_run: bool,
}

impl Policy {
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
            node_budget: 2,
            warm_up: Duration::from_secs(60),
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
    /// Whether the instance has answered a poll, or gets none.
    pub ready: bool,
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
    /// Targets whose last poll failed.
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
    const CHECKS: [(Gate, Check); 10] = [
        (Gate::Mode, mode),
        (Gate::Confidence, confidence),
        (Gate::Evidence, evidence),
        (Gate::WarmUp, warm_up),
        (Gate::Cooldown, cooldown),
        (Gate::NodeBudget, node_budget),
        (Gate::NodeNetwork, node_network),
        (Gate::Exhausted, exhausted),
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
        Some(Clearance::Refused(refusal)) => Err(Denial::Refused(refusal.clone())),
        Some(Clearance::Unasked | Clearance::Given(_)) => Err(Denial::AskCluster),
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
        return q.evidence.soft();
    }
    if !is_current(q) {
        return Some(Why::NothingCurrent);
    }
    let least =
        if q.history.climbed_to(q.now).is_some() { Action::ResetErrors } else { q.decision.action };
    q.evidence.hard(least)
}

fn warm_up(q: &Question<'_>, _: Rung, policy: &Policy) -> Option<Why> {
    let young = q.now.since(q.started) < policy.warm_up;
    (young && !q.ready).then_some(Why::NotYetReady)
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

fn journal(q: &Question<'_>, rung: Rung, _: &Policy) -> Option<Why> {
    (rung.is_hard() && !q.node.journal_writable).then_some(Why::NoJournal)
}

fn paused(q: &Question<'_>, _: Rung, _: &Policy) -> Option<Why> {
    q.node.paused.then_some(Why::SwitchedOff)
}

#[cfg(test)]
mod tests;
