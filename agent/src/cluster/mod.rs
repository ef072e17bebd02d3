//! The API server, as one agent uses it: one watch of its own pods, and a few questions before each
//! heal. Nothing here decides: what the answers mean for a heal is said by `guard`.
//!
//! Every request has a limit in time and is never repeated behind our back (kube's own client would
//! take a spent budget's 429 for a reason to try again). While the server is away, questions end in
//! the refusal `api_server`, and only soft heals, which need nothing but the pod's IP, go on.
mod clear;
pub mod events;
mod eviction;
mod follow;
pub mod lease;
mod lock;
mod meter;
mod missing;
mod pause;
mod pods;
mod workload;

use std::{collections::HashMap, fmt, sync::Mutex, time::Duration};

pub use clear::Request;
pub(crate) use follow::follow_through;
pub use lock::Lock;
pub use meter::{Requests, ServerClock};
pub use pods::{Change, changes};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Pod},
};
use kube::{Api, Client, Config};
use tokio::time::timeout;

use crate::moment::Clock;
use lock::Seen;
use missing::Missing;
use pause::Pause;

/// No answer within this is none. Between the agent and its API server lies one network.
const LIMIT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes for this long while something should is broken.
const SILENCE: Duration = Duration::from_secs(300);

/// Who this agent is to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The node it runs on.
    pub node: String,
    /// The namespace it runs in: its Leases are there, and the switch that pauses everything.
    pub namespace: String,
    /// This life of the agent, in Leases: no other agent, and no other life, has the same.
    pub holder: String,
}

/// What the API server could not, or would not, answer.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// It does not answer.
    #[error("no answer in time")]
    TimedOut,
    /// All its answers together took so long that the first is no longer true for sure.
    #[error("it answers too slowly for its answers to be acted on")]
    TooSlow,
    /// It says no, or cannot be reached.
    #[error("{}", brief(.0))]
    Refused(#[from] kube::Error),
    /// It does not tell the time, on which shares and locks rest.
    #[error("it sends no Date header: a proxy between must be taking it away")]
    NoClock,
}

/// One line of what kube prints on many.
fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({})", status.message, status.code),
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
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
    /// One question about it at a time, however many are sick.
    asking_pause: tokio::sync::Mutex<()>,
    /// What each Lease looked like when it last changed, and when that was seen.
    seen: Mutex<HashMap<String, Seen>>,
    /// Since when pods of each workload have not been ready that nobody calls sick.
    missing: Mutex<Missing>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster").field("identity", &self.identity).finish_non_exhaustive()
    }
}

/// The client's configuration, from the pod's service account or from `KUBECONFIG`.
///
/// # Errors
/// If there is neither.
pub async fn config() -> Result<Config, kube::config::InferConfigError> {
    let mut config = Config::infer().await?;
    // A spent budget answers 429, like an overloaded server: asking again is our own decision.
    config.default_retry = false;
    config.connect_timeout = Some(LIMIT);
    // A watch hears at least a bookmark a minute; what says nothing for longer than a watch lasts is
    // dead.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    Ok(config)
}

impl Cluster {
    /// Asks nothing yet.
    #[must_use]
    pub fn new(client: Client, identity: Identity, clock: Clock, requests: Requests) -> Self {
        let server_clock = ServerClock::default();
        let client = meter::metered(client, clock, server_clock.clone(), requests);
        Self {
            leases: Api::namespaced(client.clone(), &identity.namespace),
            namespaces: Api::all(client.clone()),
            client,
            identity,
            clock,
            server_clock,
            pause: Mutex::default(),
            asking_pause: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            missing: Mutex::default(),
        }
    }

    /// The client: every request is counted, and the server's time read from every answer.
    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// Who this agent is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    fn pods(&self, namespace: &str) -> Api<Pod> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Seconds since 1970 by the API server's clock: the one clock that all agents share.
    fn server_now(&self) -> Result<i64, ApiError> {
        self.server_clock.now(self.clock.now()).ok_or(ApiError::NoClock)
    }
}

/// An answer in time, or none.
pub(crate) async fn within<T>(
    answer: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, ApiError> {
    match timeout(LIMIT, answer).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(ApiError::TimedOut),
    }
}

#[cfg(test)]
mod tests;
