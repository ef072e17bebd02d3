//! One agent per state directory.
//!
//! Two agents that heal the same targets would each count only their own remedies. The lock is a
//! `flock` of the kernel, so it ends with its holder, however that ends. The process id in the file
//! is for display. The lock is separate from the journal because it must hold even if the journal
//! is broken: an agent without a journal still applies soft remedies.
use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg, OFlag},
};

use super::JournalError;

/// Name of the lock file in the state directory.
pub const LOCK_FILE: &str = "agent.lock";

/// Exclusive use of a state directory. Released when dropped or when the process ends.
#[derive(Debug)]
pub struct StateLock {
    dir: PathBuf,
    _file: Flock<File>,
}

impl StateLock {
    /// Creates the directory if it is missing (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`JournalError::Locked`] while another agent runs; [`JournalError::StateDir`] or
    /// [`JournalError::ReadOnly`] if it cannot be written.
    pub fn acquire(dir: &Path) -> Result<Self, JournalError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .and_then(|()| fs::canonicalize(dir))
            .map_err(|error| JournalError::io(dir, error))
            .and_then(Self::lock)
    }

    /// The directory, as an absolute path without symbolic links.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn lock(dir: PathBuf) -> Result<Self, JournalError> {
        let path = dir.join(LOCK_FILE);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(|error| JournalError::io(&path, error))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                sign(&mut file);
                Ok(Self { dir, _file: file })
            }
            Err((file, Errno::EWOULDBLOCK)) => {
                Err(JournalError::Locked { dir, pid: signature(file) })
            }
            Err((_, errno)) => Err(JournalError::io(&path, errno.into())),
        }
    }
}

/// Writes this process's id into the file, for display: on a full disk the lock holds without it.
fn sign(file: &mut File) {
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        tracing::debug!(%error, "cannot write the process id to the lock file");
    }
}

/// The process id in the lock file, if it holds one.
fn signature(file: File) -> Option<i32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}
