//! `docs/kernels.md`, written from what the machines said and from why kernels differ. It is
//! committed: where it no longer fits the runs it is written anew, and the task fails once.
use std::{fmt::Write as _, path::Path};

use anyhow::{Result, bail};
use xtask::workspace::write_if_changed;

use super::{
    expected::{BEST, LEFT_OUT, LESSER, NO_V1},
    judge::{Probe, probes},
    kernels::SERIES,
    steps::{HYBRID, Kind, Layout, Machine, REFUSED, V1},
    table::Column,
};

/// What a mechanism takes of a kernel, and what it means to do without it.
struct Need {
    mechanism: &'static str,
    kernel: &'static str,
    btf: &'static str,
    refused: &'static str,
}

const NEEDS: [Need; 7] = [
    Need {
        mechanism: "cgroup_skb",
        kernel: "5.8",
        btf: "no",
        refused: "HTTP counts are lost, as server and as client; `/health` remains",
    },
    Need {
        mechanism: "tp_btf",
        kernel: "5.15 for TCP; for OOM kills 6.9, or a long-term kernel from February 2025 on",
        btf: "yes",
        refused: "TCP: by the tracepoint. OOM kills: polled, seen at the next look and not at once",
    },
    Need {
        mechanism: "tracepoint",
        kernel: "5.15, and a readable tracefs",
        btf: "for offsets",
        refused: "resets, retransmits and failed connects are lost",
    },
    Need {
        mechanism: "fentry",
        kernel: "5.5",
        btf: "yes",
        refused: "by the kprobe: the throttled time is one interval late",
    },
    Need {
        mechanism: "kprobe",
        kernel: "5.5, with CONFIG_KPROBES",
        btf: "for offsets",
        refused: "by the timer: a program runs at the end of every hrtimer of the machine",
    },
    Need {
        mechanism: "hrtimer",
        kernel: "5.5, and CAP_SYSLOG for one address",
        btf: "yes",
        refused: "polled: throttling is seen at the next look and not at once",
    },
    Need {
        mechanism: "poll",
        kernel: "any: `cpu.stat` and `memory.events`, or what cgroup v1 has in their place",
        btf: "no",
        refused: "throttling and OOM kills are lost",
    },
];

/// What is counted under each signal.
const COUNTED: [(&str, &str); 7] = [
    (
        "http_responses",
        "responses that the target sends, by class; 502, 503 and 504 also by themselves, since they wake nobody; requests that it sends as a client",
    ),
    (
        "http_requests",
        "requests that reach it; responses that it receives as a client, 5xx also by themselves",
    ),
    (
        "tcp_resets_received",
        "resets of its connections; a connect of its own that is refused is counted apart and wakes nobody",
    ),
    ("tcp_resets_sent", "resets by the target of its connections"),
    ("tcp_retransmits", "segments sent again; a SYN sent again counts as a failed connect"),
    ("cpu_throttling", "periods and time in which its CPU quota was used up"),
    ("oom_kills", "its processes that the OOM killer chose"),
];

/// Compares the page with the runs.
pub(super) fn check(root: &Path, columns: &[Column]) -> Result<()> {
    let page = root.join("docs/kernels.md");
    if write_if_changed(&page, write(columns).as_bytes())? {
        bail!("{} did not fit these runs and was written anew: read and commit it", page.display());
    }
    Ok(())
}

fn write(columns: &[Column]) -> String {
    let mut page = format!(
        "# Kernels\n\n\
         Written by `cargo xtask vm` from its runs: Debian's kernels {} in virtual machines, with\n\
         cgroup v2, hybrid, and v1 alone. `paramedic check` tells the same of the machine it runs on.\n\
         A kernel that lacks something loses that signal and no other.\n",
        SERIES.join(" and ")
    );
    page += "\n## What is counted\n\n\
             HTTP and TCP by the cgroup that the socket was made in, narrowed to a port where there is \
             one;\nwhat a target does as a client by its cgroup alone, and not where it shares that.\n\n\
             | signal | what |\n|---|---|\n";
    for (signal, what) in COUNTED {
        let _ = writeln!(page, "| `{signal}` | {what} |");
    }
    mechanisms(&mut page, columns);
    without_btf(&mut page, columns);
    page += "\n## What each mechanism needs\n\n\
             The whole needs Linux 5.8 (ring buffers, CAP_BPF) and a mounted cgroup2, and has every \
             signal from\n5.15 on. These numbers come from the kernel's history; what is older than \
             the kernels above was not run.\n\n\
             | mechanism | kernel | BTF | where it is refused |\n|---|---|---|---|\n";
    for Need { mechanism, kernel, btf, refused } in NEEDS {
        let _ = writeln!(page, "| `{mechanism}` | {kernel} | {btf} | {refused} |");
    }
    cgroups(&mut page, columns);
    page += "\n## Where kernels differ\n\n";
    for lesser in LESSER {
        let _ = writeln!(
            page,
            "- {}: `{}` by `{}`, since {}.",
            lesser.series, lesser.signal, lesser.mechanism, lesser.why
        );
    }
    for no in NO_V1 {
        let _ = writeln!(page, "- {}: no `{}` in cgroup v1: {}.", no.series, no.controller, no.why);
    }
    page += "\nWhatever else differs fails the run. Tests that do not run in the machines:\n\n";
    for left in LEFT_OUT {
        let place = [left.series, left.layout.map(Layout::name)];
        let place: Vec<&str> = place.into_iter().flatten().collect();
        let place = if place.is_empty() { "everywhere".to_owned() } else { place.join(" ") };
        let _ = writeln!(page, "- `{}` ({place}): {}.", left.tests, left.why);
    }
    let named = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
        names.join(", ")
    };
    let _ = write!(
        page,
        "\nWith cgroup v2 all others run. With hybrid cgroups the kernel side's run that depend on the\n\
         layout ({}), and with v1 alone the agent's ({}).\n",
        named(HYBRID),
        named(V1)
    );
    page
}

/// What `paramedic check` said on a kernel with cgroup v2, without these mechanisms.
fn checked(columns: &[Column], series: &str, without: &[&str], btf: bool) -> Vec<Probe> {
    let column = columns.iter().find(|c| c.series == series && c.machine == Machine::Signals);
    let kind = |step: &&super::steps::Step| match step.kind {
        Kind::Check { without: refused, btf: has } => refused == without && has == btf,
        _ => false,
    };
    let Some(column) = column else { return Vec::new() };
    let Some(step) = column.steps.iter().find(kind) else { return Vec::new() };
    let ran = column.report.steps.iter().find(|ran| ran.name == step.name);
    ran.map(|ran| probes(&ran.output)).unwrap_or_default()
}

fn shown(probes: &[Probe], signal: &str) -> String {
    match probes.iter().find(|probe| probe.signal == signal) {
        Some(probe) if probe.status != "unavailable" => format!("`{}`", probe.mechanism),
        _ => "–".to_owned(),
    }
}

fn head(page: &mut String, first: &str) {
    let _ = writeln!(page, "| {first} | {} |", SERIES.join(" | "));
    let _ = writeln!(page, "|---|{}", "---|".repeat(SERIES.len()));
}

fn row(page: &mut String, columns: &[Column], name: &str, signal: &str, without: &[&str]) {
    let cells = SERIES.map(|series| shown(&checked(columns, series, without, true), signal));
    let _ = writeln!(page, "| {name} | {} |", cells.join(" | "));
}

fn mechanisms(page: &mut String, columns: &[Column]) {
    *page += "\n## How each signal is had\n\n\
              In each row the mechanisms above it were refused. The tests count real events by each \
              of them.\n\n";
    head(page, "signal");
    for (signal, _) in BEST {
        row(page, columns, &format!("`{signal}`"), signal, &[]);
        let best = SERIES.map(|series| shown(&checked(columns, series, &[], true), signal));
        let mut last = best.clone();
        for without in REFUSED.into_iter().skip(1) {
            let cells = SERIES.map(|one| shown(&checked(columns, one, without, true), signal));
            if cells != last && cells != best {
                let name = format!("… without `{}`", without.join("`, `"));
                row(page, columns, &name, signal, without);
                last = cells;
            }
        }
    }
}

fn without_btf(page: &mut String, columns: &[Column]) {
    *page += "\n## Without BTF\n\n\
              Where `/sys/kernel/btf/vmlinux` is missing, nobody knows where this kernel keeps a \
              socket's cgroup.\n\n";
    head(page, "signal");
    for (signal, _) in BEST {
        let cells = SERIES.map(|series| shown(&checked(columns, series, &[], false), signal));
        let _ = writeln!(page, "| `{signal}` | {} |", cells.join(" | "));
    }
}

fn cgroups(page: &mut String, columns: &[Column]) {
    *page += "\n## Cgroups\n\n\
              Programs are attached to a cgroup2 directory, whoever has the controllers. With v1 \
              alone the agent\nwatches through `/health` and the files; `paramedic check` says so \
              and ends with 1. Where the machines had them:\n\n| kernel | layout | v1 | cgroup2 |\n|---|---|---|---|\n";
    for column in columns.iter().filter(|column| column.machine != Machine::Agent) {
        let list = |controllers: &Option<String>| match controllers.as_deref() {
            None => "not mounted".to_owned(),
            Some("") => "none".to_owned(),
            Some(list) => list.replace(',', ", "),
        };
        let (v1, v2) = (list(&column.report.v1), list(&column.report.v2));
        let _ = writeln!(
            page,
            "| {} | {} | {v1} | {v2} |",
            column.series,
            column.machine.layout().name()
        );
    }
}
