//! `cargo xtask train`: trains the shipped model again, by the package in `model/` with pinned
//! libraries, from recorded episodes and the rows of the original rules.
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};

use crate::{model::Package, process, testbed, workspace::Workspace};

/// Train the model: writes model/healing_brain.onnx, golden.json, REPORT.md and plots/.
///
/// Takes a minute or two on two cores. Learns from model/data and from synthetic rows, which keep
/// it to the known decision surface. With --recorded it also learns from your own recordings: a
/// folder of `cargo xtask lab --into`, or one of traces of `paramedic agent --record`, in which the
/// agent's remedies show what helped. The episodes that are held out are the same every time, so
/// the report compares the new model with the old one on episodes that neither has seen. A model
/// that is worse than the present one is not written without --force.
///
/// --kind chooses between a random forest and boosted trees. With --compare the other kind is trained
/// as well, and the report shows both on the same episodes and says why which one ships. A kind that
/// is worse than the other is not written without --force.
#[derive(clap::Args)]
pub struct Args {
    /// Run the package's tests, train into a temporary folder, compare with the committed model,
    /// and write nothing
    #[arg(long, conflicts_with_all = ["recorded", "force"])]
    check: bool,

    /// Learn from these recordings as well; may be repeated
    #[arg(long, value_name = "DIR")]
    recorded: Vec<PathBuf>,

    /// What to train; without it, the kind that ships
    #[arg(long, value_enum)]
    kind: Option<Kind>,

    /// Train the other kind as well, and compare both in the report
    #[arg(long, conflicts_with = "check")]
    compare: bool,

    /// Write the new model even if it is worse
    #[arg(long)]
    force: bool,

    /// Python 3.11 or newer, to make the virtual environment with
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    python: PathBuf,
}

/// A kind of model.
#[derive(Clone, Copy, clap::ValueEnum)]
enum Kind {
    /// A random forest, by scikit-learn
    Forest,
    /// Boosted trees, by `XGBoost`
    Boosted,
}

impl Args {
    /// What is passed on as it is, checked or trained.
    fn kind(&self) -> Vec<OsString> {
        let kind = self.kind.map(|kind| match kind {
            Kind::Forest => "forest",
            Kind::Boosted => "boosted",
        });
        kind.map_or_else(Vec::new, |kind| vec!["--kind".into(), kind.into()])
    }
}

/// Sets up what is missing, then trains; the report goes to the terminal as well.
pub(crate) fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let package = Package::ready(workspace, &args.python)?;
    if args.check {
        return check(&package, &workspace.target, args);
    }
    let mut arguments = args.kind();
    arguments.extend(["--old".into(), package.folder.join("healing_brain.onnx").into()]);
    for (number, folder) in args.recorded.iter().enumerate() {
        arguments.extend(["--recorded".into(), readable(workspace, folder, number)?.into()]);
    }
    if args.compare {
        arguments.push("--compare".into());
    }
    if args.force {
        arguments.push("--force".into());
    }
    train(&package, &arguments)
}

/// The folder itself if it holds rows, else one with the rows of its traces.
fn readable(workspace: &Workspace, folder: &Path, number: usize) -> Result<PathBuf> {
    if folder.join("rows.csv.gz").exists() {
        return Ok(folder.to_owned());
    }
    let into = workspace.target.join("train").join(format!("field-{number}"));
    let mut label = testbed::command(workspace);
    label.args(["field", "--into"]).arg(&into).arg("--").arg(folder);
    let status = label.status().context("cannot start cargo")?;
    ensure!(status.success(), "no rows of {}: the reason stands above", folder.display());
    Ok(into)
}

/// Trains into a temporary folder, which is always removed.
fn check(package: &Package, target: &Path, args: &Args) -> Result<()> {
    package.test(target)?;
    let out = target.join(format!("train-check-{}", std::process::id()));
    fs::create_dir_all(&out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut arguments = args.kind();
    arguments.extend(["--out".into(), out.clone().into()]);
    arguments.extend(["--against".into(), package.folder.clone().into()]);
    let outcome = train(package, &arguments);
    fs::remove_dir_all(&out).with_context(|| format!("cannot remove {}", out.display()))?;
    outcome
}

fn train(package: &Package, args: &[OsString]) -> Result<()> {
    process::run("train", package.module("paramedic_model").args(args))
        .context("the model was not trained and nothing was written; the reason stands above")
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn sha256(path: &Path) -> String {
        let digest = Sha256::digest(fs::read(path).unwrap());
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The report must belong to the model and the data beside it.
    #[test]
    fn the_report_is_of_the_shipped_model_and_of_the_data_in_the_repository() {
        let model = Workspace::find().unwrap().root.join("model");
        let report = fs::read_to_string(model.join("REPORT.md")).unwrap();
        let shipped = sha256(&model.join("healing_brain.onnx"));
        assert!(report.contains(&shipped), "REPORT.md is of another model: cargo xtask train");
        let golden = fs::read_to_string(model.join("golden.json")).unwrap();
        assert!(golden.contains(&shipped), "golden.json is of another model: cargo xtask train");
        for folder in ["data", "data/silence", "data/strangers"] {
            let data = sha256(&model.join(folder).join("rows.csv.gz"));
            assert!(report.contains(&data), "REPORT.md is of other data: cargo xtask train");
        }
    }
}
