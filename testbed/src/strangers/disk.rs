//! A small file system that is full, visible only to the test bed and the processes that it starts.
use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

/// From now on the mounts of this thread and its children are private, and end with it.
pub(super) fn own_mounts() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own")?;
    let flags = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, flags, None::<&str>).context("mounts of its own")
}

/// A mounted file system without room; unmounted when dropped.
#[derive(Debug)]
pub(super) struct FullDisk(PathBuf);

impl FullDisk {
    /// Mounts it at `at`, which is made, and fills it.
    pub(super) fn mount(at: &Path) -> Result<Self> {
        fs::create_dir_all(at)?;
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some("size=256k,mode=777"))
            .with_context(|| format!("cannot mount {}", at.display()))?;
        let disk = Self(at.to_owned());
        let mut filler = File::create(at.join("filler"))?;
        // Until it takes no more.
        while filler.write_all(&[0; 4096]).is_ok() {}
        Ok(disk)
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        // The service may still have files open there.
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}
