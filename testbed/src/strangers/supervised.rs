//! A third-party service in a cgroup of its own, started again whenever it ends, as by systemd with
//! `Restart=always`. Processes that it leaves in its cgroup are killed when it ends.
use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::stage::cgroup::{Cgroup, hierarchies};

/// From the end of one process to the start of the next.
const RESTART_DELAY: Duration = Duration::from_millis(200);

/// What the supervisor shares with its [`Supervised`].
#[derive(Debug, Default)]
struct Shared {
    over: AtomicBool,
    ends: AtomicU32,
    pid: Mutex<Option<u32>>,
}

/// A supervised service; it, and all that it has started, is killed when dropped.
#[derive(Debug)]
pub(crate) struct Supervised {
    // Dropped last, by the order of the fields: it has to be empty then.
    shared: Arc<Shared>,
    supervisor: Option<JoinHandle<()>>,
    pub(crate) cgroup: Arc<Cgroup>,
}

/// The prefix of the cgroups of all episodes; the id of the test bed's process follows.
const PREFIX: &str = "paramedic-strangers-";

/// Removes what a killed test bed has left: services without their supervisor.
pub(crate) fn sweep() -> Result<()> {
    for hierarchy in hierarchies()? {
        let Ok(folders) = fs::read_dir(&hierarchy.at) else { continue };
        for folder in folders.map_while(Result::ok) {
            let name = folder.file_name();
            let Some(stage) = name.to_str().and_then(stage_of) else { continue };
            if Path::new(&format!("/proc/{stage}")).exists() {
                continue;
            }
            let path = folder.path();
            let is_empty = kill_until_empty(&|| in_list(&path.join("cgroup.procs")));
            ensure!(is_empty, "{} cannot be cleared: look at its processes", path.display());
            let _ = fs::remove_dir(&path);
        }
    }
    Ok(())
}

/// The process that has made a cgroup of this name, if it is one of ours.
fn stage_of(cgroup: &str) -> Option<u32> {
    cgroup.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

impl Supervised {
    /// Starts what the command says; what it prints is added to the log.
    pub(crate) fn start(number: usize, what: &Command, log: &Path) -> Result<Self> {
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let cgroup = Arc::new(Cgroup::create(&name)?);
        let shared = Arc::new(Shared::default());
        let mut command = entering(&cgroup, what);
        let log = File::options().create(true).append(true).open(log)?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for the test bed, which cleans up.
        command.process_group(0);
        let supervisor = thread::spawn({
            let (cgroup, shared) = (Arc::clone(&cgroup), Arc::clone(&shared));
            move || supervise(command, &cgroup, &shared)
        });
        Ok(Self { shared, supervisor: Some(supervisor), cgroup })
    }

    /// How often it has ended.
    pub(crate) fn ends(&self) -> u32 {
        self.shared.ends.load(Ordering::Relaxed)
    }

    /// Signals its main process.
    pub(super) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = *self.shared.pid.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).context("the service has ended")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("{signal} to the service"))
    }

    /// Signals all of its processes.
    pub(super) fn signal_all(&self, signal: Signal) {
        signal_all(processes(&self.cgroup), signal);
    }
}

fn in_list(list: &Path) -> BTreeSet<i32> {
    let list = fs::read_to_string(list).unwrap_or_default();
    list.lines().filter_map(|pid| pid.parse().ok()).collect()
}

fn processes(cgroup: &Cgroup) -> BTreeSet<i32> {
    cgroup.entrances().flat_map(|list| in_list(&list)).collect()
}

fn signal_all(processes: BTreeSet<i32>, signal: Signal) {
    for pid in processes {
        // It may have ended just now.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Kills until no process is left, including those that start meanwhile. Returns whether it
/// succeeded.
fn kill_until_empty(processes: &dyn Fn() -> BTreeSet<i32>) -> bool {
    for _ in 0..200 {
        let left = processes();
        if left.is_empty() {
            return true;
        }
        signal_all(left, Signal::SIGKILL);
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// The command from within the cgroup; it ends with the thread that has started it.
fn entering(cgroup: &Cgroup, what: &Command) -> Command {
    let mut script = String::from("set -e; ");
    for entrance in cgroup.entrances() {
        script += &format!("echo $$ > '{}'; ", entrance.display());
    }
    script += "exec setpriv --pdeathsig KILL -- \"$@\"";
    let mut command = Command::new("sh");
    command.args(["-c", &script, "sh"]).arg(what.get_program()).args(what.get_args());
    for (name, value) in what.get_envs() {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    if let Some(folder) = what.get_current_dir() {
        command.current_dir(folder);
    }
    command
}

fn supervise(mut command: Command, cgroup: &Cgroup, shared: &Shared) {
    while !shared.over.load(Ordering::Relaxed) {
        let Ok(mut child) = command.spawn() else { return };
        *shared.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.id());
        if shared.over.load(Ordering::Relaxed) {
            // The episode was cleared between the two: only this thread can still end the process.
            let _ = child.kill();
        }
        let _ = child.wait();
        *shared.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
        shared.ends.fetch_add(1, Ordering::Relaxed);
        kill_until_empty(&|| processes(cgroup));
        if !shared.over.load(Ordering::Relaxed) {
            thread::sleep(RESTART_DELAY);
        }
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        let pid = *self.shared.pid.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) {
            // It may not have entered its cgroup yet.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        kill_until_empty(&|| processes(&self.cgroup));
        if let Some(supervisor) = self.supervisor.take() {
            let _ = supervisor.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_cgroups_of_this_stage_are_swept() {
        assert_eq!(stage_of("paramedic-strangers-123-4"), Some(123));
        assert_eq!(stage_of("paramedic-strangers-x-4"), None);
        assert_eq!(stage_of("paramedic-grade-123-4"), None);
    }
}
