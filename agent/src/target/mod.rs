//! Who is watched, and how far healing may go.
//!
//! A target is a uid (what it is for its owner) and an instance (which life of it this is). Both
//! are compared before an act and after it: a restarted service is the same target in another
//! instance, and nothing judged of the old one justifies anything against the new.
use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::moment::Moment;

pub mod cgroup;
pub mod mountinfo;
pub(crate) mod pidfd;
pub mod process;
pub mod procfs;
mod socket;
pub mod url;

/// The ladder of remedies, mildest first. As a target's ceiling it is its owner's consent; as an
/// intention it is the remedy about to be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rung {
    /// Watch only.
    Observe,
    /// Ask the app to reset itself: `POST /heal`.
    Soft,
    /// Restart it in place.
    Restart,
    /// Let the cluster replace it.
    Evict,
}

impl Rung {
    /// The rung's name, as in labels, metrics and logs.
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

/// Which target, and which life of it.
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

/// Where a target stands in each hierarchy that matters; the same directory thrice on a host
/// with cgroup v2 alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// cgroup2, which eBPF programs attach to and sockets belong to.
    pub unified: Option<Cgroup>,
    /// The hierarchy of the CPU controller.
    pub cpu: Option<Cgroup>,
    /// The hierarchy of CPU accounting (v1 may mount it apart from `cpu`).
    pub cpuacct: Option<Cgroup>,
    /// The hierarchy of the memory controller.
    pub memory: Option<Cgroup>,
    /// Whether processes that are not the target's own share its cgroup, so that cgroup-wide
    /// signals (CPU, memory, throttling, OOM kills) are not its alone.
    pub shared: bool,
}

/// Everything the agent knows of one target before it looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// Identity.
    pub id: TargetId,
    /// For people: `namespace/pod`, a container's name, a URL.
    pub name: String,
    /// The strongest remedy its owner consents to.
    pub ceiling: Rung,
    /// Where its HTTP server listens; `None`: no HTTP from the agent, ever.
    pub address: Option<SocketAddr>,
    /// The `Host` header that it is asked with.
    pub host: String,
    /// Path of the health endpoint.
    pub health_path: String,
    /// Path of the soft remedy.
    pub heal_path: String,
    /// Calibrated confidence below which nothing is done, 0–1.
    pub min_confidence: f32,
    /// Where it stands in the cgroup tree.
    pub cgroups: Cgroups,
    /// Narrows traffic signals to this local port; `None`: all ports of the cgroup.
    pub port: Option<u16>,
    /// When this instance started.
    pub started: Moment,
    /// The main process in this PID namespace; `None` if unknown.
    pub pid: Option<i32>,
}
