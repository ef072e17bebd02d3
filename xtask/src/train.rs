//! `cargo xtask train`: the shipped model, made anew by `model/train.py` with pinned libraries.
//!
//! The libraries live in a virtual environment below `target/`, so that nothing is installed into
//! the machine and `cargo clean` removes them. They are installed again only when
//! `model/requirements.txt` changes.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
};

use anyhow::{Context, Result, ensure};

/// Train the model: writes model/healing_brain.onnx, model/golden.json and model/REPORT.md.
#[derive(clap::Args)]
pub(crate) struct Train {
    /// Train into a temporary folder, compare with the committed model, and write nothing
    #[arg(long)]
    check: bool,

    /// Python 3.11 or newer, to make the virtual environment with
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

impl Train {
    /// Sets up what is missing, then trains; the report goes to the terminal as well.
    pub(crate) fn run(&self) -> Result<()> {
        let root = workspace_root()?;
        let model = root.join("model");
        let target = target_dir(root);
        let python = Venv { dir: target.join("venv"), base: &self.python }
            .ready(&model.join("requirements.txt"))?;
        if self.check { check(&python, &model, &target) } else { train(&python, &model, &[]) }
    }
}

fn workspace_root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has no parent folder")
}

fn target_dir(root: &Path) -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir))
}

/// Trains into a folder of its own, which goes away whatever comes of it.
fn check(python: &Path, model: &Path, target: &Path) -> Result<()> {
    let out = target.join(format!("train-check-{}", process::id()));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let outcome = train(python, model, &["--out".as_ref(), &out, "--against".as_ref(), model]);
    fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    outcome
}

fn train(python: &Path, model: &Path, args: &[&Path]) -> Result<()> {
    // No bytecode: the sources' folder is left as it was found.
    run(Command::new(python).arg("-B").arg(model.join("train.py")).args(args))
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
        run(Command::new(self.base).args(["-c", recent])).with_context(|| {
            format!(
                "{} is not Python 3.11 or newer: install one, or name it with --python",
                self.base.display()
            )
        })?;
        println!("Making a virtual environment in {}", self.dir.display());
        run(Command::new(self.base).args(["-m", "venv"]).arg(&self.dir)).with_context(|| {
            format!(
                "no virtual environment: install Python's venv module (Debian: `apt-get install \
                 python3-venv`), or delete {} if it is broken",
                self.dir.display()
            )
        })
    }

    fn install(&self, python: &Path, requirements: &Path) -> Result<()> {
        println!("Installing {} (about 420 MB, once)", requirements.display());
        run(Command::new(python)
            .args(["-m", "pip", "install", "--disable-pip-version-check", "--requirement"])
            .arg(requirements))
        .with_context(|| {
            format!(
                "the training libraries were not installed: is a Python package index within \
                 reach? If so, delete {} and run this again",
                self.dir.display()
            )
        })
    }
}

/// Runs a program with its output on the terminal.
fn run(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_owned();
    let status = command
        .status()
        .with_context(|| format!("cannot start {}", Path::new(&program).display()))?;
    ensure!(status.success(), "{} ended with {status}", Path::new(&program).display());
    Ok(())
}
