//! The paths of the checkout and of the directory for everything that is built.
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// The checkout and its target directory, both absolute.
pub struct Workspace {
    /// The directory of the workspace's Cargo.toml.
    pub root: PathBuf,
    /// `CARGO_TARGET_DIR`, relative to the root like the agent's build script reads it, else
    /// `target`.
    pub target: PathBuf,
}

impl Workspace {
    /// The workspace that this binary was built from.
    pub fn find() -> Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = manifest.parent().context("xtask stands at the root of a file system")?;
        let root = root.canonicalize().with_context(|| {
            format!("the checkout at {} has moved: build xtask again", root.display())
        })?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(dir) if !dir.is_empty() => root.join(dir),
            _ => root.join("target"),
        };
        Ok(Self { root, target })
    }

    /// Flags for rustc that keep the paths of this machine out of what it compiles, which would
    /// differ on another.
    pub fn without_paths(&self) -> Vec<String> {
        let home = |variable, default| {
            let set = env::var_os(variable).map(PathBuf::from);
            set.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(default)))
        };
        let places = [
            (Some(self.root.clone()), "/paramedic"),
            (home("CARGO_HOME", ".cargo"), "/cargo"),
            (home("RUSTUP_HOME", ".rustup"), "/rustup"),
        ];
        let flag = |(place, name): (Option<PathBuf>, _)| {
            Some(format!("--remap-path-prefix={}={name}", place?.display()))
        };
        places.into_iter().filter_map(flag).collect()
    }
}

/// The content of a file.
pub fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Writes `bytes` unless the file holds them already, so that builds that depend on its time stamp
/// are not repeated. Returns whether it wrote. The file appears complete or not at all.
pub fn write_if_changed(path: &Path, bytes: &[u8]) -> Result<bool> {
    let wanted = || format!("cannot write {}", path.display());
    match fs::read(path) {
        Ok(old) if old == bytes => return Ok(false),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(wanted),
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(wanted)?;
    }
    let mut name = path.file_name().with_context(wanted)?.to_owned();
    name.push(".part");
    let part = path.with_file_name(name);
    fs::write(&part, bytes).with_context(wanted)?;
    fs::rename(&part, path).with_context(wanted)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checkouts_path_is_not_compiled_in() {
        let workspace = Workspace { root: "/src".into(), target: "/src/target".into() };
        assert_eq!(workspace.without_paths()[0], "--remap-path-prefix=/src=/paramedic");
    }

    #[test]
    fn an_unchanged_file_keeps_its_time_stamp() {
        let folder = env::temp_dir().join(format!("xtask-write-{}", std::process::id()));
        let file = folder.join("below/object");
        assert!(write_if_changed(&file, b"one").unwrap());
        let first = fs::metadata(&file).unwrap().modified().unwrap();
        assert!(!write_if_changed(&file, b"one").unwrap());
        assert_eq!(fs::metadata(&file).unwrap().modified().unwrap(), first);
        assert!(write_if_changed(&file, b"two").unwrap());
        assert_eq!(fs::read(&file).unwrap(), b"two");
        fs::remove_dir_all(&folder).unwrap();
    }
}
