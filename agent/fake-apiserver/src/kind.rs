//! The kinds of objects that the fake knows.

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names are Kubernetes' own")]
pub enum Kind {
    Namespace,
    Node,
    Pod,
    Event,
    Lease,
    ReplicaSet,
    Deployment,
    StatefulSet,
    DaemonSet,
    Job,
    PodDisruptionBudget,
    HorizontalPodAutoscaler,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Namespace,
        Self::Node,
        Self::Pod,
        Self::Event,
        Self::Lease,
        Self::ReplicaSet,
        Self::Deployment,
        Self::StatefulSet,
        Self::DaemonSet,
        Self::Job,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
    ];

    /// The kind behind a path's group, version and resource. An Event can be had in two groups.
    pub(crate) fn of(group: &str, version: &str, resource: &str) -> Option<Self> {
        if (group, version, resource) == ("", "v1", "events") {
            return Some(Self::Event);
        }
        Self::ALL.into_iter().find(|kind| {
            (kind.group(), kind.version(), kind.resource()) == (group, version, resource)
        })
    }

    /// The name, such as `Pod`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::Pod => "Pod",
            Self::Event => "Event",
            Self::Lease => "Lease",
            Self::ReplicaSet => "ReplicaSet",
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::Job => "Job",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }

    /// The name in paths, such as `pods`.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        match self {
            Self::Namespace => "namespaces",
            Self::Node => "nodes",
            Self::Pod => "pods",
            Self::Event => "events",
            Self::Lease => "leases",
            Self::ReplicaSet => "replicasets",
            Self::Deployment => "deployments",
            Self::StatefulSet => "statefulsets",
            Self::DaemonSet => "daemonsets",
            Self::Job => "jobs",
            Self::PodDisruptionBudget => "poddisruptionbudgets",
            Self::HorizontalPodAutoscaler => "horizontalpodautoscalers",
        }
    }

    /// The API group; empty for the core.
    #[must_use]
    pub const fn group(self) -> &'static str {
        match self {
            Self::Namespace | Self::Node | Self::Pod => "",
            Self::Event => "events.k8s.io",
            Self::Lease => "coordination.k8s.io",
            Self::ReplicaSet | Self::Deployment | Self::StatefulSet | Self::DaemonSet => "apps",
            Self::Job => "batch",
            Self::PodDisruptionBudget => "policy",
            Self::HorizontalPodAutoscaler => "autoscaling",
        }
    }

    /// The version within the group.
    #[must_use]
    pub const fn version(self) -> &'static str {
        if matches!(self, Self::HorizontalPodAutoscaler) { "v2" } else { "v1" }
    }

    /// Group and version, such as `apps/v1`.
    #[must_use]
    pub fn api_version(self) -> String {
        match self.group() {
            "" => self.version().to_owned(),
            group => format!("{group}/{}", self.version()),
        }
    }

    /// Whether its objects live in a namespace.
    #[must_use]
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node)
    }

    /// Whether a change of the spec raises `metadata.generation`.
    pub(crate) const fn has_generation(self) -> bool {
        !matches!(self, Self::Namespace | Self::Node | Self::Event | Self::Lease)
    }
}
