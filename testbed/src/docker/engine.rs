//! A real Docker engine from Debian's packages, in a root of its own. It is not installed.
use std::{
    env,
    fs::{self, File},
    os::unix::{
        fs::symlink,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    libc,
    mount::{MntFlags, umount2},
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::{Pid, chdir, pivot_root},
};
use xtask::{
    apt::{Apt, Release},
    arch::Arch,
    process,
};

use super::{client::Docker, world};
use crate::{stage::Interrupt, vm::packages};

/// Debian 13: the engine of Debian 12 does not know CAP_BPF.
const RELEASE: &str = "trixie";
/// The engine, the programs that it calls, and their libraries.
const OTHERS: [&str; 14] = [
    "containerd",
    "docker-cli",
    "docker-compose",
    "iptables",
    "libc6",
    "libcap2",
    "libgcc-s1",
    "libmnl0",
    "libnftnl11",
    "libseccomp2",
    "libsystemd0",
    "libxtables12",
    "runc",
    "tini",
];

/// Generous: it takes a second or two.
const START: Duration = Duration::from_secs(60);
/// It gives each container ten seconds to end.
const STOP: Duration = Duration::from_secs(40);

/// The folder of its socket, in its own root and outside.
pub(super) const SOCKET: &str = "/var/run/docker.sock";

/// The folder with the unpacked packages, which are fetched if they are not there.
pub(super) fn packages(home: &Path) -> Result<PathBuf> {
    let release = Release { name: RELEASE, arch: Arch::here()? };
    Apt::of_release(&home.join("apt"), release, |apt| {
        packages::unpacked_with(apt, home, "docker.io", &OTHERS)
    })
    .context("Docker's engine comes from Debian 13's packages")
}

/// The engine: running, or stopped for a while. Killed when dropped.
pub(super) struct Engine {
    root: PathBuf,
    cgroup: String,
    log: PathBuf,
    running: Option<Child>,
}

impl Engine {
    /// Makes its root, which vanishes with these namespaces, and starts it.
    pub(super) fn set_up(
        packages: &Path,
        root: PathBuf,
        cgroup: &str,
        log: PathBuf,
        interrupt: &Interrupt,
    ) -> Result<Self> {
        fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
        // In memory: images and containers need overlayfs, and target/ may lie on one already.
        world::tmpfs(&root)?;
        furnish(&root).with_context(|| format!("cannot set up {}", root.display()))?;
        for (from, to) in [
            (packages.join("usr").as_path(), "usr"),
            (Path::new("/proc"), "proc"),
            (Path::new("/sys"), "sys"),
            (Path::new("/dev"), "dev"),
            (Path::new("/run"), "run"),
        ] {
            world::bind(from, &root.join(to))?;
        }
        let mut engine = Self { root, cgroup: cgroup.to_owned(), log, running: None };
        engine.start(interrupt)?;
        Ok(engine)
    }

    /// Starts it and waits until it answers.
    pub(super) fn start(&mut self, interrupt: &Interrupt) -> Result<()> {
        let log = || File::options().create(true).append(true).open(&self.log);
        let mut command = Command::new(env::current_exe().context("where is this program?")?);
        command.args(["docker", "--cgroup", &self.cgroup, "--engine"]).arg(&self.root);
        command.stdin(Stdio::null()).stdout(log()?).stderr(log()?);
        let child = command.spawn();
        let child = child.with_context(|| format!("cannot start: {}", process::shown(&command)))?;
        let running = self.running.insert(child);
        let deadline = Instant::now() + START;
        while Docker::answers().is_err() {
            interrupt.check()?;
            if let Some(status) = running.try_wait()? {
                bail!("the engine ended with {status}");
            }
            if Instant::now() >= deadline {
                bail!("the engine does not answer after {} s", START.as_secs());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Stops its containers and the engine itself, as `systemctl stop docker` does.
    pub(super) fn stop(&mut self, interrupt: &Interrupt) -> Result<()> {
        let mut child = self.running.take().context("the engine does not run")?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        kill(pid, Signal::SIGTERM).context("cannot stop the engine")?;
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            interrupt.check()?;
            match child.try_wait()? {
                Some(status) if status.success() || status.signal() == Some(libc::SIGTERM) => {
                    return Ok(());
                }
                Some(status) => bail!("the engine ended with {status}"),
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
        self.running = Some(child);
        bail!("the engine has not stopped after {} s", STOP.as_secs())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(mut child) = self.running.take() {
            // It may have ended by itself. Its containers end with these namespaces.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Becomes the engine, in its root. That must be a mount namespace's own: in a mere chroot
/// `docker exec` would end up outside.
pub(super) fn become_engine(root: &Path, cgroup: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("a mount namespace of its own")?;
    chdir(root).with_context(|| format!("cannot enter {}", root.display()))?;
    // The old root is stacked on the new one, and is then unmounted.
    pivot_root(".", ".").context("cannot change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("cannot leave the old root")?;
    let mut command = Command::new("/usr/sbin/dockerd");
    command.args(["--group", "0", "--exec-opt", "native.cgroupdriver=cgroupfs"]);
    command.arg("--cgroup-parent").arg(format!("/{cgroup}/docker"));
    // The caller's other variables mean nothing in there.
    command.env_clear().env("PATH", "/tools:/usr/sbin:/usr/bin");
    Err(command.exec()).context("cannot start the engine")
}

/// What an engine expects of its root beside `/usr`.
fn furnish(root: &Path) -> std::io::Result<()> {
    for folder in ["usr", "etc", "proc", "sys", "dev", "run", "tmp", "var/lib", "tools"] {
        fs::create_dir_all(root.join(folder))?;
    }
    for folder in ["bin", "sbin", "lib", "lib64"] {
        symlink(Path::new("usr").join(folder), root.join(folder))?;
    }
    symlink("../run", root.join("var/run"))?;
    // Which of the two kinds is Debian's choice at installation.
    for program in ["iptables", "ip6tables"] {
        let chosen = format!("/usr/sbin/{program}-nft");
        symlink(chosen, root.join("tools").join(program))?;
    }
    Ok(())
}
