//! Changes of the watched targets: the one vocabulary of the trackers of processes, pods and
//! containers.
use std::collections::HashSet;

use super::Target;

/// A change of the watched targets.
#[derive(Debug)]
pub enum Change {
    /// A target was found, or found again with another instance or other settings.
    Found(Box<Target>),
    /// Whether the kubelet calls a target ready.
    Ready {
        /// The target's uid.
        uid: String,
        /// Whether it is ready.
        ready: bool,
    },
    /// An instance has ended; the target may come back with another one.
    Lost {
        /// The target's uid.
        uid: String,
        /// The instance.
        instance: String,
    },
    /// The target of this uid was removed, or its owner no longer consents.
    Gone(String),
    /// The list is complete. These exist, whether they run or not: pods by uid, containers by name.
    Listed(HashSet<String>),
    /// Whether the source of the changes (API server, Docker engine) is reachable. The known
    /// targets stay.
    Connected(bool),
}
