//! The stage: real processes on the real kernel. patient-app runs in a cgroup of its own with a
//! supervisor, and an agent runs beside it. Dropping any of them removes its processes, cgroups and
//! files.
pub(crate) mod agent;
pub(crate) mod apiserver;
pub(crate) mod cgroup;
pub(crate) mod http;
pub(crate) mod patient;
pub(crate) mod stubs;
pub(crate) mod traffic;

use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, atomic::AtomicBool},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::time::{ClockId, clock_gettime};
use sha2::{Digest as _, Sha256};
use xtask::{build_ebpf, process, workspace::Workspace};

/// The programs on stage.
#[derive(Clone, Debug)]
pub(crate) struct Programs {
    /// `paramedic`
    pub(crate) agent: PathBuf,
    /// `patient-app`
    pub(crate) patient: PathBuf,
}

impl Programs {
    /// In the folder where cargo or the user put them.
    pub(crate) fn in_folder(folder: &Path) -> Self {
        Self { agent: folder.join("paramedic"), patient: folder.join("patient-app") }
    }

    /// Agent and patient-app, built as the tests build them.
    pub(crate) fn as_tested(workspace: &Workspace) -> Result<Self> {
        Ok(Self::in_folder(&build_as_tested(workspace, &["paramedic", "patient-app"])?))
    }

    /// Identifies these builds of agent and patient-app: measurements with others do not compare.
    pub(crate) fn build(&self) -> Result<String> {
        let mut sum = Sha256::new();
        for program in [&self.agent, &self.patient] {
            let unread = || format!("cannot read {}", program.display());
            sum.update(fs::read(program).with_context(unread)?);
        }
        Ok(short(sum))
    }
}

/// Builds programs of the workspace so that no dependency is compiled twice, and returns their folder:
/// cargo chooses the features of dependencies for all that it builds at once, and what the tests need
/// only if one of them is built.
pub(crate) fn build_as_tested(workspace: &Workspace, programs: &[&str]) -> Result<PathBuf> {
    build_ebpf::run(workspace, &build_ebpf::Args::PLAIN)?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(&workspace.root).args(["build", "--locked", "--workspace"]);
    cargo.args(programs.iter().flat_map(|program| ["--bin", program])).args(["--test", "kernel"]);
    let what = format!("build {} (some minutes the first time)", programs.join(" and "));
    process::run(&what, &mut cargo)?;
    Ok(workspace.target.join("debug"))
}

/// The sum of these programs and of the test bed itself: verdicts of others do not compare.
pub(crate) fn judged_by(programs: &Programs) -> Result<Sha256> {
    let mut sum = Sha256::new();
    sum.update(programs.build()?);
    sum.update(fs::read(std::env::current_exe()?).context("cannot read the test bed's program")?);
    Ok(sum)
}

/// The first digits of a sum: enough to tell builds apart.
pub(crate) fn short(sum: Sha256) -> String {
    sum.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path, lines: usize) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\r', "");
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// Set by SIGINT and SIGTERM, so that an interrupted task still clears the stage.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    pub(crate) fn catch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // The second signal ends at once, as without the flag.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&flag))?;
            signal_hook::flag::register(signal, Arc::clone(&flag))?;
        }
        Ok(Self(flag))
    }

    /// # Errors
    /// If the user wants to stop.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(std::sync::atomic::Ordering::Relaxed) {
            bail!("interrupted; the stage is cleared");
        }
        Ok(())
    }

    /// Calls `look`, with a pause after each call, until it succeeds; an error means not yet.
    pub(crate) fn until<T>(
        &self,
        what: &str,
        limit: Duration,
        pause: Duration,
        look: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + limit;
        loop {
            self.check()?;
            match look() {
                Ok(found) => return Ok(found),
                Err(instead) if Instant::now() >= deadline => {
                    return Err(
                        instead.context(format!("not within {} s: {what}", limit.as_secs()))
                    );
                }
                Err(_) => thread::sleep(pause),
            }
        }
    }
}

/// A port that nothing listens on.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// Nanoseconds since boot: the clock that agent and patient use too.
pub(crate) fn boot_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |t| u64::try_from(Duration::from(t).as_nanos()).unwrap_or(u64::MAX))
}
