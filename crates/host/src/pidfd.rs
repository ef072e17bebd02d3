//! A handle on one process that never refers to another.
//!
//! A pid is reused; a pidfd is not. A caller that opens it first and checks the process afterwards
//! has checked the very process that the signal will reach.
use std::{
    io,
    os::fd::{AsFd, OwnedFd},
};

use nix::sys::signal::Signal;
use rustix::process::{self, Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::io::{Interest, unix::AsyncFd};

/// A pinned process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Pins the process that has this pid now.
    pub fn open(pid: i32) -> io::Result<Self> {
        let pid = Pid::from_raw(pid.max(0)).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Sends a signal. Returns `ESRCH` for a process that has ended.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        let signal = process::Signal::from_named_raw(signal as i32);
        let signal = signal.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(pidfd_send_signal(&self.0, signal)?)
    }

    /// Waits until the process has ended, as a zombie or completely.
    pub async fn ended(&self) -> io::Result<()> {
        // SAFETY: the descriptor is borrowed from `self` until the AsyncFd is dropped, so it stays
        // open and the same.
        let fd = unsafe { AsyncFd::register_with_interest(self.0.as_fd(), Interest::READABLE) };
        let fd = fd.map_err(io::Error::from)?;
        fd.readable().await.map(|_| ())
    }
}
