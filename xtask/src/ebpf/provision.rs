//! The ways to get a missing compiler, in the order in which they are tried.
use std::{process::Command, time::Duration};

use anyhow::{Context, Result, bail};

use super::{clean, debian};
use crate::{process, workspace::Workspace};

/// A toolchain is some 100 MB. If rustup cannot download, it fails within seconds or hangs.
const DOWNLOAD: Duration = Duration::from_secs(300);

/// One way to install something. After a success the search is repeated.
type Remedy = fn(&Workspace) -> Result<()>;

/// All of them.
pub(super) const REMEDIES: [Remedy; 3] = [nightly, source_of_own, debian::unpack];

/// A nightly with its library's source. An installed one is completed, not updated: it may have
/// other users.
fn nightly(workspace: &Workspace) -> Result<()> {
    let list = process::capture(rustup(workspace).args(["toolchain", "list"]))
        .context("without rustup there is no nightly")?;
    if list.lines().any(|line| line.starts_with("nightly-") && is_undated(line)) {
        let add = ["component", "add", "rust-src", "--toolchain", "nightly"];
        let step = "add rust-src to rustup's nightly";
        return process::run_within(step, DOWNLOAD, rustup(workspace).args(add))
            .context("rustup cannot complete its nightly");
    }
    let install =
        ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
    process::run_within("install rustup's nightly", DOWNLOAD, rustup(workspace).args(install))
        .context("rustup cannot install a nightly")
}

/// `nightly-x86_64-…`, not `nightly-2026-05-20-x86_64-…`, which `nightly` does not mean.
fn is_undated(toolchain: &str) -> bool {
    toolchain.split('-').nth(1).is_some_and(|part| part.parse::<u32>().is_err())
}

/// The library's source for the toolchain that the workspace pins.
fn source_of_own(workspace: &Workspace) -> Result<()> {
    if process::on_path("rustup").is_none() {
        bail!("without rustup there is no component rust-src");
    }
    let step = "add rust-src to the workspace's own toolchain";
    let add = ["component", "add", "rust-src"];
    process::run_within(step, DOWNLOAD, rustup(workspace).args(add))
        .context("rustup cannot complete the workspace's toolchain")
}

fn rustup(workspace: &Workspace) -> Command {
    let mut command = Command::new("rustup");
    // rustup's own message is one line; its backtrace is useful to its authors only.
    clean(&mut command).env_remove("RUST_BACKTRACE").current_dir(&workspace.root);
    command
}

#[cfg(test)]
mod tests {
    use super::is_undated;

    #[test]
    fn a_dated_nightly_is_another_toolchain() {
        assert!(is_undated("nightly-x86_64-unknown-linux-gnu (active)"));
        assert!(!is_undated("nightly-2026-05-20-x86_64-unknown-linux-gnu"));
    }
}
