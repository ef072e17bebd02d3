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
mod results;
mod steps;
mod table;

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    io::Write as _,
    num::NonZero,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use xtask::{arch::Arch, process, workspace::Workspace};

use crate::stage::{Interrupt, tail};
use judge::{Row, Verdict};
use kernels::{Kernel, POOL, SERIES};
use programs::Programs;
use qemu::{Accelerator, Boot, End, Qemu};
use report::Report;
use steps::{Layout, Machine, Step};
use table::Column;

/// The exit code of a machine that ended well: what the first process writes, through
/// `isa-debug-exit`. Power-off and panic end with 0.
const SUCCESS: i32 = 0x2a << 1 | 1;
/// The exit code of a machine in which a step failed.
const FAILURE: i32 = 0x2b << 1 | 1;

/// Run the privileged tests and the demo's scenes in virtual machines with other kernels.
///
/// Kernels and qemu come from Debian's packages, unpacked below target/vm (nothing is installed);
/// no root is needed. Four machines for each kernel: the kernel side and the whole agent with
/// cgroup v2, hybrid, v1. Those with one processor run at the same time, the others one after the
/// other. Each has 240 s. Ends with a table of results; the logs are in target/vm/logs. Other
/// kernels than the default have the first two machines, and 600 s.
///
/// With --load one machine for each kernel only loads the eBPF programs, and makes the kernel refuse
/// each in turn. With --arch arm64 the programs are cross-built, and the machines are those of the
/// kernel side and of the agent. docs/kernels.md says what was run so.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// 5.10, 6.1, 6.12, newest, or the path of a kernel (bzImage) [default: 6.1 and 6.12; with
    /// --load all]
    #[arg(long, value_name = "SERIES|PATH")]
    kernel: Vec<String>,
    /// The architecture of the machines [default: this machine's; with --load all]
    #[arg(long, value_enum)]
    arch: Option<Arch>,
    /// Only load every program, kernel by kernel
    #[arg(long)]
    load: bool,
    /// What executes the machines' instructions
    #[arg(long, value_enum, default_value_t)]
    accel: Accelerator,
    /// Only tests and scenes whose name contains this
    #[arg(last = true, conflicts_with = "load")]
    filter: Option<String>,
}

impl Args {
    fn archs(&self) -> Result<Vec<Arch>> {
        Ok(match self.arch {
            Some(arch) => vec![arch],
            None if self.load => Arch::ALL.to_vec(),
            None => vec![Arch::here()?],
        })
    }

    fn kernels(&self) -> Vec<&str> {
        match self.kernel.as_slice() {
            [] if self.load => POOL.iter().map(|pooled| pooled.name).collect(),
            [] => SERIES.to_vec(),
            some => some.iter().map(String::as_str).collect(),
        }
    }

    /// Whether it is what tests run: the machines that `docs/kernels.md` describes.
    const fn is_the_matrix(&self) -> bool {
        self.kernel.is_empty() && self.arch.is_none() && !self.load && self.filter.is_none()
    }

    /// What is not of the matrix has no other layout, and the agent needs HTTP.
    fn machines(&self, kernel: &Kernel) -> &'static [Machine] {
        let pooled = POOL.iter().any(|pooled| pooled.name == kernel.name);
        let of_matrix = !pooled || SERIES.contains(&kernel.name.as_str());
        if self.load {
            &[Machine::Load]
        } else if of_matrix && kernel.arch.is_here() {
            &Machine::MATRIX
        } else if judge::expected(kernel, "http_responses", &[], true) == "none" {
            &[Machine::Signals]
        } else {
            &[Machine::Signals, Machine::Agent]
        }
    }

    /// Maximum time of a machine from its start to its end.
    const fn limit(&self) -> Duration {
        Duration::from_secs(if self.is_the_matrix() { 240 } else { 600 })
    }
}

pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let interrupt = Interrupt::catch()?;
    let home = workspace.target.join("vm");
    let begun = Instant::now();
    let mut columns = Vec::new();
    for arch in args.archs()? {
        let qemu = Qemu::find(&home, arch)?;
        let wanted = args.kernels().into_iter();
        let kernels =
            wanted.map(|one| kernels::find(&home, one, arch)).collect::<Result<Vec<_>>>()?;
        let programs = Programs::build(workspace, arch)?;
        let matrix = Matrix { qemu, args, programs, home: &home, interrupt: &interrupt };
        fs::create_dir_all(matrix.logs()).context("cannot make the logs' folder")?;
        let files = matrix.programs.files(args.load, &home)?;
        programs::pack(&files, &workspace.root, &matrix.base())?;
        let of_kernel =
            |kernel| args.machines(kernel).iter().map(move |machine| (kernel, *machine));
        let machines: Vec<(&Kernel, Machine)> = kernels.iter().flat_map(of_kernel).collect();
        columns.extend(matrix.boot_all(&machines, |column| {
            if column.good && !args.is_the_matrix() && args.filter.is_none() {
                results::keep(workspace, column)?;
            }
            Ok(())
        })?);
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
    if args.is_the_matrix() {
        docs::check(&workspace.root, &columns)?;
    }
    Ok(())
}

/// What all machines of one architecture have in common.
struct Matrix<'a> {
    qemu: Qemu,
    args: &'a Args,
    programs: Programs,
    /// Where everything is kept that this task makes.
    home: &'a Path,
    interrupt: &'a Interrupt,
}

impl Matrix<'_> {
    fn logs(&self) -> PathBuf {
        self.home.join("logs")
    }

    /// The archive of everything but the plan.
    fn base(&self) -> PathBuf {
        self.home.join("base.cpio")
    }

    /// Boots the machines, and returns their columns in the same order. Those with one processor run as
    /// many at the same time as there are processors here; the others run alone. `ended` is given each
    /// column as soon as its machine, and those beside it, have ended.
    fn boot_all(
        &self,
        machines: &[(&Kernel, Machine)],
        ended: impl Fn(&Column) -> Result<()>,
    ) -> Result<Vec<Column>> {
        let here = thread::available_parallelism().map_or(1, NonZero::get);
        let (single, several): (Vec<usize>, Vec<usize>) =
            (0..machines.len()).partition(|at| machines[*at].1.cpus() == 1);
        let rounds = several.chunks(1).chain(single.chunks(here));
        let mut columns = BTreeMap::new();
        for round in rounds {
            let booted = thread::scope(|scope| {
                let boot = |at: &usize| {
                    let (at, (kernel, machine)) = (*at, machines[*at]);
                    (at, scope.spawn(move || self.boot(kernel, machine)))
                };
                let threads: Vec<_> = round.iter().map(boot).collect();
                let joined = threads.into_iter().map(|(at, thread)| {
                    let died = |_| bail!("a thread that waits for a machine has died");
                    Ok((at, thread.join().unwrap_or_else(died)?))
                });
                joined.collect::<Result<Vec<_>>>()
            });
            for (at, column) in booted? {
                ended(&column)?;
                columns.insert(at, column);
            }
        }
        Ok(columns.into_values().collect())
    }

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
        let title = format!("{} {}", kernel.title(), machine.name());
        let limit = self.args.limit();
        let filter = self.args.filter.as_deref();
        let steps = steps::of(kernel, machine, filter, &self.programs);
        let initrd = self.initrd(&title, layout, &steps, limit)?;
        process::announce(&format!("vm: {title}"));
        let log = |kind| {
            let name = format!("{title}-{which}-{kind}.log").replace(' ', "-");
            self.logs().join(name)
        };
        let (console, said) = (log("console"), log("report"));
        let begun = Instant::now();
        let mut told = HashSet::new();
        let end = self.qemu.run(
            self.args.accel,
            &Boot { cpus: machine.cpus(), limit, kernel: &kernel.image, initrd: &initrd },
            [&console, &said],
            self.interrupt,
            || {
                let rows = judge::rows(kernel, layout, &steps, &read(&said));
                tell(&mut told, &title, begun, &rows);
            },
        )?;
        let report = read(&said);
        // Each is as large as all programs.
        let _ = fs::remove_file(&initrd);
        let rows = judge::rows(kernel, layout, &steps, &report);
        let problem = problem(&end, limit, &report, &steps, &rows);
        if let Some(problem) = &problem {
            eprintln!("error: {title}: {problem}");
            for log in [&console, &said] {
                eprintln!("---- the end of {}\n{}", log.display(), tail(log, 80));
            }
        } else {
            println!("    {title}: {} rows in {:.0} s", rows.len(), begun.elapsed().as_secs_f64());
        }
        let death = death(&end, limit, &tail(&console, 400));
        let good = problem.is_none();
        let seconds = begun.elapsed().as_secs();
        let kernel = kernel.clone();
        Ok(Column { title, kernel, machine, steps, report, rows, good, death, seconds })
    }

    /// The archive with a plan. The kernel unpacks one archive after the other.
    fn initrd(
        &self,
        title: &str,
        layout: Layout,
        steps: &[Step],
        limit: Duration,
    ) -> Result<PathBuf> {
        let initrd = self.home.join(format!("{title}.cpio").replace(' ', "-"));
        let unwritten = || format!("cannot write {}", initrd.display());
        fs::copy(self.base(), &initrd).with_context(unwritten)?;
        let mut plan = cpio::Archive::new(Vec::new());
        let text = steps::plan(layout, steps, limit.as_secs());
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
fn tell(told: &mut HashSet<String>, title: &str, begun: Instant, rows: &[Row]) {
    for row in rows {
        let (word, said) = match &row.verdict {
            Verdict::Good(how) => ("ok", how),
            Verdict::Bad(why) => ("FAILED", why),
            Verdict::Running => continue,
        };
        if told.insert(row.name.clone()) {
            let seconds = begun.elapsed().as_secs_f64();
            let line = format!("{title:<12} {seconds:6.1} s  {word:<6}  {} {said}", row.name);
            println!("{}", line.trim_end());
        }
    }
}

/// How the machine died, if it did not end by itself, with the kernel's last words.
fn death(end: &End, limit: Duration, console: &str) -> Option<String> {
    const WORDS: [&str; 5] = ["BUG:", "Oops", "panic", "RIP:", "int3"];
    let how = match end {
        End::Exit(Some(SUCCESS | FAILURE)) => return None,
        End::Timeout => format!("it had not ended after {} s", limit.as_secs()),
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
fn problem(
    end: &End,
    limit: Duration,
    report: &Report,
    steps: &[Step],
    rows: &[Row],
) -> Option<String> {
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
        Some(format!("no end after {} s; not done: {missing:?}", limit.as_secs()))
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

    const LIMIT: Duration = Duration::from_secs(240);

    fn judged(end: &End, report: &str) -> Option<String> {
        let steps = [Step::for_tests("kernel")];
        let report = Report::parse(report);
        let kernel = Kernel::for_tests("6.1", Arch::Amd64);
        let rows = judge::rows(&kernel, Layout::V2, &steps, &report);
        problem(end, LIMIT, &report, &steps, &rows)
    }

    #[test]
    fn a_death_is_told_from_a_failure() {
        let console = "[ 1.0] quiet\n[ 2.0] BUG: unable to handle page fault\n[ 2.1] RIP: 0010:x\n";
        let died = death(&End::Exit(Some(0)), LIMIT, console).unwrap();
        assert!(died.contains("page fault | [ 2.1] RIP: 0010:x") && !died.contains("quiet"));
        assert!(death(&End::Exit(None), LIMIT, "").unwrap().contains("signal"));
        assert!(death(&End::Timeout, LIMIT, "").unwrap().contains("240 s"));
        for end in [End::Exit(Some(SUCCESS)), End::Exit(Some(FAILURE))] {
            assert_eq!(death(&end, LIMIT, console), None);
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
