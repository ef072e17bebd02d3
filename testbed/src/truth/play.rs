//! Plays the cases of one server.
use std::path::Path;

use anyhow::{Context as _, Error, Result, ensure};
use serde::Serialize;

use super::{
    case::{Protocol, Row},
    client::Client,
    counts::Counts,
    judge::judge,
    kernel::KernelSide,
    place::Place,
    ports,
    servers::{Backend, Server},
};
use crate::{
    stage::{Interrupt, tail},
    strangers::{
        kit::{Kit, Part},
        supervised::Supervised,
    },
};

/// The result of a row.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Judged {
    pub(super) name: String,
    #[serde(flatten)]
    pub(super) verdict: Verdict,
}

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub(super) enum Verdict {
    /// Every count is what was given.
    Right { given: Counts, counted: Counts },
    /// These are not.
    Wrong { given: Counts, counted: Counts, why: Vec<String> },
    /// The client was not given what it asked for, or the test bed failed.
    Error { why: String },
}

impl Judged {
    pub(super) const fn is_right(&self) -> bool {
        matches!(self.verdict, Verdict::Right { .. })
    }

    pub(super) const fn is_error(&self) -> bool {
        matches!(self.verdict, Verdict::Error { .. })
    }

    pub(super) fn why(&self) -> String {
        match &self.verdict {
            Verdict::Right { .. } => String::new(),
            Verdict::Wrong { why, .. } => why.join("; "),
            Verdict::Error { why } => why.clone(),
        }
    }
}

/// What all servers share.
pub(super) struct Cast<'a> {
    pub(super) kit: &'a Kit,
    pub(super) interrupt: &'a Interrupt,
}

/// Plays these rows, all of one server. An interrupt, and a failure of the kernel side, is an
/// error.
pub(super) fn play(
    cast: &Cast<'_>,
    kernel: &mut KernelSide,
    number: usize,
    rows: &[Row],
) -> Result<Vec<Judged>> {
    let folder = tempfile::tempdir().context("no folder for the server")?;
    let mut judged = Vec::new();
    let result = on_stage(cast, kernel, number, rows, folder.path(), &mut judged);
    cast.interrupt.check()?;
    if let Err(error) = result {
        let left = &rows[judged.len()..];
        ensure!(!left.is_empty(), "{error:#}");
        judged.extend(left.iter().map(|row| failed(row, &error, folder.path())));
    }
    Ok(judged)
}

fn failed(row: &Row, error: &Error, folder: &Path) -> Judged {
    let log = tail(&folder.join("log"), 8);
    let why = format!("{error:#}\nthe end of the server's log:\n{log}");
    Judged { name: row.name(), verdict: Verdict::Error { why } }
}

/// A running server.
struct Stage<'a> {
    place: Place<'a>,
    server: &'static Server,
    // Dropped before the backend, which it calls.
    running: Supervised,
    _backend: Option<Supervised>,
}

fn on_stage(
    cast: &Cast<'_>,
    kernel: &mut KernelSide,
    number: usize,
    rows: &[Row],
    folder: &Path,
    judged: &mut Vec<Judged>,
) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let server = first.server;
    let [one, two, backend] = ports::free()?;
    let place = Place { kit: cast.kit, folder, ports: [one, two], backend };
    place.furnish()?;
    let start = |number: usize, mut command: std::process::Command, log: &str| {
        command.current_dir(folder);
        Supervised::start(number, &command, &folder.join(log))
    };
    let behind = server.backend.map(|backend| -> Result<Supervised> {
        let running = start(2 * number + 1, backend.command(&place)?, "backend.log")?;
        let mut client = client(&place, backend.protocol(), place.backend, "")?;
        client.wait().context("the server behind it")?;
        Ok(running)
    });
    let behind = behind.transpose()?;
    let running = start(2 * number, (server.command)(&place)?, "log")?;
    let stage = Stage { place, server, running, _backend: behind };
    let cgroup = stage.running.cgroup.unified()?.to_owned();
    kernel.watch(&cgroup)?;
    let played = rows
        .chunk_by(|one, next| one.protocol == next.protocol)
        .try_for_each(|rows| of_protocol(cast, kernel, &stage, rows, &cgroup, judged));
    let unwatched = kernel.unwatch();
    played.and(unwatched)
}

fn client(place: &Place<'_>, protocol: Protocol, port: u16, api: &str) -> Result<Client> {
    Client::start(&place.kit.command(Part::Python)?, place.folder, protocol, port, api)
}

fn of_protocol(
    cast: &Cast<'_>,
    kernel: &mut KernelSide,
    stage: &Stage<'_>,
    rows: &[Row],
    cgroup: &Path,
    judged: &mut Vec<Judged>,
) -> Result<()> {
    let Some(first) = rows.first() else { return Ok(()) };
    let api = if stage.server.backend.is_some() { "/api" } else { "" };
    let port = stage.place.ports[first.port];
    let start = || {
        let mut client = client(&stage.place, first.protocol, port, api)?;
        client.wait().map(|()| client)
    };
    let mut client = start()?;
    for row in rows {
        cast.interrupt.check()?;
        match one(kernel, stage, &mut client, row, cgroup) {
            Ok(verdict) => judged.push(Judged { name: row.name(), verdict }),
            Err(error) => {
                judged.push(failed(row, &error, stage.place.folder));
                // What is left of its connections is not for the next case.
                client = start()?;
            }
        }
    }
    Ok(())
}

fn one(
    kernel: &mut KernelSide,
    stage: &Stage<'_>,
    client: &mut Client,
    row: &Row,
    cgroup: &Path,
) -> Result<Verdict> {
    if let Some(part) = row.case.unwatched() {
        kernel.unwatch()?;
        let begun = client.begin(part);
        kernel.watch(cgroup)?;
        begun?;
    }
    let before = kernel.read()?;
    let record = client.play(row.case)?;
    let counted = kernel.read()?.since(&before);
    ensure!(stage.running.ends() == 0, "the server has ended by itself");
    let given = record.counts();
    let why = judge(row.case, &record, &counted);
    Ok(match why.as_slice() {
        [] => Verdict::Right { given, counted },
        _ => Verdict::Wrong { given, counted, why },
    })
}

impl Backend {
    const fn protocol(self) -> Protocol {
        match self {
            Self::Web => Protocol::Http1,
            Self::Grpc => Protocol::Grpc,
        }
    }
}
