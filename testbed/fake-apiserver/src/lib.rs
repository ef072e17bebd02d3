//! A fake Kubernetes API server for tests: the part of one that a node agent and an aggregated
//! API server see, modelled on recorded exchanges with a real one, in
//! `testbed/fixtures/kubernetes`.
//!
//! What it is: a store with versions and watches; the eviction subresource with the budgets
//! behind it; the resize subresource with its refusals; Leases, Events and other plain objects with what a real server is particular about;
//! tokens, roles, reviews of both, and the fence around an agent's own node; garbage collection; a
//! small simulated cluster whose pods start, die, restart and are replaced; and faults on demand.
//! What it does was recorded or is written in Kubernetes' sources, and it shares no code with the
//! agent, so that both can be wrong only independently.
//!
//! What it is not: a validator of manifests, a scheduler, or a server for other clients than
//! ours. Unknown paths are 404, patches are merge patches, bodies are JSON.
//!
//! Everything depends on tokio's clock and on nothing else: under a paused clock every run is the
//! same.
//!
//! ```
//! # use fake_apiserver::{FakeApi, Kind, PodTemplate};
//! # use k8s_openapi::api::core::v1::Pod;
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let fake = FakeApi::new();
//! fake.add_node("node1");
//! let template = PodTemplate::new().label("paramedic.dev/heal", "evict");
//! fake.add_deployment("default", "web", 3, &template, &["node1"]);
//! let pods = kube::Api::<Pod>::all(fake.client("agent-node1"));
//! assert_eq!(pods.list(&Default::default()).await.unwrap().items.len(), 3);
//! # }
//! ```
use std::{
    future::pending,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch as signal,
    time::{Instant, sleep_until},
};

mod api;
mod cluster;
mod state;
mod access;
mod requests;
mod resources;
pub mod recorded;

pub use access::{Identity, Rule, granted_by};
pub use api::{kind::Kind, make::PodTemplate};
pub use cluster::timing::Timing;
pub use requests::{
    faults::Fault,
    log::Logged,
    service::{ApiBody, Caller, ConnectionError},
};
pub use resources::{
    budgets::Count,
    objects::Missing,
    pods::{
        changes::Relabelled,
        eviction::Evicted,
        resize::{Resized, Room},
    },
    services::Endpoint,
    workloads::Rollout,
};

use crate::{cluster::clock::Clock, state::State};

/// The fake; clones are the same one.
#[derive(Clone, Debug)]
pub struct FakeApi(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: Clock,
    state: Mutex<State>,
    changes: signal::Sender<u64>,
}

impl Default for FakeApi {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeApi {
    /// An empty cluster with the usual namespaces, in which every token that
    /// [`FakeApi::client`] uses may do everything. Its time starts now.
    #[must_use]
    pub fn new() -> Self {
        let (changes, _) = signal::channel(0);
        let state = Mutex::new(State::new());
        Self(Arc::new(Shared { clock: Clock::start(), state, changes }))
    }

    /// Time since the fake was made: what its dates and records count from.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.clock.now()
    }

    /// Catches up with everything that is due. Every request and every call does that too, and so
    /// do open watches in time.
    pub fn settle(&self) {
        self.with(|_| ());
    }

    /// Waits until `condition` holds. Checks it again whenever something happened.
    pub async fn until(&self, mut condition: impl FnMut(&Self) -> bool) {
        let mut changes = self.changes();
        loop {
            changes.mark_unchanged();
            if condition(self) {
                return;
            }
            // If nothing is due, only another task can make it true.
            let due = self.with(|state| state.cluster.next_due());
            let due = due.map(|at| sleep_until(self.instant(at)));
            tokio::select! {
                _ = changes.changed() => {}
                () = async { if let Some(due) = due { due.await } else { pending().await } } => {}
            }
        }
    }

    /// Works on the state as it is now, and wakes the open watches if it changed.
    fn with<R>(&self, work: impl FnOnce(&mut State) -> R) -> R {
        let now = self.0.clock.now();
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = state.cluster.pulse;
        state.settle(now);
        let result = work(&mut state);
        // What is due at once, happens at once.
        state.settle(now);
        let pulse = state.cluster.pulse;
        drop(state);
        if pulse != before {
            self.0.changes.send_replace(pulse);
        }
        result
    }

    fn changes(&self) -> signal::Receiver<u64> {
        self.0.changes.subscribe()
    }

    fn instant(&self, at: Duration) -> Instant {
        self.0.clock.instant(at)
    }
}
