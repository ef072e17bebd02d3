//! Watches all pods that carry the label.
//!
//! The store keeps what requests ask for (name and labels) and what frames are checked against (uid
//! and node): some hundred bytes of the ten thousand of a pod.
use std::{collections::HashSet, pin::pin};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use paramedic_api_server::{Workload, follow_through};
use paramedic_pod_metrics::HEAL_LABEL;
use parking_lot::Mutex;

use super::{
    readiness::{Need, Readiness},
    store::{Pod, Store},
};

/// Maintains the pods of the store, forever.
pub(super) async fn watch(client: Client, store: &Mutex<Store>, readiness: &Readiness) {
    let config = watcher::Config::default().labels(HEAL_LABEL);
    let unheard = "cannot watch the pods; new ones have no metrics until it works again";
    let mut events = pin!(follow_through(Api::<ApiPod>::all(client), config, unheard));
    let mut listed = HashSet::new();
    while let Some(event) = events.next().await {
        take(event, &mut listed, store, readiness);
    }
}

fn take(
    event: Event<ApiPod>,
    listed: &mut HashSet<String>,
    store: &Mutex<Store>,
    readiness: &Readiness,
) {
    match event {
        Event::Init => listed.clear(),
        Event::InitApply(pod) => {
            listed.extend(pod.metadata.uid.clone());
            put(pod, store);
        }
        Event::InitDone => {
            store.lock().retain(|uid| listed.contains(uid));
            *listed = HashSet::new();
            readiness.met(Need::Pods);
        }
        Event::Apply(pod) => put(pod, store),
        Event::Delete(pod) => {
            if let Some((namespace, name, uid)) = identity(&pod) {
                store.lock().remove(namespace, name, uid);
            }
        }
    }
}

fn put(pod: ApiPod, store: &Mutex<Store>) {
    let Some((namespace, name, uid)) = identity(&pod) else { return };
    // A pod without a node has no agent yet. Its next change names the node.
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let (workload, ready) = (Workload::of(&pod), is_ready(&pod));
    let uid = uid.to_owned();
    store.lock().put(namespace, name, Pod { uid, node, labels, workload, ready });
}

/// Whether Services send it requests. One that is being deleted gets no new ones.
fn is_ready(pod: &ApiPod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = conditions.into_iter().flatten();
    let is_told =
        conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    is_told && pod.metadata.deletion_timestamp.is_none()
}

fn identity(pod: &ApiPod) -> Option<(&str, &str, &str)> {
    let metadata = &pod.metadata;
    Some((metadata.namespace.as_deref()?, metadata.name.as_deref()?, metadata.uid.as_deref()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_pod_that_is_unready_or_deleted_gets_no_new_requests() {
        let is_ready = |status: &str, deleted: Option<&str>| {
            let conditions = json!([
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": status},
            ]);
            let metadata = json!({"deletionTimestamp": deleted});
            let pod = json!({"metadata": metadata, "status": {"conditions": conditions}});
            is_ready(&serde_json::from_value(pod).unwrap())
        };
        assert!(is_ready("True", None));
        assert!(!is_ready("False", None));
        assert!(!is_ready("True", Some("2026-11-30T12:00:00Z")));
        assert!(!super::is_ready(&ApiPod::default()));
    }
}
