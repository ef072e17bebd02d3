//! The engine's own namespaces: its processes, mounts and network are in namespaces that end with
//! their first process, whatever happens.
use std::{
    env,
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use xtask::process;

use super::cgroups::Cgroups;
use crate::stage::Interrupt;

/// Runs this program with the arguments in new namespaces, as their first process, and waits for
/// its end. It is killed if this one ends first.
pub(super) fn run(interrupt: &Interrupt, arguments: &[String]) -> Result<()> {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--fork", "--kill-child", "--pid"]);
    command.args(["--mount-proc", "--net", "--propagation", "private", "--"]);
    command.arg(env::current_exe().context("where is this program?")?).args(arguments);
    let child = command.spawn();
    let child = child.with_context(|| format!("cannot start: {}", process::shown(&command)))?;
    let mut world = World(child);
    loop {
        match world.0.try_wait()? {
            Some(status) if status.success() => return Ok(()),
            Some(_) => bail!("a scene failed: see above"),
            None => interrupt.check()?,
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// The parent of the first process in the namespaces. It kills that process when dropped.
struct World(Child);

impl Drop for World {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The cgroups of this run. They belong to the machine and must not remain, so they are removed
/// last.
pub(super) fn cgroups() -> Result<Cgroups> {
    Cgroups::reserve(format!("paramedic-docker-{}", std::process::id()))
}

/// Sets up the namespaces from within: a network with a loopback, and a `/run` for the engine's
/// socket, as on any machine.
pub(super) fn settle() -> Result<()> {
    process::capture(Command::new("ip").args(["link", "set", "lo", "up"]))
        .context("a network of its own")?;
    tmpfs(Path::new("/run"))
}

pub(super) fn tmpfs(at: &Path) -> Result<()> {
    mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("cannot mount a tmpfs at {}", at.display()))
}

/// Bind-mounts `from`, with everything mounted below it, at `to`.
pub(super) fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot mount {} at {}", from.display(), to.display()))
}
