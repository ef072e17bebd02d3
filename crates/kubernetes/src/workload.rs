//! Finds the workload of a pod: from its owner up to the Deployment, StatefulSet, DaemonSet or Job.
//!
//! Owners are read only before a hard remedy. An owner of another kind (an operator's) is used as
//! it is: it names the workload, and its rollout state is unknown.
use k8s_openapi::{
    Metadata, NamespaceResourceScope, Resource,
    api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        batch::v1::Job,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
    serde::de::DeserializeOwned,
};
use kube::Api;
use paramedic_api_server::{ApiError, within};
use paramedic_core::{
    guard::workload::Rolling,
    target::{Owner, PodRef},
};

use super::Cluster;
use crate::labels::PodSelector;

/// A workload at one instant.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Workload {
    /// `Deployment`, …; `Pod` for one without an owner.
    pub(super) kind: String,
    pub(super) namespace: String,
    pub(super) name: String,
    /// Number of pods that it should have.
    pub(super) replicas: u32,
    /// How many of them are ready; `None` if its kind does not report that.
    pub(super) ready: Option<u32>,
    /// How it is changing.
    pub(super) rolling: Option<Rolling>,
    /// What the pod's own controller selects pods by, if its kind is known.
    pub(super) selector: Option<PodSelector>,
}

impl Workload {
    fn selecting(self, selector: Option<&LabelSelector>) -> Self {
        Self { selector: selector.and_then(PodSelector::of), ..self }
    }

    /// `Deployment/web`, as a quarantine names it.
    pub(super) fn title(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }
}

impl Cluster {
    /// The workload of a pod.
    pub(super) async fn workload(&self, pod: &PodRef) -> Result<Workload, ApiError> {
        let namespace = pod.namespace.as_str();
        let Some(owner) = &pod.owner else {
            return Ok(of_one("Pod", namespace, &pod.name));
        };
        let name = owner.name.as_str();
        if !is_name(name) {
            // The creator of a pod may claim any owner: an invalid name leads to no request.
            return Ok(of_one("Pod", namespace, &pod.name));
        }
        Ok(match (group(&owner.api_version), owner.kind.as_str()) {
            ("apps", "ReplicaSet") => self.of_replica_set(namespace, name).await?,
            ("apps", "StatefulSet") => {
                let set = self.read::<StatefulSet>(namespace, name).await?;
                let selector = set.spec.as_ref().map(|spec| &spec.selector);
                stateful_set(namespace, &set).selecting(selector)
            }
            ("apps", "DaemonSet") => {
                let set = self.read::<DaemonSet>(namespace, name).await?;
                let selector = set.spec.as_ref().map(|spec| &spec.selector);
                daemon_set(namespace, &set).selecting(selector)
            }
            ("batch", "Job") => {
                let of = self.read::<Job>(namespace, name).await?;
                let selector = of.spec.as_ref().and_then(|spec| spec.selector.as_ref());
                job(namespace, &of).selecting(selector)
            }
            (_, kind) => of_one(kind, namespace, name),
        })
    }

    async fn of_replica_set(&self, namespace: &str, name: &str) -> Result<Workload, ApiError> {
        let set = self.read::<ReplicaSet>(namespace, name).await?;
        let selector = set.spec.as_ref().map(|spec| &spec.selector);
        let mut owners = set.metadata.owner_references.iter().flatten();
        let of = match owners.find(|owner| owner.controller == Some(true)) {
            Some(owner) if !is_name(&owner.name) => replica_set(namespace, &set),
            Some(owner) if group(&owner.api_version) == "apps" && owner.kind == "Deployment" => {
                let above = self.read::<Deployment>(namespace, &owner.name).await?;
                deployment(namespace, &above)
            }
            Some(owner) => {
                let own = replica_set(namespace, &set);
                Workload { kind: owner.kind.clone(), name: owner.name.clone(), ..own }
            }
            None => replica_set(namespace, &set),
        };
        Ok(of.selecting(selector))
    }

    pub(super) async fn read<K>(&self, namespace: &str, name: &str) -> Result<K, ApiError>
    where
        K: Resource<Scope = NamespaceResourceScope>
            + Metadata<Ty = ObjectMeta>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
    {
        within(Api::<K>::namespaced(self.client.clone(), namespace).get(name)).await
    }
}

/// The kind of an owner that has a template of its pods, if its reference is valid.
pub(super) fn owner_kind(owner: &Owner) -> Option<&'static str> {
    if !is_name(&owner.name) {
        return None;
    }
    match (group(&owner.api_version), owner.kind.as_str()) {
        ("apps", "ReplicaSet") => Some("ReplicaSet"),
        ("apps", "StatefulSet") => Some("StatefulSet"),
        ("apps", "DaemonSet") => Some("DaemonSet"),
        ("batch", "Job") => Some("Job"),
        _ => None,
    }
}

/// Checks a DNS subdomain (RFC 1123), as the API server requires for names of workloads.
fn is_name(text: &str) -> bool {
    let plain = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.');
    !text.is_empty() && text.len() <= 253 && text.bytes().all(plain)
}

/// The API group of `group/version`; empty for the core group.
fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

fn of_one(kind: &str, namespace: &str, name: &str) -> Workload {
    Workload {
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        replicas: 1,
        ready: None,
        rolling: None,
        selector: None,
    }
}

/// The fields that every kind reports, in the order in which they matter.
struct Progress {
    observed: bool,
    wanted: i32,
    updated: i32,
    present: i32,
    ready: i32,
}

impl Progress {
    fn workload(self, kind: &str, namespace: &str, metadata: &ObjectMeta) -> Workload {
        let Self { observed, wanted, updated, present, ready } = self;
        let rolling = if !observed {
            Some(Rolling::Unobserved)
        } else if wanted <= 0 {
            Some(Rolling::Stopped)
        } else if updated < wanted.min(present) {
            Some(Rolling::Updating)
        } else {
            // Fewer or more than there should be: being scaled, rolling out, or replacing one.
            (present != wanted || updated != wanted).then_some(Rolling::Scaling)
        };
        Workload {
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: metadata.name.clone().unwrap_or_default(),
            replicas: u32::try_from(wanted).unwrap_or(0),
            ready: Some(u32::try_from(ready).unwrap_or(0)),
            rolling,
            selector: None,
        }
    }
}

/// Whether the controller has observed the newest specification.
fn is_observed(metadata: &ObjectMeta, observed: Option<i64>) -> bool {
    metadata.generation.is_none_or(|newest| observed.is_some_and(|seen| seen >= newest))
}

fn deployment(namespace: &str, of: &Deployment) -> Workload {
    let status = of.status.as_ref();
    let count = |n: Option<i32>| n.unwrap_or(0);
    let replicas = of.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    Progress {
        observed: is_observed(&of.metadata, status.and_then(|s| s.observed_generation)),
        wanted: replicas,
        updated: count(status.and_then(|s| s.updated_replicas)),
        present: count(status.and_then(|s| s.replicas)),
        ready: count(status.and_then(|s| s.ready_replicas)),
    }
    .workload("Deployment", namespace, &of.metadata)
}

fn replica_set(namespace: &str, of: &ReplicaSet) -> Workload {
    let status = of.status.as_ref();
    let present = status.map_or(0, |s| s.replicas);
    let wanted = of.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    Progress {
        observed: is_observed(&of.metadata, status.and_then(|s| s.observed_generation)),
        wanted,
        // It does not update its existing pods.
        updated: present,
        present,
        ready: status.and_then(|s| s.ready_replicas).unwrap_or(0),
    }
    .workload("ReplicaSet", namespace, &of.metadata)
}

fn stateful_set(namespace: &str, of: &StatefulSet) -> Workload {
    let status = of.status.as_ref();
    let spec = of.spec.as_ref();
    let present = status.map_or(0, |s| s.replicas);
    let strategy = spec.and_then(|spec| spec.update_strategy.as_ref());
    let partition = strategy
        .and_then(|strategy| strategy.rolling_update.as_ref())
        .and_then(|rolling| rolling.partition)
        .unwrap_or(0);
    // If pods are updated by hand, or up to a partition, old ones stay on purpose.
    let by_itself = partition == 0
        && strategy.is_none_or(|strategy| strategy.type_.as_deref() != Some("OnDelete"));
    let updates = status.is_some_and(|s| s.current_revision != s.update_revision);
    let updated = status.and_then(|s| s.updated_replicas).unwrap_or(0);
    Progress {
        observed: is_observed(&of.metadata, status.and_then(|s| s.observed_generation)),
        wanted: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        updated: if by_itself && updates { updated } else { present },
        present,
        ready: status.and_then(|s| s.ready_replicas).unwrap_or(0),
    }
    .workload("StatefulSet", namespace, &of.metadata)
}

fn daemon_set(namespace: &str, of: &DaemonSet) -> Workload {
    let status = of.status.as_ref();
    let strategy = of.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
    let by_itself = strategy.is_none_or(|strategy| strategy.type_.as_deref() != Some("OnDelete"));
    let present = status.map_or(0, |s| s.current_number_scheduled);
    let updated = status.and_then(|s| s.updated_number_scheduled).unwrap_or(0);
    Progress {
        observed: is_observed(&of.metadata, status.and_then(|s| s.observed_generation)),
        wanted: status.map_or(0, |s| s.desired_number_scheduled),
        updated: if by_itself { updated } else { present },
        present,
        ready: status.map_or(0, |s| s.number_ready),
    }
    .workload("DaemonSet", namespace, &of.metadata)
}

/// A Job's pods come and go by themselves: it only reports whether it is stopped.
fn job(namespace: &str, of: &Job) -> Workload {
    let active = of.status.as_ref().and_then(|status| status.active).unwrap_or(0);
    let stopped = of.spec.as_ref().is_some_and(|spec| spec.suspend == Some(true));
    let wanted = if stopped { 0 } else { active.max(1) };
    Progress { observed: true, wanted, updated: wanted, present: wanted, ready: active }.workload(
        "Job",
        namespace,
        &of.metadata,
    )
}

#[cfg(test)]
mod tests {
    use k8s_openapi::serde_json::{Value, from_value, json};

    use super::*;

    fn of_deployment(generation: i64, spec: &Value, status: &Value) -> Option<Rolling> {
        let metadata = json!({ "name": "shop", "generation": generation });
        let object = json!({ "metadata": metadata, "spec": spec, "status": status });
        deployment("default", &from_value(object).unwrap()).rolling
    }

    fn spec(replicas: i32) -> Value {
        json!({ "replicas": replicas, "selector": {}, "template": {} })
    }

    #[test]
    fn a_deployment_at_rest_is_not_rolling_even_if_its_pods_are_sick() {
        let status = json!({
            "observedGeneration": 3, "replicas": 4, "updatedReplicas": 4, "readyReplicas": 1,
        });
        assert_eq!(of_deployment(3, &spec(4), &status), None);
        assert_eq!(of_deployment(4, &spec(4), &status), Some(Rolling::Unobserved));
        assert_eq!(of_deployment(3, &spec(5), &status), Some(Rolling::Scaling));
        assert_eq!(of_deployment(3, &spec(2), &status), Some(Rolling::Scaling));
        assert_eq!(of_deployment(3, &spec(0), &status), Some(Rolling::Stopped));
        assert_eq!(of_deployment(3, &spec(4), &json!({})), Some(Rolling::Unobserved));
    }

    #[test]
    fn old_pods_beside_new_ones_are_a_rollout() {
        let status = |replicas: i32, updated: i32| json!({ "observedGeneration": 1, "replicas": replicas, "updatedReplicas": updated });
        assert_eq!(of_deployment(1, &spec(4), &status(5, 1)), Some(Rolling::Updating));
        assert_eq!(of_deployment(1, &spec(4), &status(4, 0)), Some(Rolling::Updating));
        assert_eq!(of_deployment(1, &spec(4), &status(5, 4)), Some(Rolling::Scaling));
    }

    #[test]
    fn a_workload_updated_by_hand_is_not_rolling_out() {
        let set = |strategy: Value, updated: i32| {
            let object = json!({
                "metadata": { "name": "db", "generation": 1 },
                "spec": {
                    "replicas": 3, "selector": {}, "template": {}, "updateStrategy": strategy,
                },
                "status": {
                    "observedGeneration": 1, "replicas": 3, "readyReplicas": 3,
                    "updatedReplicas": updated, "currentRevision": "a", "updateRevision": "b",
                },
            });
            stateful_set("default", &from_value(object).unwrap()).rolling
        };
        assert_eq!(set(json!({ "type": "RollingUpdate" }), 1), Some(Rolling::Updating));
        assert_eq!(set(json!({ "type": "OnDelete" }), 0), None);
        let partition = json!({ "type": "RollingUpdate", "rollingUpdate": { "partition": 2 } });
        assert_eq!(set(partition, 1), None);
    }

    #[test]
    fn a_daemon_set_has_as_many_pods_as_nodes() {
        let set = |updated: i32| {
            let object = json!({
                "metadata": { "name": "log", "generation": 2 },
                "spec": { "selector": {}, "template": {} },
                "status": {
                    "observedGeneration": 2, "desiredNumberScheduled": 5, "numberReady": 4,
                    "currentNumberScheduled": 5, "numberMisscheduled": 0,
                    "updatedNumberScheduled": updated,
                },
            });
            daemon_set("default", &from_value(object).unwrap())
        };
        assert_eq!((set(5).replicas, set(5).ready, set(5).rolling), (5, Some(4), None));
        assert_eq!(set(2).rolling, Some(Rolling::Updating));
    }
}
