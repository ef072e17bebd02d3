//! Tracks the agents: the endpoints of their Service, with one stream for each.
use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::{
    Api, Client,
    runtime::watcher::{self, Event},
};
use paramedic_api_server::follow_through;
use parking_lot::Mutex;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep},
};
use tracing::info;

use super::{
    readiness::{Need, Readiness},
    store::Store,
    stream::Stream,
};

/// The label with the name of the Service to which a slice belongs.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// The name of the agents' port in their Service.
const PORT: &str = "readings";
/// How long to wait for the first frame of every agent.
const FIRST_WORDS: Duration = Duration::from_secs(10);

/// One agent, as the API server reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Agent {
    pub(super) address: SocketAddr,
    /// The uid of its pod, which its token must match.
    pub(super) pod_uid: String,
    /// Its node. Its data is accepted for this node only.
    pub(super) node: String,
}

/// Maintains one stream to each agent, forever.
pub(super) async fn follow_all(
    client: Client,
    namespace: &str,
    service: &str,
    stream: Arc<Stream>,
    readiness: &Arc<Readiness>,
) {
    let api: Api<EndpointSlice> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().labels(&format!("{SERVICE_NAME}={service}"));
    let unheard = "cannot watch the agents; the streams of the known ones continue";
    let mut events = pin!(follow_through(api, config, unheard));
    let mut slices = Slices::default();
    let mut streams = Streams { stream, tasks: JoinSet::new(), handles: HashMap::new() };
    let mut listed = false;
    while let Some(event) = events.next().await {
        if !slices.take(event) {
            continue;
        }
        let agents = slices.agents();
        streams.keep(&agents);
        if !std::mem::replace(&mut listed, true) {
            let (store, ready) = (Arc::clone(&streams.stream.store), Arc::clone(readiness));
            tokio::spawn(first_words(agents.len(), store, ready));
        }
    }
}

/// Waits for the first frames. A new replica that answers before it has received any frame would
/// make a busy workload look idle. If the agents are unreachable, waiting longer does not help.
async fn first_words(agents: usize, store: Arc<Mutex<Store>>, readiness: Arc<Readiness>) {
    let end = Instant::now() + FIRST_WORDS;
    while Instant::now() < end && store.lock().count().1 < agents {
        sleep(Duration::from_millis(100)).await;
    }
    readiness.met(Need::Agents);
}

/// The slices of the agents' Service, by name.
#[derive(Default)]
struct Slices {
    known: HashMap<String, Vec<Agent>>,
    listing: HashMap<String, Vec<Agent>>,
}

impl Slices {
    /// Whether the set of agents may have changed.
    fn take(&mut self, event: Event<EndpointSlice>) -> bool {
        match event {
            Event::Init => {
                self.listing = HashMap::new();
                false
            }
            Event::InitApply(slice) => {
                let agents = agents_of(&slice);
                self.listing.insert(slice.metadata.name.unwrap_or_default(), agents);
                false
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listing);
                true
            }
            Event::Apply(slice) => {
                let agents = agents_of(&slice);
                self.known.insert(slice.metadata.name.unwrap_or_default(), agents);
                true
            }
            Event::Delete(slice) => {
                self.known.remove(&slice.metadata.name.unwrap_or_default());
                true
            }
        }
    }

    /// Each agent once: it may be in two slices during a handover, and in one slice each for IPv4
    /// and IPv6.
    fn agents(&self) -> HashSet<Agent> {
        let mut by_pod: HashMap<&str, &Agent> = HashMap::new();
        for agent in self.known.values().flatten() {
            let first = by_pod.entry(&agent.pod_uid).or_insert(agent);
            if agent.address < first.address {
                *first = agent;
            }
        }
        by_pod.into_values().cloned().collect()
    }
}

fn agents_of(slice: &EndpointSlice) -> Vec<Agent> {
    let ports = slice.ports.iter().flatten();
    let port = ports.filter(|port| port.name.as_deref() == Some(PORT)).find_map(|port| port.port);
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return Vec::new() };
    let agent = |endpoint: &k8s_openapi::api::discovery::v1::Endpoint| {
        let ip: IpAddr = endpoint.addresses.first()?.parse().ok()?;
        let pod_uid = endpoint.target_ref.as_ref()?.uid.clone()?;
        let address = SocketAddr::new(ip, port);
        Some(Agent { address, pod_uid, node: endpoint.node_name.clone()? })
    };
    slice.endpoints.iter().flatten().filter_map(agent).collect()
}

/// The open streams.
struct Streams {
    stream: Arc<Stream>,
    tasks: JoinSet<()>,
    handles: HashMap<Agent, AbortHandle>,
}

impl Streams {
    /// Starts missing streams, and ends those of removed agents.
    fn keep(&mut self, agents: &HashSet<Agent>) {
        self.handles.retain(|agent, task| {
            let stays = agents.contains(agent);
            if !stays {
                info!(node = agent.node, address = %agent.address, "agent removed");
                task.abort();
            }
            stays
        });
        while self.tasks.try_join_next().is_some() {}
        for agent in agents {
            if !self.handles.contains_key(agent) {
                let (stream, of) = (Arc::clone(&self.stream), agent.clone());
                let task = self.tasks.spawn(async move { stream.follow(&of).await });
                self.handles.insert(agent.clone(), task);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn slice(name: &str, ips: &[(&str, &str)]) -> EndpointSlice {
        let endpoint = |(ip, uid): &(&str, &str)| {
            json!({"addresses": [ip], "nodeName": "n",
                   "targetRef": {"kind": "Pod", "name": "agent", "uid": uid}})
        };
        let endpoints: Vec<_> = ips.iter().map(endpoint).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "addressType": "IPv4",
            "endpoints": endpoints,
            "ports": [{"name": "metrics", "port": 9100}, {"name": "readings", "port": 9101}],
        }))
        .unwrap()
    }

    fn addresses(slices: &Slices) -> Vec<String> {
        let mut all: Vec<_> =
            slices.agents().iter().map(|agent| agent.address.to_string()).collect();
        all.sort();
        all
    }

    #[test]
    fn an_agent_in_several_slices_is_followed_once() {
        let mut slices = Slices::default();
        assert!(!slices.take(Event::Init));
        assert!(!slices.take(Event::InitApply(slice("a", &[("10.0.0.1", "u1")]))));
        assert!(slices.take(Event::InitDone));
        slices.take(Event::Apply(slice("b", &[("10.0.0.1", "u1"), ("10.0.0.2", "u2")])));
        slices.take(Event::Apply(slice("v6", &[("fd00::2", "u2")])));
        assert_eq!(addresses(&slices), ["10.0.0.1:9101", "10.0.0.2:9101"]);
        slices.take(Event::Delete(slice("b", &[])));
        assert_eq!(addresses(&slices), ["10.0.0.1:9101", "[fd00::2]:9101"]);
    }

    #[test]
    fn a_list_replaces_the_known_slices() {
        let mut slices = Slices::default();
        slices.take(Event::Apply(slice("a", &[("10.0.0.1", "u1")])));
        slices.take(Event::Init);
        assert_eq!(addresses(&slices).len(), 1, "until the list is complete");
        slices.take(Event::InitDone);
        assert!(addresses(&slices).is_empty());
    }

    #[test]
    fn incomplete_endpoints_are_ignored() {
        let mut slice = slice("a", &[("10.0.0.1", "u1"), ("nonsense", "u2")]);
        assert_eq!(agents_of(&slice).len(), 1);
        slice.ports = None;
        assert!(agents_of(&slice).is_empty());
    }
}
