//! A compiler and a linker for the BPF target: found, else set up below the target directory.
//!
//! The two must fit: bpf-linker reads the bitcode of compilers up to the LLVM that it was built
//! with. So `choice` (pure) decides from facts about both, which `probe` gathers. If there is no
//! fit, `provision` installs what is missing, one way after another.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    process,
    workspace::{Workspace, write_if_changed},
};
use choice::Compiler;

mod choice;
pub(crate) mod committed;
mod debian;
mod linker;
mod probe;
mod provision;

/// The kernel's instruction set, as a target of rustc: little-endian, like every machine that
/// Paramedic runs on.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// A toolchain that can compile and link.
pub(crate) struct Ready {
    /// Its description, for people.
    pub(crate) compiler: String,
    /// The cargo that goes with the compiler.
    pub(crate) cargo: PathBuf,
    /// A folder with `rustc` and `bpf-linker`.
    pub(crate) programs: PathBuf,
    /// The compiler has no core library for the target, but its source.
    pub(crate) build_core: bool,
}

/// Finds a toolchain, or sets one up, or returns one error that says how to install one.
pub(crate) fn get_ready(workspace: &Workspace) -> Result<Ready> {
    let mut failed = Vec::new();
    if let Some(ready) = first_that_works(workspace, &mut failed)? {
        return Ok(ready);
    }
    for remedy in provision::REMEDIES {
        if let Err(error) = remedy(workspace) {
            eprintln!("    {error:#}");
            failed.push((PathBuf::new(), format!("{error:#}")));
        } else if let Some(ready) = first_that_works(workspace, &mut failed)? {
            return Ok(ready);
        }
    }
    bail!(out_of_reach(&failed))
}

/// The first fitting compiler for which there is a linker or for which one can be built; those
/// whose linker failed are remembered in `failed`, since that takes minutes.
fn first_that_works(
    workspace: &Workspace,
    failed: &mut Vec<(PathBuf, String)>,
) -> Result<Option<Ready>> {
    let linkers = linker::probe(workspace);
    let compilers = probe::compilers(workspace)?;
    for compiler in choice::fitting(&compilers, &linkers) {
        if failed.iter().any(|(rustc, _)| *rustc == compiler.rustc) {
            continue;
        }
        match linker::for_compiler(workspace, compiler, &linkers) {
            Ok(linker) => return ready(workspace, compiler, &linker).map(Some),
            Err(error) => {
                eprintln!("    {error:#}");
                failed.push((compiler.rustc.clone(), format!("{error:#}")));
            }
        }
    }
    for (compiler, reason) in choice::unfit(&compilers, &linkers) {
        eprintln!("    not {compiler}: {reason}");
    }
    if let Some(explicit) = compilers.iter().find(|c| c.explicit) {
        bail!("EBPF_RUSTC={} cannot compile for {TARGET}", explicit.rustc.display());
    }
    Ok(None)
}

fn ready(workspace: &Workspace, compiler: &Compiler, linker: &Path) -> Result<Ready> {
    let programs = workspace.target.join("ebpf/programs");
    shim(&programs.join("rustc"), &compiler.rustc, compiler.libraries.as_deref())?;
    shim(&programs.join("bpf-linker"), linker, linker::libraries(workspace).as_deref())?;
    Ok(Ready {
        compiler: compiler.to_string(),
        cargo: compiler.cargo.clone(),
        programs,
        build_core: compiler.core == Some(choice::Core::Source),
    })
}

/// A script that starts `program` with its unpacked libraries, which keeps them away from cargo and
/// from build scripts.
fn shim(path: &Path, program: &Path, libraries: Option<&Path>) -> Result<()> {
    let libraries = libraries
        .map(|folder| format!("LD_LIBRARY_PATH='{}' ", folder.display()))
        .unwrap_or_default();
    let script = format!("#!/bin/sh\n{libraries}exec '{}' \"$@\"\n", program.display());
    if write_if_changed(path, script.as_bytes())? {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))
            .with_context(|| format!("cannot make {} executable", path.display()))?;
    }
    Ok(())
}

/// Removes the variables that would affect another toolchain: cargo sets many of them for xtask
/// itself, and flags for this machine's processor mean nothing for BPF. Settings of the network,
/// the registry and the terminal stay.
pub(crate) fn clean(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(steers_a_toolchain) {
            command.env_remove(&name);
        }
    }
    command
}

fn steers_a_toolchain(name: &str) -> bool {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_SOURCE_",
        "CARGO_TERM_",
    ];
    const STEERING: [&str; 4] =
        ["RUSTC_BOOTSTRAP", "RUSTFLAGS", "RUSTUP_TOOLCHAIN", "RUST_TARGET_PATH"];
    (name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept)))
        || ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTDOC"].contains(&name)
        || STEERING.contains(&name)
}

/// The error that ends the search: what was tried, and both solutions.
fn out_of_reach(failed: &[(PathBuf, String)]) -> String {
    let tried: String = failed
        .iter()
        .map(|(_, reason)| format!("\n  - {}", reason.replace('\n', "\n    ")))
        .collect();
    format!(
        "no toolchain on this machine compiles for {TARGET}, and none could be set up:{tried}\n\
         Do one of these, then run `cargo xtask build-ebpf` again:\n  \
         * rustup toolchain install nightly --profile minimal --component rust-src\n    \
           (bpf-linker is built here, unless `cargo binstall bpf-linker@{linker}` did it before)\n  \
         * Debian 12: apt-get install {debian}",
        linker = linker::VERSION,
        debian = debian::WANTED.join(" "),
    )
}

/// Runs a program of another toolchain, without the settings for this one.
fn ask(program: &Path, libraries: Option<&Path>, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    clean(&mut command).args(arguments);
    if let Some(libraries) = libraries {
        command.env("LD_LIBRARY_PATH", libraries);
    }
    process::capture(&mut command).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_steers_a_toolchain_is_removed() {
        for name in ["CARGO", "CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "RUSTC", "RUSTFLAGS"] {
            assert!(steers_a_toolchain(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "PATH", "RUST_BACKTRACE"] {
            assert!(!steers_a_toolchain(name), "{name}");
        }
    }

    #[test]
    fn the_last_error_names_what_was_tried_and_both_remedies() {
        let error = out_of_reach(&[(PathBuf::new(), "rustup is away".into())]);
        for part in
            ["- rustup is away", "--component rust-src", "bpf-linker", "libstd-rust-web-dev-bpf"]
        {
            assert!(error.contains(part), "{part} is missing from {error}");
        }
    }
}
