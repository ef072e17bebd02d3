//! `paramedic incidents`: what was done, why, and whether it helped.
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};
use paramedic_record::{
    Journal,
    evidence::{self, Summaries, Told},
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
///
/// With `--resizes`, list the changes of CPU and memory limits instead: what a limit was, what it
/// became, what the owner's own is, and whether it helped.
///
/// With `--evidence N`, print what the agent kept before the hard remedy of incident N: threads,
/// sockets, descriptors, cgroup files, samples, the end of the log.
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
    /// Print the evidence of the incident of this number instead.
    #[arg(long, value_name = "N", conflicts_with_all = ["verbose", "limit", "by"])]
    evidence: Option<i64>,
    /// List resizes in place instead.
    #[arg(long, conflicts_with_all = ["verbose", "by", "evidence"])]
    resizes: bool,
    /// Print one JSON array; of evidence one object.
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
        let state_dir = self.state_dir.clone().unwrap_or_else(state_dir::default);
        match (self.evidence, self.by) {
            _ if self.resizes => self.print_resizes(&state_dir)?,
            (Some(incident), _) => self.print_evidence(&state_dir, incident)?,
            (None, Some(By::Workload)) => self.print_outcomes(&state_dir)?,
            (None, None) => self.print_incidents(&state_dir)?,
        }
        Ok(ExitCode::SUCCESS)
    }

    fn print_evidence(&self, state_dir: &Path, incident: i64) -> anyhow::Result<()> {
        let evidence = evidence::read(state_dir, incident)?;
        if self.json {
            println!("{}", serde_json::to_string(&evidence)?);
        } else {
            print!("{evidence}");
        }
        Ok(())
    }

    fn print_resizes(&self, state_dir: &Path) -> anyhow::Result<()> {
        let resizes = journal(state_dir)?.recent_resizes(self.limit);
        let resizes = resizes.with_context(|| unread(state_dir))?;
        if self.json {
            println!("{}", serde_json::to_string(&resizes)?);
            return Ok(());
        }
        for resize in &resizes {
            println!("{resize}");
        }
        if resizes.is_empty() {
            println!("No resizes in {}.", state_dir.display());
        }
        Ok(())
    }

    fn print_outcomes(&self, state_dir: &Path) -> anyhow::Result<()> {
        let journal = journal(state_dir)?;
        let present = Present::read().context("cannot read the id of this boot")?;
        let outcomes =
            outcomes::remembered(&journal, &present).with_context(|| unread(state_dir))?;
        let outcomes = outcomes::by_workload(&outcomes, &present);
        if self.json {
            println!("{}", serde_json::to_string(&outcomes)?);
        } else if outcomes.is_empty() {
            println!("No outcomes within the last day in {}.", state_dir.display());
        } else {
            print!("{}", Table(&outcomes));
        }
        Ok(())
    }

    fn print_incidents(&self, state_dir: &Path) -> anyhow::Result<()> {
        let recent = journal(state_dir)?.recent(self.limit);
        let incidents = recent.with_context(|| unread(state_dir))?;
        if self.json || self.verbose {
            let told = Summaries::of(state_dir.to_owned()).tell(incidents);
            return if self.json { print_json(&told) } else { print_stories(&told, state_dir) };
        }
        for incident in &incidents {
            println!("{incident}");
        }
        if incidents.is_empty() {
            println!("No incidents in {}.", state_dir.display());
        }
        Ok(())
    }
}

fn print_json(told: &[Told]) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(told)?);
    Ok(())
}

fn print_stories(told: &[Told], state_dir: &Path) -> anyhow::Result<()> {
    for one in told {
        println!("{}\n", one.story());
    }
    if told.is_empty() {
        println!("No incidents in {}.", state_dir.display());
    }
    Ok(())
}

fn journal(state_dir: &Path) -> anyhow::Result<Journal> {
    Journal::read_only(state_dir).with_context(|| unread(state_dir))
}

fn unread(state_dir: &Path) -> String {
    format!("cannot read the journal in {}", state_dir.display())
}
