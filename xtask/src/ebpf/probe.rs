//! Examines the compilers of this machine, in the order of preference.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

use super::{
    TARGET, ask,
    choice::{Compiler, Core, llvm_of_rustc},
    clean, debian,
};
use crate::{process, workspace::Workspace};

/// Every compiler that starts; only the one demanded by `EBPF_RUSTC`, if it is set.
pub(super) fn compilers(workspace: &Workspace) -> Result<Vec<Compiler>> {
    if let Some(rustc) = env::var_os("EBPF_RUSTC").filter(|value| !value.is_empty()) {
        let rustc = PathBuf::from(rustc);
        let Some(compiler) = look_at("EBPF_RUSTC", &rustc, None) else {
            bail!("EBPF_RUSTC={} is no rustc with LLVM that starts", rustc.display());
        };
        return Ok(vec![Compiler { explicit: true, ..compiler }]);
    }
    let nightly = rustup_rustc(workspace, &["--toolchain", "nightly"]);
    let own = rustup_rustc(workspace, &[]).or_else(|| process::on_path("rustc"));
    let unpacked = debian::unpacked(workspace);
    let found = [
        nightly.and_then(|rustc| look_at("rustup's nightly", &rustc, None)),
        own.and_then(|rustc| look_at("the workspace's own rustc", &rustc, None)),
        look_at("the distribution's rustc", Path::new("/usr/bin/rustc"), None),
        unpacked.and_then(|(rustc, libs)| look_at("Debian's rustc", &rustc, Some(libs))),
    ];
    Ok(found.into_iter().flatten().collect())
}

/// The program behind rustup's proxy, which neither installs nor updates anything.
fn rustup_rustc(workspace: &Workspace, toolchain: &[&str]) -> Option<PathBuf> {
    let mut command = Command::new("rustup");
    clean(&mut command).env("RUSTUP_AUTO_INSTALL", "0").current_dir(&workspace.root);
    let printed = process::capture(command.arg("which").args(toolchain).arg("rustc")).ok()?;
    Some(printed.into())
}

fn look_at(name: &'static str, rustc: &Path, libraries: Option<PathBuf>) -> Option<Compiler> {
    let libs = libraries.as_deref();
    let llvm = llvm_of_rustc(&ask(rustc, libs, &["-vV"])?)?;
    let sysroot = PathBuf::from(ask(rustc, libs, &["--print", "sysroot"])?);
    let core = core(rustc, libs, &sysroot);
    Some(Compiler {
        name,
        explicit: false,
        rustc: rustc.to_owned(),
        cargo: cargo(&sysroot, core),
        llvm,
        libllvm: libllvm(&sysroot, libs, llvm),
        core,
        libraries,
    })
}

fn core(rustc: &Path, libraries: Option<&Path>, sysroot: &Path) -> Option<Core> {
    let target = ["--print", "target-libdir", "--target", TARGET];
    let folder = PathBuf::from(ask(rustc, libraries, &target)?);
    let source = || sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").exists();
    if names(&folder).any(|name| name.starts_with("libcore-") && name.ends_with(".rlib")) {
        Some(Core::Prebuilt)
    } else {
        source().then_some(Core::Source)
    }
}

/// The source of a library is built by the cargo of its own release; for the rest the workspace's
/// is better than a distribution's, which may be older than the manifests.
fn cargo(sysroot: &Path, core: Option<Core>) -> PathBuf {
    let own = sysroot.join("bin/cargo");
    if core == Some(Core::Source) && own.exists() { own } else { "cargo".into() }
}

/// The compiler's shared LLVM: beside it, or where distributions keep theirs.
fn libllvm(sysroot: &Path, libraries: Option<&Path>, llvm: u32) -> Option<PathBuf> {
    let prefix = format!("libLLVM.so.{llvm}.");
    let architecture = format!("/usr/lib/{}-linux-gnu", env::consts::ARCH);
    let system = [architecture.as_str(), "/usr/lib64", "/usr/lib"].map(PathBuf::from);
    let own = libraries.map(Path::to_owned).into_iter().chain([sysroot.join("lib")]);
    own.chain(system).find_map(|folder| {
        names(&folder).find(|name| name.starts_with(&prefix)).map(|name| folder.join(name))
    })
}

/// The names in a folder; none if there is no such folder.
pub(super) fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok())
}
