//! The workload of a pod, as its owner and labels tell it: no further object is read.
use k8s_openapi::{
    api::core::v1::Pod as ApiPod, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::ResourceExt;

/// The label with which a Deployment tells its ReplicaSets apart. It is the end of their names.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// What an HPA scales.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `deployments.apps`.
    Deployment,
    /// `statefulsets.apps`.
    StatefulSet,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Deployment, Self::StatefulSet];

    /// The resource with its group, as in the path of a metric.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Deployment => "deployments.apps",
            Self::StatefulSet => "statefulsets.apps",
        }
    }

    /// The kind's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
        }
    }

    /// The kind of this resource.
    #[must_use]
    pub fn from_resource(resource: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource() == resource)
    }
}

/// A workload of some namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its kind.
    pub kind: Kind,
    /// Its name.
    pub name: String,
}

impl Workload {
    /// The workload that controls the pod. Nothing for a bare pod, a Job, a DaemonSet, a ReplicaSet
    /// without a Deployment, and for kinds of other groups.
    #[must_use]
    pub fn of(pod: &ApiPod) -> Option<Self> {
        let owner = controller(pod)?;
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("apps/v1", "StatefulSet") => {
                Some(Self { kind: Kind::StatefulSet, name: owner.name.clone() })
            }
            ("apps/v1", "ReplicaSet") => {
                let hash = pod.labels().get(TEMPLATE_HASH).filter(|hash| !hash.is_empty())?;
                let name = owner.name.strip_suffix(hash.as_str())?.strip_suffix('-')?;
                Some(Self { kind: Kind::Deployment, name: name.to_owned() })
            }
            _ => None,
        }
    }
}

fn controller(pod: &ApiPod) -> Option<&OwnerReference> {
    pod.owner_references().iter().find(|owner| owner.controller == Some(true))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(version: &str, kind: &str, name: &str, labels: Value) -> Option<Workload> {
        let owner = json!({"apiVersion": version, "kind": kind, "name": name, "uid": "u"});
        let mut owners = vec![json!({"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "n"})];
        owners.push(owner);
        owners[1]["controller"] = json!(true);
        let metadata = json!({"ownerReferences": owners, "labels": labels});
        Workload::of(&serde_json::from_value(json!({ "metadata": metadata })).unwrap())
    }

    #[test]
    fn a_pod_belongs_to_the_deployment_of_its_replica_set() {
        let hash = json!({"pod-template-hash": "554dd9689"});
        let web = Workload { kind: Kind::Deployment, name: "web-api".to_owned() };
        assert_eq!(of("apps/v1", "ReplicaSet", "web-api-554dd9689", hash.clone()), Some(web));
        assert_eq!(of("apps/v1", "ReplicaSet", "web-api", hash.clone()), None);
        assert_eq!(of("apps/v1", "ReplicaSet", "554dd9689", hash), None);
        assert_eq!(of("apps/v1", "ReplicaSet", "web-", json!({"pod-template-hash": ""})), None);
        assert_eq!(of("apps/v1", "ReplicaSet", "web-api-554dd9689", json!({})), None);
    }

    #[test]
    fn what_an_hpa_does_not_scale_is_no_workload() {
        let db = Workload { kind: Kind::StatefulSet, name: "db".to_owned() };
        assert_eq!(of("apps/v1", "StatefulSet", "db", json!({})), Some(db));
        assert_eq!(of("apps/v1", "DaemonSet", "db", json!({})), None);
        assert_eq!(of("batch/v1", "Job", "db", json!({})), None);
        assert_eq!(of("example.com/v1", "StatefulSet", "db", json!({})), None);
        assert_eq!(Workload::of(&ApiPod::default()), None);
    }
}
