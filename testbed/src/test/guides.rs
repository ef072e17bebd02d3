//! The commands in README.md and docs/: the tag of each block of shell says whether it can run
//! anywhere (`sh test`), needs something that this machine need not have (`sh cluster`, `sh root`),
//! takes long and is a step of its own (`sh build`), or is a scene of `cargo xtask docker` (`sh
//! docker`). This step runs the blocks that can run anywhere.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;
use xtask::{process, workspace::Workspace};

use crate::{guide, stage::Programs};

/// The tags of blocks.
const TAGS: [&str; 5] = ["test", "docker", "cluster", "root", "build"];

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let programs = Programs::as_tested(workspace)?;
    let folder = programs.agent.parent().context("the agent is in no folder")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.display());
    let mut run = 0;
    for guide in guides(&workspace.root)? {
        let name = guide.strip_prefix(&workspace.root).unwrap_or(&guide).display().to_string();
        let blocks = guide::read(&guide)?;
        for block in &blocks {
            ensure!(
                TAGS.contains(&block.tag.as_str()),
                "{name}:{}: tag the block as one of: {}",
                block.line,
                TAGS.join(", ")
            );
        }
        let script = guide::session(&blocks, "test");
        if script.is_empty() {
            continue;
        }
        let home = tempfile::tempdir()?;
        let (mut shell, set_up) = session();
        shell.args(["timeout", "--kill-after=5", "120"]);
        shell.args(["bash", "-euo", "pipefail", "-c"]);
        // Processes in the background end with the session.
        shell.arg(format!("{set_up}trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"));
        shell.current_dir(&workspace.root).env("PATH", &path).env("HOME", home.path());
        shell.env("PARAMEDIC_STATE_DIR", home.path().join("state"));
        process::run(&format!("the commands of {name}"), &mut shell)?;
        run += 1;
    }
    ensure!(run > 0, "no guide has a command that can be run");
    Ok(())
}

/// A command that runs another on a network of its own, if that is possible, and the preparation
/// that it needs: the guides use common ports, which may be taken.
fn session() -> (Command, &'static str) {
    let own = |options: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(options).arg("--");
        command
    };
    let options: &[&str] =
        if geteuid().is_root() { &["--net"] } else { &["--map-root-user", "--net"] };
    match process::capture(own(options).args(["ip", "link", "set", "lo", "up"])) {
        Ok(_) => (own(options), "ip link set lo up\n"),
        Err(error) => {
            println!("    on this machine's own network, since: {error:#}");
            (Command::new("env"), "")
        }
    }
}

fn guides(root: &Path) -> Result<Vec<PathBuf>> {
    let docs = root.join("docs");
    let unread = || format!("cannot read {}", docs.display());
    let mut guides = vec![root.join("README.md")];
    for entry in fs::read_dir(&docs).with_context(unread)? {
        guides.push(entry.with_context(unread)?.path());
    }
    guides.retain(|path| path.extension().is_some_and(|end| end == "md"));
    guides.sort();
    Ok(guides)
}
