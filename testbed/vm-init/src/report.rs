//! The second serial port, which the host reads from a file.
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::AsRawFd,
    sync::Arc,
};

/// By the number of its driver: consoles of arm64 are of another one.
#[cfg(target_arch = "x86_64")]
const PORT: &str = "/dev/ttyS1";
#[cfg(target_arch = "aarch64")]
const PORT: &str = "/dev/ttyS0";

/// Clones write to the same port.
#[derive(Clone)]
pub(crate) struct Report(Arc<File>);

impl Report {
    pub(crate) fn open() -> io::Result<Self> {
        OpenOptions::new().write(true).open(PORT).map(|port| Self(Arc::new(port)))
    }

    /// One line, which has left the machine when this returns.
    pub(crate) fn say(&self, line: &str) {
        // There is nowhere to complain to.
        let _ = self.0.as_ref().write_all(format!("{line}\n").as_bytes());
        // SAFETY: takes an open descriptor and no pointer.
        unsafe { libc::tcdrain(self.0.as_raw_fd()) };
    }

    /// Forwards the output of a step, until its last writer is gone.
    pub(crate) fn pass_on(&self, mut from: impl Read) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = from.read(&mut buffer) {
            let _ = self.0.as_ref().write_all(&buffer[..length]);
        }
    }
}
