//! Builds other people's tools below the target directory.
use std::{path::Path, process::Command};

use crate::{ebpf, workspace::Workspace};

/// `cargo install` of one release of a tool into a folder of its own, with the workspace's
/// toolchain. Both tools installed here run for seconds, so the time goes into their compilation
/// rather than into their optimization.
pub(crate) fn command(workspace: &Workspace, tool: &str, version: &str, home: &Path) -> Command {
    let mut install = Command::new("cargo");
    ebpf::clean(&mut install)
        .args(["install", tool, "--version", version, "--locked", "--force", "--root"])
        .arg(home)
        .env("CARGO_PROFILE_RELEASE_LTO", "off")
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
        .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
        .current_dir(&workspace.root);
    install
}
