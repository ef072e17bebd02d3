//! `cargo xtask strangers`: third-party services with ordinary faults. Checks that the agent does
//! not restart a service if that does not help.
//!
//! Each episode is one third-party server in a cgroup of its own, with a supervisor that starts it
//! again, clients whose results show whether it works, and an agent of its own that may restart it.
//! The agent's actions are judged. If the clients did not see the fault, or the test bed failed,
//! the result is an error and no verdict.
//!
//! The servers come from Debian, PyPI and npm, below `target/strangers`. Faults are injected into
//! their small apps (`services/`) by a file, or by signals, limits, and the services that they
//! depend on. Nothing is installed, and mounts are in a private namespace. Processes and cgroups
//! end with the episode, also if it is interrupted.
mod account;
mod ask;
mod befall;
mod clients;
mod copies;
mod crew;
mod data;
mod disk;
mod episode;
mod grade;
mod ground;
pub(crate) mod kit;
mod known;
mod loris;
mod plan;
mod play;
mod record;
mod report;
mod resolver;
mod rows;
mod service;
mod step;
pub(crate) mod supervised;
mod truth;
mod upstream;
mod verdict;

use std::{collections::BTreeSet, path::PathBuf, thread};

use anyhow::{Result, bail};
pub(crate) use kit::{Kit, Part};
use play::Cast;
use record::Run;
pub(crate) use supervised::{Supervised, sweep};
use xtask::workspace::Workspace;

use crate::{
    demo,
    stage::{Interrupt, Programs},
};

/// Run third-party services with ordinary faults, and judge what the agent does.
///
/// Runs gunicorn, Flask, Express, nginx, HAProxy, Tomcat, uvicorn, PHP, Caddy, Redis, gRPC and
/// others, each in a cgroup of its own with clients and an agent that may restart it. A restart
/// helps against few of the faults: in most, a backend fails, the service is in maintenance, or its
/// health report cannot be read. Ends with a table; exit code 0 if no service was restarted without
/// benefit, no healthy one got a remedy, and every restart that is required happened.
///
/// With --record each fault is in three copies at once: one gets no remedy, one is reset if it can
/// be, one is restarted, and an agent that only observes records them. The mildest remedy after
/// which the clients are served again is the label of what it saw.
///
/// The first run fetches the servers from Debian, PyPI and npm into target/strangers. An
/// interrupted run continues where it stopped. Needs root, and leaves only files below
/// target/strangers.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Play only episodes whose name contains this, or one of these.
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// Only the most important ones, in less than five minutes.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object last, for machines.
    #[arg(long)]
    json: bool,
    /// Record instead of judging: each fault in three copies at once, and the labelled rows in this
    /// folder.
    #[arg(long, value_name = "DIR", conflicts_with = "json")]
    record: Option<PathBuf>,
    /// List the episodes, with the right action of each.
    #[arg(long)]
    list: bool,
    /// Load and intensity of each episode are drawn from this; 0 is the ordinary load. Models may
    /// learn from seeds below 1000, and the others are for grading.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Play the table again with further draws until there are this many [default: once].
    #[arg(long, value_name = "N")]
    episodes: Option<usize>,
    /// Episodes that are played at once.
    #[arg(long, default_value_t = AT_ONCE, value_name = "N", value_parser = 1..=16_i64)]
    at_once: i64,
    /// Use the agent from this folder instead of building it.
    #[arg(long, hide = true, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

const AT_ONCE: i64 = 4;

impl Args {
    /// The episodes of `cargo xtask test`.
    pub(crate) const fn quick() -> Self {
        Self {
            only: Vec::new(),
            quick: true,
            json: false,
            record: None,
            list: false,
            seed: 0,
            episodes: None,
            at_once: AT_ONCE,
            programs: None,
        }
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.record.is_some() {
        plan::may_be_recorded(args.seed)?;
    }
    let planned = plan::plan(&rows::chosen(&args.only, args.quick)?, args.seed, args.episodes);
    if args.list {
        for one in &planned {
            let quick = if one.quick { "quick" } else { "" };
            println!("{:<44} {:<16} {quick}", one.name(), report::right(one.right));
        }
        return Ok(());
    }
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder),
        None => Programs::as_tested(workspace)?,
    };
    demo::check_rights(&programs)?;
    let parts = planned.iter().flat_map(|one| one.service.parts.iter().copied());
    let kit = Kit::bring(workspace, &parts.collect::<BTreeSet<_>>())?;
    sweep()?;
    let interrupt = Interrupt::catch()?;
    let cast = Cast { programs: &programs, kit: &kit, interrupt: &interrupt };
    let at_once = args.at_once as usize;
    let root = workspace.target.join("strangers");
    if let Some(into) = &args.record {
        let run = Run { cast: &cast, seed: args.seed, build: programs.build()? };
        return with_own_mounts(|| record::record(&run, &planned, at_once, &root, into));
    }
    let played = with_own_mounts(|| grade::grade(&cast, &planned, at_once, &root, args.seed))?;
    println!("\n{}", report::table(&played));
    if args.json {
        println!("{}", report::json(args.seed, &played));
    }
    match report::failures(&played).as_slice() {
        [] => Ok(()),
        failures => bail!("not as it should be: {}", failures.join(", ")),
    }
}

/// Runs it in a thread whose mounts no other process sees.
fn with_own_mounts<T: Send>(play: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    thread::scope(|scope| {
        let own = scope.spawn(|| {
            disk::own_mounts()?;
            play()
        });
        own.join().unwrap_or_else(|_| bail!("the stage's thread has panicked"))
    })
}
