//! One agent per state directory.
//!
//! Two agents that heal the same targets would each count only their own remedies. The lock is
//! the kernel's (`flock`), so it ends with its holder however that ends; the process id in the
//! file is for people. It is apart from the journal because it must hold even when the journal
//! is broken: an agent without a journal still heals softly.
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

/// The lock file's name within the state directory.
pub const LOCK_FILE: &str = "agent.lock";

/// The right to act from one state directory; released when dropped or when the process ends.
#[derive(Debug)]
pub struct StateLock {
    dir: PathBuf,
    _file: Flock<File>,
}

impl StateLock {
    /// Makes the directory if it is missing (mode 0700) and locks it.
    ///
    /// # Errors
    /// [`JournalError::Locked`] while another agent lives;
    /// [`JournalError::StateDir`] or [`JournalError::ReadOnly`] if it cannot be written.
    pub fn acquire(dir: &Path) -> Result<Self, JournalError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .and_then(|()| fs::canonicalize(dir))
            .map_err(|error| JournalError::io(dir, error))
            .and_then(Self::lock)
    }

    /// The directory, absolute and free of symbolic links.
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

/// Leaves this process's id in the file. A courtesy: on a full disk the lock holds without it.
fn sign(file: &mut File) {
    if let Err(error) = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
        tracing::debug!(%error, "cannot write the process id to the lock file");
    }
}

/// The holder's process id, if that is what the file holds.
fn signature(file: File) -> Option<i32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok().filter(|pid| *pid > 0)
}
