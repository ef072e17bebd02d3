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

use anyhow::{Context, Result};
use clap::ValueEnum;
use xtask::{apt::Apt, arch::Arch, process};

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

/// qemu for one architecture, and where it finds its firmware and libraries.
pub(super) struct Qemu {
    arch: Arch,
    program: PathBuf,
    unpacked: Option<PathBuf>,
}

/// What is booted.
pub(super) struct Boot<'a> {
    pub(super) cpus: u8,
    /// Maximum time from the start to the exit code.
    pub(super) limit: Duration,
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
    pub(super) fn find(home: &Path, arch: Arch) -> Result<Self> {
        Arch::here()?;
        let name = format!("qemu-system-{}", arch.rust());
        if let Some(program) = process::on_path(&name) {
            return Ok(Self { arch, program, unpacked: None });
        }
        let package = match arch {
            Arch::Amd64 => "qemu-system-x86",
            Arch::Arm64 => "qemu-system-arm",
        };
        // Installing it may remove installed packages, so it is only unpacked.
        let root = Apt::first_that_works(&home.join("apt"), |apt| {
            let needed = |name: &str| {
                ["lib", "qemu-system-", "seabios"].iter().any(|start| name.starts_with(start))
            };
            packages::unpacked(apt, home, package, needed)
        })
        .with_context(|| format!("install {name}, or run on Debian"))?;
        Ok(Self { arch, program: root.join("usr/bin").join(name), unpacked: Some(root) })
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
            Accelerator::Tcg => ["-accel", "tcg,thread=multi"],
            Accelerator::Kvm => ["-accel", "kvm"],
        });
        command.args(["-cpu", self.processor(accelerator)]);
        command.args(["-m", "1G", "-smp", &boot.cpus.to_string()]);
        for log in [console, report] {
            File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
        }
        command.arg("-serial").arg(format!("file:{}", console.display()));
        let terminal = match self.arch {
            Arch::Amd64 => {
                // microvm, the smaller machine, hangs.
                command.args(["-M", "pc", "-device", "isa-debug-exit,iobase=0xf4,iosize=4"]);
                command.arg("-serial").arg(format!("file:{}", report.display()));
                "ttyS0"
            }
            Arch::Arm64 => {
                // It has one serial port of its own; the other one is a card.
                command.args(["-M", "virt,gic-version=3"]);
                command.args(["-semihosting-config", "enable=on,target=native,userspace=on"]);
                command.arg("-chardev").arg(format!("file,id=report,path={}", report.display()));
                command.args(["-device", "pci-serial,chardev=report"]);
                "ttyAMA0"
            }
        };
        command.arg("-kernel").arg(boot.kernel).arg("-initrd").arg(boot.initrd);
        // An oops is a bug even if the machine could go on.
        command.arg("-append").arg(format!("console={terminal} panic=-1 oops=panic quiet"));
        command.stdin(Stdio::null());
        let child = command.spawn();
        let mut child =
            child.with_context(|| format!("cannot start: {}", process::shown(&command)))?;
        let end = wait(&mut child, boot.limit, interrupt, &mut progress);
        if !matches!(end, Ok(End::Exit(_))) {
            // It may have ended meanwhile.
            let _ = child.kill();
            child.wait()?;
        }
        progress();
        end
    }

    /// Everything that qemu can emulate; for arm64 what clouds have, since older kernels do not start
    /// on newer processors.
    const fn processor(&self, accelerator: Accelerator) -> &'static str {
        match (accelerator, self.arch) {
            (Accelerator::Kvm, _) => "host",
            (Accelerator::Tcg, Arch::Amd64) => "max",
            (Accelerator::Tcg, Arch::Arm64) => "neoverse-n1",
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        if let Some(root) = &self.unpacked {
            let libraries = root.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH));
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
    let old = root.join(format!("lib/{}-linux-gnu", env::consts::ARCH));
    format!("{}:{}", libraries.display(), old.display())
}

fn wait(
    child: &mut Child,
    limit: Duration,
    interrupt: &Interrupt,
    progress: &mut impl FnMut(),
) -> Result<End> {
    let deadline = Instant::now() + limit;
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
