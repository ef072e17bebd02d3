//! Requests an eviction, for real or as a dry run.
//!
//! The request carries the uid in `deleteOptions`, and a dry run comes first: a real eviction with
//! an outdated uid is refused and yet spends the budget for two minutes. kube's own `evict` would
//! drop the uid (it writes `delete_options`), so the body is built here.
use k8s_openapi::{
    api::policy::v1::Eviction,
    apimachinery::pkg::apis::meta::v1::{DeleteOptions, ObjectMeta, Preconditions},
};
use kube::{
    api::PostParams,
    core::{Status, response::StatusSummary},
};
use paramedic_api_server::{ApiError, within};
use paramedic_core::{
    guard::{Gate, Refusal, Why},
    target::PodRef,
};

use super::Cluster;

/// The API server's response to an eviction.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is permitted; if it was not a dry run, it has begun.
    Allowed,
    /// A PodDisruptionBudget does not permit it now.
    Budget(String),
    /// The pod is gone, or another has its name.
    MovedOn(String),
    /// It cannot be permitted in this configuration: several budgets, a policy.
    Never(String),
    /// The result is unknown.
    Unknown(ApiError),
}

impl Cluster {
    /// Requests the eviction of exactly this pod; `dry_run` only asks.
    pub(super) async fn ask_eviction(&self, pod: &PodRef, dry_run: bool) -> Answer {
        let eviction = Eviction {
            metadata: ObjectMeta {
                name: Some(pod.name.clone()),
                namespace: Some(pod.namespace.clone()),
                ..ObjectMeta::default()
            },
            delete_options: Some(DeleteOptions {
                preconditions: Some(Preconditions {
                    uid: Some(pod.uid.clone()),
                    ..Preconditions::default()
                }),
                ..DeleteOptions::default()
            }),
        };
        // In the query, where admission sees it.
        let params = PostParams { dry_run, ..PostParams::default() };
        let pods = self.pods(&pod.namespace);
        let sent = pods.create_subresource::<_, Status>("eviction", &pod.name, &params, &eviction);
        answer(within(sent).await)
    }
}

fn answer(result: Result<Status, ApiError>) -> Answer {
    let status = match result {
        Ok(status) if status.status == Some(StatusSummary::Failure) => status,
        Ok(_) => return Answer::Allowed,
        Err(ApiError::Refused(kube::Error::Api(status))) => *status,
        Err(error) => return Answer::Unknown(error),
    };
    let of_budget = status.details.iter().flat_map(|details| &details.causes);
    let of_budget = of_budget.filter(|cause| cause.reason == "DisruptionBudget");
    let budgets: Vec<_> = of_budget.map(|cause| cause.message.as_str()).collect();
    // A spent budget and an overloaded server both answer 429; the cause distinguishes them.
    match status.code {
        429 if !budgets.is_empty() => Answer::Budget(budgets.join("; ")),
        404 | 409 => Answer::MovedOn(status.message),
        // Several budgets select it: a 500 without a reason, which waiting does not resolve.
        500 if status.message.contains("more than one PodDisruptionBudget") => {
            Answer::Never(status.message)
        }
        400 | 403 | 422 => Answer::Never(status.message),
        _ => Answer::Unknown(ApiError::Refused(kube::Error::Api(Box::new(status)))),
    }
}

impl Answer {
    /// The refusal, if it was refused.
    pub(super) fn refusal(self) -> Option<Refusal> {
        let (gate, why) = match self {
            Self::Allowed => return None,
            Self::Budget(said) | Self::Never(said) => {
                (Gate::DisruptionBudget, Why::Budget(said.into()))
            }
            Self::MovedOn(said) => (Gate::Identity, Why::MovedOn(said.into())),
            Self::Unknown(error) => return Some(super::pause::no_answer(&error)),
        };
        Some(Refusal { gate, why })
    }
}
