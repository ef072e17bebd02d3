//! The commands that write, with the caller's own rights: `approve`, `pause`, `resume`; and `evidence`,
//! which runs a command in the agent's pod.
use std::process::{Command, ExitCode};

use anyhow::{Context, bail};
use kube::api::Patch;
use paramedic_core::target::Request;
use paramedic_kubernetes::PAUSED;
use serde_json::json;

use super::reach::{Cluster, Fleet};
use crate::cli::{approve, explain};

pub(super) async fn approve(
    fleet: &Fleet,
    pod: &str,
    request: Option<Request>,
) -> anyhow::Result<ExitCode> {
    let (agent, body) = fleet.find(pod).await?;
    let asked = approve::Open::of(&explain::view(&body)?, pod, request)?;
    let Some((namespace, name)) = &asked.pod else { bail!("{pod} is no pod") };
    let client = fleet.cluster_of(&agent).client.clone();
    approve::annotate(client, namespace, name, asked.request).await?;
    println!("approved {} of {namespace}/{name}", asked.request);
    Ok(ExitCode::SUCCESS)
}

/// Whether the agents of a cluster are paused; `None` if that cannot be read.
pub(super) async fn is_paused(cluster: &Cluster) -> Option<bool> {
    let (namespaces, name) = cluster.namespace();
    let namespace = paramedic_api_server::within(namespaces.get(name)).await.ok()?;
    Some(paramedic_kubernetes::is_paused(&namespace))
}

/// Pauses all agents, or lets them heal again.
pub(super) async fn pause(fleet: &Fleet, paused: bool) -> anyhow::Result<ExitCode> {
    for cluster in &fleet.clusters {
        let (namespaces, name) = cluster.namespace();
        let value = if paused { json!("true") } else { json!(null) };
        let patch = Patch::Merge(json!({ "metadata": { "annotations": { PAUSED: value } } }));
        let by_user = paramedic_api_server::patch_by("paramedic-fleet");
        let patched = namespaces.patch_metadata(name, &by_user, &patch);
        paramedic_api_server::within(patched).await.with_context(|| {
            let sign = if paused { "=true" } else { "-" };
            format!(
                "cannot annotate namespace {name} {}; with other rights: kubectl annotate \
                 --overwrite namespace {name} {PAUSED}{sign}",
                cluster.name
            )
        })?;
        let what = if paused { "paused: within 5 s nothing is healed" } else { "not paused" };
        println!("{} {what}", if cluster.name.is_empty() { name } else { &cluster.name });
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the evidence of an incident of a node.
pub(super) fn evidence(fleet: &Fleet, node: &str, incident: i64) -> anyhow::Result<ExitCode> {
    let agent = fleet.agents.iter().find(|agent| agent.place == node);
    let agent = agent.with_context(|| {
        let nodes: Vec<&str> = fleet.agents.iter().map(|agent| agent.place.as_str()).collect();
        format!("no agent on node {node}; there are: {}", nodes.join(", "))
    })?;
    let cluster = fleet.cluster_of(agent);
    let mut kubectl = Command::new("kubectl");
    if !cluster.name.is_empty() {
        kubectl.args(["--context", &cluster.name]);
    }
    kubectl.args([
        "exec",
        "--namespace",
        cluster.namespace().1,
        &agent.pod,
        "--container",
        "agent",
    ]);
    kubectl.args(["--", "/paramedic", "incidents", "--evidence", &incident.to_string()]);
    let status = kubectl.status().context("cannot run kubectl: is it on PATH?")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
