//! The steps of a fault, one after the other.
use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, TcpStream},
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;

use super::{
    clients::Habit,
    disk::FullDisk,
    ground::{Ground, Neighbour},
    loris::{Loris, Manner},
    upstream::Behaviour,
};

/// One step.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Selects the fault of the app.
    Tell(&'static str),
    /// Replaces one of its files.
    Write(&'static str, &'static str),
    /// Replaces a part of one of its files.
    Amend(&'static str, &'static str, &'static str),
    /// Makes the file that it writes to full.
    DiskFull,
    /// Changes the service that it depends on; a delay is scaled by the intensity.
    Upstream(Behaviour),
    /// Its name server no longer answers.
    NamesGone,
    /// All of its processes get a signal.
    Signal(Signal),
    /// Its owner reloads it: its main process gets this signal.
    Reload(Signal),
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
    /// This many clients, scaled by the intensity, keep connections for themselves.
    Loris(Manner, u64),
    /// Sends it this, and keeps the connection.
    Send(&'static str),
}

impl Ground {
    pub(super) fn take(&mut self, step: Step) -> Result<()> {
        match step {
            Step::Tell(what) => tell(&self.folder, what, self.share)?,
            Step::Write(name, text) => replace(&self.folder.join(name), text)?,
            Step::Amend(name, old, new) => {
                let path = self.folder.join(name);
                let text = fs::read_to_string(&path).context("no file to amend")?;
                ensure!(text.contains(old), "{name} does not hold {old:?}");
                replace(&path, &text.replace(old, new))?;
            }
            Step::DiskFull => {
                let (journal, disk) = (self.folder.join("journal"), self.folder.join("disk"));
                self.disk = Some(FullDisk::mount(&disk)?);
                let _ = fs::remove_file(&journal);
                symlink(disk.join("journal"), &journal)
                    .with_context(|| format!("cannot link {}", journal.display()))?;
            }
            Step::Upstream(Behaviour::Answers(status, late)) => {
                self.upstream.set(Behaviour::Answers(status, self.draw.scaled(late)));
            }
            Step::Upstream(behaviour) => self.upstream.set(behaviour),
            Step::NamesGone => {
                self.resolver.as_ref().context("the service resolves no names")?.vanish();
            }
            Step::Signal(signal) => self.service.signal_all(signal),
            Step::Reload(signal) => self.service.signal(signal)?,
            Step::Restart => {
                self.restarts += 1;
                self.service.signal(Signal::SIGTERM)?;
            }
            Step::Quota(percent) => self.service.cgroup.limit_cpu(percent)?,
            Step::Memory(mib) => self.service.cgroup.limit_memory(mib << 20)?,
            Step::Neighbours => {
                let cores = thread::available_parallelism().map_or(2, usize::from);
                for _ in 0..cores * 2 {
                    self.neighbours.push(neighbour()?);
                }
            }
            Step::Clients(habit) => self.clients.behave(habit),
            Step::Loris(manner, clients) => {
                self.loris = Some(Loris::come(self.port, manner, self.draw.scaled(clients)));
            }
            Step::Send(text) => {
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
                stream.write_all(text.as_bytes())?;
                self.held.push(stream);
            }
        }
        Ok(())
    }
}

/// Writes the fault of an app, and the share of its requests that it strikes.
pub(super) fn tell(folder: &Path, what: &str, share: f64) -> Result<()> {
    // A process that starts in the same tick of the clock would count as older.
    thread::sleep(Duration::from_millis(20));
    let what = if share < 1.0 { format!("{what} share={share:.3}") } else { what.to_owned() };
    replace(&folder.join("fault"), &what)
}

/// Replaces the file atomically: a reader sees the old or the new one.
fn replace(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    fs::write(&part, text)
        .and_then(|()| fs::rename(&part, path))
        .with_context(|| format!("cannot write {}", path.display()))
}

fn neighbour() -> Result<Neighbour> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "sh", "-c", "while :; do :; done"]);
    Ok(Neighbour(command.stdin(Stdio::null()).spawn().context("cannot start a neighbour")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_told_fault_is_there_whole() {
        let folder = tempfile::tempdir().unwrap();
        tell(folder.path(), "data=poison once", 0.75).unwrap();
        let told = || fs::read_to_string(folder.path().join("fault")).unwrap();
        assert_eq!(told(), "data=poison once share=0.750");
        tell(folder.path(), "", 1.0).unwrap();
        assert_eq!(told(), "");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
