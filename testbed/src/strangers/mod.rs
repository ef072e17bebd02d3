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
mod disk;
mod episode;
pub(crate) mod kit;
mod known;
mod play;
mod report;
mod rows;
mod service;
mod step;
pub(crate) mod supervised;
mod truth;
mod upstream;
mod verdict;

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::{Result, bail};
use episode::Episode;
pub(crate) use kit::{Kit, Part};
use play::{Cast, Played};
pub(crate) use supervised::{Supervised, sweep};
use verdict::Verdict;
use xtask::workspace::Workspace;

use crate::{
    demo,
    lab::progress::Progress,
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
/// The first run fetches the servers from Debian, PyPI and npm into target/strangers. Needs root,
/// and leaves nothing behind.
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
    /// List the episodes, with the right action of each.
    #[arg(long)]
    list: bool,
    /// Episodes that are played at once.
    #[arg(long, default_value_t = AT_ONCE, value_name = "N", value_parser = 1..=16_i64)]
    at_once: i64,
    /// Use the agent from this folder instead of building it.
    #[arg(long, hide = true, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

const AT_ONCE: i64 = 4;
/// How often an episode is tried if the test bed failed or clients were served badly: a machine may
/// be too busy once.
const TRIES: usize = 2;
/// The duration of an episode, estimated.
const TAKES: Duration = Duration::from_secs(36);

impl Args {
    /// The episodes of `cargo xtask test`.
    pub(crate) const fn quick() -> Self {
        Self {
            only: Vec::new(),
            quick: true,
            json: false,
            list: false,
            at_once: AT_ONCE,
            programs: None,
        }
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let episodes = rows::chosen(&args.only, args.quick)?;
    if args.list {
        for episode in &episodes {
            let quick = if episode.quick { "quick" } else { "" };
            println!("{:<40} {:<16} {quick}", episode.name(), report::right(episode.right));
        }
        return Ok(());
    }
    let programs = match &args.programs {
        Some(folder) => Programs::in_folder(folder),
        None => demo::build(workspace)?,
    };
    demo::check_rights(&programs)?;
    let parts = episodes.iter().flat_map(|episode| episode.service.parts.iter().copied());
    let kit = Kit::bring(workspace, &parts.collect::<BTreeSet<_>>())?;
    sweep()?;
    let interrupt = Interrupt::catch()?;
    let cast = Cast { programs: &programs, kit: &kit, interrupt: &interrupt };
    let played = thread::scope(|scope| {
        let own = scope.spawn(|| {
            disk::own_mounts()?;
            play_all(&cast, &episodes, args.at_once as usize)
        });
        own.join().unwrap_or_else(|_| bail!("the stage's thread has panicked"))
    })?;
    println!("\n{}", report::table(&played));
    if args.json {
        println!("{}", report::json(&played));
    }
    match report::failures(&played).as_slice() {
        [] => Ok(()),
        failures => bail!("not as it should be: {}", failures.join(", ")),
    }
}

/// Plays some at once, and last, one by one, those that would disturb others. Results are in the
/// order of the list.
fn play_all(cast: &Cast<'_>, episodes: &[Episode], at_once: usize) -> Result<Vec<Played>> {
    let takes = TAKES / u32::try_from(at_once).unwrap_or(1);
    let progress = Mutex::new(Progress::new("strangers", episodes.len(), takes));
    let played = Mutex::new(Vec::new());
    let one = |number: usize| -> Result<()> {
        let episode = &episodes[number];
        let end = again(cast, episode, number)?;
        let note = format!("{}: {}, did {}", end.name, end.verdict.name(), end.did.name());
        progress.lock().unwrap_or_else(PoisonError::into_inner).step(&note);
        played.lock().unwrap_or_else(PoisonError::into_inner).push((number, end));
        Ok(())
    };
    let (alone, mut together): (Vec<usize>, Vec<usize>) =
        (0..episodes.len()).partition(|&number| episodes[number].alone);
    // The longest first, so that no long one runs alone at the end.
    together.sort_by_key(|&number| std::cmp::Reverse(episodes[number].seconds));
    progress.lock().unwrap_or_else(PoisonError::into_inner).tell("the first services start");
    let next = AtomicUsize::new(0);
    let worker = || {
        while let Some(&number) = together.get(next.fetch_add(1, Ordering::Relaxed)) {
            one(number)?;
        }
        Ok(())
    };
    let workers: Vec<Result<()>> = thread::scope(|scope| {
        let handles: Vec<_> = (0..at_once).map(|_| scope.spawn(worker)).collect();
        let ended = |handle: thread::ScopedJoinHandle<'_, Result<()>>| {
            handle.join().unwrap_or_else(|_| bail!("an episode's thread has panicked"))
        };
        handles.into_iter().map(ended).collect()
    });
    workers.into_iter().collect::<Result<()>>()?;
    alone.into_iter().try_for_each(one)?;
    let mut played = played.into_inner().unwrap_or_else(PoisonError::into_inner);
    played.sort_by_key(|(number, _)| *number);
    Ok(played.into_iter().map(|(_, end)| end).collect())
}

/// Plays one, and again if it proved nothing.
fn again(cast: &Cast<'_>, episode: &Episode, number: usize) -> Result<Played> {
    let mut tries = 1;
    loop {
        let played = play::play(cast, episode, number)?;
        if !matches!(played.verdict, Verdict::Error | Verdict::Disturbed) || tries == TRIES {
            return Ok(played);
        }
        let verdict = played.verdict.name();
        eprintln!("\n{}: {verdict}, once more: {}", played.name, played.why);
        tries += 1;
    }
}
