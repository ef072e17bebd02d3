//! The controllers of workloads: they create the pods that are lacking, remove those too many, and
//! keep the status up to date.
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{
    objects::Missing,
    pods::{
        PodRef, Pods,
        status::{is_active, is_ready},
    },
};
use crate::{
    FakeApi,
    api::{json as j, kind::Kind, make},
    cluster::{
        Cluster, Due,
        store::{Key, Object, Store},
    },
};

pub(crate) mod owners;
mod create;
mod status;

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
    /// Those that will create their pods soon.
    pending: BTreeSet<(Kind, Key)>,
    /// The nodes for the pods; an empty list permits every node.
    nodes: BTreeMap<String, Vec<String>>,
    rollouts: BTreeMap<String, Rollout>,
}

/// The kinds that own pods.
const OWNERS: [Kind; 4] = [Kind::ReplicaSet, Kind::StatefulSet, Kind::DaemonSet, Kind::Job];

impl Workloads {
    /// Lets the controllers of a namespace look at their workloads.
    pub(crate) fn sync(&mut self, cluster: &mut Cluster, pods: &mut Pods, namespace: &str) {
        for deployment in owners::snapshot(&cluster.store, Kind::Deployment, namespace) {
            for set in owners::sets_of(&cluster.store, &deployment) {
                let replicas = deployment["spec"]["replicas"].clone();
                if set["spec"]["replicas"] == replicas {
                    continue;
                }
                let name = j::name(&set).to_owned();
                cluster.update(Kind::ReplicaSet, namespace, &name, |set| {
                    set["spec"]["replicas"] = replicas;
                });
            }
        }
        for kind in OWNERS {
            for owner in owners::snapshot(&cluster.store, kind, namespace) {
                owners::claim(cluster, &owner);
            }
        }
        let mut owned = owners::pods_by_owner(&cluster.store, namespace);
        for kind in OWNERS {
            for owner in owners::snapshot(&cluster.store, kind, namespace) {
                let owned = owned.remove(j::uid(&owner)).unwrap_or_default();
                self.sync_owner(cluster, pods, kind, &owner, owned);
            }
        }
        for deployment in owners::snapshot(&cluster.store, Kind::Deployment, namespace) {
            self.sync_deployment(cluster, &deployment);
        }
    }

    fn sync_owner(
        &mut self,
        cluster: &mut Cluster,
        pods: &mut Pods,
        kind: Kind,
        owner: &Object,
        mut owned: Vec<Object>,
    ) {
        let surplus = surplus(kind, owner, &owned);
        if !surplus.is_empty() {
            for pod in surplus {
                pods.terminate(cluster, &pod, None);
            }
            owned = owners::pods_of(&cluster.store, owner);
        }
        if !self.lacking(kind, owner, &owned).is_empty() {
            let key = (j::namespace(owner).to_owned(), j::name(owner).to_owned());
            if self.pending.insert((kind, key.clone())) {
                cluster.schedule(cluster.timing.replace, Due::Replicas(kind, key));
            }
        }
        cluster.write_status(kind, owner, self.status_of(kind, owner, &owned));
    }

    /// Creates the pods that a workload lacks.
    pub(crate) fn make_up(&mut self, cluster: &mut Cluster, pods: &Pods, kind: Kind, key: &Key) {
        self.pending.remove(&(kind, key.clone()));
        let Some(owner) = cluster.store.get(kind, &key.0, &key.1).cloned() else { return };
        for place in self.lacking(kind, &owner, &owners::pods_of(&cluster.store, &owner)) {
            let pod = self.new_pod(cluster, &owner, &place);
            pods.start(cluster, pod);
        }
    }

    /// The same at once, with pods that already run.
    fn make_up_running(
        &self,
        cluster: &mut Cluster,
        pods: &mut Pods,
        kind: Kind,
        key: &Key,
    ) -> Vec<String> {
        let Some(owner) = cluster.store.get(kind, &key.0, &key.1).cloned() else {
            return Vec::new();
        };
        let mut names = Vec::new();
        for place in self.lacking(kind, &owner, &owners::pods_of(&cluster.store, &owner)) {
            let pod = self.new_pod(cluster, &owner, &place);
            names.push(pods.add_running(cluster, pod).name);
        }
        names
    }

    fn new_pod(&self, cluster: &mut Cluster, owner: &Value, place: &Place) -> Value {
        let mut pod = owner["spec"]["template"].clone();
        let name = match &place.name {
            Some(name) => name.clone(),
            None => format!("{}-{}", j::name(owner), make::suffix(cluster.serial())),
        };
        let node = match &place.node {
            Some(node) => Some(node.clone()),
            None => self.least_loaded(&cluster.store, owner),
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
    fn least_loaded(&self, store: &Store, owner: &Value) -> Option<String> {
        let mut load: BTreeMap<&str, usize> = BTreeMap::new();
        for (_, node) in store.all(Kind::Node) {
            if node["spec"]["unschedulable"] != true {
                load.insert(j::name(node), 0);
            }
        }
        if let Some(nodes) = self.nodes.get(j::uid(owner)).filter(|n| !n.is_empty()) {
            load.retain(|node, _| nodes.iter().any(|n| n == node));
        }
        for (_, pod) in store.all(Kind::Pod) {
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
                let nodes = self.nodes.get(j::uid(owner)).cloned().unwrap_or_default();
                let free = nodes
                    .into_iter()
                    .filter(|node| pods.iter().all(|pod| j::text(pod, "/spec/nodeName") != node));
                free.map(|node| Place { name: None, node: Some(node) }).collect()
            }
            Kind::Job => any(j::int(owner, "/spec/parallelism").unwrap_or(1)),
            _ => any(replicas),
        }
    }
}

/// The pods too many: of a set the unready and the youngest ones.
fn surplus(kind: Kind, owner: &Value, pods: &[Object]) -> Vec<PodRef> {
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

/// Where a pod is lacking.
#[derive(Debug, Default)]
struct Place {
    name: Option<String>,
    node: Option<String>,
}

/// Changes of workloads.
impl FakeApi {
    /// Sets the replicas of a Deployment, ReplicaSet or StatefulSet.
    ///
    /// # Errors
    /// If it is not there.
    pub fn scale(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        replicas: u32,
    ) -> Result<(), Missing> {
        self.patch(kind, namespace, name, &json!({"spec": {"replicas": replicas}}))
    }

    /// Lets a workload show a rolling update, without one taking place.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_rolling(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        rollout: Rollout,
    ) -> Result<(), Missing> {
        self.with(|state| {
            let uid = j::uid(&*state.cluster.find(kind, namespace, name)?).to_owned();
            let before = state.workloads.rollouts.insert(uid, rollout);
            state.cluster.update(kind, namespace, name, |object| {
                if rollout != Rollout::Done && before.is_none_or(|r| r == Rollout::Done) {
                    let generation = j::int(object, "/metadata/generation").unwrap_or(1) + 1;
                    object["metadata"]["generation"] = json!(generation);
                }
            });
            state.cluster.mark_all_dirty();
            Ok(())
        })
    }
}
