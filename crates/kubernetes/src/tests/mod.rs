//! The agent's API client against a fake API server, in process and on a paused clock.
mod caps;
mod preflight;
mod drain;
mod events;
mod eviction;
mod locks;
mod outages;
mod pods;
mod quarantine;
mod recorded;
mod resizes;
mod scaling;
mod workloads;

use std::{sync::Arc, time::Duration};

use fake_apiserver::{FakeApi, Kind, Logged, PodTemplate};
use kube::runtime::watcher::Event;
use paramedic_core::{
    guard::{Refusal, Why},
    target::{PodRef, Remedy},
};
use paramedic_host::clock::Clock;
use serde_json::{Value, from_value};
use tokio::time::{Instant, sleep};

use super::{Cluster, Identity, Lock, Request, Requests, lease::Record};
use crate::pod::watched_pod;

const OWN: &str = "paramedic-system";

/// A cluster of two nodes, and one Deployment `web` whose pods permit every remedy.
struct Scene {
    fake: FakeApi,
    clock: Clock,
    /// The names of its pods, evenly on `node1` and `node2`.
    pods: Vec<String>,
}

impl Scene {
    fn new(replicas: u32) -> Self {
        Self::of(replicas, &PodTemplate::new())
    }

    fn of(replicas: u32, template: &PodTemplate) -> Self {
        let fake = FakeApi::new();
        fake.add_namespace(OWN, &[], &[]);
        fake.add_node("node1");
        fake.add_node("node2");
        let template = template.clone().label("paramedic.dev/heal", "evict");
        let pods = fake.add_deployment("default", "web", replicas, &template, &["node1", "node2"]);
        Self { fake, clock: Clock::Tokio(Instant::now()), pods }
    }

    /// One process of a node's agent, which knows that no namespace is capped. The log lists its
    /// requests under the name of its node.
    fn agent(&self, node: &str) -> Arc<Cluster> {
        let cluster = self.new_agent(node);
        cluster.caps.lock().take(Event::InitDone);
        cluster
    }

    /// The same, before it knows any cap.
    fn new_agent(&self, node: &str) -> Arc<Cluster> {
        let identity =
            Identity { node: node.into(), namespace: OWN.into(), holder: format!("{node}/1") };
        let client = self.fake.client(node);
        Arc::new(Cluster::new(client, identity, self.clock, Requests::uncounted()))
    }

    /// The present state of the pod.
    fn pod(&self, name: &str) -> Arc<PodRef> {
        let pod = self.fake.get(Kind::Pod, "default", name).unwrap();
        Arc::new(watched_pod(&from_value(pod).unwrap()).unwrap().pod)
    }

    /// The first of its pods.
    fn first(&self) -> Arc<PodRef> {
        self.pod(&self.pods[0])
    }

    /// The requests since the last call, in order, as `verb resource status`.
    fn asked(&self) -> Vec<String> {
        let asked = self.fake.requests().iter().map(brief).collect();
        self.fake.clear_requests();
        asked
    }

    /// The workload's Lease, if it exists.
    fn lease(&self) -> Option<Value> {
        self.fake.get(Kind::Lease, OWN, "deployment.default.web")
    }

    fn holder(&self) -> String {
        self.lease().unwrap()["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
    }

    fn record(&self) -> Record {
        let lease = self.lease().unwrap();
        Record::parse(lease["metadata"]["annotations"]["paramedic.dev/record"].as_str()).unwrap()
    }
}

fn brief(request: &Logged) -> String {
    let Logged { verb, resource, subresource, .. } = request;
    let slash = if subresource.is_empty() { "" } else { "/" };
    let dry = if request.dry_run { " dry" } else { "" };
    let status = request.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
    format!("{verb} {resource}{slash}{subresource}{dry} {status}")
}

fn request(pod: &Arc<PodRef>, remedy: Remedy) -> Request {
    Request { pod: Arc::clone(pod), remedy, sick: 1, dry_run: false }
}

/// Asks, and asks again after the other nodes have had time to report sick pods.
async fn ask(agent: &Arc<Cluster>, request: &Request) -> Result<Option<Lock>, (Refusal, Duration)> {
    match agent.clear(request).await {
        Err((Refusal { why: Why::Counting, .. }, wait)) => {
            sleep(wait).await;
            agent.clear(request).await
        }
        answer => answer,
    }
}

/// Lets the agent report that the pod is sick, long enough ago for it to be healed.
async fn counted(agent: &Arc<Cluster>, pod: &Arc<PodRef>) {
    let (refusal, wait) = agent.clear(&request(pod, Remedy::Restart)).await.unwrap_err();
    assert_eq!(refusal.why, Why::Counting);
    sleep(wait).await;
}

/// Checks a restart.
async fn clear(agent: &Arc<Cluster>, pod: &Arc<PodRef>) -> Result<Lock, Refusal> {
    let cleared = ask(agent, &request(pod, Remedy::Restart)).await;
    cleared.map(|lock| lock.expect("a restart without a lock")).map_err(|(refusal, _)| refusal)
}

/// Checks a restart that is refused: the gate, and the reason in words.
async fn refused(agent: &Arc<Cluster>, pod: &Arc<PodRef>) -> (&'static str, String) {
    let Err(refusal) = clear(agent, pod).await else { panic!("it was not refused") };
    (refusal.gate.name(), refusal.why.to_string())
}
