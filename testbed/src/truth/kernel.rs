//! The kernel side without an agent: the program `kernel-counts`.
use std::{path::Path, process::Command, thread, time::Duration};

use anyhow::{Context as _, Result};
use xtask::workspace::Workspace;

use super::{client::Obedient, counts::Counts};
use crate::stage::build_as_tested;

/// After a client's last answer, for what should not come.
const SETTLE: Duration = Duration::from_millis(30);

#[derive(Debug)]
pub(super) struct KernelSide(Obedient);

impl KernelSide {
    /// Builds and loads it.
    pub(super) fn start(workspace: &Workspace) -> Result<Self> {
        let program = build_as_tested(workspace, &["kernel-counts"])?.join("kernel-counts");
        let mut side = Obedient::start(&Command::new(program))?;
        side.answer().context("the kernel side cannot be loaded: run this as root")?;
        Ok(Self(side))
    }

    /// Begins to count for a cgroup2 directory, from zero.
    pub(super) fn watch(&mut self, folder: &Path) -> Result<()> {
        self.0.ask(&format!("watch {}", folder.display())).context("the kernel side").map(drop)
    }

    pub(super) fn unwatch(&mut self) -> Result<()> {
        self.0.ask("unwatch").context("the kernel side").map(drop)
    }

    pub(super) fn read(&mut self) -> Result<Counts> {
        thread::sleep(SETTLE);
        let answer = self.0.ask("read").context("the kernel side")?;
        serde_json::from_value(answer).context("the kernel side's counts")
    }
}
