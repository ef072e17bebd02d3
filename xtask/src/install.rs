//! Builds third-party tools below the target directory.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{ebpf, process, workspace::Workspace};

/// One release of a tool, and its own folder.
pub struct Tool {
    /// Of the crate and of its program.
    pub name: &'static str,
    /// The release.
    pub version: &'static str,
    /// Where the tool is installed.
    pub home: PathBuf,
}

impl Tool {
    /// Where the program is, if it is built.
    pub fn program(&self) -> PathBuf {
        self.home.join("bin").join(self.name)
    }

    /// `cargo install` with the workspace's toolchain, after `adapt` has added what the tool needs.
    /// The tools run for seconds, so they are compiled without optimization.
    pub fn build(&self, workspace: &Workspace, adapt: impl FnOnce(&mut Command)) -> Result<()> {
        let Self { name, version, home } = self;
        let scratch = home.join("build");
        let mut install = Command::new("cargo");
        ebpf::clean(&mut install)
            .args(["install", name, "--version", version, "--locked", "--force"])
            .args([Path::new("--root"), home, Path::new("--target-dir"), &scratch])
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "0")
            .current_dir(&workspace.root);
        adapt(&mut install);
        process::run(&format!("build {name} {version} (once, some minutes)"), &mut install)
            .with_context(|| format!("{name} {version} cannot be built"))?;
        let _ = fs::remove_dir_all(scratch);
        Ok(())
    }
}
