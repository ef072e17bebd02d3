//! The commands in README.md and docs/: each block of shell says whether it can be run anywhere
//! (`sh test`), asks for something that this machine need not have (`sh cluster`, `sh root`), or
//! takes long and is a step of its own (`sh build`). What can be run anywhere is run.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use nix::unistd::geteuid;

use crate::{process, workspace::Workspace};

/// What a block may be tagged with.
const TAGS: [&str; 4] = ["test", "cluster", "root", "build"];

/// A block of shell in a guide.
#[derive(Debug, PartialEq)]
struct Block {
    line: usize,
    tag: String,
    script: String,
}

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let programs = super::programs(workspace)?;
    let folder = programs.agent.parent().context("the agent is in no folder")?;
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{path}", folder.display());
    let mut run = 0;
    for guide in guides(&workspace.root)? {
        let text = fs::read_to_string(&guide)
            .with_context(|| format!("cannot read {}", guide.display()))?;
        let name = guide.strip_prefix(&workspace.root).unwrap_or(&guide).display().to_string();
        let blocks = blocks(&text);
        for block in &blocks {
            ensure!(
                TAGS.contains(&block.tag.as_str()),
                "{name}:{}: tag the block as one of: {}",
                block.line,
                TAGS.join(", ")
            );
        }
        // The blocks of a guide are one session, as its reader has it.
        let script: String = blocks
            .iter()
            .filter(|block| block.tag == "test")
            .map(|block| block.script.as_str())
            .collect();
        if script.is_empty() {
            continue;
        }
        let home = tempfile::tempdir()?;
        let (mut shell, set_up) = session();
        shell.args(["timeout", "--kill-after=5", "120"]);
        shell.args(["bash", "-euo", "pipefail", "-c"]);
        // What was started in the background ends with the session.
        shell.arg(format!("{set_up}trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}"));
        shell.current_dir(&workspace.root).env("PATH", &path).env("HOME", home.path());
        shell.env("PARAMEDIC_STATE_DIR", home.path().join("state"));
        process::run(&format!("the commands of {name}"), &mut shell)?;
        run += 1;
    }
    ensure!(run > 0, "no guide has a command that can be run");
    Ok(())
}

/// A command that runs another on a network of its own, where that can be had, and what has to be
/// done there first: the guides' ports are those that everybody uses.
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

fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    let mut other = false;
    for (number, line) in text.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, open.take()) {
            (Some(_), Some(block)) => blocks.push(block),
            (Some(_), None) if other => other = false,
            (Some(info), None) => match info.split_once(' ').unwrap_or((info, "")) {
                ("sh" | "bash" | "shell" | "console", tag) => {
                    let tag = tag.trim().to_owned();
                    open = Some(Block { line: number + 1, tag, script: String::new() });
                }
                _ => other = true,
            },
            (None, Some(mut block)) => {
                block.script += line;
                block.script += "\n";
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_found_with_their_tags() {
        let text = "a\n```sh test\nls\n# ls\n```\n```yaml\n```\n```sh\nrm\n```\n";
        let block = |line, tag: &str, script: &str| Block {
            line,
            tag: tag.to_owned(),
            script: script.to_owned(),
        };
        assert_eq!(blocks(text), [block(2, "test", "ls\n# ls\n"), block(8, "", "rm\n")]);
    }
}
