//! Debian's rustc with its prebuilt core for BPF, unpacked below the target directory: no root, and
//! nothing installed.
//!
//! Debian 12 carries a recent rustc beside its own (`rustc-web`, for browsers), and every suite
//! keeps the compiler, its core libraries and LLVM in packages that unpack to a working tree.
use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use super::{TARGET, probe::names};
use crate::{
    apt::{self, Apt, DOWNLOAD},
    process,
    workspace::Workspace,
};

/// The packages. Their dependencies among each other and on LLVM are fetched with them.
pub(super) const WANTED: [&str; 2] = ["rustc-web", "libstd-rust-web-dev-bpf"];

/// The unpacked compiler and its shared libraries.
pub(super) fn unpacked(workspace: &Workspace) -> Option<(PathBuf, PathBuf)> {
    let usr = tree(workspace).join("usr");
    let rustc = usr.join("bin/rustc");
    let library_folder = |name: String| usr.join("lib").join(name);
    let holds_llvm = |dir: &PathBuf| names(dir).any(|name| name.starts_with("libLLVM.so."));
    let libraries = names(&usr.join("lib")).map(library_folder).find(holds_llvm)?;
    rustc.exists().then_some((rustc, libraries))
}

fn tree(workspace: &Workspace) -> PathBuf {
    workspace.target.join("ebpf-toolchain")
}

/// Fetches the packages and unpacks them: with this machine's package lists, else with lists of
/// our own.
pub(super) fn unpack(workspace: &Workspace) -> Result<()> {
    let folder = tree(workspace).join("packages");
    let lists = tree(workspace).join("apt");
    Apt::first_that_works(&lists, |apt| fetch(apt, &folder))
        .context("Debian's packages cannot be had")?;
    install(&folder, &tree(workspace))?;
    ensure!(unpacked(workspace).is_some(), "Debian's packages hold no rustc with its LLVM");
    for leftover in [folder, lists, tree(workspace).join("part")] {
        let _ = fs::remove_dir_all(leftover);
    }
    Ok(())
}

fn fetch(apt: &Apt, folder: &Path) -> Result<()> {
    let packages = needed(&apt.closure(&WANTED)?);
    for wanted in WANTED {
        ensure!(packages.iter().any(|name| name == wanted), "no package {wanted}: not Debian 12?");
    }
    let _ = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut download = apt.command("apt-get");
    download.arg("download").args(&packages).current_dir(folder);
    process::run_within("download Debian's rustc for BPF", DOWNLOAD, &mut download)
}

/// From the closure that `apt-cache depends --recurse` prints: the compiler, its libraries and the
/// libraries that LLVM needs. Others are not needed (gcc, headers), or dpkg and the shell need them
/// too, so every machine has them (zlib and the like; never a second C library).
fn needed(closure: &str) -> Vec<String> {
    const LIBRARIES: [&str; 9] = [
        "libbsd0",
        "libedit2",
        "libffi",
        "libicu",
        "libllvm",
        "libmd0",
        "libstd-rust",
        "libxml2",
        "libz3-4",
    ];
    apt::names(closure)
        .filter(|name| {
            WANTED.contains(name) || LIBRARIES.iter().any(|library| name.starts_with(library))
        })
        .filter(|name| !name.ends_with("-dev") || name.starts_with("libstd-rust"))
        .map(str::to_owned)
        .collect()
}

/// The tree appears complete or not at all.
fn install(packages: &Path, tree: &Path) -> Result<()> {
    process::announce(&format!("unpack Debian's rustc for {TARGET} below {}", tree.display()));
    let (part, usr) = (tree.join("part"), tree.join("usr"));
    let _ = fs::remove_dir_all(&part);
    apt::unpack(packages, &part)?;
    let _ = fs::remove_dir_all(&usr);
    fs::rename(part.join("usr"), &usr)
        .with_context(|| format!("cannot put the packages into {}", usr.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_and_its_libraries_are_taken_from_the_closure() {
        let closure = "rustc-web\n  Depends: libc6\n |Depends: gcc\nlibc6\nlibc6-dev\ngcc-12\n\
            libstd-rust-web-dev\nlibstd-rust-web-dev-bpf\nlibstd-rust-web-1.96\nlibllvm22\n\
            libz3-4\nzlib1g\nlibicu72\n<virtual>\nlibtirpc-dev\n";
        let taken = [
            "rustc-web",
            "libstd-rust-web-dev",
            "libstd-rust-web-dev-bpf",
            "libstd-rust-web-1.96",
            "libllvm22",
            "libz3-4",
            "libicu72",
        ];
        assert_eq!(needed(closure), taken);
    }
}
