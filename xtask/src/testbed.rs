//! The test bed (`testbed/`): a program of its own, which is compiled only when one of its tasks is
//! asked for.
use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result};

use crate::{process, workspace::Workspace};

/// The test bed where the caller is; its arguments are still to come.
pub(crate) fn command(workspace: &Workspace) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--package", "testbed", "--manifest-path"]);
    cargo.arg(workspace.root.join("Cargo.toml")).arg("--");
    cargo
}

/// Puts the test bed in the place of this process: signals, output and exit code are its own.
pub(crate) fn become_it(workspace: &Workspace, words: &[OsString]) -> Result<()> {
    let mut command = command(workspace);
    let error = command.args(words).exec();
    Err(error).with_context(|| format!("cannot start: {}", process::shown(&command)))
}
