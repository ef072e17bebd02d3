//! The controllers of workloads: they make up for pods that are gone, remove those too many, and
//! keep the status up to date. Rolling updates are only shown, never carried out.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    json as j,
    kind::Kind,
    make,
    pod::{is_active, is_ready},
    state::{Due, PodRef, State},
    store::{Key, Object},
};

/// What a workload shows of a rolling update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rollout {
    /// None is under way.
    Done,
    /// Its controller has not seen the new spec: `observedGeneration` lags.
    Unobserved,
    /// So many replicas are updated.
    Updated(i64),
}

/// What the controllers remember, by the workload's uid.
#[derive(Debug, Default)]
pub(crate) struct Workloads {
    /// Those that will make up their pods soon.
    pending: BTreeSet<(Kind, Key)>,
    /// The nodes that pods may be put on; everywhere, if there are none.
    pub(crate) nodes: BTreeMap<String, Vec<String>>,
    pub(crate) rollouts: BTreeMap<String, Rollout>,
}

/// The kinds that own pods.
const OWNERS: [Kind; 4] = [Kind::ReplicaSet, Kind::StatefulSet, Kind::DaemonSet, Kind::Job];

impl State {
    /// Lets the controllers of a namespace look at their workloads.
    pub(crate) fn sync_workloads(&mut self, namespace: &str) {
        for deployment in self.snapshot(Kind::Deployment, namespace) {
            for set in self.sets_of(&deployment) {
                let replicas = deployment["spec"]["replicas"].clone();
                if set["spec"]["replicas"] == replicas {
                    continue;
                }
                let name = j::name(&set).to_owned();
                self.update(Kind::ReplicaSet, namespace, &name, |set| {
                    set["spec"]["replicas"] = replicas;
                });
            }
        }
        let mut pods = self.pods_by_owner(namespace);
        for kind in OWNERS {
            for owner in self.snapshot(kind, namespace) {
                self.sync_owner(kind, &owner, pods.remove(j::uid(&owner)).unwrap_or_default());
            }
        }
        for deployment in self.snapshot(Kind::Deployment, namespace) {
            self.sync_deployment(&deployment);
        }
    }

    fn pods_by_owner(&self, namespace: &str) -> BTreeMap<String, Vec<Object>> {
        let mut owned: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for pod in self.store.in_namespace(Kind::Pod, namespace) {
            if let Some(owner) = j::controller(pod) {
                owned
                    .entry(j::text(owner, "/uid").to_owned())
                    .or_default()
                    .push(Object::clone(pod));
            }
        }
        owned
    }

    fn snapshot(&self, kind: Kind, namespace: &str) -> Vec<Object> {
        self.store.in_namespace(kind, namespace).cloned().collect()
    }

    /// The pods that an object controls.
    pub(crate) fn pods_of(&self, owner: &Value) -> Vec<Object> {
        let uid = j::uid(owner);
        let pods = self.store.in_namespace(Kind::Pod, j::namespace(owner));
        let owned = |pod: &&Object| j::controller(pod).is_some_and(|o| j::text(o, "/uid") == uid);
        pods.filter(owned).cloned().collect()
    }

    pub(crate) fn sets_of(&self, deployment: &Value) -> Vec<Object> {
        let uid = j::uid(deployment);
        let sets = self.store.in_namespace(Kind::ReplicaSet, j::namespace(deployment));
        let owned = |set: &&Object| j::controller(set).is_some_and(|o| j::text(o, "/uid") == uid);
        sets.filter(owned).cloned().collect()
    }

    fn sync_owner(&mut self, kind: Kind, owner: &Object, mut pods: Vec<Object>) {
        let surplus = self.surplus(kind, owner, &pods);
        if !surplus.is_empty() {
            for pod in surplus {
                self.terminate(&pod, None);
            }
            pods = self.pods_of(owner);
        }
        if !self.lacking(kind, owner, &pods).is_empty() {
            let key = (j::namespace(owner).to_owned(), j::name(owner).to_owned());
            if self.workloads.pending.insert((kind, key.clone())) {
                self.schedule(self.timing.replace, Due::Replicas(kind, key));
            }
        }
        self.write_status(kind, owner, self.status_of(kind, owner, &pods));
    }

    /// Creates the pods that a workload lacks.
    pub(crate) fn make_up(&mut self, kind: Kind, key: &Key) {
        self.workloads.pending.remove(&(kind, key.clone()));
        let Some(owner) = self.store.get(kind, &key.0, &key.1).cloned() else { return };
        for place in self.lacking(kind, &owner, &self.pods_of(&owner)) {
            let pod = self.new_pod(&owner, &place);
            self.start_pod(pod);
        }
    }

    /// The same at once, with pods that already run.
    pub(crate) fn make_up_running(&mut self, kind: Kind, key: &Key) -> Vec<String> {
        let Some(owner) = self.store.get(kind, &key.0, &key.1).cloned() else {
            return Vec::new();
        };
        let mut names = Vec::new();
        for place in self.lacking(kind, &owner, &self.pods_of(&owner)) {
            let pod = self.new_pod(&owner, &place);
            names.push(self.add_running_pod(pod).name);
        }
        names
    }

    fn new_pod(&mut self, owner: &Value, place: &Place) -> Value {
        let mut pod = owner["spec"]["template"].clone();
        let name = match &place.name {
            Some(name) => name.clone(),
            None => format!("{}-{}", j::name(owner), make::suffix(self.serial())),
        };
        let node = match &place.node {
            Some(node) => Some(node.clone()),
            None => self.least_loaded(owner),
        };
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["namespace"] = owner["metadata"]["namespace"].clone();
        pod["metadata"]["ownerReferences"] = make::owned_by(owner);
        if let Some(node) = node {
            pod["spec"]["nodeName"] = json!(node);
        }
        pod
    }

    /// The node with the fewest pods among those that the workload may use.
    fn least_loaded(&self, owner: &Value) -> Option<String> {
        let mut load: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, node) in self.store.all(Kind::Node) {
            if node["spec"]["unschedulable"] != true {
                load.insert(j::name(node), 0);
            }
        }
        if let Some(nodes) = self.workloads.nodes.get(j::uid(owner)).filter(|n| !n.is_empty()) {
            load.retain(|node, _| nodes.iter().any(|n| n == node));
        }
        for (_, pod) in self.store.all(Kind::Pod) {
            if let Some(load) = load.get_mut(j::text(pod, "/spec/nodeName")) {
                *load += 1;
            }
        }
        load.into_iter().min_by_key(|&(node, load)| (load, node)).map(|(node, _)| node.to_owned())
    }

    /// The places that have no pod and should have one.
    fn lacking(&self, kind: Kind, owner: &Value, pods: &[Object]) -> Vec<Place> {
        let replicas = j::int(owner, "/spec/replicas").unwrap_or(1);
        let any = |count: i64| {
            let active = pods.iter().filter(|pod| is_active(pod)).fold(0, |n, _| n + 1);
            (active..count).map(|_| Place::default()).collect()
        };
        match kind {
            Kind::StatefulSet => {
                let names = (0..replicas).map(|i| format!("{}-{i}", j::name(owner)));
                let free = names.filter(|name| pods.iter().all(|pod| j::name(pod) != name));
                free.map(|name| Place { name: Some(name), node: None }).collect()
            }
            Kind::DaemonSet => {
                let nodes = self.workloads.nodes.get(j::uid(owner)).cloned().unwrap_or_default();
                let free = nodes
                    .into_iter()
                    .filter(|node| pods.iter().all(|pod| j::text(pod, "/spec/nodeName") != node));
                free.map(|node| Place { name: None, node: Some(node) }).collect()
            }
            Kind::Job => any(j::int(owner, "/spec/parallelism").unwrap_or(1)),
            _ => any(replicas),
        }
    }

    /// The pods too many: of a set the unready and the youngest ones.
    fn surplus(&self, kind: Kind, owner: &Value, pods: &[Object]) -> Vec<PodRef> {
        let replicas = j::int(owner, "/spec/replicas").unwrap_or(1);
        let mut active: Vec<&Object> = pods.iter().filter(|pod| is_active(pod)).collect();
        match kind {
            Kind::StatefulSet => {
                let number = |pod: &Object| j::name(pod).rsplit('-').next()?.parse::<i64>().ok();
                active.retain(|pod| number(pod).is_some_and(|n| n >= replicas));
                active.into_iter().map(|pod| PodRef::of(pod)).collect()
            }
            Kind::ReplicaSet => {
                let born = |pod: &Object| j::text(pod, "/metadata/creationTimestamp").to_owned();
                active.sort_by_key(|pod| (is_ready(pod), std::cmp::Reverse(born(pod))));
                let excess = active.len().saturating_sub(usize::try_from(replicas).unwrap_or(0));
                active.into_iter().take(excess).map(|pod| PodRef::of(pod)).collect()
            }
            _ => Vec::new(),
        }
    }

    fn status_of(&self, kind: Kind, owner: &Value, pods: &[Object]) -> Value {
        let count = |test: &dyn Fn(&Object) -> bool| pods.iter().filter(|p| test(p)).count();
        let active = count(&|pod| is_active(pod));
        let ready = count(&|pod| is_active(pod) && is_ready(pod));
        let observed = self.observed_generation(owner);
        let template = j::text(owner, "/metadata/name").to_owned() + "-1";
        let updated = self.updated(owner, active);
        let fields: Vec<(&str, Value)> = match kind {
            Kind::StatefulSet => vec![
                ("replicas", json!(pods.len())),
                ("readyReplicas", json!(count(&|pod| is_ready(pod)))),
                ("availableReplicas", json!(count(&|pod| is_ready(pod)))),
                ("currentReplicas", json!(active)),
                ("updatedReplicas", updated),
                ("currentRevision", json!(template)),
                ("updateRevision", json!(template)),
                ("collisionCount", json!(0)),
                ("observedGeneration", observed),
            ],
            Kind::DaemonSet => {
                let nodes = self.workloads.nodes.get(j::uid(owner)).map_or(0, Vec::len);
                vec![
                    ("currentNumberScheduled", json!(pods.len())),
                    ("desiredNumberScheduled", json!(nodes)),
                    ("numberMisscheduled", json!(0)),
                    ("numberReady", json!(ready)),
                    ("numberAvailable", json!(ready)),
                    ("numberUnavailable", json!(nodes.saturating_sub(ready))),
                    ("updatedNumberScheduled", updated),
                    ("observedGeneration", observed),
                ]
            }
            Kind::Job => {
                let phase =
                    |phase: &'static str| count(&move |pod| j::text(pod, "/status/phase") == phase);
                vec![
                    ("active", json!(active)),
                    ("ready", json!(ready)),
                    ("terminating", json!(count(&|pod| j::is_terminating(pod)))),
                    ("succeeded", json!(phase("Succeeded"))),
                    ("failed", json!(phase("Failed"))),
                    ("startTime", owner["metadata"]["creationTimestamp"].clone()),
                    ("uncountedTerminatedPods", json!({})),
                ]
            }
            _ => vec![
                ("replicas", json!(active)),
                ("fullyLabeledReplicas", json!(active)),
                ("readyReplicas", json!(ready)),
                ("availableReplicas", json!(ready)),
                ("observedGeneration", observed),
            ],
        };
        let required = [
            "replicas",
            "collisionCount",
            "ready",
            "terminating",
            "currentNumberScheduled",
            "desiredNumberScheduled",
            "numberMisscheduled",
            "numberReady",
        ];
        let shown = fields.into_iter().filter(|(key, value)| *value != 0 || required.contains(key));
        Value::Object(shown.map(|(key, value)| (key.to_owned(), value)).collect())
    }

    fn sync_deployment(&mut self, deployment: &Value) {
        let sets = self.sets_of(deployment);
        let sum = |field: &str| -> i64 {
            sets.iter().filter_map(|set| j::int(set, &format!("/status/{field}"))).sum()
        };
        let (replicas, ready) = (sum("replicas"), sum("readyReplicas"));
        let wanted = j::int(deployment, "/spec/replicas").unwrap_or(1);
        let mut status = Map::new();
        for (key, value) in [
            ("replicas", json!(replicas)),
            ("readyReplicas", json!(ready)),
            ("availableReplicas", json!(ready)),
            ("unavailableReplicas", json!((wanted - ready).max(0))),
            ("updatedReplicas", self.updated(deployment, usize::try_from(replicas).unwrap_or(0))),
            ("observedGeneration", self.observed_generation(deployment)),
        ] {
            if value != 0 {
                status.insert(key.to_owned(), value);
            }
        }
        let rolling = matches!(
            self.workloads.rollouts.get(j::uid(deployment)),
            Some(Rollout::Updated(_) | Rollout::Unobserved)
        );
        let reason = if rolling { "ReplicaSetUpdated" } else { "NewReplicaSetAvailable" };
        status.insert("conditions".to_owned(), deployment["status"]["conditions"].clone());
        let mut status = Value::Object(status);
        // A quarter may be missing, as the default strategy has it.
        let (available, why) = if ready * 4 >= wanted * 3 {
            ("True", "MinimumReplicasAvailable")
        } else {
            ("False", "MinimumReplicasUnavailable")
        };
        let available = json!({"type": "Available", "status": available, "reason": why});
        self.set_condition(&mut status, available);
        let progressing = json!({"type": "Progressing", "status": "True", "reason": reason});
        self.set_condition(&mut status, progressing);
        self.write_status(Kind::Deployment, deployment, status);
    }

    fn observed_generation(&self, owner: &Value) -> Value {
        let generation = j::int(owner, "/metadata/generation").unwrap_or(1);
        let lag = self.workloads.rollouts.get(j::uid(owner)) == Some(&Rollout::Unobserved);
        json!(generation - i64::from(lag))
    }

    fn updated(&self, owner: &Value, all: usize) -> Value {
        match self.workloads.rollouts.get(j::uid(owner)) {
            Some(Rollout::Updated(updated)) => json!(updated),
            _ => json!(all),
        }
    }

    /// The workload that a pod belongs to in the end: of a ReplicaSet its Deployment.
    pub(crate) fn workload_of(&self, pod: &Value) -> Option<(String, String)> {
        let named = |owner: &Value| {
            (j::text(owner, "/kind").to_owned(), j::text(owner, "/name").to_owned())
        };
        let owner = named(j::controller(pod)?);
        if owner.0 == "ReplicaSet"
            && let Some(set) = self.store.get(Kind::ReplicaSet, j::namespace(pod), &owner.1)
            && let Some(above) = j::controller(set)
        {
            return Some(named(above));
        }
        Some(owner)
    }
}

/// Where a pod is lacking.
#[derive(Debug, Default)]
struct Place {
    name: Option<String>,
    node: Option<String>,
}
