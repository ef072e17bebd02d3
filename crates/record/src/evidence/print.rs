//! Evidence as text for a terminal. Texts of others cannot move the cursor.
use std::fmt::{self, Formatter, Write as _};

use paramedic_host::evidence::{
    cgroup::Files,
    descriptors::Descriptors,
    log::Text,
    processes::Processes,
    sockets::{Scope, Side, Sockets},
    threads::{Group, Threads},
};

use super::{Evidence, Look};
use crate::incident::{Clean, Utc};

impl fmt::Display for Evidence {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { incident, name, wall_time, target, remedy, summary, took_ms, .. } = self;
        writeln!(f, "Evidence of incident {incident}: {}, {}", Clean(name), Utc(*wall_time))?;
        writeln!(f, "  target     {} (instance {})", Clean(&target.uid), Clean(&target.instance))?;
        writeln!(f, "  before     {}", remedy.name())?;
        writeln!(f, "  collected  in {took_ms} ms")?;
        writeln!(f, "  shows      {}", Clean(summary))?;
        for (i, missing) in self.missing.iter().enumerate() {
            let head = if i == 0 { "missing" } else { "" };
            writeln!(f, "  {head:<9}  {}: {}", Clean(&missing.part), Clean(&missing.why))?;
        }
        let found = &self.found;
        part(f, &found.threads, threads)?;
        part(f, &found.processes, processes)?;
        part(f, &found.sockets, sockets)?;
        part(f, &found.descriptors, descriptors)?;
        part(f, &found.limits, |f, limits| {
            writeln!(f, "\nLimits of the main process (soft, hard)")?;
            limits.iter().try_for_each(|(name, limit)| {
                writeln!(f, "  {:<20} {}", Clean(name).to_string(), Clean(limit))
            })
        })?;
        part(f, &found.cgroup, cgroup)?;
        samples(f, &self.samples)?;
        part(f, &found.log, |f, log| text(f, "Log", log))?;
        part(f, &found.dump, |f, dump| text(f, "Dump of the app", dump))
    }
}

fn part<T>(
    f: &mut Formatter<'_>,
    of: &Option<T>,
    print: impl Fn(&mut Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    of.as_ref().map_or(Ok(()), |of| print(f, of))
}

fn threads(f: &mut Formatter<'_>, threads: &Threads) -> fmt::Result {
    writeln!(f, "\nThreads: {}, {} read", threads.total, threads.read)?;
    for Group { count, state, waits_in, stack, names, ids } in &threads.groups {
        let place = waits_in.as_ref().map(|name| format!(" in {}", Clean(name)));
        writeln!(f, "  {count} in state {state}{}", place.unwrap_or_default())?;
        let names = names.iter().map(|(name, count)| format!("{} ({count})", Clean(name)));
        writeln!(f, "      names  {}", names.collect::<Vec<_>>().join(", "))?;
        let ids: Vec<String> = ids.iter().map(i32::to_string).collect();
        writeln!(f, "      ids    {}", ids.join(" "))?;
        for (i, frame) in stack.iter().enumerate() {
            let head = if i == 0 { "stack" } else { "" };
            writeln!(f, "      {head:<5}  {}", Clean(frame))?;
        }
    }
    match threads.more_groups {
        0 => Ok(()),
        more => writeln!(f, "  and {more} further groups"),
    }
}

fn processes(f: &mut Formatter<'_>, processes: &Processes) -> fmt::Result {
    writeln!(f, "\nProcesses: {}", processes.total)?;
    for one in &processes.list {
        let memory = one.rss_bytes.map(|bytes| format!(", {:.1} MiB", bytes as f64 / 1_048_576.0));
        writeln!(
            f,
            "  {:>7} {:<15} {}, parent {}, threads {}, CPU {:.2} s{}",
            one.pid,
            Clean(&one.name).to_string(),
            one.state,
            one.parent,
            one.threads,
            one.cpu_s,
            memory.unwrap_or_default()
        )?;
    }
    Ok(())
}

fn sockets(f: &mut Formatter<'_>, sockets: &Sockets) -> fmt::Result {
    let others = match sockets.scope {
        Scope::Own => "Other sockets of its processes",
        Scope::Namespace => "Other sockets of its network namespace",
        Scope::Port => "Other sockets: not known",
    };
    side(f, "Sockets at its ports", &sockets.serving)?;
    side(f, others, &sockets.others)
}

fn side(f: &mut Formatter<'_>, title: &str, side: &Side) -> fmt::Result {
    let states = side.states.iter().map(|(state, count)| format!("{count} {}", Clean(state)));
    let states: Vec<String> = states.collect();
    writeln!(f, "\n{title}{}", if states.is_empty() { ": none" } else { "" })?;
    if states.is_empty() {
        return Ok(());
    }
    writeln!(f, "  states     {}", states.join(", "))?;
    writeln!(f, "  accept     {} connections wait", side.accept_queue)?;
    let (connections, bytes) = (side.unread_connections, side.unread_bytes);
    writeln!(f, "  unread     {bytes} bytes of {connections} connections")?;
    writeln!(f, "  unsent     {} bytes", side.unsent_bytes)?;
    let peers =
        side.peers.iter().map(|peer| format!("{} ({})", Clean(&peer.address), peer.connections));
    let peers: Vec<String> = peers.collect();
    writeln!(f, "  peers      {} in all: {}", side.peers_total, peers.join(", "))
}

fn descriptors(f: &mut Formatter<'_>, descriptors: &Descriptors) -> fmt::Result {
    let most = descriptors.most.map(|(pid, count)| format!(", of which process {pid} has {count}"));
    writeln!(f, "\nDescriptors: {}{}", descriptors.open, most.unwrap_or_default())?;
    descriptors
        .kinds
        .iter()
        .try_for_each(|(kind, count)| writeln!(f, "  {count:>7} {}", Clean(kind)))
}

fn cgroup(f: &mut Formatter<'_>, cgroup: &Files) -> fmt::Result {
    let shared = if cgroup.shared { ", shared with other processes" } else { "" };
    writeln!(f, "\nCgroup{shared}")?;
    for (name, text) in &cgroup.files {
        match text.contains('\n') {
            false => writeln!(f, "  {name}: {}", Clean(text))?,
            true => {
                writeln!(f, "  {name}:")?;
                text.lines().try_for_each(|line| writeln!(f, "    {}", Clean(line)))?;
            }
        }
    }
    Ok(())
}

/// One line for each sample, with the columns that are not zero.
fn samples(f: &mut Formatter<'_>, samples: &[Look]) -> fmt::Result {
    if samples.is_empty() {
        return Ok(());
    }
    writeln!(f, "\nSamples: {}", samples.len())?;
    for look in samples {
        let health = look.health.as_deref().map(|heard| format!(", health check {}", Clean(heard)));
        let mut line = format!(
            "  {:>6.1} s before: {} {:.2} by the {}{}",
            look.seconds_before,
            look.action.name(),
            look.confidence,
            Clean(&look.source),
            health.unwrap_or_default()
        );
        for (name, value) in
            look.features.iter().filter_map(|(name, value)| Some((name, (*value)?)))
        {
            if value != 0.0 {
                write!(line, ", {} {}", Clean(name), rounded(value))?;
            }
        }
        writeln!(f, "{line}")?;
    }
    Ok(())
}

/// At most three decimals.
fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e3).round() / 1e3
}

fn text(f: &mut Formatter<'_>, title: &str, text: &Text) -> fmt::Result {
    let cut = if text.cut { ", a part of it" } else { "" };
    writeln!(f, "\n{title}, from {}{cut}", Clean(&text.from))?;
    text.text.lines().try_for_each(|line| {
        // A tab moves the cursor, but not into other lines.
        let parts: Vec<String> = line.split('\t').map(|part| Clean(part).to_string()).collect();
        writeln!(f, "  {}", parts.join("\t"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{evidence, look};
    use super::*;

    #[test]
    fn threads_sockets_and_what_is_missing_are_printed() {
        let mut evidence = evidence(12);
        evidence.seal().unwrap();
        let text = evidence.to_string();
        for line in [
            "Evidence of incident 12: http://localhost:5000, 2026-01-02T03:04:05Z",
            "  missing    log: a plain process",
            "Threads: 40, 40 read",
            "  38 in state S in futex_wait_queue",
            "      names  worker (38)",
            "      stack  futex_wait_queue",
            "  states     40 established, 1 listen",
            "  accept     12 connections wait",
            "  peers      1 in all: 10.0.0.9 (40)",
            "  cpu.max: max 100000",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
    }

    #[test]
    fn a_sample_is_one_line_without_zeros() {
        let mut evidence = evidence(12);
        evidence.samples.push(look());
        let text = evidence.to_string();
        let line = "     2.0 s before: restart_service 0.93 by the model, health check silent, \
                    health_failures 3";
        assert!(text.lines().any(|found| found == line), "{text}");
    }

    #[test]
    fn texts_of_others_cannot_move_the_cursor() {
        let mut evidence = evidence(12);
        evidence.name = "web\x1b[2J".to_owned();
        evidence.found.log = Some(Text {
            from: "a\nb".to_owned(),
            cut: true,
            text: "one\x1b[2J\ttab\ntwo\u{202e}\n".to_owned(),
        });
        let text = evidence.to_string();
        assert!(text.chars().all(|c| matches!(c, '\n' | '\t') || !c.is_control()), "{text:?}");
        assert!(!text.contains('\u{202e}'));
        assert!(text.contains("\ttab\n  two"), "{text}");
    }
}
