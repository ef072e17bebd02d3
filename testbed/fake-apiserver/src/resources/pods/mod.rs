//! Pods: what the kubelets do with them, how they are evicted, and what a test can do to them.
use std::time::Duration;

use serde_json::{Value, json};

use super::objects::Missing;
use crate::{
    FakeApi, Kind,
    api::json as j,
    cluster::{Cluster, store::Object},
};

pub(crate) mod status;
pub(crate) mod kubelet;
pub(crate) mod eviction;
pub(crate) mod changes;
pub(crate) mod resize;

/// One pod, and not a later one of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
}

impl PodRef {
    pub(crate) fn of(pod: &Value) -> Self {
        Self {
            namespace: j::namespace(pod).to_owned(),
            name: j::name(pod).to_owned(),
            uid: j::uid(pod).to_owned(),
        }
    }

    /// The pod, if it is still this one.
    pub(crate) fn find<'a>(&self, cluster: &'a Cluster) -> Option<&'a Object> {
        let found = cluster.store.get(Kind::Pod, &self.namespace, &self.name)?;
        (j::uid(found) == self.uid).then_some(found)
    }

    /// Changes the pod, if it is still this one.
    pub(crate) fn update(&self, cluster: &mut Cluster, change: impl FnOnce(&mut Value)) {
        if self.find(cluster).is_some() {
            cluster.update(Kind::Pod, &self.namespace, &self.name, change);
        }
    }
}

/// What will happen to a pod.
#[derive(Clone, Debug)]
pub(crate) enum Due {
    /// Its containers run.
    Runs(PodRef),
    /// A container becomes ready, if it is still this one.
    Ready { pod: PodRef, container_id: String },
    /// The kubelet notices that a container is dead.
    Died { pod: PodRef, container: String, exit_code: i64, at: Duration },
    /// The short moment in which a back-off shows.
    BackingOff { pod: PodRef, container: String, seconds: u64 },
    /// A container runs again.
    Restarted { pod: PodRef, container: String },
    /// The kubelet sees new resources, and has this room.
    Resized { pod: PodRef, room: resize::Room },
    /// It was terminating, and is gone.
    Gone(PodRef),
}

/// What the kubelets remember.
#[derive(Debug, Default)]
pub(crate) struct Pods {
    containers: kubelet::Containers,
}

/// Pods.
impl FakeApi {
    /// Adds a pod without an owner, of which only the name and `spec.nodeName` must be given.
    /// Without a status it runs and is ready already. Returns its uid.
    pub fn add_pod(&self, pod: Value) -> String {
        self.with(|state| {
            ensure_namespace_of(&mut state.cluster, &pod);
            state.pods.add_running(&mut state.cluster, pod).uid
        })
    }

    /// The same, but the pod starts now, through all its phases.
    pub fn start_pod(&self, pod: Value) -> String {
        self.with(|state| {
            ensure_namespace_of(&mut state.cluster, &pod);
            state.pods.start(&mut state.cluster, pod).uid
        })
    }

    /// Sets or, with `null`, removes labels of a pod.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_labels(&self, namespace: &str, pod: &str, labels: &Value) -> Result<(), Missing> {
        self.patch(Kind::Pod, namespace, pod, &json!({"metadata": {"labels": labels}}))
    }

    /// Makes all containers of a pod ready, or none. A restart makes its container ready again.
    ///
    /// # Errors
    /// If it is not there.
    pub fn set_ready(&self, namespace: &str, pod: &str, ready: bool) -> Result<(), Missing> {
        self.with(|state| {
            let cluster = &mut state.cluster;
            let mut object = Value::clone(&*cluster.find(Kind::Pod, namespace, pod)?);
            status::set_ready(cluster, &mut object, None, ready);
            cluster.write(Kind::Pod, object);
            Ok(())
        })
    }

    /// Ends the process of a container now, as a signal would. The kubelet notices and restarts
    /// it in its own time, see [`Timing`](crate::Timing). Nothing happens to a container that does
    /// not run.
    ///
    /// # Errors
    /// If the pod is not there.
    pub fn restart_container(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        exit_code: i64,
    ) -> Result<(), Missing> {
        self.with(|state| {
            let pod = PodRef::of(&*state.cluster.find(Kind::Pod, namespace, pod)?);
            state.pods.kill(&mut state.cluster, &pod, container, exit_code);
            Ok(())
        })
    }

    /// Deletes a pod as `kubectl delete` does, within its grace period.
    ///
    /// # Errors
    /// If it is not there.
    pub fn delete_pod(&self, namespace: &str, pod: &str) -> Result<(), Missing> {
        self.delete(Kind::Pod, namespace, pod)
    }
}

fn ensure_namespace_of(cluster: &mut Cluster, pod: &Value) {
    let namespace = j::namespace(pod);
    cluster.ensure_namespace(if namespace.is_empty() { "default" } else { namespace });
}
