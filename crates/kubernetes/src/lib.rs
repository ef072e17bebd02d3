//! The API server, as one agent uses it: one watch of its own pods, and a few requests before each
//! remedy. Nothing here decides: `guard` judges the answers.
//!
//! Every request has a timeout and is never retried implicitly (kube's own client would retry a
//! 429, which here means a spent budget). While the server is unreachable, requests end in the
//! refusal `api_server`, and only soft remedies continue, which need nothing but the pod's IP.
mod caps;
mod preflight;
mod again;
mod drain;
pub mod labels;
mod outside;
mod quarantine;
pub mod events;
mod eviction;
pub mod lease;
mod lock;
mod middleware;
mod unready;
mod pause;
pub mod pod;
mod pods;
mod probes;
mod resize;
mod workload;

use std::fmt;

pub use drain::Drain;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Pod},
};
use kube::{Api, Client};
pub use lock::Lock;
use lru::LruCache;
pub use middleware::{Requests, ServerClock};
pub use outside::Drained;
use paramedic_api_server::ApiError;
use paramedic_host::clock::Clock;
use parking_lot::Mutex;
pub use pause::{PAUSED, is_paused};
pub use pods::track_pods;
pub use preflight::Request;
pub use resize::{ResizePlan, Resized};

use caps::Caps;
use lock::{MAX_SEEN, Seen};
use outside::Outside;
use pause::Pause;
use unready::Unready;

/// This agent's identity in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Its node.
    pub node: String,
    /// Its namespace, which holds its Leases and the pause annotation.
    pub namespace: String,
    /// This agent process, in Leases: no other agent, and no other process of it, has the same.
    pub holder: String,
}

/// The API server.
pub struct Cluster {
    client: Client,
    identity: Identity,
    clock: Clock,
    server_clock: ServerClock,
    leases: Api<Lease>,
    namespaces: Api<Namespace>,
    pause: Mutex<Pause>,
    /// Serialises requests about it, however many targets are sick.
    asking_pause: tokio::sync::Mutex<()>,
    /// The state of each Lease at its last change, and when that was seen. For a dropped entry the
    /// wait for its holder starts again, so the one that was not asked for longest goes first.
    seen: Mutex<LruCache<String, Seen>>,
    /// Since when pods of each workload have been unready that no agent counts as sick.
    missing: Mutex<Unready>,
    /// The caps of the namespaces, which [`track_pods`] maintains.
    caps: Mutex<Caps>,
    /// The pods of this node that are out of their Services.
    outside: Outside,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Cluster {
    /// Creates a client. Makes no request yet.
    #[must_use]
    pub fn new(client: Client, identity: Identity, clock: Clock, requests: Requests) -> Self {
        let server_clock = ServerClock::default();
        let client = middleware::metered(client, clock, server_clock.clone(), requests);
        Self {
            leases: Api::namespaced(client.clone(), &identity.namespace),
            namespaces: Api::all(client.clone()),
            client,
            identity,
            clock,
            server_clock,
            pause: Mutex::default(),
            asking_pause: tokio::sync::Mutex::default(),
            seen: Mutex::new(LruCache::new(MAX_SEEN)),
            missing: Mutex::default(),
            caps: Mutex::default(),
            outside: Outside::default(),
        }
    }

    /// The client: counts every request, and reads the server's time from every response.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// This agent's identity.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Seconds since 1970 by the API server's clock, the one clock that all agents share.
    fn server_now(&self) -> Result<i64, ApiError> {
        self.server_clock.now(self.clock.now()).ok_or(ApiError::NoClock)
    }
}

#[cfg(test)]
mod tests;
