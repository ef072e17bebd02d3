//! `docs/kernels.md`, written from the reports of the machines and the reasons for differences. It
//! is committed: if it no longer matches the runs, the task rewrites it and fails once.
use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result, bail};
use xtask::{arch::Arch, workspace::write_if_changed};

use super::{
    expected::{BEST, LEFT_OUT, LESSER, NO_V1},
    judge::{self, Probe, probes},
    kernels::SERIES,
    results::{self, Results},
    steps::{HYBRID, Kind, Layout, Machine, REFUSED, V1, WITHOUT_HTTP, WITHOUT_TCP},
    table::Column,
};

/// What a mechanism needs of a kernel, and what is lost without it.
struct Need {
    mechanism: &'static str,
    kernel: &'static str,
    btf: &'static str,
    refused: &'static str,
}

const NEEDS: [Need; 8] = [
    Need {
        mechanism: "cgroup_skb",
        kernel: "5.12 (functions that are verified once and take pointers)",
        btf: "no",
        refused: "HTTP counts are lost, as server and as client; `/health` remains. If one direction alone is refused, what joins requests and responses is lost",
    },
    Need {
        mechanism: "tp_btf",
        kernel: "5.15 for TCP, 6.9 for OOM kills; Debian's 5.10.262 has both too, and 5.10.223 neither",
        btf: "yes",
        refused: "TCP: replaced by the tracepoint. OOM kills: polled, so the agent sees them at the next sample and not at once",
    },
    Need {
        mechanism: "tracepoint",
        kernel: "5.15, and a readable tracefs",
        btf: "for offsets",
        refused: "resets, retransmits and failed connects are lost",
    },
    Need {
        mechanism: "fentry",
        kernel: "5.5; on arm64 6.4",
        btf: "yes",
        refused: "replaced by the kprobe: the throttled time arrives one interval late",
    },
    Need {
        mechanism: "kprobe",
        kernel: "5.5, with CONFIG_KPROBES",
        btf: "for offsets",
        refused: "replaced by the timer: a program runs at the end of every hrtimer of the machine",
    },
    Need {
        mechanism: "hrtimer",
        kernel: "5.5, and CAP_SYSLOG for one address",
        btf: "yes",
        refused: "polled: the agent sees throttling at the next sample and not at once",
    },
    Need {
        mechanism: "uprobe",
        kernel: "5.12, with CONFIG_UPROBES and CONFIG_UPROBE_EVENTS",
        btf: "no",
        refused: "what targets write into TLS is not counted",
    },
    Need {
        mechanism: "poll",
        kernel: "any: `cpu.stat` and `memory.events`, or the files of cgroup v1 in their place",
        btf: "no",
        refused: "throttling and OOM kills are lost",
    },
];

/// What is counted under each signal.
const COUNTED: [(&str, &str); 8] = [
    (
        "http_responses",
        "responses that the target sends, by class; 502, 503 and 504 also separately, since they cause no wake-up; requests that it sends as a client",
    ),
    (
        "http_requests",
        "requests that it receives; responses that it receives as a client, 5xx also separately",
    ),
    (
        "tcp_resets_received",
        "resets of its connections by the peer; a refused connect of its own is counted separately and causes no wake-up",
    ),
    ("tcp_resets_sent", "resets of its connections by the target"),
    ("tcp_retransmits", "segments sent again; a SYN sent again counts as a failed connect"),
    ("cpu_throttling", "periods and time in which its CPU quota was exhausted"),
    ("oom_kills", "its processes that the OOM killer ended"),
    ("tls_responses", "responses that it writes into TLS, if it opted in; no requests, no times"),
];

/// Compares the page with the runs.
pub(super) fn check(root: &Path, columns: &[Column]) -> Result<()> {
    let page = root.join("docs/kernels.md");
    let text = write(columns, &results::read(root)?);
    if write_if_changed(&page, text.as_bytes())? {
        bail!("{} did not match these runs and was rewritten: read and commit it", page.display());
    }
    Ok(())
}

/// Replaces the section of runs beyond the matrix.
pub(super) fn replace_runs(root: &Path, results: &Results) -> Result<()> {
    let page = root.join("docs/kernels.md");
    let unread = || format!("cannot read {}", page.display());
    let text = fs::read_to_string(&page).with_context(unread)?;
    let begin = text.find(RUNS).with_context(|| format!("no{RUNS}in {}", page.display()))?;
    let begin = begin + RUNS.len();
    let rest = text.get(begin..).unwrap_or_default();
    let end = begin + rest.find("\n## ").unwrap_or(rest.len());
    let (before, after) =
        (text.get(..begin).unwrap_or_default(), text.get(end..).unwrap_or_default());
    write_if_changed(&page, format!("{before}{}{after}", results.section()).as_bytes())?;
    Ok(())
}

/// The heading of the runs beyond the matrix.
const RUNS: &str = "\n## Kernels that were run\n\n";

fn write(columns: &[Column], results: &Results) -> String {
    let mut page = format!(
        "# Kernels\n\n\
         `cargo xtask vm` wrote this page from its runs: Debian's kernels {} in virtual machines, with\n\
         cgroup v2, with hybrid cgroups, and with cgroup v1 alone. `paramedic check` reports the same for\n\
         the machine on which it runs. A kernel that lacks the mechanisms of a signal loses that signal\n\
         and no other.\n",
        SERIES.join(" and ")
    );
    page += "\n## What is counted\n\n\
             HTTP and TCP are counted for the cgroup in which the socket was made, and, if the target \
             has a port,\nfor that port alone. What a target does as a client is counted for its cgroup, \
             unless it shares the\ncgroup with other targets.\n\n\
             | signal | what is counted |\n|---|---|\n";
    for (signal, what) in COUNTED {
        let _ = writeln!(page, "| `{signal}` | {what} |");
    }
    mechanisms(&mut page, columns);
    without_btf(&mut page, columns);
    page += "\n## What each mechanism needs\n\n\
             The agent needs Linux 5.8 (ring buffers, CAP_BPF) and a mounted cgroup2, and has every \
             signal from\n5.15 on. These numbers come from the kernel's history.\n\n\
             | mechanism | kernel | BTF | if it is refused |\n|---|---|---|---|\n";
    for Need { mechanism, kernel, btf, refused } in NEEDS {
        let _ = writeln!(page, "| `{mechanism}` | {kernel} | {btf} | {refused} |");
    }
    page = page + RUNS + &results.section();
    witnesses(&mut page, columns);
    cgroups(&mut page, columns);
    page += "\n## Differences between kernels\n\n";
    for lesser in LESSER {
        let arch = lesser.arch.map(|arch| format!(" on {}", arch.name())).unwrap_or_default();
        let how = match lesser.mechanism {
            "none" => format!("no `{}`", lesser.signal),
            mechanism => format!("`{}` by `{mechanism}`", lesser.signal),
        };
        let _ = writeln!(page, "- {}{arch}: {how}: {}.", lesser.series, lesser.why);
    }
    for no in NO_V1 {
        let _ = writeln!(page, "- {}: no `{}` in cgroup v1: {}.", no.series, no.controller, no.why);
    }
    page += "\nAny other difference fails the run. These tests do not run in the machines:\n\n";
    for left in LEFT_OUT {
        let place = [left.series, left.arch.map(Arch::name), left.layout.map(Layout::name)];
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
        "\nWith cgroup v2 all other tests run. With hybrid cgroups those tests of the kernel side run that\n\
         depend on the layout ({}), and with\nv1 alone those of the agent ({}).\n",
        named(HYBRID),
        named(V1)
    );
    let _ = write!(
        page,
        "\nOn a kernel without HTTP those tests run that need none ({}),\nand without TCP: {}.\n",
        named(WITHOUT_HTTP),
        named(WITHOUT_TCP)
    );
    page
}

/// What can be read of a target before a remedy.
fn witnesses(page: &mut String, columns: &[Column]) {
    *page += "\n## Before a remedy\n\n\
              Before a remedy the agent reads what else the machine shows of a target. What it finds is \
              told. Pressure on\nthe CPU and data that clients do not read may also refuse the remedy (gate \
              `futile`). With cgroup v2:\n\n";
    let _ = writeln!(page, "| witness | read from | {} |", SERIES.join(" | "));
    let _ = writeln!(page, "|---|---|{}", "---|".repeat(SERIES.len()));
    let of = SERIES.map(|series| judge::witnesses(&output(columns, series, &[], true)));
    for (index, first) in of[0].iter().enumerate() {
        let shown = |all: &Vec<judge::Witness>| match all.get(index) {
            Some(witness) if witness.available => "yes",
            _ => "–",
        };
        let cells: Vec<_> = of.iter().map(shown).collect();
        let _ =
            writeln!(page, "| `{}` | `{}` | {} |", first.witness, first.from, cells.join(" | "));
    }
    *page += "\nWithout a cgroup2 that has the controllers, `tasks` and `pressure` are missing. Another \
              user's descriptors\nneed CAP_SYS_PTRACE; without it the sockets at the target's port count.\n";
}

/// What `paramedic check` reported on a kernel with cgroup v2, without these mechanisms.
fn checked(columns: &[Column], series: &str, without: &[&str], btf: bool) -> Vec<Probe> {
    probes(&output(columns, series, without, btf))
}

/// What it printed.
fn output(columns: &[Column], series: &str, without: &[&str], btf: bool) -> String {
    let column =
        columns.iter().find(|c| c.kernel.series == series && c.machine == Machine::Signals);
    let kind = |step: &&super::steps::Step| match step.kind {
        Kind::Check { without: refused, btf: has } => refused == without && has == btf,
        _ => false,
    };
    let Some(column) = column else { return String::new() };
    let Some(step) = column.steps.iter().find(kind) else { return String::new() };
    let ran = column.report.steps.iter().find(|ran| ran.name == step.name);
    ran.map(|ran| ran.output.clone()).unwrap_or_default()
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
    *page += "\n## The mechanisms of each signal\n\n\
              Without the mechanisms that a row names, the signal is had by the one shown. The tests \
              count real events\nby each mechanism.\n\n";
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
              Without `/sys/kernel/btf/vmlinux` the agent cannot know where this kernel's structs keep \
              a socket's\ncgroup.\n\n";
    head(page, "signal");
    for (signal, _) in BEST {
        let cells = SERIES.map(|series| shown(&checked(columns, series, &[], false), signal));
        let _ = writeln!(page, "| `{signal}` | {} |", cells.join(" | "));
    }
}

fn cgroups(page: &mut String, columns: &[Column]) {
    *page += "\n## Cgroups\n\n\
              The agent attaches its programs to a cgroup2 directory, whichever hierarchy has the \
              controllers. With v1\nalone it watches through `/health` and the files; `paramedic \
              check` reports that and ends with 1. Where the\nmachines had their controllers:\n\n| kernel | layout | v1 | cgroup2 |\n|---|---|---|---|\n";
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
            column.kernel.series,
            column.machine.layout().name()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The machines' own part needs their runs; the rest must be in the committed page.
    #[test]
    fn the_committed_page_has_every_text_that_needs_no_run() {
        let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let page = fs::read_to_string(root.join("docs/kernels.md")).unwrap();
        let results = results::read(root).unwrap();
        let (tables, found): (Vec<_>, Vec<_>) = write(&[], &results)
            .lines()
            .map(str::to_owned)
            .partition(|line| line.starts_with("| "));
        for line in found {
            assert!(page.lines().any(|known| known == line), "not in docs/kernels.md: {line}");
        }
        let needs = NEEDS.map(|need| need.refused);
        for text in needs.into_iter().chain(COUNTED.map(|(_, what)| what)) {
            assert!(tables.iter().any(|row| row.contains(text)));
            assert!(page.contains(text), "not in docs/kernels.md: {text}");
        }
    }
}
