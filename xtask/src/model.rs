//! The Python package in `model/`, and the environment below `target/` that it runs in.
use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use crate::{process, venv::Venv, workspace::Workspace};

/// The requirements of the package: its libraries, and the tools that check and test it.
const REQUIREMENTS: [&str; 2] = ["requirements.txt", "requirements-check.txt"];

/// The package with an interpreter that has all of it.
pub struct Package {
    python: PathBuf,
    /// `model/`.
    pub folder: PathBuf,
}

impl Package {
    /// Sets up what is missing. `base` is Python 3.11 or newer.
    pub fn ready(workspace: &Workspace, base: &Path) -> Result<Self> {
        let folder = workspace.root.join("model");
        let dir = workspace.target.join("venv");
        let what = "the training libraries (about 500 MB)";
        let requirements = REQUIREMENTS.map(|file| folder.join(file));
        let python = Venv { dir, base, what }.ready(&requirements)?;
        Ok(Self { python, folder })
    }

    /// `python -m`, which finds the package wherever it is called.
    pub fn module(&self, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        // -B: no bytecode, so that the folder of the sources does not change. -P: no module in the
        // caller's folder replaces a library.
        command.args(["-B", "-P", "-m", name]).env("PYTHONPATH", &self.folder);
        command
    }

    /// The package's tests; what they write goes below `target`.
    pub fn test(&self, target: &Path) -> Result<()> {
        let mut pytest = self.module("pytest");
        pytest.args(["-p", "no:cacheprovider", "--basetemp"]).arg(target.join("pytest"));
        process::run("pytest: model", pytest.current_dir(&self.folder))
    }
}
