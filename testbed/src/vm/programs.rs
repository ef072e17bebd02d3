//! The programs in the machines: the ordinary builds, as the tests use them here, each at the path
//! that it has here. A second, static build of everything would take longer than the whole matrix.
//! For another architecture there is no ordinary build: what is needed there is linked statically.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use xtask::{
    apt::{Apt, Release},
    arch::Arch,
    build_ebpf, cross, process,
    workspace::Workspace,
};

use super::packages;
use crate::dynamic;

/// Where each program is.
pub(super) struct Programs {
    arch: Arch,
    pub(super) init: PathBuf,
    pub(super) agent: PathBuf,
    pub(super) patient: PathBuf,
    /// The test binaries `kernel` and `live`.
    pub(super) kernel: PathBuf,
    pub(super) live: PathBuf,
    /// This program, which plays the demo there; not built for another architecture.
    pub(super) testbed: Option<PathBuf>,
}

/// The tools that the tests and the demo call by name.
const TOOLS: [&str; 3] = ["sh", "sleep", "unshare"];

/// What is built for another architecture.
const PACKAGES: [&str; 3] = ["vm-init", "paramedic", "patient-app"];

impl Programs {
    pub(super) fn build(workspace: &Workspace, arch: Arch) -> Result<Self> {
        build_ebpf::build(workspace, arch)?;
        process::announce("build what runs in the machines (some minutes the first time)");
        let mut cargo = Command::new("cargo");
        cargo.current_dir(&workspace.root).args(["build", "--locked", "--bins"]);
        if arch.is_here() {
            cargo.arg("--workspace");
        } else {
            cross::set_up(workspace, arch, &mut cargo)?;
            cargo.args(PACKAGES.iter().flat_map(|package| ["--package", package]));
            cargo.args(["--target", &arch.target()]);
            cargo.env("CARGO_ENCODED_RUSTFLAGS", "-Ctarget-feature=+crt-static");
            // The tools of this machine cannot do it afterwards.
            cargo.env("CARGO_PROFILE_DEV_STRIP", "debuginfo");
        }
        cargo.args(["--test", "kernel", "--test", "live"]);
        cargo.args(["--message-format", "json-render-diagnostics"]);
        cargo.stderr(std::process::Stdio::inherit());
        let output = cargo.output().context("cannot start cargo")?;
        ensure!(output.status.success(), "{}: {}", output.status, process::shown(&cargo));
        let built = executables(&String::from_utf8_lossy(&output.stdout));
        let find = |kind: &str, name: &str| {
            let found = built.iter().find(|built| built.kind == kind && built.name == name);
            found.map(|built| built.path.clone()).with_context(|| format!("cargo built no {name}"))
        };
        Ok(Self {
            arch,
            init: find("bin", "vm-init")?,
            agent: find("bin", "paramedic")?,
            patient: find("bin", "patient-app")?,
            kernel: find("test", "kernel")?,
            live: find("test", "live")?,
            testbed: arch.is_here().then(|| find("bin", "testbed")).transpose()?,
        })
    }

    /// Every file that the machines need, with its path there; those that only load need few.
    pub(super) fn files(&self, load: bool, home: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
        let mut own = vec![&self.agent, &self.kernel];
        if !load {
            own.extend([&self.patient, &self.live].into_iter().chain(&self.testbed));
        }
        if !self.arch.is_here() {
            return self.foreign(&own, home);
        }
        // The programs are copied without their debug information, which is most of them.
        let scratch = home.join("stripped");
        fs::create_dir_all(&scratch)
            .with_context(|| format!("cannot make {}", scratch.display()))?;
        let mut files = vec![(PathBuf::from("/init"), dynamic::strip(&self.init, &scratch)?)];
        for program in own {
            files.push((program.clone(), dynamic::strip(program, &scratch)?));
        }
        let tool = |name| process::on_path(name).with_context(|| format!("no {name} on PATH"));
        for name in TOOLS {
            files.push((Path::new("/usr/bin").join(name), tool(name)?));
        }
        // The shebang and `system(3)` know no other place.
        files.push((PathBuf::from("/bin/sh"), tool("sh")?));
        let libraries = dynamic::libraries(files.iter().map(|(_, source)| source.as_path()))?;
        files.extend(libraries.into_iter().map(|library| (library.clone(), library)));
        Ok(files)
    }

    /// The same of static programs, with Debian's busybox as tools.
    fn foreign(&self, own: &[&PathBuf], home: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
        let release = Release { name: "bookworm", arch: self.arch };
        let folder = Apt::of_release(&home.join("apt"), release, |apt| {
            packages::unpacked(apt, &home.join(self.arch.name()), "busybox-static", |_| false)
        })?;
        let busybox = folder.join("bin/busybox");
        let mut files = vec![(PathBuf::from("/init"), self.init.clone())];
        files.extend(own.iter().map(|program| ((*program).clone(), (*program).clone())));
        let tools = TOOLS.iter().map(|name| Path::new("/usr/bin").join(name));
        let tools = tools.chain([PathBuf::from("/bin/sh")]);
        files.extend(tools.map(|tool| (tool, busybox.clone())));
        Ok(files)
    }
}

struct Built {
    kind: String,
    name: String,
    path: PathBuf,
}

#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The programs among cargo's messages.
fn executables(messages: &str) -> Vec<Built> {
    let built = |line: &str| {
        let message: Message = serde_json::from_str(line).ok()?;
        let target = message.target?;
        let kind = target.kind.into_iter().next()?;
        Some(Built { kind, name: target.name, path: message.executable? })
    };
    messages.lines().filter_map(built).collect()
}

/// Packs the files, and what a kernel needs in its first root, into an archive.
pub(super) fn pack(files: &[(PathBuf, PathBuf)], checkout: &Path, archive: &Path) -> Result<()> {
    let unwritten = || format!("cannot write {}", archive.display());
    let to = fs::File::create(archive).with_context(unwritten)?;
    let mut cpio = super::cpio::Archive::new(std::io::BufWriter::new(to));
    // Before anything is mounted.
    cpio.device(Path::new("/dev/console"), (5, 1)).with_context(unwritten)?;
    cpio.device(Path::new("/dev/null"), (1, 3)).with_context(unwritten)?;
    let hosts = b"127.0.0.1 localhost\n::1 localhost\n";
    cpio.file(Path::new("/etc/hosts"), hosts).with_context(unwritten)?;
    // The test bed looks for the checkout that it was built from.
    cpio.directory(checkout).with_context(unwritten)?;
    for (place, source) in files {
        let bytes =
            fs::read(source).with_context(|| format!("cannot read {}", source.display()))?;
        if bytes.is_empty() {
            bail!("{} is empty", source.display());
        }
        cpio.file(place, &bytes).with_context(unwritten)?;
    }
    cpio.finish().map(drop).with_context(unwritten)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"x","kind":["lib"]},"executable":null}
{"reason":"compiler-artifact","target":{"name":"live","kind":["test"]},"executable":"/t/live-1"}
{"reason":"build-finished","success":true}"#;
        let built = executables(messages);
        assert_eq!(built.len(), 1);
        assert_eq!((built[0].kind.as_str(), built[0].name.as_str()), ("test", "live"));
    }
}
