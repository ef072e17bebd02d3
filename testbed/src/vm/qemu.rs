//! qemu: fetched if it is not there, and run for one machine.
//!
//! Emulated unless asked otherwise: `/dev/kvm` may exist and not work.
use std::{
    env,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use xtask::{apt::Apt, process};

use super::packages;
use crate::stage::Interrupt;

/// What executes the machine's instructions.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub(super) enum Accelerator {
    /// Software: slow, and works everywhere
    #[default]
    Tcg,
    /// The processor, where /dev/kvm works
    Kvm,
}

/// Maximum time from the start to the exit code.
pub(super) const LIMIT: Duration = Duration::from_secs(180);

/// qemu, and where it finds its firmware and libraries.
pub(super) struct Qemu {
    program: PathBuf,
    unpacked: Option<PathBuf>,
}

/// What is booted.
pub(super) struct Boot<'a> {
    pub(super) cpus: u8,
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
}

/// How a machine ended.
pub(super) enum End {
    Exit(Option<i32>),
    Timeout,
}

impl Qemu {
    /// From `PATH`, else Debian's package, unpacked.
    pub(super) fn find(home: &Path) -> Result<Self> {
        const NAME: &str = "qemu-system-x86_64";
        if env::consts::ARCH != "x86_64" {
            bail!("the machines run this machine's programs, and only x86_64 is known to work");
        }
        if let Some(program) = process::on_path(NAME) {
            return Ok(Self { program, unpacked: None });
        }
        // Installing it may remove installed packages, so it is only unpacked.
        let root = Apt::first_that_works(&home.join("apt"), |apt| {
            let needed = |name: &str| {
                ["lib", "qemu-system-", "seabios"].iter().any(|start| name.starts_with(start))
            };
            packages::unpacked(apt, home, "qemu-system-x86", needed)
        })
        .context("install qemu-system-x86_64, or run on Debian")?;
        Ok(Self { program: root.join("usr/bin").join(NAME), unpacked: Some(root) })
    }

    /// Runs a machine until it ends, with the kernel's words in `console` and the first process's
    /// in `report`. `progress` is called now and then.
    pub(super) fn run(
        &self,
        accelerator: Accelerator,
        boot: &Boot<'_>,
        [console, report]: [&Path; 2],
        interrupt: &Interrupt,
        mut progress: impl FnMut(),
    ) -> Result<End> {
        let mut command = self.command();
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(match accelerator {
            Accelerator::Tcg => ["-accel", "tcg,thread=multi", "-cpu", "max"],
            Accelerator::Kvm => ["-accel", "kvm", "-cpu", "host"],
        });
        // microvm, the smaller machine, hangs.
        command.args(["-M", "pc", "-m", "1G", "-smp", &boot.cpus.to_string()]);
        for log in [console, report] {
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
            command.arg("-serial").arg(format!("file:{}", log.display()));
        }
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
        command.arg("-kernel").arg(boot.kernel).arg("-initrd").arg(boot.initrd);
        // An oops is a bug even if the machine could go on.
        command.args(["-append", "console=ttyS0 panic=-1 oops=panic quiet"]);
        command.stdin(Stdio::null());
        let child = command.spawn();
        let mut child =
            child.with_context(|| format!("cannot start: {}", process::shown(&command)))?;
        let end = wait(&mut child, interrupt, &mut progress);
        if !matches!(end, Ok(End::Exit(_))) {
            // It may have ended meanwhile.
            let _ = child.kill();
            child.wait()?;
        }
        progress();
        end
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.unpacked {
            let libraries = root.join("usr/lib/x86_64-linux-gnu");
            command.env("QEMU_MODULE_DIR", libraries.join("qemu"));
            command.env("LD_LIBRARY_PATH", library_path(root, &libraries));
            for firmware in ["usr/share/qemu", "usr/share/seabios"] {
                command.arg("-L").arg(root.join(firmware));
            }
        }
        command
    }
}

fn library_path(root: &Path, libraries: &Path) -> String {
    let old = root.join("lib/x86_64-linux-gnu");
    format!("{}:{}", libraries.display(), old.display())
}

fn wait(child: &mut Child, interrupt: &Interrupt, progress: &mut impl FnMut()) -> Result<End> {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(End::Exit(status.code()));
        }
        interrupt.check()?;
        if Instant::now() >= deadline {
            return Ok(End::Timeout);
        }
        progress();
        thread::sleep(Duration::from_millis(100));
    }
}
