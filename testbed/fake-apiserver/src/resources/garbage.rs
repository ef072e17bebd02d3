//! Garbage collection: what belonged to something that is gone goes too.
use std::time::Duration;

use serde_json::Value;

use super::{pods::Pods, removal::remove};
use crate::{
    api::{json as j, kind::Kind},
    cluster::{
        Cluster, Due,
        store::{Key, Object, Store},
    },
};

/// How soon the collector notices that a new object belongs to nothing that exists.
const NOTICED_AFTER: Duration = Duration::from_secs(1);

/// Collects what a removed object owned. What has another owner only loses this one.
pub(crate) fn collect_owned_by(cluster: &mut Cluster, pods: &mut Pods, gone: &Value) {
    let uid = j::uid(gone);
    for kind in Kind::ALL.into_iter().filter(|kind| kind.is_plain()) {
        let owned: Vec<Object> = cluster
            .store
            .all(kind)
            .map(|(_, object)| object)
            .filter(|object| owners(object).iter().any(|o| j::text(o, "/uid") == uid))
            .cloned()
            .collect();
        for object in owned {
            if is_orphan(&cluster.store, &object) {
                remove(cluster, pods, kind, &object, None);
                continue;
            }
            cluster.update(kind, j::namespace(&object), j::name(&object), |object| {
                if let Some(owners) = object["metadata"]["ownerReferences"].as_array_mut() {
                    owners.retain(|owner| j::text(owner, "/uid") != uid);
                }
            });
        }
    }
}

/// Lets the collector check the owners of a new object in a while.
pub(crate) fn collect_later(cluster: &mut Cluster, kind: Kind, object: &Value) {
    if !owners(object).is_empty() {
        let key = (j::namespace(object).to_owned(), j::name(object).to_owned());
        cluster.schedule(NOTICED_AFTER, Due::Orphan(kind, key));
    }
}

pub(crate) fn collect_orphan(cluster: &mut Cluster, pods: &mut Pods, kind: Kind, key: &Key) {
    let object = cluster.store.get(kind, &key.0, &key.1).cloned();
    if let Some(object) = object.filter(|object| is_orphan(&cluster.store, object)) {
        remove(cluster, pods, kind, &object, None);
    }
}

/// Whether an object had owners, of which none is there.
fn is_orphan(store: &Store, object: &Value) -> bool {
    let owners = owners(object);
    !owners.is_empty() && owners.iter().all(|o| is_gone(store, o, j::namespace(object)))
}

/// An owner is in the same namespace or in none, and has the uid that it had. One of a kind that
/// the fake does not know counts as there.
fn is_gone(store: &Store, owner: &Value, namespace: &str) -> bool {
    let api_version = j::text(owner, "/apiVersion");
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let mut kinds = Kind::ALL.into_iter();
    let named = |kind: &Kind| (kind.group(), kind.name()) == (group, j::text(owner, "/kind"));
    let Some(kind) = kinds.find(named) else { return false };
    let namespace = if kind.is_namespaced() { namespace } else { "" };
    let found = store.get(kind, namespace, j::text(owner, "/name"));
    found.is_none_or(|found| j::uid(found) != j::text(owner, "/uid"))
}

fn owners(object: &Value) -> &[Value] {
    j::list(object, "/metadata/ownerReferences")
}
