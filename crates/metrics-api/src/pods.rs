//! Who is who, by the API server's word: one watch of all pods that consent to be watched.
//!
//! Of a pod is kept what questions are asked by (name and labels) and what answers are checked by
//! (uid and node): some hundred bytes of the ten thousand that it has.
use std::{collections::HashSet, pin::pin};

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod as ApiPod;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use paramedic_api_server::follow_through;
use paramedic_pod_metrics::HEAL_LABEL;
use parking_lot::Mutex;

use super::{
    readiness::{Need, Readiness},
    store::{Pod, Store},
};

/// Keeps the store's pods for ever.
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
    // Without a node it has no agent; its next change tells.
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    store.lock().put(namespace, name, Pod { uid: uid.to_owned(), node, labels });
}

fn identity(pod: &ApiPod) -> Option<(&str, &str, &str)> {
    let metadata = &pod.metadata;
    Some((metadata.namespace.as_deref()?, metadata.name.as_deref()?, metadata.uid.as_deref()?))
}
