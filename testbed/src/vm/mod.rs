//! `cargo xtask vm`: the privileged tests on kernels that this machine does not run.
//!
//! Users' kernels permit what this one may refuse (fentry, kprobes, the whole of cgroup v2) and lay
//! out their structs in other ways. Each machine is one kernel with one layout of cgroups: it boots
//! into a first process of our own, runs what its plan says and ends with an exit code. It has no
//! disk, no network and no other program.
mod cpio;
mod docs;
mod expected;
mod judge;
mod kernels;
mod libtest;
pub(crate) mod packages;
mod programs;
mod qemu;
mod report;
mod steps;
mod table;

use std::{
    collections::HashSet,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};
use xtask::{process, workspace::Workspace};

use crate::stage::{Interrupt, tail};
use judge::{Row, Verdict};
use kernels::{Kernel, SERIES};
use programs::Programs;
use qemu::{Accelerator, Boot, End, Qemu};
use report::Report;
use steps::{Machine, Step};
use table::Column;

/// The exit code of a machine that ended well: what the first process writes, through
/// `isa-debug-exit`. Power-off and panic end with 0.
const SUCCESS: i32 = 0x2a << 1 | 1;
/// The exit code of a machine in which a step failed.
const FAILURE: i32 = 0x2b << 1 | 1;

/// Run the privileged tests and the demo's scenes in virtual machines with other kernels.
///
/// Kernels and qemu come from Debian's packages, unpacked below target/vm (nothing is installed);
/// no root is needed. Four machines for each kernel, one after the other: the kernel side and the
/// whole agent with cgroup v2, hybrid, v1. Each has 180 s. Ends with a table of results; the
/// logs are in target/vm/logs.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// 6.1, 6.12, or the path of a kernel (bzImage); without it both
    #[arg(long, value_name = "6.1|6.12|PATH")]
    kernel: Vec<String>,
    /// What executes the machines' instructions
    #[arg(long, value_enum, default_value_t)]
    accel: Accelerator,
    /// Only tests and scenes whose name contains this
    #[arg(last = true)]
    filter: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let interrupt = Interrupt::catch()?;
    let home = workspace.target.join("vm");
    let qemu = Qemu::find(&home)?;
    let wanted: Vec<&str> = match args.kernel.as_slice() {
        [] => SERIES.to_vec(),
        some => some.iter().map(String::as_str).collect(),
    };
    let kernels = wanted.iter().map(|one| kernels::find(&home, one)).collect::<Result<Vec<_>>>()?;
    let programs = Programs::build(workspace)?;
    let base = home.join("base.cpio");
    programs::pack(&programs.files(&home.join("stripped"))?, &workspace.root, &base)?;
    let matrix = Matrix { qemu, args, programs, base, logs: home.join("logs"), interrupt };
    fs::create_dir_all(&matrix.logs).context("cannot make the logs' folder")?;
    let begun = Instant::now();
    let mut columns = Vec::new();
    for kernel in &kernels {
        for machine in Machine::ALL {
            columns.push(matrix.boot(kernel, machine)?);
        }
    }
    println!("\n{}", table::of(&columns));
    println!("{} machines in {:.0} s", columns.len(), begun.elapsed().as_secs_f64());
    for column in &columns {
        if let Some(death) = &column.death {
            println!("{} died: {death}", column.title);
        }
    }
    // Every machine has one row for itself.
    ensure!(
        columns.iter().any(|column| column.rows.len() > 1 || !column.good),
        "no test or scene has {} in its name",
        args.filter.as_deref().unwrap_or_default()
    );
    let bad: Vec<&str> =
        columns.iter().filter(|column| !column.good).map(|column| column.title.as_str()).collect();
    if !bad.is_empty() {
        bail!("failed: {}", bad.join(", "));
    }
    if args.filter.is_none() && wanted == SERIES {
        docs::check(&workspace.root, &columns)?;
    }
    Ok(())
}

/// What all machines have in common.
struct Matrix<'a> {
    qemu: Qemu,
    args: &'a Args,
    programs: Programs,
    /// The archive of everything but the plan.
    base: PathBuf,
    logs: PathBuf,
    interrupt: Interrupt,
}

impl Matrix<'_> {
    /// Boots one machine and judges its report. A machine that dies or stops making progress is
    /// booted once more, since that may be a failure of the emulation, and the report says so.
    /// Steps that had failed before count as failed.
    fn boot(&self, kernel: &Kernel, machine: Machine) -> Result<Column> {
        let first = self.boot_once("first", kernel, machine)?;
        let Some(death) = &first.death else { return Ok(first) };
        if first.rows.iter().any(|row| matches!(row.verdict, Verdict::Bad(_))) {
            return Ok(first);
        }
        eprintln!("    {}: booted once more, since it died: {death}", first.title);
        Ok(Column { death: first.death, ..self.boot_once("second", kernel, machine)? })
    }

    fn boot_once(&self, which: &str, kernel: &Kernel, machine: Machine) -> Result<Column> {
        let layout = machine.layout();
        let title = format!("{} {}", kernel.series, machine.name());
        let filter = self.args.filter.as_deref();
        let steps = steps::of(&kernel.series, machine, filter, &self.programs);
        let initrd = self.initrd(machine, &steps)?;
        process::announce(&format!("vm: {title}"));
        let log = |kind| {
            let name = format!("{}-{}-{which}-{kind}.log", kernel.series, machine.name());
            self.logs.join(name)
        };
        let (console, said) = (log("console"), log("report"));
        let begun = Instant::now();
        let mut told = HashSet::new();
        let end = self.qemu.run(
            self.args.accel,
            &Boot { cpus: machine.cpus(), kernel: &kernel.image, initrd: &initrd },
            [&console, &said],
            &self.interrupt,
            || {
                let rows = judge::rows(&kernel.series, layout, &steps, &read(&said));
                tell(&mut told, begun, &rows);
            },
        )?;
        let report = read(&said);
        let rows = judge::rows(&kernel.series, layout, &steps, &report);
        let problem = problem(&end, &report, &steps, &rows);
        if let Some(problem) = &problem {
            eprintln!("error: {title}: {problem}");
            for log in [&console, &said] {
                eprintln!("---- the end of {}\n{}", log.display(), tail(log, 80));
            }
        } else {
            println!("    {title}: {} rows in {:.0} s", rows.len(), begun.elapsed().as_secs_f64());
        }
        let series = kernel.series.clone();
        let death = death(&end, &tail(&console, 400));
        let good = problem.is_none();
        Ok(Column { title, series, machine, steps, report, rows, good, death })
    }

    /// The archive with a plan. The kernel unpacks one archive after the other.
    fn initrd(&self, machine: Machine, steps: &[Step]) -> Result<PathBuf> {
        let initrd = self.base.with_file_name("initrd.cpio");
        let unwritten = || format!("cannot write {}", initrd.display());
        fs::copy(&self.base, &initrd).with_context(unwritten)?;
        let mut plan = cpio::Archive::new(Vec::new());
        let text = steps::plan(machine.layout(), steps, qemu::LIMIT.as_secs());
        plan.file(Path::new("/plan"), text.as_bytes())?;
        let mut file = fs::OpenOptions::new().append(true).open(&initrd).with_context(unwritten)?;
        file.write_all(&plan.finish()?).with_context(unwritten)?;
        Ok(initrd)
    }
}

fn read(log: &Path) -> Report {
    // Absent until qemu has begun.
    Report::parse(&String::from_utf8_lossy(&fs::read(log).unwrap_or_default()))
}

/// Prints the new rows.
fn tell(told: &mut HashSet<String>, begun: Instant, rows: &[Row]) {
    for row in rows {
        let (word, said) = match &row.verdict {
            Verdict::Good(how) => ("ok", how),
            Verdict::Bad(why) => ("FAILED", why),
            Verdict::Running => continue,
        };
        if told.insert(row.name.clone()) {
            let line =
                format!("{:6.1} s  {word:<6}  {} {said}", begun.elapsed().as_secs_f64(), row.name);
            println!("{}", line.trim_end());
        }
    }
}

/// How the machine died, if it did not end by itself, with the kernel's last words.
fn death(end: &End, console: &str) -> Option<String> {
    const WORDS: [&str; 5] = ["BUG:", "Oops", "panic", "RIP:", "int3"];
    let how = match end {
        End::Exit(Some(SUCCESS | FAILURE)) => return None,
        End::Timeout => format!("it had not ended after {} s", qemu::LIMIT.as_secs()),
        End::Exit(Some(0)) => "its kernel panicked, or switched it off".to_owned(),
        End::Exit(Some(code)) => format!("qemu ended with exit code {code}"),
        End::Exit(None) => "qemu was ended by a signal".to_owned(),
    };
    let telling = console.lines().filter(|line| WORDS.iter().any(|word| line.contains(word)));
    let said: Vec<&str> = telling.take(6).map(str::trim).collect();
    Some(if said.is_empty() { how } else { format!("{how}: {}", said.join(" | ")) })
}

/// Why the machine failed, if it did: it must send its last word, exit with success, and have no
/// bad row.
fn problem(end: &End, report: &Report, steps: &[Step], rows: &[Row]) -> Option<String> {
    let bad = rows.iter().filter(|row| !matches!(row.verdict, Verdict::Good(_)));
    let bad: Vec<&str> = bad.map(|row| row.name.as_str()).collect();
    let missing: Vec<&str> = steps
        .iter()
        .filter(|step| !report.steps.iter().any(|ran| ran.name == step.name && ran.how.is_some()))
        .map(|step| step.name.as_str())
        .collect();
    if let Some(broken) = &report.broken {
        Some(format!("the machine could not be made ready: {broken}"))
    } else if let End::Timeout = end {
        Some(format!("no end after {} s; not done: {missing:?}", qemu::LIMIT.as_secs()))
    } else if !bad.is_empty() {
        Some(bad.join(", "))
    } else if !missing.is_empty() {
        Some(format!("it ended before {}", missing.join(", ")))
    } else if !report.passed {
        Some("its last word was not that all had passed".to_owned())
    } else if let End::Exit(code) = end
        && *code != Some(SUCCESS)
    {
        Some(format!("exit code {code:?}, not {SUCCESS}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(end: &End, report: &str) -> Option<String> {
        let steps = [Step::for_tests("kernel")];
        let report = Report::parse(report);
        problem(end, &report, &steps, &judge::rows("6.1", steps::Layout::V2, &steps, &report))
    }

    #[test]
    fn a_death_is_told_from_a_failure() {
        let console = "[ 1.0] quiet\n[ 2.0] BUG: unable to handle page fault\n[ 2.1] RIP: 0010:x\n";
        let died = death(&End::Exit(Some(0)), console).unwrap();
        assert!(died.contains("page fault | [ 2.1] RIP: 0010:x") && !died.contains("quiet"));
        assert!(death(&End::Exit(None), "").unwrap().contains("signal"));
        assert!(death(&End::Timeout, "").unwrap().contains("180 s"));
        for end in [End::Exit(Some(SUCCESS)), End::Exit(Some(FAILURE))] {
            assert_eq!(death(&end, console), None);
        }
    }

    const GOOD: &str = "@begin\tkernel\ntest kernel::a ... ok\n@end\tkernel\t0\t5\n@passed\n";

    #[test]
    fn it_takes_the_marker_the_exit_code_and_every_row() {
        let end = |code| End::Exit(Some(code));
        assert_eq!(judged(&end(SUCCESS), GOOD), None);
        assert_eq!(judged(&end(0), GOOD), Some("exit code Some(0), not 85".to_owned()));
        assert!(judged(&End::Timeout, GOOD).is_some());
        assert!(judged(&end(SUCCESS), &GOOD.replace("@passed", "@failed")).is_some());
        assert!(judged(&end(SUCCESS), "@passed\n").is_some(), "it did nothing");
        let none = GOOD.replace("test kernel::a ... ok\n", "");
        assert!(judged(&end(SUCCESS), &none).is_some(), "no test ran");
        let failed = GOOD.replace("... ok", "... FAILED");
        assert_eq!(judged(&end(SUCCESS), &failed), Some("kernel::a".to_owned()));
        assert!(judged(&end(SUCCESS), "@broken mount\n").is_some());
    }
}
