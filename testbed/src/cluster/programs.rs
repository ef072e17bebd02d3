//! The folder of programs that the caller provides.
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// A program, and where to get it.
struct Program {
    /// Its path in the folder.
    path: &'static str,
    source: &'static str,
}

const fn program(path: &'static str, source: &'static str) -> Program {
    Program { path, source }
}

const BUILT: &str = "`cargo xtask cluster build` makes it from sources";

const PROGRAMS: [Program; 15] = [
    program("etcd", BUILT),
    program("kube-apiserver", BUILT),
    program("kube-controller-manager", BUILT),
    program("kube-scheduler", BUILT),
    program("kubelet", BUILT),
    program("pause", BUILT),
    program("kubectl", "Debian's kubernetes-client, or https://kubernetes.io/docs/tasks/tools/"),
    program("containerd", "Debian's containerd, 2.0 or newer"),
    program("containerd-shim-runc-v2", "Debian's containerd, 2.0 or newer"),
    program("ctr", "Debian's containerd, 2.0 or newer"),
    program("runc", "Debian's runc"),
    program("cni/bridge", "Debian's containernetworking-plugins"),
    program("cni/host-local", "Debian's containernetworking-plugins"),
    program("cni/loopback", "Debian's containernetworking-plugins"),
    program("cni/portmap", "Debian's containernetworking-plugins"),
];

/// The folder, absolute, with every program in it.
///
/// # Errors
/// Which programs are missing, and where to get them.
pub(super) fn find(folder: &Path) -> Result<PathBuf> {
    // The links in it stay: one binary may be several programs, by the name that it is called by.
    let folder = std::path::absolute(folder)
        .with_context(|| format!("--programs {}: no such path", folder.display()))?;
    let missing = missing(&folder);
    if !missing.is_empty() {
        bail!("missing in {}:\n{}", folder.display(), missing.join("\n"));
    }
    Ok(folder)
}

fn missing(folder: &Path) -> Vec<String> {
    let absent = PROGRAMS.iter().filter(|program| !folder.join(program.path).is_file());
    absent.map(|Program { path, source }| format!("  {path}: {source}")).collect()
}

/// `PATH` with the folder first: containerd looks for its shim and runc there.
pub(super) fn path(folder: &Path) -> Result<OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    let folders = [folder.to_owned()].into_iter().chain(env::split_paths(&old));
    env::join_paths(folders).with_context(|| format!("{} contains a colon", folder.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_missing_program_is_named_with_its_source() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cni")).unwrap();
        for program in &PROGRAMS {
            fs::write(folder.path().join(program.path), "").unwrap();
        }
        assert_eq!(find(folder.path()).unwrap(), folder.path());
        fs::remove_file(folder.path().join("cni/bridge")).unwrap();
        fs::remove_file(folder.path().join("kubelet")).unwrap();
        let said = find(folder.path()).unwrap_err().to_string();
        let lines: Vec<&str> = said.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "  kubelet: `cargo xtask cluster build` makes it from sources",
                "  cni/bridge: Debian's containernetworking-plugins",
            ]
        );
    }
}
