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
    Service,
    EndpointSlice,
    ConfigMap,
    Secret,
    ClusterRole,
    APIService,
    HealingPolicy,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 19] = [
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
        Self::Service,
        Self::EndpointSlice,
        Self::ConfigMap,
        Self::Secret,
        Self::ClusterRole,
        Self::APIService,
        Self::HealingPolicy,
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

    /// Name, group, version, and name in paths.
    const fn names(self) -> [&'static str; 4] {
        match self {
            Self::Namespace => ["Namespace", "", "v1", "namespaces"],
            Self::Node => ["Node", "", "v1", "nodes"],
            Self::Pod => ["Pod", "", "v1", "pods"],
            Self::Event => ["Event", "events.k8s.io", "v1", "events"],
            Self::Lease => ["Lease", "coordination.k8s.io", "v1", "leases"],
            Self::ReplicaSet => ["ReplicaSet", "apps", "v1", "replicasets"],
            Self::Deployment => ["Deployment", "apps", "v1", "deployments"],
            Self::StatefulSet => ["StatefulSet", "apps", "v1", "statefulsets"],
            Self::DaemonSet => ["DaemonSet", "apps", "v1", "daemonsets"],
            Self::Job => ["Job", "batch", "v1", "jobs"],
            Self::PodDisruptionBudget => {
                ["PodDisruptionBudget", "policy", "v1", "poddisruptionbudgets"]
            }
            Self::HorizontalPodAutoscaler => {
                ["HorizontalPodAutoscaler", "autoscaling", "v2", "horizontalpodautoscalers"]
            }
            Self::Service => ["Service", "", "v1", "services"],
            Self::EndpointSlice => ["EndpointSlice", "discovery.k8s.io", "v1", "endpointslices"],
            Self::ConfigMap => ["ConfigMap", "", "v1", "configmaps"],
            Self::Secret => ["Secret", "", "v1", "secrets"],
            Self::ClusterRole => ["ClusterRole", "rbac.authorization.k8s.io", "v1", "clusterroles"],
            Self::APIService => ["APIService", "apiregistration.k8s.io", "v1", "apiservices"],
            Self::HealingPolicy => {
                ["HealingPolicy", "paramedic.dev", "v1alpha1", "healingpolicies"]
            }
        }
    }

    /// The name, such as `Pod`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.names()[0]
    }

    /// The API group; empty for the core.
    #[must_use]
    pub const fn group(self) -> &'static str {
        self.names()[1]
    }

    /// The version within the group.
    #[must_use]
    pub const fn version(self) -> &'static str {
        self.names()[2]
    }

    /// The name in paths, such as `pods`.
    #[must_use]
    pub const fn resource(self) -> &'static str {
        self.names()[3]
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
        !matches!(self, Self::Namespace | Self::Node | Self::ClusterRole | Self::APIService)
    }

    /// Whether clients make and change its objects here, and no controller takes part.
    pub(crate) const fn is_plain(self) -> bool {
        matches!(
            self,
            Self::Lease
                | Self::Service
                | Self::EndpointSlice
                | Self::ConfigMap
                | Self::Secret
                | Self::ClusterRole
                | Self::APIService
                | Self::HealingPolicy
        )
    }

    /// Whether the controllers of workloads and budgets look at its objects.
    pub(crate) const fn concerns_controllers(self) -> bool {
        !self.is_plain() && !matches!(self, Self::Event | Self::Namespace)
    }

    /// Whether a change of the spec raises `metadata.generation`.
    pub(crate) const fn has_generation(self) -> bool {
        match self {
            Self::Namespace | Self::Node | Self::Event => false,
            Self::EndpointSlice | Self::HealingPolicy => true,
            _ => !self.is_plain(),
        }
    }

    /// Whether a PUT creates what is not there.
    pub(crate) const fn is_created_by_put(self) -> bool {
        matches!(self, Self::Lease | Self::Service | Self::ClusterRole)
    }

    /// Whether a PUT must name the version that it replaces.
    pub(crate) const fn needs_version(self) -> bool {
        matches!(self, Self::Lease | Self::APIService | Self::HealingPolicy)
    }
}
