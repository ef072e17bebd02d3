//! The pod of a target.
use std::time::Duration;

/// A pod, one of its containers, and the instance of that container.
#[derive(Clone, Debug, PartialEq)]
pub struct PodRef {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub name: String,
    /// The pod's uid.
    pub uid: String,
    /// The container's name.
    pub container: String,
    /// The container's id, without the runtime's scheme: 64 hexadecimal digits.
    pub container_id: String,
    /// The controller that created the pod and would replace it.
    pub owner: Option<Owner>,
    /// Time from SIGTERM to SIGKILL.
    pub grace: Duration,
}

impl PodRef {
    /// The identity that survives a restart in place: the pod's uid and the container's name.
    #[must_use]
    pub fn target_uid(&self) -> String {
        format!("{}/{}", self.uid, self.container)
    }

    /// `namespace/name`.
    #[must_use]
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// The controller of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// Group and version, such as `apps/v1`.
    pub api_version: String,
    /// The kind, such as `ReplicaSet`.
    pub kind: String,
    /// The name, in the pod's namespace.
    pub name: String,
    /// The uid.
    pub uid: String,
}
