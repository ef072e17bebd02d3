//! `cargo xtask strangers`: services that nobody here wrote, what befalls services, and whether the
//! agent leaves alone those that a restart does not cure.
//!
//! Each episode is one foreign server in a cgroup of its own, with a supervisor that starts it
//! again, clients whose answers are the truth about it, and an agent of its own that may restart it.
//! It is judged by what the agent did. Where the fault did not happen, as its clients tell, or the
//! stage failed, there is no verdict but an error.
//!
//! The servers come from Debian, PyPI and npm, below `target/strangers`; what goes wrong with them is
//! told to their small apps (`services/`) by a file, or done to them by signals, limits, and what
//! they depend on. Nothing is installed, and what is mounted is in a namespace of the stage's own;
//! processes and cgroups end with the episode, also with an interrupted one.
mod account;
mod ask;
mod befall;
mod clients;
mod disk;
mod episode;
mod kit;
mod known;
mod play;
mod report;
mod rows;
mod service;
mod step;
mod supervised;
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
use kit::Kit;
use play::{Cast, Played};
use verdict::Verdict;
use xtask::workspace::Workspace;

use crate::{
    demo,
    lab::progress::Progress,
    stage::{Interrupt, Programs},
};

/// First, do no harm: foreign services, ordinary faults, and what the agent does about them.
///
/// Plays gunicorn, Flask, Express, nginx, HAProxy, Tomcat, uvicorn, PHP, Caddy, Redis, gRPC and
/// others, each in a cgroup of its own with clients and an agent that may restart it. Most of what
/// befalls them is not theirs to cure: somebody behind them fails, they are in maintenance, their
/// health report cannot be read. Ends with a table; exit code 0 if no service was restarted in vain,
/// none of the healthy ones was treated at all, and those were restarted that always had to be.
///
/// The first time the servers are fetched from Debian, PyPI and npm into target/strangers. Needs
/// root, and leaves nothing behind.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Play only episodes whose name contains this, or one of these.
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// Only the most telling ones, in less than five minutes.
    #[arg(long)]
    quick: bool,
    /// Print one JSON object last, for machines.
    #[arg(long)]
    json: bool,
    /// List the episodes, and what is right in each.
    #[arg(long)]
    list: bool,
    /// Episodes that are played at once.
    #[arg(long, default_value_t = AT_ONCE, value_name = "N", value_parser = 1..=16_i64)]
    at_once: i64,
    /// The agent is in this folder, and is not built.
    #[arg(long, hide = true, value_name = "FOLDER")]
    programs: Option<PathBuf>,
}

const AT_ONCE: i64 = 4;
/// Once more, if the stage failed or clients were served badly: a machine may be too busy once.
const TRIES: usize = 2;
/// An episode, about.
const TAKES: Duration = Duration::from_secs(36);

impl Args {
    /// What `cargo xtask test` plays.
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
    supervised::sweep()?;
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

/// Some at once; those that would disturb the others last, one by one. In the order of the list.
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
    // The longest first, so that none is left for the end.
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

/// Plays one, and once more if it was no proof of anything.
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
