//! The command line: turns arguments into validated settings, and reports all mistakes at once.
mod agent;
mod approve;
mod check;
mod docker;
mod evidence;
mod generate;
mod explain;
mod fleet;
mod incidents;
mod model_file;
mod notify;
mod ready;
mod record;
mod release;
mod replay;
mod remedy;
mod start;
mod state_dir;
mod top;
mod watch;

use std::{env, ffi::OsString, path::Path, process::ExitCode};

use clap::{Parser, Subcommand};
use paramedic_startup::logging;

/// First responder for this node: watches services, decides, applies the mildest remedy that works,
/// verifies it and explains it.
///
/// Start here: `paramedic check` shows what the kernel of this machine permits, and `paramedic
/// watch http://localhost:5000` watches the service on port 5000. On cluster nodes run `paramedic
/// agent`; `paramedic explain POD` shows what it sees and why it acts or not, and
/// `paramedic-metrics-api` serves its measurements to the HPA.
///
/// Exit codes: 0 success, 1 failure or something missing, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// Log format on standard error: `auto` is readable on a terminal and JSON elsewhere.
    /// `RUST_LOG` sets the level (default `info`).
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
    Approve(approve::Approve),
    Fleet(fleet::Fleet),
    Release(release::Release),
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
    /// Reads the command line. A program of the name `kubectl-paramedic` is called by kubectl as its
    /// plugin, and is `paramedic fleet`.
    #[must_use]
    pub fn from_command_line() -> Self {
        Self::parse_from(as_called(env::args_os().collect()))
    }

    /// Runs the command.
    ///
    /// # Errors
    /// What went wrong, with what to do about it; [`WrongUsage`](paramedic_startup::WrongUsage) for
    /// invalid arguments.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Watch(watch) => watch.run().await,
            Command::Agent(agent) => agent.run().await,
            Command::Explain(explain) => explain.run().await,
            Command::Top(top) => top.run().await,
            Command::Ready(ready) => ready.run().await,
            Command::Check(check) => check.run(),
            Command::Approve(approve) => approve.run().await,
            Command::Fleet(fleet) => fleet.run().await,
            Command::Release(release) => release.run().await,
            Command::Incidents(incidents) => incidents.run(),
            Command::Replay(replay) => replay.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
            Command::MetricsReference(reference) => reference.run(),
            Command::GatesReference(reference) => reference.run(),
        }
    }
}

/// The arguments, with the command that the program's name stands for.
fn as_called(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let name = arguments.first().and_then(|path| Path::new(path).file_name());
    // kubectl turns dashes of a command into underscores.
    if name.is_some_and(|name| name == "kubectl-paramedic" || name == "kubectl_paramedic") {
        arguments.insert(1, "fleet".into());
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_a_plugin_of_kubectl_it_is_the_fleet() {
        let called = |arguments: &[&str]| {
            as_called(arguments.iter().map(|&text| text.into()).collect())
                .into_iter()
                .map(|text| text.into_string().unwrap())
                .collect::<Vec<_>>()
        };
        let plugin = called(&["/usr/local/bin/kubectl-paramedic", "status", "--json"]);
        assert_eq!(plugin[1..], ["fleet", "status", "--json"]);
        assert_eq!(called(&["/usr/bin/paramedic", "top"]), ["/usr/bin/paramedic", "top"]);
        let fleet = Cli::try_parse_from(plugin).unwrap();
        assert!(matches!(fleet.command, Command::Fleet(_)));
        assert!(called(&[]).is_empty());
    }
}
