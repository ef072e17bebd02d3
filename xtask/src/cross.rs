//! The C compiler for another architecture than this machine's, which compiles what is in C and links:
//! Debian's, from `PATH` or unpacked below the target directory.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, ensure};

use crate::{
    apt::{self, Apt},
    arch::Arch,
    process,
    workspace::{Workspace, write_if_changed},
};

/// A standard library is some 30 MB.
const STANDARD_LIBRARY: Duration = Duration::from_secs(300);

/// The setting that a command needs to build for the architecture; none for this machine's own.
///
/// # Errors
/// Neither an installed compiler nor Debian's packages can be had, or rustup has no standard library
/// for it.
pub fn set_up(workspace: &Workspace, arch: Arch, cargo: &mut Command) -> Result<()> {
    if arch.is_here() {
        return Ok(());
    }
    standard_library(workspace, arch)?;
    let tools = tools(workspace, arch)?;
    let target = arch.target().replace('-', "_");
    let linker = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase());
    cargo.env(linker, &tools.compiler);
    cargo.env(format!("CC_{target}"), &tools.compiler);
    cargo.env(format!("AR_{target}"), &tools.archiver);
    Ok(())
}

/// The version of the C library for another architecture.
///
/// # Errors
/// As for [`set_up`].
pub fn glibc(workspace: &Workspace, arch: Arch) -> Result<String> {
    let mut ask = Command::new(tools(workspace, arch)?.compiler);
    ask.args(["-E", "-P", "-include", "features.h", "-x", "c", "-dM", "/dev/null"]);
    glibc_of(&process::capture(&mut ask)?).context("its C library is not glibc")
}

/// From its macros.
fn glibc_of(macros: &str) -> Option<String> {
    let number = |name: &str| {
        let value = |line: &str| line.strip_prefix(&format!("#define {name} ")).map(str::to_owned);
        macros.lines().find_map(value)
    };
    Some(format!("{}.{}", number("__GLIBC__")?, number("__GLIBC_MINOR__")?))
}

struct Tools {
    compiler: PathBuf,
    archiver: PathBuf,
}

fn standard_library(workspace: &Workspace, arch: Arch) -> Result<()> {
    let rustup = || {
        let mut rustup = Command::new("rustup");
        rustup.current_dir(&workspace.root);
        rustup
    };
    let installed = process::capture(rustup().args(["target", "list", "--installed"]))
        .with_context(|| format!("rustup adds what Rust needs for {}", arch.name()))?;
    let target = arch.target();
    if installed.lines().any(|line| line == target) {
        return Ok(());
    }
    let step = format!("add Rust's standard library for {}", arch.name());
    process::run_within(&step, STANDARD_LIBRARY, rustup().args(["target", "add", &target]))
}

fn tools(workspace: &Workspace, arch: Arch) -> Result<Tools> {
    let name = |tool: &str| format!("{}-linux-gnu-{tool}", arch.rust());
    if let (Some(compiler), Some(archiver)) =
        (process::on_path(&name("gcc")), process::on_path(&name("ar")))
    {
        return Ok(Tools { compiler, archiver });
    }
    let home = workspace.target.join("cross").join(arch.name());
    let root = home.join("root");
    if !root.exists() {
        Apt::first_that_works(&home.join("apt"), |apt| unpack(apt, arch, &home))
            .with_context(|| format!("install {}, or run on Debian", package(arch)))?;
    }
    Ok(Tools { compiler: shim(&home, &name("gcc"))?, archiver: shim(&home, &name("ar"))? })
}

/// Debian's compiler.
fn package(arch: Arch) -> String {
    format!("gcc-{}-linux-gnu", arch.rust().replace('_', "-"))
}

/// The C library for it, with which programs are linked statically.
fn library(arch: Arch) -> String {
    format!("libc6-dev-{}-cross", arch.name())
}

/// Fetches the compiler, and what it needs that is not on every Debian.
fn unpack(apt: &Apt, arch: Arch, home: &Path) -> Result<()> {
    let wanted = needed(&apt.closure(&[&package(arch), &library(arch)])?);
    ensure!(wanted.contains(&library(arch)), "no package {}", library(arch));
    let debs = home.join("debs");
    apt.download(&format!("download Debian's C compiler for {}", arch.name()), &wanted, &debs)?;
    apt::unpack(&debs, &home.join("root"))?;
    let _ = fs::remove_dir_all(&debs);
    Ok(())
}

/// From the closure that `apt-cache depends --recurse` prints: everything but what dpkg and the shell
/// need too, which every machine has (never a second C library for this machine).
fn needed(closure: &str) -> Vec<String> {
    const EVERYWHERE: [&str; 5] = ["libc6", "libgcc-s1", "libstdc++6", "zlib1g", "gcc-12-base"];
    apt::names(closure).filter(|name| !EVERYWHERE.contains(name)).map(str::to_owned).collect()
}

/// A script that starts a tool with the shared libraries that were unpacked with it.
fn shim(home: &Path, name: &str) -> Result<PathBuf> {
    let usr = home.join("root/usr");
    let libraries = format!("{}/lib/{}-linux-gnu", usr.display(), std::env::consts::ARCH);
    let tool = usr.join("bin").join(name);
    ensure!(tool.exists(), "{} is missing: remove {}", tool.display(), home.display());
    let script =
        format!("#!/bin/sh\nLD_LIBRARY_PATH='{libraries}' exec '{}' \"$@\"\n", tool.display());
    let path = home.join(name);
    if write_if_changed(&path, script.as_bytes())? {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))?;
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_machine_has_is_not_fetched() {
        let closure = "gcc-aarch64-linux-gnu\n  Depends: cpp-aarch64-linux-gnu\nlibc6\nlibmpc3\n\
                       libc6-dev-arm64-cross\n<virtual>\nlibgcc-s1\nlibgcc-s1-arm64-cross\n";
        let taken =
            ["gcc-aarch64-linux-gnu", "libmpc3", "libc6-dev-arm64-cross", "libgcc-s1-arm64-cross"];
        assert_eq!(needed(closure), taken);
    }

    #[test]
    fn the_c_library_tells_its_version_in_macros() {
        let macros = "#define __GNUC__ 12\n#define __GLIBC__ 2\n#define __GLIBC_MINOR__ 36\n";
        assert_eq!(glibc_of(macros).as_deref(), Some("2.36"));
        assert_eq!(glibc_of("#define __GLIBC__ 2\n"), None);
    }

    #[test]
    fn packages_have_debians_names() {
        assert_eq!(package(Arch::Arm64), "gcc-aarch64-linux-gnu");
        assert_eq!(library(Arch::Arm64), "libc6-dev-arm64-cross");
        assert_eq!(package(Arch::Amd64), "gcc-x86-64-linux-gnu");
    }
}
