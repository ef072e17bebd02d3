//! A world of the engine's own: its processes, mounts and network are in namespaces that end with
//! their first process, and take all of it along, whatever happens to whom.
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
            Some(_) => bail!("not all went as it should: see above"),
            None => interrupt.check()?,
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Its first process's parent, which takes it along.
struct World(Child);

impl Drop for World {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A name for what must outlive nobody: the cgroups are the machine's own, and are removed last.
pub(super) fn cgroups() -> Result<Cgroups> {
    Cgroups::reserve(format!("paramedic-docker-{}", std::process::id()))
}

/// Makes the world habitable, from within: a network with a loopback, and a `/run` where the
/// engine's socket stands as on any machine.
pub(super) fn settle() -> Result<()> {
    process::capture(Command::new("ip").args(["link", "set", "lo", "up"]))
        .context("a network of its own")?;
    tmpfs(Path::new("/run"))
}

pub(super) fn tmpfs(at: &Path) -> Result<()> {
    mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some("mode=755"))
        .with_context(|| format!("cannot mount a tmpfs at {}", at.display()))
}

/// Shows what is at `from`, with all that is mounted below it, at `to` as well.
pub(super) fn bind(from: &Path, to: &Path) -> Result<()> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(from), to, None::<&str>, flags, None::<&str>)
        .with_context(|| format!("cannot mount {} at {}", from.display(), to.display()))
}
