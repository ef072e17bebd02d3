//! `cargo xtask train`: the shipped model, made anew by `model/train.py` with pinned libraries.
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{process, venv::Venv, workspace::Workspace};

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
    let dir = workspace.target.join("venv");
    let what = "the training libraries (about 420 MB)";
    let python = Venv { dir, base: &args.python, what }.ready(&model.join("requirements.txt"))?;
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
