//! The command line: what the user typed becomes what the agent needs, all mistakes at once.
mod agent;
mod check;
mod docker;
mod generate;
mod explain;
mod incidents;
mod model_file;
mod ready;
mod record;
mod replay;
mod rung;
mod start;
mod state_dir;
mod top;
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use paramedic_startup::logging;

/// The first responder on this node: watches, decides, heals with the mildest remedy that works,
/// verifies, explains.
///
/// Try it: `paramedic check` shows what this machine's kernel permits, `paramedic watch
/// http://localhost:5000` watches the service on port 5000. On the nodes of a cluster `paramedic
/// agent` runs; `paramedic explain POD` asks it what it sees and why it does what it does, and
/// `paramedic-metrics-api` hands its measurements to the HPA.
///
/// Exit codes: 0 all is well, 1 something failed or is missing, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// How to log, to standard error: `auto` is readable on a terminal and JSON elsewhere. What
    /// is logged follows `RUST_LOG` (default `info`).
    #[arg(long, global = true, value_enum, default_value_t = logging::Format::Auto)]
    pub log: logging::Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Watch(Box<watch::Watch>),
    Agent(Box<agent::NodeAgent>),
    Explain(explain::Explain),
    Top(top::Top),
    Ready(ready::Ready),
    Check(check::Check),
    Incidents(incidents::Incidents),
    Replay(replay::Replay),
    Completions(generate::Completions),
    Man(generate::Man),
    #[command(hide = true)]
    MetricsReference(generate::MetricsReference),
    #[command(hide = true)]
    GatesReference(generate::GatesReference),
}

impl Cli {
    /// Does what was asked.
    ///
    /// # Errors
    /// What went wrong, with what to do about it; [`WrongUsage`](paramedic_startup::WrongUsage) if it is the user's to correct.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Watch(watch) => watch.run().await,
            Command::Agent(agent) => agent.run().await,
            Command::Explain(explain) => explain.run().await,
            Command::Top(top) => top.run().await,
            Command::Ready(ready) => ready.run().await,
            Command::Check(check) => check.run(),
            Command::Incidents(incidents) => incidents.run(),
            Command::Replay(replay) => replay.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
            Command::MetricsReference(reference) => reference.run(),
            Command::GatesReference(reference) => reference.run(),
        }
    }
}
