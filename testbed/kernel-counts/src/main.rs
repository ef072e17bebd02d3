//! The kernel side without an agent, for `cargo xtask truth`: nothing polls, decides or wakes up, so
//! that every count is of what the target's own clients did.
//!
//! Reads commands from standard input, and answers each with one line of JSON: `watch FOLDER` begins
//! to count for a cgroup2 directory, from zero; `read` prints the counters; `unwatch` ends it. An
//! answer with `error` says why something was not done. It is a program of its own so that the test
//! bed, which every task needs, is compiled without aya.
use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use agent_common::Counters;
use anyhow::{Context as _, Result, bail};
use paramedic_core::target::{Cgroup, Cgroups, Kind, Remedy, Settings, Target, TargetId};
use paramedic_probes::{Kernel, Options, Slot};
use serde_json::{Value, json};

fn main() -> Result<()> {
    let mut kernel = Kernel::load(&Options::new(1)).context("cannot load the kernel side")?;
    let mut slot = None;
    say(&json!({ "loaded": true }))?;
    for line in io::stdin().lines() {
        let answer = obey(&mut kernel, &mut slot, &line?);
        say(&answer.unwrap_or_else(|error| json!({ "error": format!("{error:#}") })))?;
    }
    Ok(())
}

fn say(answer: &Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{answer}")?;
    out.flush()
}

fn obey(kernel: &mut Kernel, slot: &mut Option<Slot>, command: &str) -> Result<Value> {
    match command.split_once(' ').unwrap_or((command, "")) {
        ("watch", folder) => {
            *slot = Some(kernel.watch(&target(Path::new(folder))?)?);
            Ok(json!({}))
        }
        ("read", _) => {
            let slot = slot.context("nothing is watched")?;
            Ok(shown(&kernel.counters(slot)?.0))
        }
        ("unwatch", _) => {
            kernel.unwatch(slot.take().context("nothing is watched")?)?;
            Ok(json!({}))
        }
        _ => bail!("no such command: {command}"),
    }
}

/// A target of which nothing is known but its cgroup.
fn target(folder: &Path) -> Result<Target> {
    let found = fs::metadata(folder).with_context(|| format!("no {}", folder.display()))?;
    let unified = Cgroup { path: folder.to_owned(), id: found.ino() };
    Ok(Target {
        id: TargetId { uid: "server".to_owned(), instance: "1".to_owned() },
        name: "server".to_owned(),
        kind: Kind::Process,
        settings: Settings::up_to(Remedy::Observe),
        address: None,
        tls: false,
        host: String::new(),
        cgroups: Cgroups {
            unified: Some(unified),
            traffic: None,
            cpu: None,
            cpuacct: None,
            memory: None,
            shared: false,
        },
        port: None,
        started: paramedic_host::clock::now(),
        main: None,
        version: None,
        no_restart: None,
        no_evict: None,
    })
}

/// What is counted of HTTP.
fn shown(counters: &Counters) -> Value {
    json!({
        "requests": counters.requests,
        "responses": counters.responses,
        "unavailable": counters.unavailable,
        "in_trailers": counters.in_trailers,
        "unknown": counters.unknown,
        "not_understood": counters.not_understood,
        "upstream_requests": counters.upstream_requests,
        "upstream_responses": counters.upstream_responses,
        "upstream_5xx": counters.upstream_5xx,
        "upstream_denied": counters.upstream_denied,
    })
}
