//! Chromium: the one that is installed, else Debian's, unpacked below `target/browser`.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use xtask::{apt::Apt, process};

use crate::vm::packages;

/// A command that starts it.
pub(super) fn find(home: &Path) -> Result<Command> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    if let Some(installed) = names.into_iter().find_map(process::on_path) {
        return Ok(Command::new(installed));
    }
    let root = Apt::first_that_works(&home.join("apt"), |apt| {
        packages::unpacked(apt, home, "chromium", is_needed)
    })
    .context("install Chromium, or leave this step out with --no-browser")?;
    let mut command = Command::new(root.join("usr/lib/chromium/chromium"));
    command.env("LD_LIBRARY_PATH", libraries(&root));
    Ok(command)
}

/// Of all that the package may depend on by some way: its own other half, and libraries, but for
/// those of desktops.
fn is_needed(package: &str) -> bool {
    const DESKTOPS: [&str; 8] = [
        "libkf5",
        "libqt",
        "libkwallet",
        "libgtk",
        "libgnome",
        "libadwaita",
        "libpam",
        "libelogind",
    ];
    let is_library = package.starts_with("lib") && !package.ends_with("-perl");
    package == "chromium-common"
        || is_library && !DESKTOPS.iter().any(|desktop| package.starts_with(desktop))
}

fn libraries(root: &Path) -> String {
    let folder = root.join(format!("usr/lib/{}-linux-gnu", std::env::consts::ARCH));
    let folders: [PathBuf; 2] = [folder.clone(), folder.join("pulseaudio")];
    folders.map(|folder| folder.display().to_string()).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn desktops_are_left_where_they_are() {
        assert!(is_needed("libopus0") && is_needed("chromium-common"));
        assert!(!is_needed("libkf5kiocore5") && !is_needed("xdg-desktop-portal"));
    }
}
