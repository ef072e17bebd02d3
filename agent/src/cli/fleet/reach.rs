//! Reaches every agent through the API server's proxy, with the caller's own rights.
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Args;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, Limited};
use hyper::{Request, StatusCode};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::{
    Api, Client,
    api::ListParams,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

/// The labels of the agents' pods.
const AGENTS: &str = "app.kubernetes.io/name=paramedic,app.kubernetes.io/component=agent";
/// The agents' port.
const PORT: u16 = 9100;
/// How many agents are asked at the same time.
const AT_ONCE: usize = 64;
/// An agent answers within milliseconds, or its node has trouble.
const LIMIT: Duration = Duration::from_millis(2500);
/// Maximum size of an answer: 500 targets need less than one.
const MOST: usize = 8 << 20;

/// Which clusters, and where in them.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// Context of the kubeconfig; repeat it for several clusters [default: the current context].
    #[arg(long, value_name = "NAME", global = true)]
    context: Vec<String>,
    /// Namespace of the agents.
    #[arg(long, value_name = "NAMESPACE", default_value = "paramedic-system", global = true)]
    agents_in: String,
}

/// One cluster.
pub(super) struct Cluster {
    /// Its context; empty for the only one.
    pub(super) name: String,
    pub(super) client: Client,
    namespace: String,
}

/// One agent.
#[derive(Clone, Debug)]
pub(super) struct Agent {
    /// Its cluster, as an index.
    pub(super) cluster: usize,
    pub(super) pod: String,
    /// Name of its node, in front of it that of its cluster if there are several.
    pub(super) place: String,
}

/// The agents of some clusters.
pub(super) struct Fleet {
    pub(super) clusters: Vec<Cluster>,
    pub(super) agents: Vec<Agent>,
}

/// An agent with its answer, or with the reason why it did not answer.
pub(super) type Answer<T> = (Agent, Result<T, String>);

/// A `Status` of the API server.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Reach {
    /// Finds the agents of all clusters.
    pub(super) async fn fleet(&self) -> anyhow::Result<Fleet> {
        let mut clients = Vec::new();
        if self.context.is_empty() {
            let config = paramedic_api_server::config().await.context(
                "no cluster: set KUBECONFIG, or choose one with `kubectl config use-context`",
            )?;
            clients.push((String::new(), Client::try_from(config)?));
        }
        for context in &self.context {
            let kubeconfig = Kubeconfig::read().context("cannot read the kubeconfig")?;
            let options =
                KubeConfigOptions { context: Some(context.clone()), ..Default::default() };
            let config = paramedic_api_server::config_of(kubeconfig, &options).await;
            let config = config.with_context(|| {
                format!("context {context}: `kubectl config get-contexts` lists those there are")
            })?;
            clients.push((context.clone(), Client::try_from(config)?));
        }
        self.fleet_of(clients).await
    }

    /// Finds the agents of clusters by name and client.
    pub(super) async fn fleet_of(&self, clients: Vec<(String, Client)>) -> anyhow::Result<Fleet> {
        let cluster = |(name, client)| Cluster { name, client, namespace: self.agents_in.clone() };
        let clusters: Vec<Cluster> = clients.into_iter().map(cluster).collect();
        let mut agents = Vec::new();
        for (index, cluster) in clusters.iter().enumerate() {
            agents.extend(cluster.agents(index, clusters.len() > 1).await?);
        }
        if agents.is_empty() {
            bail!("no agents in namespace {}: is Paramedic installed? --agents-in", self.agents_in);
        }
        Ok(Fleet { clusters, agents })
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        Self { context: Vec::new(), agents_in: "paramedic-system".to_owned() }
    }
}

impl Cluster {
    async fn agents(&self, cluster: usize, several: bool) -> anyhow::Result<Vec<Agent>> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.namespace);
        let list = ListParams::default().labels(AGENTS);
        let pods = paramedic_api_server::within(pods.list(&list)).await;
        let pods = pods.with_context(|| {
            format!("cannot list the agents' pods in namespace {} {}", self.namespace, self.name)
        })?;
        let agent = |pod: Pod| {
            let node = pod.spec.and_then(|spec| spec.node_name)?;
            let place = if several { format!("{}/{node}", self.name) } else { node };
            Some(Agent { cluster, pod: pod.metadata.name?, place })
        };
        let mut agents: Vec<Agent> = pods.items.into_iter().filter_map(agent).collect();
        agents.sort_by(|a, b| a.place.cmp(&b.place));
        Ok(agents)
    }

    /// The namespace of its agents, whose annotation pauses them.
    pub(super) fn namespace(&self) -> (Api<Namespace>, &str) {
        (Api::all(self.client.clone()), &self.namespace)
    }

    /// `GET path` of an agent.
    async fn get(&self, agent: &Agent, path: &str) -> Result<(StatusCode, Bytes), String> {
        let (namespace, pod) = (&self.namespace, &agent.pod);
        self.send(&format!("/api/v1/namespaces/{namespace}/pods/{pod}:{PORT}/proxy{path}")).await
    }

    /// The JSON at a path of the API server.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        read(self.send(path).await?)
    }

    async fn send(&self, uri: &str) -> Result<(StatusCode, Bytes), String> {
        let request = Request::get(uri).body(Body::empty()).map_err(|error| error.to_string())?;
        let asked = async {
            let answer = self.client.send(request).await.map_err(|error| error.to_string())?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), MOST).collect().await;
            Ok((status, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let late = |_| format!("no answer within {} ms", LIMIT.as_millis());
        timeout(LIMIT, asked).await.map_err(late)?
    }
}

impl Fleet {
    /// The cluster of an agent.
    pub(super) fn cluster_of(&self, agent: &Agent) -> &Cluster {
        &self.clusters[agent.cluster]
    }

    /// `GET path` of every agent, in the order of their places.
    async fn get(&self, path: &str) -> Vec<Answer<(StatusCode, Bytes)>> {
        let get = |agent: &Agent| {
            let agent = agent.clone();
            async move { (self.cluster_of(&agent).get(&agent, path).await, agent) }
        };
        let answers = stream::iter(self.agents.iter().map(get)).buffered(AT_ONCE);
        answers.map(|(answer, agent)| (agent, answer)).collect().await
    }

    /// The JSON at a path of every agent, in the order of their places.
    pub(super) async fn ask<T: DeserializeOwned>(&self, path: &str) -> Vec<Answer<T>> {
        let answers = self.get(path).await.into_iter();
        answers.map(|(agent, answer)| (agent, answer.and_then(read))).collect()
    }

    /// The one agent that watches a target, with what it shows of it.
    pub(super) async fn find(&self, target: &str) -> anyhow::Result<(Agent, Bytes)> {
        let (mut found, mut silent) = (Vec::new(), Vec::new());
        for (agent, answer) in self.get(&format!("/api/v1/targets/{target}")).await {
            match answer {
                Ok((StatusCode::OK, body)) => found.push((agent, body)),
                Ok((StatusCode::NOT_FOUND, _)) => {}
                Ok((status, body)) => silent.push((agent, refusal(status, &body))),
                Err(why) => silent.push((agent, why)),
            }
        }
        let places = |agents: &[(Agent, Bytes)]| {
            agents.iter().map(|(agent, _)| agent.place.clone()).collect::<Vec<_>>().join(", ")
        };
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => {
                let said: String =
                    silent.iter().map(|(agent, why)| format!("\n{}: {why}", agent.place)).collect();
                bail!(
                    "no agent that answers watches {target}: a pod is watched if it carries the label \
                     paramedic.dev/heal{said}"
                )
            }
            _ => bail!("{target} is on several nodes ({}): use NAMESPACE/POD", places(&found)),
        }
    }
}

fn read<T: DeserializeOwned>((status, body): (StatusCode, Bytes)) -> Result<T, String> {
    match status.is_success() {
        true => serde_json::from_slice(&body)
            .map_err(|error| format!("cannot read its answer: {error}")),
        false => Err(refusal(status, &body)),
    }
}

/// Why there is no answer, in one line: in the API server's words, or in the agent's.
fn refusal(status: StatusCode, body: &[u8]) -> String {
    let message = match serde_json::from_slice::<Refusal>(body) {
        Ok(refusal) => refusal.message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let line = message.lines().next().unwrap_or_default();
    let line: String = line.chars().filter(|c| !c.is_control()).take(300).collect();
    if line.is_empty() { status.to_string() } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_line_of_whoever_refused() {
        let status = StatusCode::SERVICE_UNAVAILABLE;
        let server = br#"{"kind":"Status","message":"error trying to reach service: timeout"}"#;
        assert_eq!(refusal(status, server), "error trying to reach service: timeout");
        assert_eq!(refusal(status, b"loop\x1b[2J\nmore"), "loop[2J");
        assert_eq!(refusal(status, b""), "503 Service Unavailable");
    }
}
