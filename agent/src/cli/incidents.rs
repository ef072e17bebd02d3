//! `paramedic incidents`: what was done, why, and whether it helped.
use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::Args;
use paramedic_record::Journal;

use super::state_dir;

/// List incidents: what was done to which target, why, and whether it helped.
///
/// Works while an agent runs and after it has stopped.
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
    /// Print one JSON array.
    #[arg(long, conflicts_with = "verbose")]
    json: bool,
}

impl Incidents {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let state_dir = self.state_dir.unwrap_or_else(state_dir::default);
        let incidents = Journal::read_only(&state_dir)
            .and_then(|journal| journal.recent(self.limit))
            .with_context(|| format!("cannot read the journal in {}", state_dir.display()))?;
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
