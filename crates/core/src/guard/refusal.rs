//! Refusals: the names of the gates, and each reason as a sentence for users.
use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{memory::Futile, workload::Rolling};
use crate::{
    decide::Unfamiliar,
    features::{ERRORS_LAST, Excuse},
    target::{Capped, Obstacle, Remedy, Request},
};

/// The gates, in the order in which they are asked: first those of the node, then, for pods, those
/// of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The ceiling of the target or the node, or the limit of the rules.
    Mode,
    /// The decision is not confident enough.
    Confidence,
    /// The model was not trained on anything like this.
    Unfamiliar,
    /// Too few samples agree, or nothing current supports a hard remedy.
    Evidence,
    /// The instance is new and has not yet answered well.
    WarmUp,
    /// The cause is outside the target: a dependency, maintenance, or a health check that fails
    /// while the service serves.
    Excused,
    /// It has not failed to answer for long enough.
    Patience,
    /// A resize in place goes first, since only a level supports the remedy.
    Resize,
    /// A remedy was applied too recently.
    Cooldown,
    /// Too many hard remedies on this node within the last minute.
    NodeBudget,
    /// Most targets of the node fail together: the cause is the node.
    NodeNetwork,
    /// All permitted remedies were tried and none helped; an operator must look.
    Exhausted,
    /// A hard remedy would not help: it did not the last time, or the host shows why.
    Futile,
    /// The intention cannot be written to disk.
    Journal,
    /// Healing is paused, on this node or in the whole cluster.
    Paused,
    /// It is a time at which its owner wants no remedy.
    Window,
    /// Its owner wants to be asked, and nobody has approved the remedy.
    Approval,
    /// The API server does not answer, and its answer is required.
    ApiServer,
    /// The pod is no longer the one that was judged.
    Identity,
    /// The workload is rolling out or being scaled, or some of its pods are still starting.
    Rollout,
    /// A PodDisruptionBudget does not permit it.
    DisruptionBudget,
    /// Most pods of the workload are sick: scale or wait, never restart.
    Overload,
    /// Another pod of the workload is being treated, or its share of hard remedies is spent.
    WorkloadLock,
}

impl Gate {
    /// All gates, in the order in which they are asked.
    pub const ALL: [Self; 23] = [
        Self::Mode,
        Self::Confidence,
        Self::Unfamiliar,
        Self::Evidence,
        Self::WarmUp,
        Self::Excused,
        Self::Patience,
        Self::Resize,
        Self::Cooldown,
        Self::NodeBudget,
        Self::NodeNetwork,
        Self::Exhausted,
        Self::Futile,
        Self::Journal,
        Self::Paused,
        Self::Window,
        Self::Approval,
        Self::ApiServer,
        Self::Identity,
        Self::Rollout,
        Self::DisruptionBudget,
        Self::Overload,
        Self::WorkloadLock,
    ];

    /// Whether a refusal to one pod holds for all pods of its workload.
    #[must_use]
    pub const fn is_of_workload(self) -> bool {
        matches!(
            self,
            Self::Rollout | Self::Overload | Self::WorkloadLock | Self::Exhausted | Self::Paused
        )
    }

    /// The gate's name, as in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Confidence => "confidence",
            Self::Unfamiliar => "unfamiliar",
            Self::Evidence => "evidence",
            Self::WarmUp => "warm_up",
            Self::Excused => "excused",
            Self::Patience => "patience",
            Self::Resize => "resize",
            Self::Cooldown => "cooldown",
            Self::NodeBudget => "node_budget",
            Self::NodeNetwork => "node_network",
            Self::Exhausted => "exhausted",
            Self::Futile => "futile",
            Self::Journal => "journal",
            Self::Paused => "paused",
            Self::Window => "window",
            Self::Approval => "approval",
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
    /// What the namespace has lowered the ceiling to.
    Capped(Capped),
    /// The remedy is impossible for this target.
    Impossible(Remedy, Obstacle),
    /// The rules may apply soft remedies only.
    RulesAreSoft,
    /// The confidence, and the required one.
    NotConfident(f32, f32),
    /// How the row is unlike those that the model was trained on.
    Unlike(Unfamiliar),
    /// Number of agreeing samples, and the required number.
    TooFewLooks(u8, u8),
    /// The agreeing samples are too close together.
    TooShort,
    /// Too few of the agreeing samples have a fresh poll.
    NoFreshPoll,
    /// The count is old: nothing happening now supports a hard remedy.
    NothingCurrent,
    /// A slow health check is the only symptom.
    OnlySlow,
    /// The instance has not answered since it started.
    NotYetReady,
    /// The excuse.
    Excused(Excuse),
    /// How long it has failed to answer, and its patience.
    NotSilentLongEnough(Duration, Duration),
    /// For how long it has given a few errors.
    MayBeAMoment(Duration),
    /// More CPU or memory comes first.
    ResizeFirst,
    /// The same remedy did not help the same workload before.
    Futile(Remedy, Futile),
    /// The instance has only failed since it started.
    NeverWell,
    /// Why no remedy would help, according to the host.
    HostSays(Arc<str>),
    /// Time until the cooldown ends.
    CoolingDown(Duration),
    /// Number of hard remedies within the last minute.
    NodeBudgetSpent(u32),
    /// The cluster is being asked for so many others that this one must wait.
    OthersFirst,
    /// Number of failing targets, of all polled.
    NodeFails(u32, u32),
    /// All permitted remedies were tried and did not help.
    RemediesUsedUp,
    /// The journal cannot be written.
    NoJournal,
    /// Healing is paused on this node.
    SwitchedOff,
    /// Its owner wants no remedy at this time.
    NotNow,
    /// The request that nobody has approved.
    AskPeople(Request),
    /// Healing is paused in the cluster, by the annotation of this namespace.
    ClusterPaused(Arc<str>),
    /// The error of the API server, or of the way to it.
    NoAnswer(Arc<str>),
    /// How the pod differs from the one that was judged.
    MovedOn(Arc<str>),
    /// How the workload is changing.
    Rolling(Rolling),
    /// Number of pods that are not ready though no agent counts them as sick, of all that the
    /// workload should have.
    NotReadyYet(u32, u32),
    /// The API server's refusal, which names the budget.
    Budget(Arc<str>),
    /// Number of sick pods, of all that the workload has.
    MostAreSick(u32, u32),
    /// Other nodes have time to report that their pods are sick too.
    Counting,
    /// The holder of the workload's lock.
    LockedBy(Arc<str>),
    /// The pod of its workload that is in quarantine.
    InQuarantine(Arc<str>),
    /// Number of hard remedies within ten minutes, and the workload's maximum.
    ShareSpent(u32, u32),
    /// Number of consecutive hard remedies that did not help, on any node.
    InVain(u32),
    /// What is wrong with the workload's Lease.
    BadLease(Arc<str>),
}

/// A rounded duration.
pub(super) struct Ago(pub(super) Duration);

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            s @ 0..=119 => write!(f, "{s} s"),
            s @ 120..=7199 => write!(f, "{} min", s / 60),
            s => write!(f, "{} h", s / 3600),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ObserveOnly => f.write_str("its ceiling is observe"),
            Self::Capped(capped) => capped.fmt(f),
            Self::RulesAreSoft => f.write_str(
                "without a model only soft remedies are permitted (--rules-may-restart permits more)",
            ),
            Self::NotConfident(is, must) => {
                write!(f, "confidence {is:.2} is below {must:.2}")
            }
            Self::Unlike(unfamiliar) => write!(
                f,
                "the model has learnt from nothing like this ({unfamiliar}): an operator must look"
            ),
            Self::TooFewLooks(agree, must) => write!(f, "{agree} of {must} samples agree so far"),
            Self::TooShort => f.write_str("the agreeing samples span less than 400 ms"),
            Self::NoFreshPoll => f.write_str("fewer than two fresh polls confirm it"),
            Self::NothingCurrent => {
                f.write_str("only an old count supports it, no current symptom")
            }
            Self::OnlySlow => f.write_str("only its slow health check supports it"),
            Self::NotYetReady => f.write_str("it has not answered well since it started"),
            Self::Excused(excuse) => excuse.fmt(f),
            Self::NotSilentLongEnough(is, must) => write!(
                f,
                "it has failed its health check for {:.1} s; its patience is {} s (--patience, \
                 paramedic.dev/patience)",
                is.as_secs_f64(),
                must.as_secs()
            ),
            Self::MayBeAMoment(is) => write!(
                f,
                "it has given a few errors for {:.1} s, and may recover by itself: they must go on \
                 for {} s",
                is.as_secs_f64(),
                ERRORS_LAST.as_secs()
            ),
            Self::ResizeFirst => f.write_str(
                "only its use of CPU or memory supports it, and a resize in place is tried first \
                 (paramedic.dev/resize)",
            ),
            Self::Futile(remedy, Futile::DidNotHelp(ago)) => write!(
                f,
                "{} did not help against this symptom {} ago: an operator must look",
                remedy.name(),
                Ago(*ago)
            ),
            Self::Futile(remedy, Futile::CameBack(after)) => write!(
                f,
                "{} helped only for {}: the same symptom came back, an operator must look",
                remedy.name(),
                Ago(*after)
            ),
            Self::NeverWell => {
                f.write_str("it has failed since it started, and would after any remedy")
            }
            Self::HostSays(why) => f.write_str(why),
            Self::CoolingDown(left) => {
                write!(f, "treated recently; the cooldown ends in {:.0} s", left.as_secs_f64().ceil())
            }
            Self::NodeBudgetSpent(n) => write!(f, "{n} hard remedies on this node within a minute"),
            Self::OthersFirst => {
                f.write_str("this node has asked the API server for hard remedies too often: this one waits its turn")
            }
            Self::NodeFails(failing, polled) => {
                write!(f, "{failing} of {polled} targets of the node fail together: suspect the node")
            }
            Self::RemediesUsedUp => {
                f.write_str("every permitted remedy was tried; an operator must look")
            }
            Self::NoJournal => f.write_str("the journal cannot be written"),
            Self::SwitchedOff => f.write_str("healing is paused"),
            Self::Impossible(remedy, obstacle) => write!(f, "no {}: {obstacle}", remedy.name()),
            Self::AskPeople(request) => write!(
                f,
                "its owner wants to be asked: {request} waits for `paramedic approve` or the \
                 annotation `paramedic.dev/approve`"
            ),
            Self::NotNow => f.write_str(
                "its owner wants no remedy at this time of the day (paramedic.dev/not-between)",
            ),
            Self::ClusterPaused(namespace) => {
                write!(f, "healing is paused by an annotation of namespace {namespace}")
            }
            Self::NoAnswer(error) => write!(f, "the API server does not answer: {error}"),
            Self::MovedOn(how) => write!(f, "no longer the pod that was judged: {how}"),
            Self::Rolling(rolling) => rolling.fmt(f),
            Self::NotReadyYet(missing, all) => {
                write!(f, "{missing} of the workload's {all} pods are not ready yet")
            }
            Self::Budget(said) => f.write_str(said),
            Self::MostAreSick(sick, all) => {
                write!(f, "{sick} of the workload's {all} pods are sick: scale the workload or wait")
            }
            Self::Counting => {
                f.write_str("waiting for other nodes to report sick pods of its workload")
            }
            Self::LockedBy(holder) => write!(f, "{holder} is treating another pod of its workload"),
            Self::InQuarantine(pod) => write!(
                f,
                "pod {pod} of its workload is in quarantine, and one is enough: look at it, then \
                 `paramedic release` or delete it"
            ),
            Self::ShareSpent(heals, most) => {
                write!(f, "{heals} hard remedies for its workload in 10 min, at most {most} permitted")
            }
            Self::InVain(heals) => {
                write!(f, "{heals} hard remedies for its workload did not help; an operator must look")
            }
            Self::BadLease(what) => f.write_str(what),
        }
    }
}

/// The refusal of a gate.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The gate.
    pub gate: Gate,
    /// The reason.
    pub why: Why,
}

impl Refusal {
    /// Whether it rests on earlier treatments of the workload.
    #[must_use]
    pub const fn is_by_memory(&self) -> bool {
        matches!(self.why, Why::Futile(..))
    }
}
