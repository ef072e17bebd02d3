//! `paramedic incidents`: what was done, why, and whether it helped.
use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Args, ValueEnum};
use paramedic_record::{
    Journal,
    outcomes::{self, Present, Table},
};

use super::state_dir;

/// List incidents: what was done to which target, why, and whether it helped.
///
/// Works while an agent runs and after it has stopped.
///
/// With `--by workload`, count which remedy helped which workload how often against which symptom,
/// and say what follows: what did not help is futile, what helped goes first. A remedy helped if
/// the symptom stayed away for ten minutes; else it came back. An outcome that says nothing
/// (unverified, failed) does not count. The agent forgets a treatment after a day, when a workload
/// has 16 newer ones, and with another version of the program: another image, template or
/// executable.
#[derive(Debug, Args)]
pub(super) struct Incidents {
    /// Directory of the agent's journal [default: /var/lib/paramedic for root, else
    /// ~/.local/state/paramedic].
    #[arg(long, value_name = "DIR", env = "PARAMEDIC_STATE_DIR")]
    state_dir: Option<PathBuf>,
    /// Maximum number of incidents, newest first.
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: u32,
    /// Print every detail of each incident.
    #[arg(long)]
    verbose: bool,
    /// Count outcomes instead.
    #[arg(long, value_enum, value_name = "WHAT", conflicts_with_all = ["verbose", "limit"])]
    by: Option<By>,
    /// Print one JSON array.
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
}

/// What outcomes are counted by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// The pods of one owner, a container, or a URL.
    Workload,
}

impl Incidents {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state_dir.unwrap_or_else(state_dir::default);
        let unread = || format!("cannot read the journal in {}", state_dir.display());
        let journal = Journal::read_only(&state_dir).with_context(unread)?;
        if let Some(By::Workload) = self.by {
            let present = Present::read().context("cannot read the id of this boot")?;
            let outcomes = outcomes::remembered(&journal, &present).with_context(unread)?;
            let outcomes = outcomes::by_workload(&outcomes, &present);
            if self.json {
                println!("{}", serde_json::to_string(&outcomes)?);
            } else if outcomes.is_empty() {
                println!("No outcomes within the last day in {}.", state_dir.display());
            } else {
                print!("{}", Table(&outcomes));
            }
            return Ok(ExitCode::SUCCESS);
        }
        let incidents = journal.recent(self.limit).with_context(unread)?;
        if self.json {
            println!("{}", serde_json::to_string(&incidents)?);
        } else if incidents.is_empty() {
            println!("No incidents in {}.", state_dir.display());
        } else {
            for incident in incidents {
                if self.verbose {
                    println!("{}\n", incident.story());
                } else {
                    println!("{incident}");
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}
