//! The steps of a fault, one after the other.
use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use nix::sys::signal::Signal;

use super::{
    clients::{Clients, Habit},
    disk::FullDisk,
    supervised::Supervised,
    upstream::{Behaviour, Upstream},
};

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Selects the fault of the app.
    Tell(&'static str),
    /// Replaces one of its files.
    Write(&'static str, &'static str),
    /// Makes the file that it writes to full.
    DiskFull,
    /// Changes the service that it depends on.
    Upstream(Behaviour),
    /// All of its processes get a signal.
    Signal(Signal),
    /// Its owner reloads it: SIGHUP to its main process.
    Reload,
    /// Its owner restarts it: SIGTERM to its main process.
    Restart,
    /// Limits it to this percentage of a core.
    Quota(u32),
    /// Limits it to this many MiB of memory.
    Memory(u64),
    /// Other processes use the machine's cores.
    Neighbours,
    /// Changes its clients.
    Clients(Habit),
}

/// What the steps act on, and what they leave to clean up.
pub(super) struct Ground<'a> {
    pub(super) folder: &'a Path,
    pub(super) service: &'a Supervised,
    pub(super) upstream: &'a Upstream,
    pub(super) clients: &'a Clients,
    neighbours: Vec<Neighbour>,
    disk: Option<FullDisk>,
    /// How often the owner has ended the service.
    pub(super) restarts: u32,
}

impl<'a> Ground<'a> {
    pub(super) fn new(
        folder: &'a Path,
        service: &'a Supervised,
        upstream: &'a Upstream,
        clients: &'a Clients,
    ) -> Self {
        Self { folder, service, upstream, clients, neighbours: Vec::new(), disk: None, restarts: 0 }
    }

    pub(super) fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Tell(what) => tell(self.folder, what)?,
            Step::Write(name, text) => replace(&self.folder.join(name), text)?,
            Step::DiskFull => {
                let (journal, disk) = (self.folder.join("journal"), self.folder.join("disk"));
                self.disk = Some(FullDisk::mount(&disk)?);
                let _ = fs::remove_file(&journal);
                symlink(disk.join("journal"), &journal)
                    .with_context(|| format!("cannot link {}", journal.display()))?;
            }
            Step::Upstream(behaviour) => self.upstream.set(behaviour),
            Step::Signal(signal) => self.service.signal_all(signal),
            Step::Reload => self.service.signal(Signal::SIGHUP)?,
            Step::Restart => {
                self.restarts += 1;
                self.service.signal(Signal::SIGTERM)?;
            }
            Step::Quota(percent) => self.service.cgroup.limit_cpu(percent)?,
            Step::Memory(mib) => self.service.cgroup.limit_memory(mib << 20)?,
            Step::Neighbours => {
                let cores = thread::available_parallelism().map_or(2, usize::from);
                for _ in 0..cores * 2 {
                    self.neighbours.push(Neighbour::start()?);
                }
            }
            Step::Clients(habit) => self.clients.behave(habit),
        }
        Ok(())
    }
}

/// Writes the fault of an app.
pub(super) fn tell(folder: &Path, what: &str) -> Result<()> {
    // A process that starts in the same tick of the clock would count as older.
    thread::sleep(Duration::from_millis(20));
    replace(&folder.join("fault"), what)
}

/// Replaces the file atomically: a reader sees the old or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

/// A process without end; killed when dropped.
struct Neighbour(Child);

impl Neighbour {
    fn start() -> Result<Self> {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"]);
        Ok(Self(command.stdin(Stdio::null()).spawn().context("cannot start a neighbour")?))
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_fault_is_there_whole() {
        let folder = tempfile::tempdir().unwrap();
        tell(folder.path(), "data=poison once").unwrap();
        tell(folder.path(), "").unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("fault")).unwrap(), "");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
