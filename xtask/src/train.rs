//! `cargo xtask train`: the shipped model, made anew by `model/train.py` with pinned libraries.
//!
//! The libraries live in a virtual environment below `target/`, so that nothing is installed into
//! the machine and `cargo clean` removes them. They are installed again only when
//! `model/requirements.txt` changes.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process, workspace::Workspace};

/// Train the model: writes model/healing_brain.onnx, model/golden.json and model/REPORT.md.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Train into a temporary folder, compare with the committed model, and write nothing
    #[arg(long)]
    check: bool,

    /// Python 3.11 or newer, to make the virtual environment with
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

/// Sets up what is missing, then trains; the report goes to the terminal as well.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let model = workspace.root.join("model");
    let python = Venv { dir: workspace.target.join("venv"), base: &args.python }
        .ready(&model.join("requirements.txt"))?;
    if args.check { check(&python, &model, &workspace.target) } else { train(&python, &model, &[]) }
}

/// Trains into a folder of its own, which goes away whatever comes of it.
fn check(python: &Path, model: &Path, target: &Path) -> Result<()> {
    let out = target.join(format!("train-check-{}", std::process::id()));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let outcome = train(python, model, &["--out".as_ref(), &out, "--against".as_ref(), model]);
    fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    outcome
}

fn train(python: &Path, model: &Path, args: &[&Path]) -> Result<()> {
    // No bytecode: the sources' folder is left as it was found.
    process::run("train", Command::new(python).arg("-B").arg(model.join("train.py")).args(args))
        .context("the model was not trained and nothing was written; the reason stands above")
}

/// A virtual environment and the interpreter that it is made with.
struct Venv<'a> {
    dir: PathBuf,
    base: &'a Path,
}

impl Venv<'_> {
    /// The environment's interpreter, with exactly these requirements installed.
    fn ready(&self, requirements: &Path) -> Result<PathBuf> {
        let wanted = fs::read_to_string(requirements)
            .with_context(|| format!("cannot read {}", requirements.display()))?;
        let python = self.dir.join("bin").join("python");
        let stamp = self.dir.join("requirements.installed");
        if python.exists() && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
            return Ok(python);
        }
        self.create()?;
        self.install(&python, requirements)?;
        fs::write(&stamp, wanted).with_context(|| format!("cannot write {}", stamp.display()))?;
        Ok(python)
    }

    fn create(&self) -> Result<()> {
        let recent = "import sys; sys.exit(sys.version_info < (3, 11))";
        process::run("check python", Command::new(self.base).args(["-c", recent])).with_context(
            || {
                format!(
                    "{} is not Python 3.11 or newer: install one, or name it with --python",
                    self.base.display()
                )
            },
        )?;
        let make = "make a virtual environment below target/";
        process::run(make, Command::new(self.base).args(["-m", "venv"]).arg(&self.dir)).with_context(|| {
            format!(
                "no virtual environment: install Python's venv module (Debian: `apt-get install \
                 python3-venv`), or delete {} if it is broken",
                self.dir.display()
            )
        })
    }

    fn install(&self, python: &Path, requirements: &Path) -> Result<()> {
        let mut pip = Command::new(python);
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"]);
        let install = "install the training libraries (about 420 MB, once)";
        process::run(install, pip.arg(requirements)).with_context(|| {
            format!(
                "the training libraries were not installed: is a Python package index within \
                 reach? If so, delete {} and run this again",
                self.dir.display()
            )
        })
    }
}
