//! `paramedic fleet`, also called as `kubectl paramedic`: the agents of all nodes at once.
mod act;
mod forecast;
mod incidents;
mod live;
mod reach;
mod status;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use forecast::Forecast;
use paramedic_core::target::Request;
use reach::{Fleet as Agents, Reach};
use serde_json::Value;

use super::explain;

/// Look at the agents of all nodes at once, and at several clusters.
///
/// It reaches the agents through the API server's proxy with your own rights (KUBECONFIG): the Role
/// paramedic-viewer in their namespace suffices to look. Installed on your PATH as
/// `kubectl-paramedic` (a copy or a link of this program), these commands are
/// `kubectl paramedic status` and so on. A node whose agent does not answer is named. Exit code 1 if
/// one did not answer, or if there is nothing of what was asked about.
#[derive(Debug, Args)]
pub(super) struct Fleet {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// One line per node: its agent, how many targets it watches, and how they are.
    Status {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// The targets of all nodes as a live table, the most urgent first.
    Top,
    /// What was done on all nodes, newest first.
    Incidents {
        /// Maximum number.
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// What the agent of its node sees of a pod, what it decides and why, and which gate refuses; and
    /// what the metrics API expects of its workload, or why nothing.
    Explain {
        /// NAMESPACE/POD, or POD if the name is unique.
        pod: String,
        /// Print the agent's JSON, and in it the field `forecast`.
        #[arg(long)]
        json: bool,
    },
    /// The evidence of an incident, as it was kept on its node before a hard remedy. Runs
    /// `kubectl exec`: it may contain the end of the app's log.
    Evidence {
        /// Name of the node, as in `incidents`.
        node: String,
        /// Number of the incident, as in `incidents`.
        incident: i64,
    },
    /// Approve the restart or eviction that an agent asks about.
    Approve {
        /// NAMESPACE/POD, or POD if the name is unique.
        pod: String,
        /// Approve only this request, such as restart-1a2b3c [default: the one that is open].
        #[arg(long, value_name = "REQUEST", value_parser = Request::read)]
        request: Option<Request>,
    },
    /// Pause all agents of the clusters: they watch and tell, and heal nothing.
    Pause,
    /// Let them heal again.
    Resume,
}

impl Fleet {
    pub(super) async fn run(self) -> anyhow::Result<ExitCode> {
        let fleet = self.reach.fleet().await?;
        match self.what {
            What::Status { json } => status::print(&fleet, json).await,
            What::Top => live::run(fleet).await,
            What::Incidents { limit, json } => incidents::print(&fleet, limit, json).await,
            What::Explain { pod, json } => {
                let view = explained(&fleet, &pod).await?;
                if json {
                    println!("{view}");
                } else {
                    print!("{}", explain::story(&view));
                }
                Ok(ExitCode::SUCCESS)
            }
            What::Evidence { node, incident } => act::evidence(&fleet, &node, incident),
            What::Approve { pod, request } => act::approve(&fleet, &pod, request).await,
            What::Pause => act::pause(&fleet, true).await,
            What::Resume => act::pause(&fleet, false).await,
        }
    }
}

/// What the agent of a pod shows of it, with the forecast of the pod's workload.
async fn explained(fleet: &Agents, pod: &str) -> anyhow::Result<Value> {
    let (agent, body) = fleet.find(pod).await?;
    let mut view = explain::view(&body)?;
    let name = view["name"].as_str().and_then(|name| name.split_once('/'));
    let (namespace, pod) = name.context("the agent names no pod")?;
    let forecast = Forecast::of(fleet.cluster_of(&agent), namespace, pod).await;
    view["forecast"] = serde_json::to_value(forecast)?;
    Ok(view)
}
