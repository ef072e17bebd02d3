//! The Docker session of the guide, as its reader types it.
use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use anyhow::{Context, Result, ensure};
use xtask::process;

use crate::{docker::stage::Stage, guide};

/// Two faults, each with a remedy that is verified for 15 s.
const LIMIT: &str = "180";

pub(super) fn session(stage: &mut Stage<'_>) -> Result<String> {
    let blocks = guide::read(&stage.root.join("docs/getting-started.md"))?;
    let script = guide::session(&blocks, "docker");
    ensure!(!script.is_empty(), "the guide has no block for Docker");
    let home = tempfile::tempdir()?;
    // Here the only user is root, which needs no sudo.
    let sudo = home.path().join("sudo");
    fs::write(&sudo, "#!/bin/sh\nexec \"$@\"\n").context("cannot write")?;
    fs::set_permissions(&sudo, fs::Permissions::from_mode(0o755))?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", home.path().display(), stage.docker.folder().display());
    let mut shell = Command::new("timeout");
    shell.args(["--kill-after=5", LIMIT, "bash", "-euxo", "pipefail", "-c", &script]);
    shell.current_dir(stage.root).env("PATH", path).env("HOME", home.path());
    shell.env("PARAMEDIC_STATE_DIR", home.path().join("state"));
    stage.docker.settle(&mut shell);
    let log = fs::File::create(stage.log("session"))?;
    let status = shell.stdout(log.try_clone()?).stderr(log).status();
    let status = status.with_context(|| format!("cannot start: {}", process::shown(&shell)))?;
    ensure!(status.success(), "the guide's session ends with {status}");
    // The guide leaves the journal in its volume.
    stage.docker.text(&["volume", "prune", "--all", "--force"])?;
    Ok(format!("{} commands, none failed", script.lines().count()))
}
