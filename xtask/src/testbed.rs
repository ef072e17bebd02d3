//! Starts the test bed (`testbed/`), another program. Cargo compiles it only when one of its tasks
//! is called, and for the demo the part that plays it.
use std::{ffi::OsString, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context, Result};

use crate::{process, workspace::Workspace};

/// Runs the test bed in the caller's folder. The caller adds the arguments.
pub(crate) fn command(workspace: &Workspace) -> Command {
    program(workspace, &["--bin", "testbed"])
}

fn program(workspace: &Workspace, which: &[&str]) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.args(["run", "--quiet", "--package", "testbed"]).args(which).arg("--manifest-path");
    cargo.arg(workspace.root.join("Cargo.toml")).arg("--");
    cargo
}

/// Replaces this process by the test bed, which thus gets the signals and returns the exit code.
pub(crate) fn become_it(workspace: &Workspace, words: &[OsString]) -> Result<()> {
    let mut command = match words.first() {
        Some(task) if task == "demo" => {
            program(workspace, &["--bin", "demo", "--no-default-features"])
        }
        _ => command(workspace),
    };
    let error = command.args(words).exec();
    Err(error).with_context(|| format!("cannot start: {}", process::shown(&command)))
}
