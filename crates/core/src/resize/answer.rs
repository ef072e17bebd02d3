//! What became of a wish: the step that was made, or why there was none.
use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::Step;

/// Why a limit is not changed. Each is an answer and no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The ceiling of the target or of the node is `observe`, or its owner names no factor.
    Mode,
    /// Healing is paused.
    Paused,
    /// It is a time at which its owner wants no remedy.
    Window,
    /// The intention cannot be written to disk.
    Journal,
    /// The last step was a moment ago.
    Cooldown,
    /// The kernel does not see whether requests wait.
    Unseen,
    /// The limit is as high as its owner permits.
    AtCeiling,
    /// The limit is the owner's own: there is nothing to lower.
    AtTemplate,
    /// What would be lowered is used.
    InUse,
    /// It has no limit.
    NoLimit,
    /// The owner's own limit is not known.
    NoTemplate,
    /// Its `resizePolicy` restarts the container.
    RestartsContainer,
    /// A VerticalPodAutoscaler owns its limits.
    Vpa,
    /// Somebody else has set the present limit.
    Foreign,
    /// The quota of its namespace has no room.
    Quota,
    /// The node has no room.
    NoRoom,
    /// The kubelet has no room now: `Deferred`.
    Deferred,
    /// The kubelet never will: `Infeasible`.
    Infeasible,
    /// RBAC, the fence or another policy refuses.
    Denied,
    /// The request is refused as invalid.
    Invalid,
    /// The API server does not know `pods/resize`.
    Unsupported,
    /// It is no longer the pod or container that was judged.
    Identity,
    /// Somebody changed the pod at the same moment.
    Conflict,
    /// The API server or the engine does not answer.
    ApiServer,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 24] = [
        Self::Mode,
        Self::Paused,
        Self::Window,
        Self::Journal,
        Self::Cooldown,
        Self::Unseen,
        Self::AtCeiling,
        Self::AtTemplate,
        Self::InUse,
        Self::NoLimit,
        Self::NoTemplate,
        Self::RestartsContainer,
        Self::Vpa,
        Self::Foreign,
        Self::Quota,
        Self::NoRoom,
        Self::Deferred,
        Self::Infeasible,
        Self::Denied,
        Self::Invalid,
        Self::Unsupported,
        Self::Identity,
        Self::Conflict,
        Self::ApiServer,
    ];

    /// Its name, as in metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mode => "mode",
            Self::Paused => "paused",
            Self::Window => "window",
            Self::Journal => "journal",
            Self::Cooldown => "cooldown",
            Self::Unseen => "unseen",
            Self::AtCeiling => "at_ceiling",
            Self::AtTemplate => "at_template",
            Self::InUse => "in_use",
            Self::NoLimit => "no_limit",
            Self::NoTemplate => "no_template",
            Self::RestartsContainer => "restarts_container",
            Self::Vpa => "vpa",
            Self::Foreign => "foreign",
            Self::Quota => "quota",
            Self::NoRoom => "no_room",
            Self::Deferred => "deferred",
            Self::Infeasible => "infeasible",
            Self::Denied => "denied",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
            Self::Identity => "identity",
            Self::Conflict => "conflict",
            Self::ApiServer => "api_server",
        }
    }

    /// How long the answer is remembered before anybody is asked again.
    #[must_use]
    pub const fn wait(self) -> Duration {
        Duration::from_secs(match self {
            Self::Mode
            | Self::Paused
            | Self::Window
            | Self::Cooldown
            | Self::Unseen
            | Self::Conflict
            | Self::Identity => 5,
            Self::ApiServer | Self::Journal => 15,
            Self::Unsupported => 3600,
            _ => 600,
        })
    }

    /// Whether it only asks for time: of no interest to people.
    #[must_use]
    pub const fn passes(self) -> bool {
        matches!(
            self,
            Self::Cooldown
                | Self::Window
                | Self::Conflict
                | Self::Identity
                | Self::InUse
                | Self::AtTemplate
        )
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::Mode => "its owner or the operator does not permit it",
            Self::Paused => "healing is paused",
            Self::Window => "its owner wants no remedy at this time of the day",
            Self::Journal => "the intention cannot be written to disk",
            Self::Cooldown => "there was a step a moment ago",
            Self::Unseen => {
                "it is throttled, but the kernel does not see its requests, so nobody knows \
                 whether any waits"
            }
            Self::AtCeiling => "its limit is at its ceiling",
            Self::AtTemplate => "its limit is that of the template",
            Self::InUse => "it uses what would be taken away",
            Self::NoLimit => "it has no limit that could be raised",
            Self::NoTemplate => "the limit in its template is not known",
            Self::RestartsContainer => "its resizePolicy would restart the container",
            Self::Vpa => "a VerticalPodAutoscaler sets its resources",
            Self::Foreign => "somebody else has set its present limit",
            Self::Quota => "the quota of its namespace has no room",
            Self::NoRoom => "its node has no room",
            Self::Deferred => "its node has no room now (Deferred); the request was withdrawn",
            Self::Infeasible => "its node never has room (Infeasible); the request was withdrawn",
            Self::Denied => "the API server does not permit it",
            Self::Invalid => "the request was refused as invalid",
            Self::Unsupported => "the API server cannot resize pods: it needs Kubernetes 1.33",
            Self::Identity => "no longer the one that was judged",
            Self::Conflict => "it was changed at the same moment; the agent looks again",
            Self::ApiServer => "no answer",
        }
    }
}

/// Why a limit is not changed, with what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoResize {
    /// The reason.
    pub reason: Reason,
    /// What was measured, or the words of the API server; may be empty.
    pub detail: Arc<str>,
}

impl NoResize {
    /// With what was said.
    pub fn new(reason: Reason, detail: impl Into<Arc<str>>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

impl From<Reason> for NoResize {
    fn from(reason: Reason) -> Self {
        Self::new(reason, "")
    }
}

impl fmt::Display for NoResize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason.sentence())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

/// What became of a wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The new limit was accepted; the cgroup shows whether it came.
    Given {
        /// The journal's number of the resize.
        id: Option<i64>,
        /// The step.
        step: Step,
    },
    /// It may have been accepted: no answer came.
    Unknown {
        /// The journal's number of the resize.
        id: Option<i64>,
        /// The step.
        step: Step,
        /// What happened instead of an answer.
        why: String,
    },
    /// It was planned and, on purpose, not done: a dry run, or a target whose limits are its owner's
    /// alone.
    Withheld(Step),
    /// It was not done.
    Refused {
        /// The journal's number of the resize, if it was intended.
        id: Option<i64>,
        /// Why.
        no: NoResize,
    },
}

/// How a resize ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResizeOutcome {
    /// The cgroup has the new limit, and the stress is gone (or, of a step down, did not return).
    Healed,
    /// The cgroup has the new limit, and the stress is still there.
    NotHealed,
    /// It cannot be known: another container runs by now, or no answer came.
    Unverified,
    /// The cgroup does not have the new limit.
    Failed,
    /// It was refused after the intention, and nothing was done.
    Refused,
}

impl ResizeOutcome {
    /// All outcomes.
    pub const ALL: [Self; 5] =
        [Self::Healed, Self::NotHealed, Self::Unverified, Self::Failed, Self::Refused];

    /// Its name, as in the journal, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healed => "healed",
            Self::NotHealed => "not_healed",
            Self::Unverified => "unverified",
            Self::Failed => "failed",
            Self::Refused => "refused",
        }
    }
}
