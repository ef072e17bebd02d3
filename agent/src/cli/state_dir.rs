//! The default state directory.
use std::{env, path::PathBuf};

use nix::unistd::Uid;

/// `/var/lib/paramedic` for root, else below the user's own state directory.
pub(super) fn default() -> PathBuf {
    if Uid::effective().is_root() {
        return PathBuf::from("/var/lib/paramedic");
    }
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|dir| dir.is_absolute())
        .or_else(home)
        .unwrap_or_else(env::temp_dir)
        .join("paramedic")
}
