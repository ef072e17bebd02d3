//! Everything behind the fake: the shared core and the state of each resource.
//!
//! The parts are separate, so the signature of a function names every part that it works on. This
//! module alone sees them all: it gives each due step to its part, and lets the controllers look
//! at what changed.
use std::time::Duration;

use crate::{
    access::Access,
    api::{json as j, kind::Kind},
    cluster::{Cluster, Due},
    requests::{faults::Faults, log::Requests, watch::Watches},
    resources::{
        budgets::Budgets,
        garbage,
        pods::{Pods, changes::Changes, eviction::Evictions, resize::Resizes},
        workloads::Workloads,
    },
};

/// Everything.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) cluster: Cluster,
    pub(crate) access: Access,
    pub(crate) faults: Faults,
    pub(crate) requests: Requests,
    pub(crate) watches: Watches,
    pub(crate) pods: Pods,
    pub(crate) evictions: Evictions,
    pub(crate) changes: Changes,
    pub(crate) resizes: Resizes,
    pub(crate) workloads: Workloads,
    pub(crate) budgets: Budgets,
}

impl State {
    pub(crate) fn new() -> Self {
        let mut cluster = Cluster::new();
        for namespace in ["default", "kube-node-lease", "kube-public", "kube-system"] {
            cluster.ensure_namespace(namespace);
        }
        Self {
            cluster,
            access: Access::default(),
            faults: Faults::default(),
            requests: Requests::default(),
            watches: Watches::default(),
            pods: Pods::default(),
            evictions: Evictions::default(),
            changes: Changes::default(),
            resizes: Resizes::default(),
            workloads: Workloads::default(),
            budgets: Budgets::default(),
        }
    }

    /// Takes every step that is due by `now`.
    pub(crate) fn settle(&mut self, now: Duration) {
        self.reconcile();
        while let Some(due) = self.cluster.take_due(now) {
            self.step(due);
            self.reconcile();
        }
        self.cluster.advance(now);
    }

    fn step(&mut self, due: Due) {
        let Self { cluster, pods, workloads, .. } = self;
        match due {
            Due::Pod(step) => pods.step(cluster, step),
            Due::Replicas(kind, key) => workloads.make_up(cluster, pods, kind, &key),
            Due::Orphan(kind, key) => garbage::collect_orphan(cluster, pods, kind, &key),
            Due::Budgets(namespace) => cluster.mark_dirty(namespace),
            Due::EventExpires { key, version } => {
                let event = cluster.store.get(Kind::Event, &key.0, &key.1);
                if event.is_some_and(|event| j::version(event) == version) {
                    cluster.erase(Kind::Event, &key);
                }
            }
        }
    }

    /// Lets the controllers look at whatever changed.
    fn reconcile(&mut self) {
        let Self { cluster, pods, workloads, budgets, .. } = self;
        while let Some(namespace) = cluster.take_dirty() {
            workloads.sync(cluster, pods, &namespace);
            budgets.sync(cluster, &namespace);
        }
    }
}
