//! The requests that change something: a pod's metadata, and a policy's status.
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    core::{ApiResource, DynamicObject, PartialObjectMeta},
};
use paramedic_api_server::{ApiError, within};
use serde_json::json;

use crate::{HealingPolicy, plan::Change, policy::HealingPolicyStatus};

/// A write that has ended.
#[derive(Debug)]
pub(crate) struct Written {
    /// The namespace.
    pub(crate) namespace: String,
    /// What was written.
    pub(crate) what: What,
    /// How it ended.
    pub(crate) result: Result<(), Failure>,
}

/// What was written.
#[derive(Debug)]
pub(crate) enum What {
    /// A pod, by name, and as it is now if the write succeeded.
    Pod(String, Option<Box<PartialObjectMeta<Pod>>>),
    /// The status of a policy, by name, and the policy as it is now if the write succeeded.
    Status(String, Option<Box<DynamicObject>>),
}

/// How a write failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It has changed or is gone: the watch will tell.
    Outdated,
    /// The API server refuses it, with its reason.
    Refused(String),
    /// The API server does not answer.
    Away(String),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        match &error {
            ApiError::Refused(kube::Error::Api(status)) => match status.code {
                404 | 409 => Self::Outdated,
                400..=499 if status.code != 429 => Self::Refused(error.to_string()),
                _ => Self::Away(error.to_string()),
            },
            _ => Self::Away(error.to_string()),
        }
    }
}

/// Changes a pod, if it is still as it was judged.
pub(crate) async fn pod(client: Client, namespace: String, change: Change) -> Written {
    let pods: Api<Pod> = Api::namespaced(client, &namespace);
    let patch = Patch::Merge(change.patch());
    let written = within(pods.patch_metadata(&change.pod, &PatchParams::default(), &patch)).await;
    let (pod, result) = match written {
        Ok(pod) => (Some(Box::new(pod)), Ok(())),
        Err(error) => (None, Err(error.into())),
    };
    Written { namespace, what: What::Pod(change.pod, pod), result }
}

/// Writes a policy's status.
pub(crate) async fn status(
    client: Client,
    namespace: String,
    policy: String,
    status: HealingPolicyStatus,
) -> Written {
    let kind = ApiResource::erase::<HealingPolicy>(&());
    let policies: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
    let patch = Patch::Merge(json!({ "status": status }));
    let written = within(policies.patch_status(&policy, &PatchParams::default(), &patch)).await;
    let (now, result) = match written {
        Ok(policy) => (Some(Box::new(policy)), Ok(())),
        Err(error) => (None, Err(error.into())),
    };
    Written { namespace, what: What::Status(policy, now), result }
}
