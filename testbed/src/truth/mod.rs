//! `cargo xtask truth`: what the kernel side counts of third-party servers, against what their
//! clients were given.
//!
//! Each server runs in a cgroup of its own, which the kernel side watches without an agent
//! (`testbed/kernel-counts`), so that every request is of the client here. For each case the client
//! asks for statuses, bodies or codes of gRPC and records what it was given, and the kernel's counts
//! must be exactly that. If the client was not given what it asked for, the result is an error and
//! no verdict.
//!
//! The servers come from where those of `cargo xtask strangers` come from.
mod case;
mod client;
mod counts;
mod docs;
mod judge;
mod kernel;
mod place;
mod play;
mod ports;
mod report;
mod servers;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, bail};
use xtask::workspace::Workspace;

use crate::{
    lab::progress::Progress,
    stage::Interrupt,
    strangers::{kit::Kit, supervised},
};
use case::Row;
use kernel::KernelSide;
use play::{Cast, Judged};

/// Compare the kernel's counts with what clients of third-party servers were given.
///
/// Runs nginx, HAProxy, Caddy, Apache, lighttpd, Tomcat, Node.js, gunicorn, uvicorn, PHP, granian,
/// hypercorn and servers of gRPC, each in a cgroup of its own, and asks them in HTTP/1.1, HTTP/2 and
/// gRPC. Ends with a table; exit code 0 if every count is exactly what the client was given. A run of
/// all cases also compares docs/protocols.md with them: if the page no longer matches, it is rewritten,
/// and the run fails once.
///
/// The first run fetches the servers from Debian, PyPI and npm into target/strangers. Needs root,
/// and leaves nothing behind.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Only cases whose name contains this, or one of these.
    #[arg(value_name = "NAME")]
    only: Vec<String>,
    /// Print one JSON object last, for machines.
    #[arg(long)]
    json: bool,
    /// List the cases.
    #[arg(long)]
    list: bool,
}

/// The duration of a server's cases, estimated.
const TAKES: Duration = Duration::from_secs(6);
/// How often a server is started if the test bed failed: a machine may be too busy once.
const TRIES: usize = 2;

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let rows = servers::chosen(&args.only)?;
    if args.list {
        rows.iter().for_each(|row| println!("{}", row.name()));
        return Ok(());
    }
    let parts = rows.iter().flat_map(|row| row.server.parts()).collect::<BTreeSet<_>>();
    let kit = Kit::bring(workspace, &parts)?;
    supervised::sweep()?;
    let interrupt = Interrupt::catch()?;
    let mut kernel = KernelSide::start(workspace)?;
    let judged = play_all(&Cast { kit: &kit, interrupt: &interrupt }, &mut kernel, &rows)?;
    println!("\n{}", report::table(&judged));
    if args.json {
        println!("{}", report::json(&judged));
    }
    match report::failures(&judged).as_slice() {
        [] if args.only.is_empty() => docs::check(&workspace.root, &rows),
        [] => Ok(()),
        failures => bail!("not as it should be: {}", failures.join(", ")),
    }
}

/// One server after the other: all share the machine's two or more cores with their clients.
fn play_all(cast: &Cast<'_>, kernel: &mut KernelSide, rows: &[Row]) -> Result<Vec<Judged>> {
    let of_servers: Vec<&[Row]> =
        rows.chunk_by(|one, next| one.server.name == next.server.name).collect();
    let mut progress = Progress::new("truth", of_servers.len(), TAKES);
    let mut judged = Vec::new();
    for (number, rows) in of_servers.iter().enumerate() {
        let name = rows[0].server.name;
        progress.tell(name);
        let mut tries = 1;
        let ended = loop {
            let ended = play::play(cast, kernel, number, rows)?;
            let error = ended.iter().find(|judged| judged.is_error());
            match error {
                Some(error) if tries < TRIES => {
                    eprintln!("\n{}, once more: {}", error.name, error.why());
                    tries += 1;
                }
                _ => break ended,
            }
        };
        let wrong = ended.iter().filter(|judged| !judged.is_right()).count();
        progress.step(&format!("{name}: {} of {} right", ended.len() - wrong, ended.len()));
        judged.extend(ended);
    }
    Ok(judged)
}
