//! cargo-deny: the policy of `deny.toml`, for the workspace and for the kernel side.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use xtask::{install::Tool, process, workspace::Workspace};

use super::{NETWORK, summary::Outcome};

const VERSION: &str = "0.20.2";

/// The lock files of what becomes part of Paramedic.
const MANIFESTS: [&str; 2] = ["Cargo.toml", "agent-ebpf/Cargo.toml"];

/// Licences, sources, duplicates: needs no network beyond the registry.
pub(super) fn policy(workspace: &Workspace) -> Result<()> {
    let program = program(workspace)?;
    let check = |manifest| {
        let mut check = deny(workspace, &program, manifest);
        check.args(["check", "bans", "licenses", "sources"]);
        process::run(&format!("cargo-deny: {manifest}"), &mut check)
    };
    // Both are checked, whatever the result of the first.
    MANIFESTS.map(check).into_iter().collect()
}

/// Known vulnerabilities, if their database can be fetched.
pub(super) fn advisories(workspace: &Workspace) -> Result<Outcome> {
    let program = program(workspace)?;
    let mut fetch = deny(workspace, &program, MANIFESTS[0]);
    fetch.args(["fetch", "db"]);
    if let Err(error) = process::run_within("fetch the advisory database", NETWORK, &mut fetch) {
        let why = format!("the advisory database is out of reach ({error})");
        eprintln!("warning: advisories were NOT checked: {why}");
        return Ok(Outcome::NotChecked(why));
    }
    for manifest in MANIFESTS {
        let mut check = deny(workspace, &program, manifest);
        // With the database that was just fetched, and the crates that the policy's check has
        // fetched.
        check.args(["--offline", "check", "advisories"]);
        process::run(&format!("advisories: {manifest}"), &mut check)?;
    }
    Ok(Outcome::Passed)
}

fn deny(workspace: &Workspace, program: &Path, manifest: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--locked", "--config", "deny.toml", "--manifest-path", manifest]);
    command.current_dir(&workspace.root);
    command
}

/// cargo-deny from `PATH`, else built below the target directory, once.
fn program(workspace: &Workspace) -> Result<PathBuf> {
    let home = workspace.target.join("tools");
    let tool = Tool { name: "cargo-deny", version: VERSION, home };
    if let Some(program) = process::on_path(tool.name) {
        return Ok(program);
    }
    if !tool.program().exists() {
        tool.build(workspace, |_| {})?;
    }
    Ok(tool.program())
}
