//! Targets, and how far healing may go.
//!
//! A target has a uid (its identity for its owner) and an instance (one run of it). Both are
//! compared before and after a remedy: a restarted service is the same target in another instance,
//! and no verdict on the old instance justifies anything against the new one.
use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::boot_time::BootTime;

pub mod cap;
mod change;
mod channels;
pub mod consent;
mod container;
mod pod;
mod process_id;
mod request;
mod service;
mod settings;
mod soft;
mod window;
pub mod version;

pub use cap::{Cap, Capped};
pub use change::Change;
pub use channels::{ChannelNames, NotChannelNames};
pub use container::ContainerRef;
pub use pod::{Owner, PodRef};
pub use process_id::{NotAProcessId, ProcessId};
pub use request::{NotARequest, Request};
pub use service::WatchedService;
pub use settings::{Allowance, HealthAsk, HealthProbe, MAX_DRAIN, Quarantine, Settings};
pub use soft::{NoSoft, Soft, SoftMethod, SoftRequest, SoftSignal};
pub use window::{NotAWindow, Windows};

/// A remedy, in the order of strength: the one ladder of labels, options, metrics, logs and code. As
/// a target's ceiling it is its owner's consent; as an intention it is the remedy about to be
/// applied. `Observe` is the ceiling of an owner who permits none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Watch only.
    Observe,
    /// Reset it without an interruption, as its owner offers: see [`Soft`].
    Soft,
    /// Restart it in place.
    Restart,
    /// Let the cluster replace it.
    Evict,
}

impl Remedy {
    /// All remedies, mildest first.
    pub const ALL: [Self; 4] = [Self::Observe, Self::Soft, Self::Restart, Self::Evict];

    /// The remedy of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|remedy| remedy.name() == name)
    }

    /// The remedy's name, as in labels, metrics and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Observe => "observe",
            Self::Soft => "soft",
            Self::Restart => "restart",
            Self::Evict => "evict",
        }
    }

    /// Whether the remedy interrupts service.
    #[must_use]
    pub const fn is_hard(self) -> bool {
        matches!(self, Self::Restart | Self::Evict)
    }

    /// The next stronger remedy, if there is one.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::Observe => Some(Self::Soft),
            Self::Soft => Some(Self::Restart),
            Self::Restart => Some(Self::Evict),
            Self::Evict => None,
        }
    }
}

/// Why a remedy that the ceiling permits is impossible for a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Obstacle {
    /// Nothing would start the container again.
    #[error("its restart policy is not Always: the kubelet would not start it again")]
    RestartPolicy,
    /// A signal from outside would skip the hook.
    #[error("a restart in place would skip its preStop hook")]
    PreStopHook,
    /// Nothing would replace the pod.
    #[error("no controller owns the pod: nothing would replace it")]
    NoController,
    /// The kubelet runs it from a file, whatever the API server says.
    #[error("it is a static pod: evicting it changes nothing")]
    StaticPod,
    /// Nothing would start it elsewhere.
    #[error("it runs outside a cluster: nothing would replace it")]
    NoCluster,
    /// Its owner says so.
    #[error("its owner offers none (`paramedic.dev/soft: none`)")]
    NoSoft,
    /// It has said so.
    #[error(
        "it does not offer what would reset it (`paramedic.dev/soft`, `paramedic.dev/heal-path` \
         name another)"
    )]
    SoftNotOffered,
    /// Its controller would take a drained pod for one that it does not own.
    #[error(
        "its controller selects pods by paramedic.dev/serving, and would replace a drained one: \
         only a Service may select by that label"
    )]
    ServingSelected,
    /// A StatefulSet cannot start another pod of the same name.
    #[error(
        "a pod in quarantine keeps its name, and its StatefulSet could not start another \
         (`paramedic.dev/give-up`)"
    )]
    NameTaken,
    /// Only a ReplicaSet is known to let a pod go and to start another elsewhere.
    #[error(
        "only a pod of a ReplicaSet or Deployment can be quarantined (`paramedic.dev/give-up`)"
    )]
    NotReleased,
    /// Its labels are not what its controller or its Services select it by.
    #[error(
        "it would still be selected after its labels were taken: by an expression that an absent \
         label fulfils, or by labels of paramedic.dev alone"
    )]
    StillSelected,
    /// It is kept for people to look at.
    #[error("it is in quarantine: `paramedic release` ends that")]
    InQuarantine,
    /// Its manager takes the end of a task for a failure and starts another.
    #[error("it is a Docker Swarm task: the Swarm manager would start another task")]
    SwarmTask,
}

/// Identity of a target and of its instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetId {
    /// Survives restarts: a pod's uid and container name, a container's name, a watched URL.
    pub uid: String,
    /// Changes with every restart: a container id, or a process's pid and start time.
    pub instance: String,
}

/// One cgroup directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// Absolute path of the directory.
    pub path: PathBuf,
    /// Its inode number: the id by which the kernel side knows it.
    pub id: u64,
}

/// The cgroups of a target in each relevant hierarchy; three times the same directory on a host
/// with cgroup v2 alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// cgroup2, to which eBPF programs are attached and sockets belong.
    pub unified: Option<Cgroup>,
    /// The cgroup2 directory of the listening socket, if it differs from `unified`: a socket
    /// belongs to the cgroup in which it was created, and so do the connections that it accepts,
    /// wherever the process is now (a service manager's socket, a worker moved by its master).
    /// Other processes may be there, so it counts only for a target with a port.
    pub traffic: Option<Cgroup>,
    /// The hierarchy of the CPU controller.
    pub cpu: Option<Cgroup>,
    /// The hierarchy of CPU accounting (v1 may mount it apart from `cpu`).
    pub cpuacct: Option<Cgroup>,
    /// The hierarchy of the memory controller.
    pub memory: Option<Cgroup>,
    /// Whether other processes share its cgroup, so that cgroup-wide signals (CPU, memory,
    /// throttling, OOM kills) do not belong to it alone.
    pub shared: bool,
}

impl Cgroups {
    /// A cgroup in which a container's processes can be found.
    #[must_use]
    pub fn any(&self) -> Option<&Cgroup> {
        self.unified.as_ref().or(self.memory.as_ref()).or(self.cpu.as_ref())
    }
}

/// Maximum number of targets of one agent. Kubernetes' own limit is 110 pods a node unless raised.
pub const MAX_TARGETS: usize = 500;

/// Maximum grace. A longer one would exceed the time after which the loop gives a remedy up for
/// lost.
pub const MAX_GRACE: Duration = Duration::from_secs(600);

/// The kind of target, which determines what restarts it.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A process of this machine; its supervisor or the restart command restarts it.
    Process,
    /// A container of a pod; the kubelet restarts it.
    Pod(Arc<PodRef>),
    /// A container of the Docker engine, which restarts it.
    Container(Arc<ContainerRef>),
}

/// What the agent knows of a target before it samples it.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Identity.
    pub id: TargetId,
    /// Readable name: `namespace/pod`, a container's name, a URL.
    pub name: String,
    /// The kind of target.
    pub kind: Kind,
    /// Its settings.
    pub settings: Settings,
    /// Address of its HTTP server; `None`: the agent never sends it HTTP.
    pub address: Option<SocketAddr>,
    /// Whether that server uses TLS.
    pub tls: bool,
    /// The `Host` header of requests to it.
    pub host: String,
    /// Its cgroups.
    pub cgroups: Cgroups,
    /// Narrows traffic signals to this local port; `None`: all ports of the cgroup.
    pub port: Option<u16>,
    /// When this instance started.
    pub started: BootTime,
    /// The main process; `None` if it is not known.
    pub main: Option<ProcessId>,
    /// The version of its program (an image, an executable), if it is known: what helped one version
    /// says nothing about another.
    pub version: Option<String>,
    /// Why it cannot be restarted in place, if so.
    pub no_restart: Option<Obstacle>,
    /// Why it cannot be evicted, if so.
    pub no_evict: Option<Obstacle>,
}

impl Target {
    /// Whether a runtime restarts it, which may take time: the kubelet backs off, an app in a
    /// container may start with migrations.
    #[must_use]
    pub const fn is_of_runtime(&self) -> bool {
        matches!(self.kind, Kind::Pod(_) | Kind::Container(_))
    }

    /// The pod, if it is a container of one.
    #[must_use]
    pub const fn pod(&self) -> Option<&Arc<PodRef>> {
        match &self.kind {
            Kind::Pod(pod) => Some(pod),
            Kind::Process | Kind::Container(_) => None,
        }
    }

    /// The key under which its past treatments are remembered, shared by its instances and
    /// replicas: the owner and the container of a pod, else the target itself, and behind a space
    /// the version of its program and a soft remedy that is not the usual one.
    #[must_use]
    pub fn workload(&self) -> String {
        let of = match self.pod() {
            Some(pod) => match &pod.owner {
                Some(owner) => format!("{}/{}", owner.uid, pod.container),
                None => pod.target_uid(),
            },
            None => self.id.uid.clone(),
        };
        let soft = self.settings.soft.is_named().then(|| self.settings.soft.word());
        let parts: Vec<String> = self.version.clone().into_iter().chain(soft).collect();
        if parts.is_empty() { of } else { format!("{of} {}", parts.join("/")) }
    }

    /// The strongest possible remedy up to `ceiling`.
    #[must_use]
    pub fn reachable(&self, ceiling: Remedy) -> Remedy {
        match ceiling {
            Remedy::Evict if self.no_evict.is_some() => self.reachable(Remedy::Restart),
            Remedy::Restart if self.no_restart.is_some() => Remedy::Soft,
            other => other,
        }
    }
}

#[cfg(any(test, feature = "testing"))]
impl Target {
    /// A target for tests: polled, up to a restart, identified by its name and instance number.
    pub fn for_tests(name: &str, life: u32) -> Self {
        Self {
            id: TargetId { uid: name.to_owned(), instance: format!("{life}@1") },
            name: name.to_owned(),
            kind: Kind::Process,
            settings: Settings::up_to(Remedy::Restart),
            address: Some(([127, 0, 0, 1], 5000).into()),
            tls: false,
            host: "localhost:5000".to_owned(),
            cgroups: Cgroups::default(),
            port: Some(5000),
            started: BootTime::default(),
            main: None,
            version: None,
            no_restart: None,
            no_evict: None,
        }
    }

    /// The same as a pod of this name.
    pub fn pod_for_tests(name: &str, life: u32) -> Self {
        let pod = PodRef {
            namespace: "default".to_owned(),
            name: name.to_owned(),
            uid: format!("uid-{name}"),
            container: "app".to_owned(),
            container_id: format!("{life:064x}"),
            owner: None,
            grace: Duration::from_secs(30),
        };
        let id = TargetId { uid: pod.target_uid(), instance: pod.container_id.clone() };
        let name = pod.full_name();
        Self { id, name, kind: Kind::Pod(Arc::new(pod)), port: None, ..Self::for_tests("", life) }
    }
}
