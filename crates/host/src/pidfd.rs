//! A handle on one process that never refers to another.
//!
//! A pid is reused; a pidfd is not. A caller that opens it first and checks the process afterwards
//! has checked the very process that the signal will reach.
use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd},
};

use nix::sys::signal::Signal;
use tokio::io::{Interest, unix::AsyncFd};

/// A pinned process.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Pins the process that has this pid now.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let fd = RawFd::try_from(fd).ok().filter(|&fd| fd >= 0);
        let fd = fd.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a signal. Returns `ESRCH` for a process that has ended.
    pub fn send(&self, signal: Signal) -> io::Result<()> {
        let none = std::ptr::null::<libc::siginfo_t>();
        let fd = self.0.as_raw_fd();
        // SAFETY: without a siginfo the call reads no memory of ours; the descriptor is open.
        let sent = unsafe {
            libc::syscall(libc::SYS_pidfd_send_signal, fd, signal as libc::c_int, none, 0)
        };
        if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
