//! Restart: ends the target so that its supervisor (the kubelet, systemd) starts it again, or runs
//! the restart command of its owner.
//!
//! The wrong process must never be signalled. So the processes are chosen from one snapshot, each
//! is pinned by a pidfd, and only then are its start time and its cgroup compared once more. It
//! never signals processes outside the target's cgroup, the agent, its ancestors, the host's pid 1,
//! and any other instance than the one that was judged. If one of the chosen processes serves
//! something else ([`neighbour`]), none is signalled.
//!
//! In a container only the first process is signalled: it forwards the signal as its author
//! intended, and the kernel ends the others with it.
//!
//! An end by SIGTERM counts as a clean exit: under systemd a restart then needs `Restart=always` or
//! a restart command.
pub(super) mod selection;
mod command;
mod futile;
mod neighbour;

use std::{io, sync::Arc, time::Duration};

use nix::sys::signal::Signal::{self, SIGCONT, SIGKILL, SIGTERM};
use paramedic_core::{
    boot_time::BootTime,
    target::{Cgroups, ProcessId},
};
use paramedic_host::procfs::Tree;
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};

pub use futile::would_not_help;
use selection::{Candidate, Pinned};

/// SIGKILL takes effect at once, except for a process that is stuck in the kernel or in a frozen
/// cgroup.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// Settings of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    /// Command for `sh -c`, which replaces any signal.
    pub command: Option<String>,
    /// Time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Time limit of the command. Its process group is then killed.
    pub command_timeout: Duration,
}

impl Default for Restart {
    fn default() -> Self {
        Self {
            command: None,
            grace: Duration::from_secs(10),
            command_timeout: Duration::from_secs(30),
        }
    }
}

/// The result of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartReport {
    /// Time of the first signal, or start of the command.
    pub at: BootTime,
    /// The signalled processes, the main one first; empty after a command.
    pub signalled: Vec<i32>,
    /// Those of them that got SIGKILL: they outlived the grace period, or are a container's pid 1
    /// that does not catch SIGTERM.
    pub forced: Vec<i32>,
    /// The end of the command's output, at most 4 KiB.
    pub output: Option<String>,
}

/// Why there was no restart, or only half of one.
#[derive(Debug, thiserror::Error)]
pub enum RestartError {
    /// The target ended by itself.
    #[error("process {0} has already ended: nothing was done; look for the target again")]
    Ended(ProcessId),
    /// The target is another instance than the judged one.
    #[error("process {0} is no longer the one that was judged: nothing was done; judge it again")]
    Changed(ProcessId),
    /// The target must never be signalled.
    #[error("refused: process {0} is the agent itself, one of its ancestors, or the host's pid 1")]
    Protected(ProcessId),
    /// A restart would end another service as well.
    #[error(
        "refused: {name} (pid {pid}), which serves port {port}, would end with it: restart by \
         --restart-command, or give each service its own supervisor"
    )]
    OtherService {
        /// Its command.
        name: String,
        /// Its process.
        pid: i32,
        /// The port that it serves.
        port: u16,
    },
    /// The kernel does not permit it.
    #[error("not permitted to signal process {0}: run as its user, or with CAP_KILL")]
    Denied(ProcessId),
    /// A kernel without pidfds.
    #[error("this kernel has no pidfd_open (Linux 5.3): use --restart-command")]
    Unsupported,
    /// Some processes outlived SIGKILL.
    #[error("processes {0:?} outlived SIGKILL: stuck in the kernel, or in a frozen cgroup")]
    StillRunning(Vec<i32>),
    /// The restart command failed.
    #[error("the restart command failed ({status}); its output ends: {output:?}")]
    Command {
        /// Exit code or signal.
        status: std::process::ExitStatus,
        /// The end of its output, at most 4 KiB.
        output: String,
    },
    /// The restart command took too long.
    #[error(
        "the restart command did not end within {limit:?} and was killed; its output ends: \
             {output:?}"
    )]
    CommandTimeout {
        /// Its time limit.
        limit: Duration,
        /// The end of its output, at most 4 KiB.
        output: String,
    },
    /// An operation failed.
    #[error("cannot restart the process: {0}")]
    Io(#[from] io::Error),
}

impl RestartError {
    /// Whether nothing was done at all.
    #[must_use]
    pub const fn is_not_performed(&self) -> bool {
        match self {
            Self::Ended(_)
            | Self::Changed(_)
            | Self::Protected(_)
            | Self::OtherService { .. }
            | Self::Denied(_)
            | Self::Unsupported => true,
            Self::StillRunning(_)
            | Self::Command { .. }
            | Self::CommandTimeout { .. }
            | Self::Io(_) => false,
        }
    }
}

impl Restart {
    /// Restarts the judged instance, whose cgroups are `cgroups`, and returns when it has ended (or
    /// the command has). If dropped half-way, it has sent SIGTERM or nothing. If it is known by its
    /// `port`, a process that serves another port is not ended with it.
    ///
    /// An instance that has ended by itself is left to its supervisor: a command would also undo an
    /// intended stop.
    ///
    /// # Errors
    /// See [`RestartError`]. Only after `StillRunning`, `Io` and a failed command may something
    /// have been done.
    pub async fn run(
        &self,
        tree: &Tree,
        main: ProcessId,
        cgroups: &Cgroups,
        port: Option<u16>,
    ) -> Result<RestartReport, RestartError> {
        let patient = Candidate { tree: tree.clone(), main, cgroups: cgroups.clone(), port };
        let Some(command) = &self.command else {
            return self.signal(Arc::new(patient)).await;
        };
        patient.present()?;
        let at = paramedic_host::clock::now();
        let output = command::run(command, self.command_timeout).await?;
        Ok(RestartReport { at, signalled: Vec::new(), forced: Vec::new(), output: Some(output) })
    }

    async fn signal(&self, patient: Arc<Candidate>) -> Result<RestartReport, RestartError> {
        let mut pinned = pin(&patient).await?;
        let at = paramedic_host::clock::now();
        send(&mut pinned, patient.main, |p| if p.at_once { SIGKILL } else { SIGTERM })?;
        let mut signalled = pids(&pinned);
        let mut forced = pids(pinned.iter().filter(|p| p.at_once));

        let mut left = wait(pinned, self.grace).await?;
        if !left.is_empty() {
            // Children that the main process had meanwhile end with it. Once it has ended they
            // cannot be distinguished from its successor's.
            let newer = pin(&patient).await.unwrap_or_default();
            left.extend(newer.into_iter().filter(|n| !signalled.contains(&n.instance.pid)));
            send(&mut left, patient.main, |_| SIGKILL)?;
            for pid in pids(&left) {
                add(&mut signalled, pid);
                add(&mut forced, pid);
            }
            left = wait(left, KILL_TIMEOUT).await?;
        }
        if left.is_empty() {
            Ok(RestartReport { at, signalled, forced, output: None })
        } else {
            Err(RestartError::StillRunning(pids(&left)))
        }
    }
}

/// Reads `/proc`, which may take milliseconds, outside the agent's one thread.
async fn pin(patient: &Arc<Candidate>) -> Result<Vec<Pinned>, RestartError> {
    let patient = Arc::clone(patient);
    spawn_blocking(move || patient.pin()).await.map_err(io::Error::other)?
}

/// Signals each process, and drops those that may not be signalled or have ended. The main process
/// comes first, so that nothing is signalled if it may not be.
fn send(
    pinned: &mut Vec<Pinned>,
    main: ProcessId,
    signal: impl Fn(&Pinned) -> Signal,
) -> Result<(), RestartError> {
    let mut reached = Vec::with_capacity(pinned.len());
    for process in pinned.drain(..) {
        let signal = signal(&process);
        match process.fd.send(signal) {
            Ok(()) => {
                if signal == SIGTERM {
                    // A stopped process takes SIGTERM only when it continues; others ignore
                    // SIGCONT.
                    let _ = process.fd.send(SIGCONT);
                }
                reached.push(process);
            }
            Err(error) if process.instance == main && error.raw_os_error() == Some(libc::EPERM) => {
                return Err(RestartError::Denied(main));
            }
            Err(_) => {}
        }
    }
    *pinned = reached;
    Ok(())
}

/// Waits for all to end, and returns those that have not when the time is up.
async fn wait(pinned: Vec<Pinned>, limit: Duration) -> io::Result<Vec<Pinned>> {
    let deadline = Instant::now() + limit;
    let mut left = Vec::new();
    for process in pinned {
        match timeout_at(deadline, process.fd.ended()).await {
            Ok(ended) => ended?,
            Err(_) => left.push(process),
        }
    }
    Ok(left)
}

fn pids<'a>(pinned: impl IntoIterator<Item = &'a Pinned>) -> Vec<i32> {
    pinned.into_iter().map(|p| p.instance.pid).collect()
}

fn add(list: &mut Vec<i32>, pid: i32) {
    if !list.contains(&pid) {
        list.push(pid);
    }
}

#[cfg(test)]
mod tests;
