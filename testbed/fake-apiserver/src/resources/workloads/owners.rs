//! What belongs to what: pods to their controllers, ReplicaSets to Deployments.
use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    api::{json as j, kind::Kind, make, selector::Labels},
    cluster::{
        Cluster,
        store::{Object, Store},
    },
    resources::pods::status::is_active,
};

/// The pods of a namespace by the uid of the object that controls them.
pub(crate) fn pods_by_owner(store: &Store, namespace: &str) -> BTreeMap<String, Vec<Object>> {
    let mut owned: BTreeMap<String, Vec<Object>> = BTreeMap::new();
    for pod in store.in_namespace(Kind::Pod, namespace) {
        if let Some(owner) = j::controller(pod) {
            owned.entry(j::text(owner, "/uid").to_owned()).or_default().push(Object::clone(pod));
        }
    }
    owned
}

/// The objects of a kind in a namespace, as they are now.
pub(crate) fn snapshot(store: &Store, kind: Kind, namespace: &str) -> Vec<Object> {
    store.in_namespace(kind, namespace).cloned().collect()
}

/// The pods that an object controls.
pub(crate) fn pods_of(store: &Store, owner: &Value) -> Vec<Object> {
    let uid = j::uid(owner);
    let pods = store.in_namespace(Kind::Pod, j::namespace(owner));
    let owned = |pod: &&Object| j::controller(pod).is_some_and(|o| j::text(o, "/uid") == uid);
    pods.filter(owned).cloned().collect()
}

/// The ReplicaSets that a Deployment controls.
pub(crate) fn sets_of(store: &Store, deployment: &Value) -> Vec<Object> {
    let uid = j::uid(deployment);
    let sets = store.in_namespace(Kind::ReplicaSet, j::namespace(deployment));
    let owned = |set: &&Object| j::controller(set).is_some_and(|o| j::text(o, "/uid") == uid);
    sets.filter(owned).cloned().collect()
}

/// Lets go of the pods whose labels no longer match, and takes in those without a controller that
/// match.
pub(crate) fn claim(cluster: &mut Cluster, owner: &Value) {
    let Some(selector) = Labels::of_object(&owner["spec"]["selector"]) else { return };
    if selector.is_empty() {
        return;
    }
    let (uid, namespace) = (j::uid(owner), j::namespace(owner));
    let mut changes = Vec::new();
    for pod in cluster.store.in_namespace(Kind::Pod, namespace) {
        let controller = j::controller(pod).map(|controller| j::text(controller, "/uid"));
        let references = match controller {
            Some(controller) if controller == uid && !selector.matches(pod) => Value::Null,
            None if selector.matches(pod) && is_active(pod) => make::owned_by(owner),
            _ => continue,
        };
        changes.push((j::name(pod).to_owned(), references));
    }
    for (name, references) in changes {
        cluster.update(Kind::Pod, namespace, &name, |pod| {
            let patch = json!({"metadata": {"ownerReferences": references}});
            j::merge(pod, &patch);
        });
    }
}

/// The workload that a pod belongs to in the end: of a ReplicaSet its Deployment.
pub(crate) fn workload_of(store: &Store, pod: &Value) -> Option<(String, String)> {
    let named =
        |owner: &Value| (j::text(owner, "/kind").to_owned(), j::text(owner, "/name").to_owned());
    let owner = named(j::controller(pod)?);
    if owner.0 == "ReplicaSet"
        && let Some(set) = store.get(Kind::ReplicaSet, j::namespace(pod), &owner.1)
        && let Some(above) = j::controller(set)
    {
        return Some(named(above));
    }
    Some(owner)
}
