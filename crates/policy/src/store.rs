//! What the watches have told: policies, pods and incidents, by namespace.
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::{core::v1::Pod as ApiPod, events::v1::Event as ApiEvent};
use kube::{
    ResourceExt as _,
    core::{DynamicObject, ObjectMeta, PartialObjectMeta},
    runtime::watcher::Event,
};
use serde_json::{Value, from_value};

use crate::{
    HealingPolicySpec,
    incidents::Incidents,
    plan::{Pod, Policy},
    policy::HealingPolicyStatus,
};

/// The keys of annotations that are kept.
const OURS: &str = "paramedic.dev/";

/// One namespace.
#[derive(Debug, Default)]
pub(crate) struct Namespace {
    /// By name.
    pub(crate) policies: BTreeMap<String, Stored>,
    /// By name, without those that have ended or are being deleted.
    pub(crate) pods: BTreeMap<String, Pod>,
}

impl Namespace {
    /// Whether there is anything to write or to take away.
    pub(crate) fn concerns_us(&self) -> bool {
        !self.policies.is_empty() || self.pods.values().any(Pod::is_written)
    }
}

/// A policy, read. One that cannot be read must not hide the others, so each is read by itself.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) policy: Policy,
    /// The generation of its spec.
    pub(crate) generation: Option<i64>,
    /// The status that stands.
    pub(crate) status: Option<HealingPolicyStatus>,
}

impl Stored {
    fn read(name: &str, object: &DynamicObject) -> Self {
        let part = |field: &str| object.data.get(field).cloned().unwrap_or(Value::Null);
        let policy = match from_value::<HealingPolicySpec>(part("spec")) {
            Ok(spec) => Policy::new(name, &spec),
            Err(error) => Policy::unreadable(name, &error.to_string()),
        };
        let status = from_value(part("status")).ok();
        Self { policy, generation: object.metadata.generation, status }
    }
}

/// Namespace and name.
type Key = (String, String);

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Store {
    namespaces: BTreeMap<String, Namespace>,
    pub(crate) incidents: Incidents,
    /// What the list in progress has named so far.
    listed_policies: BTreeSet<Key>,
    listed_pods: BTreeSet<Key>,
    /// Whether the first lists are complete: before that nothing is written.
    pub(crate) has_policies: bool,
    pub(crate) has_pods: bool,
}

impl Store {
    pub(crate) fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.get(name)
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.namespaces.keys().cloned().collect()
    }

    /// Takes a change of the policies; returns the namespaces that it concerns.
    pub(crate) fn policies(&mut self, event: Event<DynamicObject>) -> Vec<String> {
        match event {
            Event::Init => self.listed_policies.clear(),
            Event::InitApply(policy) => {
                let key = key(&policy.metadata);
                self.listed_policies.extend(key);
                return self.put_policy(&policy);
            }
            Event::Apply(policy) => return self.put_policy(&policy),
            Event::Delete(policy) => {
                let Some((namespace, name)) = key(&policy.metadata) else { return Vec::new() };
                self.of(&namespace).policies.remove(&name);
                return vec![namespace];
            }
            Event::InitDone => {
                self.has_policies = true;
                let listed = std::mem::take(&mut self.listed_policies);
                for (namespace, of) in &mut self.namespaces {
                    let is_listed =
                        |name: &String| listed.contains(&(namespace.clone(), name.clone()));
                    of.policies.retain(|name, _| is_listed(name));
                }
                return self.names();
            }
        }
        Vec::new()
    }

    /// A policy as it was last seen, by the watch or in the answer to a write.
    pub(crate) fn put_policy(&mut self, policy: &DynamicObject) -> Vec<String> {
        let Some((namespace, name)) = key(&policy.metadata) else { return Vec::new() };
        let stored = Stored::read(&name, policy);
        self.of(&namespace).policies.insert(name, stored);
        vec![namespace]
    }

    /// Takes a change of the pods; returns the namespaces that it concerns.
    pub(crate) fn pods(&mut self, event: Event<PartialObjectMeta<ApiPod>>) -> Vec<String> {
        match event {
            Event::Init => self.listed_pods.clear(),
            Event::InitApply(pod) => {
                let key = key(&pod.metadata);
                self.listed_pods.extend(key);
                return self.put_pod(&pod);
            }
            Event::Apply(pod) => return self.put_pod(&pod),
            Event::Delete(pod) => return self.remove_pod(&pod),
            Event::InitDone => {
                self.has_pods = true;
                let listed = std::mem::take(&mut self.listed_pods);
                for (namespace, of) in &mut self.namespaces {
                    let is_listed =
                        |name: &String| listed.contains(&(namespace.clone(), name.clone()));
                    of.pods.retain(|name, _| is_listed(name));
                }
                let all = self.names();
                self.namespaces.retain(|_, of| !of.policies.is_empty() || !of.pods.is_empty());
                return all;
            }
        }
        Vec::new()
    }

    /// A pod as it was last seen, by the watch or in the answer to a write.
    pub(crate) fn put_pod(&mut self, pod: &PartialObjectMeta<ApiPod>) -> Vec<String> {
        let Some((namespace, name)) = key(&pod.metadata) else { return Vec::new() };
        let annotations = pod.annotations();
        // A static pod is what its file says; one that is being deleted needs nothing any more.
        let is_static = annotations.contains_key("kubernetes.io/config.mirror");
        if is_static || pod.metadata.deletion_timestamp.is_some() {
            return self.remove_pod(pod);
        }
        let ours = annotations.iter().filter(|(key, _)| key.starts_with(OURS));
        let pod = Pod {
            name: name.clone(),
            uid: pod.uid().unwrap_or_default(),
            version: pod.resource_version().unwrap_or_default(),
            labels: pod.labels().clone(),
            annotations: ours.map(|(key, value)| (key.clone(), value.clone())).collect(),
        };
        // Most changes of pods are of their status.
        let of = self.of(&namespace);
        let same = of.pods.get(&name).is_some_and(|old| {
            old.uid == pod.uid && old.labels == pod.labels && old.annotations == pod.annotations
        });
        of.pods.insert(name, pod);
        if same { Vec::new() } else { vec![namespace] }
    }

    fn remove_pod(&mut self, pod: &PartialObjectMeta<ApiPod>) -> Vec<String> {
        let Some((namespace, name)) = key(&pod.metadata) else { return Vec::new() };
        let removed = self.of(&namespace).pods.remove(&name);
        if removed.is_some() { vec![namespace] } else { Vec::new() }
    }

    /// Takes a change of the agents' Events; returns the namespace that it concerns.
    pub(crate) fn events(&mut self, event: Event<ApiEvent>) -> Option<String> {
        let (Event::InitApply(event) | Event::Apply(event)) = event else { return None };
        self.incidents.take(&event)
    }

    fn of(&mut self, namespace: &str) -> &mut Namespace {
        self.namespaces.entry(namespace.to_owned()).or_default()
    }
}

fn key(metadata: &ObjectMeta) -> Option<Key> {
    Some((metadata.namespace.clone()?, metadata.name.clone()?))
}
