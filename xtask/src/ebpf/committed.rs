//! The eBPF object that is committed, so that trying Paramedic needs no eBPF toolchain.
//!
//! A file beside it has the hash of the sources that it was made from. An object of other sources
//! is stale: no task embeds it, and a test fails.
use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::{
    arch::Arch,
    workspace::{Workspace, write_if_changed},
};

/// Everything that the object is made from.
const SOURCES: [&str; 7] = [
    "agent-ebpf/Cargo.toml",
    "agent-ebpf/Cargo.lock",
    "agent-ebpf/src",
    "agent-common/Cargo.toml",
    "agent-common/src",
    "crates/protocol/Cargo.toml",
    "crates/protocol/src",
];

/// The folder, per architecture: the programs read the registers of its machines.
fn folder(root: &Path, arch: Arch) -> PathBuf {
    root.join("crates/probes/object").join(arch.rust())
}

/// Whether the committed object is made from the present sources.
pub(crate) fn is_fresh(workspace: &Workspace, arch: Arch) -> Result<bool> {
    let folder = folder(&workspace.root, arch);
    match fs::read_to_string(folder.join("sources.sha256")) {
        Ok(hash) => {
            Ok(hash.trim() == hash_of(&workspace.root)? && folder.join("paramedic-ebpf").exists())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", folder.display())),
    }
}

/// Replaces the committed object by one of the present sources.
pub(crate) fn replace(workspace: &Workspace, arch: Arch, object: &[u8]) -> Result<PathBuf> {
    let folder = folder(&workspace.root, arch);
    let file = folder.join("paramedic-ebpf");
    write_if_changed(&file, object)?;
    let hash = hash_of(&workspace.root)? + "\n";
    write_if_changed(&folder.join("sources.sha256"), hash.as_bytes())?;
    Ok(file)
}

/// The committed object, if it is made from the present sources.
pub(crate) fn read(workspace: &Workspace, arch: Arch) -> Result<Vec<u8>> {
    ensure!(
        is_fresh(workspace, arch)?,
        "the committed eBPF object for {} is missing or not of these sources: `cargo xtask build-ebpf \
         --commit` replaces it",
        arch.name()
    );
    let file = folder(&workspace.root, arch).join("paramedic-ebpf");
    fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
}

/// The hash of all sources, with their paths.
fn hash_of(root: &Path) -> Result<String> {
    let mut files = Vec::new();
    for source in SOURCES {
        list(&root.join(source), &mut files)?;
    }
    files.sort();
    let mut hash = Sha256::new();
    for file in files {
        let path = file.strip_prefix(root)?.to_string_lossy().into_owned();
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        hash.update(format!("{path} {}\n", bytes.len()));
        hash.update(&bytes);
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn list(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let cannot = || format!("cannot read {}", path.display());
    if !path.metadata().with_context(cannot)?.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    for entry in fs::read_dir(path).with_context(cannot)? {
        list(&entry.with_context(cannot)?.path(), files)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    #[test]
    fn the_committed_objects_are_made_from_these_sources() {
        for arch in Arch::ALL {
            let file = folder(&root(), arch).join("sources.sha256");
            let committed = fs::read_to_string(file).unwrap();
            assert_eq!(
                committed.trim(),
                hash_of(&root()).unwrap(),
                "`cargo xtask build-ebpf --commit` replaces it"
            );
        }
    }

    #[test]
    fn another_byte_in_a_source_is_another_hash() {
        let folder = tempfile::tempdir().unwrap();
        for source in SOURCES {
            let file = match source.ends_with("src") {
                true => folder.path().join(source).join("main.rs"),
                false => folder.path().join(source),
            };
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "a").unwrap();
        }
        let before = hash_of(folder.path()).unwrap();
        assert_eq!(hash_of(folder.path()).unwrap(), before);
        fs::write(folder.path().join("agent-ebpf/src/main.rs"), "b").unwrap();
        assert_ne!(hash_of(folder.path()).unwrap(), before);
    }
}
