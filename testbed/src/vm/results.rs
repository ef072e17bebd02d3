//! What was run on kernels beyond the matrix, kept in a file, and shown in `docs/kernels.md`.
//!
//! These runs take long, so nothing repeats them. A test compares the sources of the loaded programs
//! with the present ones.
use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use xtask::workspace::{Workspace, write_if_changed};

use super::{
    docs,
    judge::{self, Loaded, Verdict},
    kernels::{POOL, SERIES},
    steps::Machine,
    table::Column,
};

const FILE: &str = "testbed/src/vm/results.json";
/// Beside the committed object: the hash of its sources.
const SOURCES: &str = "crates/probes/object/x86_64/sources.sha256";

/// Everything that was kept.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Results {
    loads: Vec<Load>,
    tests: Vec<Tests>,
}

/// A kernel, and when it was run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Run {
    /// As it is asked for: `6.1`, `newest`.
    kernel: String,
    series: String,
    arch: String,
    /// What it calls itself.
    release: String,
    /// The day, UTC.
    date: String,
    /// How long it took, emulated.
    seconds: u64,
}

/// All programs on one kernel.
#[derive(Debug, Serialize, Deserialize)]
struct Load {
    #[serde(flatten)]
    run: Run,
    /// The hash of the programs' sources.
    sources: String,
    programs: Vec<Loaded>,
    signals: Vec<Signal>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Signal {
    signal: String,
    /// None if the kernel lacks it.
    mechanism: Option<String>,
}

/// The privileged tests of one machine.
#[derive(Debug, Serialize, Deserialize)]
struct Tests {
    #[serde(flatten)]
    run: Run,
    machine: String,
    /// How many passed; none failed.
    passed: usize,
}

impl Run {
    fn of(column: &Column) -> Self {
        let kernel = &column.kernel;
        Self {
            kernel: kernel.name.clone(),
            series: kernel.series.clone(),
            arch: kernel.arch.name().to_owned(),
            release: column.report.release.clone().unwrap_or_default(),
            date: Timestamp::now().strftime("%Y-%m-%d").to_string(),
            seconds: column.seconds,
        }
    }

    fn is_of(&self, other: &Self) -> bool {
        (&self.kernel, &self.arch) == (&other.kernel, &other.arch)
    }

    /// The order of the page: the oldest first, each with its architectures.
    fn rank(&self) -> (usize, &str) {
        let place = POOL.iter().position(|pooled| pooled.name == self.kernel);
        (place.unwrap_or(POOL.len()), &self.arch)
    }

    fn title(&self) -> String {
        format!("{} {}", self.series, self.arch)
    }
}

/// Keeps what a machine showed, which ended well, in place of what is known of the same kernel, and
/// updates the page.
pub(super) fn keep(workspace: &Workspace, column: &Column) -> Result<()> {
    let mut results = read(&workspace.root)?;
    let sources = workspace.root.join(SOURCES);
    let sources = fs::read_to_string(&sources)
        .with_context(|| format!("cannot read {}", sources.display()))?;
    results.take(column, sources.trim());
    results.loads.sort_by(|one, other| one.run.rank().cmp(&other.run.rank()));
    results.tests.sort_by(|one, other| {
        one.run.rank().cmp(&other.run.rank()).then_with(|| other.machine.cmp(&one.machine))
    });
    let mut text = serde_json::to_vec_pretty(&results)?;
    text.push(b'\n');
    let file = workspace.root.join(FILE);
    write_if_changed(&file, &text)?;
    docs::replace_runs(&workspace.root, &results)?;
    println!("    {}: kept in {FILE}, and shown in docs/kernels.md: commit both", column.title);
    Ok(())
}

pub(super) fn read(root: &Path) -> Result<Results> {
    let file = root.join(FILE);
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not as it was", file.display()))
}

impl Results {
    fn take(&mut self, column: &Column, sources: &str) {
        let run = Run::of(column);
        if column.machine == Machine::Load {
            let output = |ran: &super::report::Ran| ran.output.clone();
            let output = column.report.steps.first().map(output).unwrap_or_default();
            let signals = judge::probes(&output).into_iter().map(|probe| Signal {
                mechanism: (probe.status != "unavailable").then_some(probe.mechanism),
                signal: probe.signal,
            });
            self.loads.retain(|load| !load.run.is_of(&run));
            let programs = judge::programs(&output);
            let signals = signals.collect();
            self.loads.push(Load { run, sources: sources.to_owned(), programs, signals });
        } else {
            let machine = column.machine.name();
            self.tests.retain(|tests| !(tests.run.is_of(&run) && tests.machine == machine));
            let is_test = |name: &str| name.contains("::");
            let rows = column.rows.iter().filter(|row| is_test(&row.name));
            let passed = rows.filter(|row| matches!(row.verdict, Verdict::Good(_))).count();
            self.tests.push(Tests { run, machine: machine.to_owned(), passed });
        }
    }

    /// The section of the page, without its heading.
    pub(super) fn section(&self) -> String {
        let mut page = "`cargo xtask vm --load` boots each of these kernels of Debian in an emulated \
                        machine, loads every\nprogram, and makes the verifier refuse each in turn: no \
                        other signal may change. With `--kernel` and\n`--arch` in place of `--load` it \
                        runs the privileged tests. No kernel of another distribution was run:\n\
                        `paramedic check --programs` shows the same of the machine on which it runs.\n\n"
            .to_owned();
        self.runs(&mut page);
        page += "\nHow each kernel has each signal:\n\n";
        self.signals(&mut page);
        page += "\nInstructions that the verifier looked at (from 5.16 on a kernel tells), of a million \
                 that it permits:\n\n";
        self.programs(&mut page);
        self.refusals(&mut page);
        page
    }

    fn runs(&self, page: &mut String) {
        *page += "| kernel | architecture | release | programs | loaded on | privileged tests |\n\
                  |---|---|---|---|---|---|\n";
        for Load { run, programs, .. } in &self.loads {
            let loaded = programs.iter().filter(|program| program.reason.is_none()).count();
            let tests = self.tests.iter().filter(|tests| tests.run.is_of(run));
            let told = |tests: &Tests| {
                let Tests { run, machine, passed } = tests;
                format!("{machine}: {passed} passed on {}", run.date)
            };
            let mut tests: Vec<String> = tests.map(told).collect();
            if run.arch == "amd64" && SERIES.contains(&run.kernel.as_str()) {
                tests.push("all, by each `cargo xtask test`".to_owned());
            }
            let tests = if tests.is_empty() { "–".to_owned() } else { tests.join("; ") };
            let Run { series, arch, release, date, .. } = run;
            let all = programs.len();
            let _ = writeln!(
                page,
                "| {series} | {arch} | {release} | {loaded} of {all} | {date} | {tests} |"
            );
        }
    }

    fn head(&self, page: &mut String, first: &str) {
        let titles: Vec<String> = self.loads.iter().map(|load| load.run.title()).collect();
        let _ = writeln!(page, "| {first} | {} |", titles.join(" | "));
        let _ = writeln!(page, "|---|{}", "---|".repeat(titles.len()));
    }

    fn signals(&self, page: &mut String) {
        self.head(page, "signal");
        for Signal { signal, .. } in self.loads.first().map_or(&[][..], |load| &load.signals) {
            let cell = |load: &Load| {
                let found = load.signals.iter().find(|other| other.signal == *signal);
                let mechanism = found.and_then(|found| found.mechanism.as_ref());
                mechanism.map_or_else(|| "–".to_owned(), |mechanism| format!("`{mechanism}`"))
            };
            let cells: Vec<String> = self.loads.iter().map(cell).collect();
            let _ = writeln!(page, "| `{signal}` | {} |", cells.join(" | "));
        }
    }

    fn programs(&self, page: &mut String) {
        self.head(page, "program");
        for Loaded { program, .. } in self.loads.first().map_or(&[][..], |load| &load.programs) {
            let cell = |load: &Load| {
                let found = load.programs.iter().find(|other| other.program == *program);
                match found {
                    Some(Loaded { reason: None, instructions: Some(count), .. }) => {
                        count.to_string()
                    }
                    Some(Loaded { reason: None, .. }) => "loaded".to_owned(),
                    _ => "refused".to_owned(),
                }
            };
            let cells: Vec<String> = self.loads.iter().map(cell).collect();
            let _ = writeln!(page, "| `{program}` | {} |", cells.join(" | "));
        }
    }

    /// Each reason once, with the programs that it is of.
    fn refusals(&self, page: &mut String) {
        let mut told: Vec<(String, Vec<String>)> = Vec::new();
        for load in &self.loads {
            for loaded in &load.programs {
                let Some(reason) = &loaded.reason else { continue };
                let reason = format!("{}: {reason}", load.run.title());
                let name = format!("`{}`", loaded.program);
                match told.iter_mut().find(|(other, _)| *other == reason) {
                    Some((_, names)) => names.push(name),
                    None => told.push((reason, vec![name])),
                }
            }
        }
        if told.is_empty() {
            return;
        }
        *page += "\nWhat was refused, and what the kernel or the agent said of it:\n\n";
        for (reason, names) in told {
            let _ = writeln!(page, "- {} on {reason}", names.join(", "));
        }
    }
}

#[cfg(test)]
mod tests {
    use xtask::arch::Arch;

    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
    }

    #[test]
    fn every_kernel_has_loaded_the_present_programs() {
        let results = read(root()).unwrap();
        let sources = fs::read_to_string(root().join(SOURCES)).unwrap();
        for pooled in &POOL {
            for arch in Arch::ALL {
                let load = results.loads.iter().find(|load| {
                    (load.run.kernel.as_str(), load.run.arch.as_str()) == (pooled.name, arch.name())
                });
                let load = load.unwrap_or_else(|| panic!("{} {arch:?} was not run", pooled.name));
                assert_eq!(load.sources, sources.trim(), "`cargo xtask vm --load` repeats it");
            }
        }
    }

    #[test]
    fn the_page_shows_what_was_kept() {
        let results = read(root()).unwrap();
        let page = fs::read_to_string(root().join("docs/kernels.md")).unwrap();
        assert!(page.contains(&results.section()), "`cargo xtask vm --load` writes both");
    }
}
