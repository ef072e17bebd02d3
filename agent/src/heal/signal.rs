//! The soft remedy by a signal: reloads the main process of a target.
//!
//! It reaches only the process that was judged, by the same checks as a restart, and only if that
//! process catches the signal: the default of most is to end it.
use std::io;

use nix::sys::signal::Signal::{self, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH};
use paramedic_core::target::{Cgroups, ProcessId, SoftSignal};
use paramedic_host::procfs::Tree;
use tokio::task::spawn_blocking;

use super::restart::{
    RestartError,
    selection::{Candidate, in_mask},
};

/// Why no signal was sent. Nothing was done then.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// The judged process is not there, or must not be signalled.
    #[error(transparent)]
    Process(#[from] RestartError),
    /// The signal would end it, or do nothing.
    #[error(
        "process {0} does not catch SIG{name}, which would end it: name another soft remedy \
         (`paramedic.dev/soft`)", name = .1.name()
    )]
    NotCaught(ProcessId, SoftSignal),
}

/// Sends a signal to the main process of a target, whose cgroups are `cgroups`.
///
/// # Errors
/// See [`SignalError`].
pub async fn send(
    tree: &Tree,
    main: ProcessId,
    cgroups: &Cgroups,
    signal: SoftSignal,
) -> Result<(), SignalError> {
    let judged = Candidate { tree: tree.clone(), main, cgroups: cgroups.clone(), port: None };
    let pinned = off_thread(move || Ok(judged.pin_main()?)).await?;
    catches(&pinned.status, main, signal)?;
    pinned.fd.send(number(signal)).map_err(|error| match error.raw_os_error() {
        Some(libc::EPERM) => RestartError::Denied(main).into(),
        Some(libc::ESRCH) => RestartError::Ended(main).into(),
        _ => RestartError::Io(error).into(),
    })
}

/// Whether the first process of a container catches a signal, which its engine then sends.
///
/// # Errors
/// [`SignalError::NotCaught`], also if that cannot be read.
pub async fn is_caught(
    tree: &Tree,
    main: ProcessId,
    signal: SoftSignal,
) -> Result<(), SignalError> {
    let tree = tree.clone();
    off_thread(move || {
        let status = tree.read(main.pid, "status").unwrap_or_default();
        if !tree.still_alive(main) {
            return Err(RestartError::Ended(main).into());
        }
        catches(&status, main, signal)
    })
    .await
}

/// Reads `/proc`, which may take milliseconds, outside the agent's one thread.
async fn off_thread<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, SignalError> + Send + 'static,
) -> Result<T, SignalError> {
    let read = spawn_blocking(read).await;
    read.unwrap_or_else(|panicked| Err(RestartError::Io(io::Error::other(panicked)).into()))
}

fn catches(status: &str, main: ProcessId, signal: SoftSignal) -> Result<(), SignalError> {
    match in_mask(status, "SigCgt:", number(signal) as i32) {
        Some(true) => Ok(()),
        _ => Err(SignalError::NotCaught(main, signal)),
    }
}

const fn number(signal: SoftSignal) -> Signal {
    match signal {
        SoftSignal::Hup => SIGHUP,
        SoftSignal::Usr1 => SIGUSR1,
        SoftSignal::Usr2 => SIGUSR2,
        SoftSignal::Winch => SIGWINCH,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Lines},
        process::{Child, ChildStdout, Command, Stdio},
    };

    use paramedic_core::target::Cgroup;

    use super::*;

    /// A shell that tells of each signal that it traps.
    struct Shell(Child, Lines<BufReader<ChildStdout>>);

    impl Shell {
        fn trapping(signals: &str) -> Self {
            let script = format!(
                "for s in {signals}; do trap \"echo $s\" $s; done; echo ready; \
                 while :; do sleep 0.05; done"
            );
            let mut child =
                Command::new("sh").args(["-c", &script]).stdout(Stdio::piped()).spawn().unwrap();
            let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
            assert_eq!(lines.next().unwrap().unwrap(), "ready");
            Self(child, lines)
        }

        fn main(&self) -> ProcessId {
            let pid = self.0.id().cast_signed();
            Tree::default().stat(pid).unwrap().instance()
        }

        async fn send(&self, signal: SoftSignal) -> Result<(), SignalError> {
            send(&Tree::default(), self.main(), &Cgroups::default(), signal).await
        }

        fn still_runs(&mut self) -> bool {
            self.0.try_wait().unwrap().is_none()
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    #[tokio::test]
    async fn a_signal_that_is_caught_arrives_and_another_is_not_sent() {
        let mut shell = Shell::trapping("HUP USR1");
        shell.send(SoftSignal::Hup).await.unwrap();
        assert_eq!(shell.1.next().unwrap().unwrap(), "HUP");
        shell.send(SoftSignal::Usr1).await.unwrap();
        assert_eq!(shell.1.next().unwrap().unwrap(), "USR1");
        for signal in [SoftSignal::Usr2, SoftSignal::Winch] {
            let error = shell.send(signal).await.unwrap_err();
            assert!(matches!(error, SignalError::NotCaught(..)), "{error}");
        }
        assert!(shell.still_runs(), "USR2 would have ended it");
    }

    #[tokio::test]
    async fn another_process_is_not_signalled() {
        let shell = Shell::trapping("HUP");
        let other = ProcessId { start_time: shell.main().start_time + 1, ..shell.main() };
        let tree = Tree::default();
        let error = send(&tree, other, &Cgroups::default(), SoftSignal::Hup).await.unwrap_err();
        assert!(matches!(error, SignalError::Process(RestartError::Changed(_))), "{error}");

        let elsewhere = Some(Cgroup { path: "/sys/fs/cgroup/elsewhere".into(), id: 1 });
        let elsewhere = Cgroups { unified: elsewhere, ..Cgroups::default() };
        let error = send(&tree, shell.main(), &elsewhere, SoftSignal::Hup).await.unwrap_err();
        assert!(matches!(error, SignalError::Process(RestartError::Changed(_))), "{error}");

        let own = tree.stat(std::process::id().cast_signed()).unwrap().instance();
        let error = send(&tree, own, &Cgroups::default(), SoftSignal::Hup).await.unwrap_err();
        assert!(matches!(error, SignalError::Process(RestartError::Protected(_))), "{error}");
    }
}
