//! `paramedic-policy`: turns each HealingPolicy into what the agents obey.
use std::{net::SocketAddr, process::ExitCode};

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use kube::Client;
use paramedic_policy::{Config, Controller, crd_yaml};
use paramedic_startup::{Mistakes, WrongUsage, logging, shutdown};
use tracing::info;

/// Turn each HealingPolicy into the labels and annotations that the agents obey.
///
/// Runs as a Deployment: see manifests/60-policy.yaml. Watches the policies and the metadata of all
/// pods, and writes on the pods that a policy matches, without a rollout. It changes only keys that
/// it set itself: those of a template or of a person win. One of the replicas writes, which holds a
/// Lease. docs/policy.md shows how to use it.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller.
    Run(Run),
    /// Print the CustomResourceDefinition, for manifests/05-crds.yaml.
    Crd,
}

#[derive(Debug, Args)]
struct Run {
    /// Log format, on standard error: `auto` is readable on a terminal and JSON elsewhere.
    /// `RUST_LOG` sets the level (default `info`).
    #[arg(long, value_enum, default_value_t = logging::Format::Auto)]
    log: logging::Format,
    /// Listen address of /livez and /readyz.
    #[arg(
        long,
        env = "PARAMEDIC_POLICY_LISTEN",
        default_value = "[::]:8080",
        value_name = "ADDRESS"
    )]
    listen: SocketAddr,
    /// Namespace of Paramedic's objects.
    #[arg(long, env = "POD_NAMESPACE", default_value = "paramedic-system", value_name = "NAME")]
    namespace: String,
    /// Name of the Lease that the writing replica holds.
    #[arg(long, default_value = "paramedic-policy", value_name = "NAME")]
    lease: String,
    /// Name of this replica in the Lease.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    holder: String,
}

impl Run {
    async fn run(self) -> anyhow::Result<ExitCode> {
        let config = self.config()?;
        let client = paramedic_api_server::config().await.context(
            "no cluster: run it in a pod with a service account, or set KUBECONFIG to try it out",
        )?;
        let client = Client::try_from(client).context("cannot make a client of the API server")?;
        let listen = config.listen;
        let controller = Controller::bind(config).with_context(|| {
            format!("cannot listen on {listen}: choose another address with --listen")
        })?;
        info!(address = %controller.address()?, "following policies and pods");
        controller.run(client, shutdown()?).await;
        Ok(ExitCode::SUCCESS)
    }

    fn config(self) -> Result<Config, WrongUsage> {
        let mut mistakes = Mistakes::default();
        for (flag, value) in
            [("namespace", &self.namespace), ("lease", &self.lease), ("holder", &self.holder)]
        {
            mistakes.name(flag, value);
        }
        mistakes.none()?;
        let Self { log: _, listen, namespace, lease, holder } = self;
        Ok(Config { listen, namespace, lease, holder })
    }
}

fn main() -> ExitCode {
    match Program::parse().command {
        Command::Run(run) => {
            logging::start(run.log);
            paramedic_startup::run("paramedic-policy", run.run())
        }
        Command::Crd => paramedic_startup::run("paramedic-policy", async {
            print!("{}", crd_yaml()?);
            Ok(ExitCode::SUCCESS)
        }),
    }
}
