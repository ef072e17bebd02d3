//! `paramedic-metrics-api`: the agents' measurements for the HPA.
use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use clap::{Parser, value_parser};
use kube::Client;
use paramedic_metrics_api::{Config, MetricsApi};
use paramedic_startup::{Mistakes, WrongUsage, logging, shutdown};
use tracing::info;

/// Serve the agents' measurements to the HPA, as `custom.metrics.k8s.io`.
///
/// Runs as a Deployment: see manifests/50-metrics-api.yaml. Receives the measurements of every agent
/// once a second, and serves for each pod with the label `paramedic.dev/heal`:
///
///   http_requests_per_second   HTTP responses per second that the kernel saw the pod send
///   http_5xx_ratio             share of 5xx among them, 0 to 1
///   cpu_throttled_ratio        share of periods in which its CPU quota throttled it, 0 to 1
///   unhealthy_probability      probability that it needs a remedy, 0 to 1
///   http_request_duration_p95_seconds  time within which 95 % of its responses came
///   http_requests_in_flight    requests that have no response yet
///
/// and for each Deployment and StatefulSet of such pods, from the third day on:
///
///   http_requests_per_second_forecast  the most that is expected within minutes
///
/// It registers itself with the API server, unless another adapter serves that group, and issues
/// and renews its own certificates. docs/autoscaling.md shows how to use it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, verbatim_doc_comment)]
struct ServeMetrics {
    /// Log format, on standard error: `auto` is readable on a terminal and JSON elsewhere.
    /// `RUST_LOG` sets the level (default `info`).
    #[arg(long, value_enum, default_value_t = logging::Format::Auto)]
    log: logging::Format,
    /// Listen address for the API server, which connects through the Service.
    #[arg(
        long,
        env = "PARAMEDIC_METRICS_LISTEN",
        default_value = "[::]:6443",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Namespace of Paramedic's objects.
    #[arg(long, env = "POD_NAMESPACE", default_value = "paramedic-system", value_name = "NAME")]
    namespace: String,
    /// Name shared by its Service, Deployment, ClusterRole, Secret and ConfigMap.
    #[arg(long, default_value = "paramedic-metrics-api", value_name = "NAME")]
    name: String,
    /// Service of the agents; its endpoints are all agents.
    #[arg(long, default_value = "paramedic-agent", value_name = "NAME")]
    agents: String,
    /// Service account of the agents, whose tokens it accepts.
    #[arg(long, default_value = "paramedic-agent", value_name = "NAME")]
    agent_account: String,
    /// Maximum number of workloads with a forecast: 10 KiB each, in memory and in ConfigMaps. 0
    /// turns forecasts off.
    #[arg(
        long,
        default_value_t = 500,
        value_parser = value_parser!(u16).range(0..=1000),
        value_name = "NUMBER"
    )]
    forecasts: u16,
    /// How far a forecast looks ahead: longer than a pod needs to start.
    #[arg(
        long,
        default_value_t = 3,
        value_parser = value_parser!(u32).range(1..=60),
        value_name = "MINUTES"
    )]
    forecast_horizon: u32,
}

impl ServeMetrics {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config()?;
        let client = paramedic_api_server::config().await.context(
            "no cluster: run it in a pod with a service account, or set KUBECONFIG to try it out",
        )?;
        let client = Client::try_from(client).context("cannot make a client of the API server")?;
        let listen = config.listen;
        let server = MetricsApi::bind(config).with_context(|| {
            format!("cannot listen on {listen}: choose another address with --listen")
        })?;
        info!(address = %server.address()?, "serving custom.metrics.k8s.io");
        server.run(client, shutdown()?).await?;
        Ok(ExitCode::SUCCESS)
    }

    fn config(self) -> Result<Config, WrongUsage> {
        let mut mistakes = Mistakes::default();
        for (flag, value) in [
            ("namespace", &self.namespace),
            ("name", &self.name),
            ("agents", &self.agents),
            ("agent-account", &self.agent_account),
        ] {
            mistakes.name(flag, value);
        }
        mistakes.none()?;
        let Self { log: _, listen, namespace, name, agents, agent_account, .. } = self;
        let (forecasts, forecast_horizon) = (usize::from(self.forecasts), self.forecast_horizon);
        Ok(Config { listen, namespace, name, agents, agent_account, forecasts, forecast_horizon })
    }
}

fn main() -> ExitCode {
    let args = ServeMetrics::parse();
    logging::start(args.log);
    paramedic_startup::run("paramedic-metrics-api", args.run())
}
