//! The unit and integration tests, by nextest if it is there, else by cargo.
//!
//! The privileged ones are whole test binaries, known by name, and run one at a time: they count
//! what happens in the kernel, and two of them would count each other.
use anyhow::{Context, Result};
use serde::Deserialize;
use xtask::{process, workspace::Workspace};

use super::{cargo, summary::Outcome};

/// The test binaries of the agent that need rights in the kernel. `.config/nextest.toml` names them
/// too.
const PRIVILEGED: [&str; 2] = ["kernel", "live"];

/// Which tests to run.
#[derive(Clone, Copy)]
pub(super) struct Tests {
    pub(super) privileged: bool,
}

pub(super) fn run(workspace: &Workspace, tests: Tests) -> Result<Outcome> {
    if process::on_path("cargo-nextest").is_some() {
        nextest(workspace, tests)?;
    } else {
        cargo_test(workspace, tests)?;
    }
    Ok(if tests.privileged {
        Outcome::Passed
    } else {
        let without = PRIVILEGED.join(" and ");
        Outcome::Partly(format!("without the privileged tests ({without}): --unprivileged"))
    })
}

fn nextest(workspace: &Workspace, tests: Tests) -> Result<()> {
    let mut command = cargo(workspace);
    command.args(["nextest", "run", "--workspace", "--locked"]);
    if !tests.privileged {
        let names = PRIVILEGED.join("|");
        command.args(["-E", &format!("not (kind(test) and binary(/^({names})$/))")]);
    }
    process::run("cargo nextest run", &mut command)
}

/// Without nextest a binary cannot be left out by name: the others are all named.
fn cargo_test(workspace: &Workspace, tests: Tests) -> Result<()> {
    let mut metadata = cargo(workspace);
    metadata.args(["metadata", "--no-deps", "--locked", "--format-version", "1"]);
    let (privileged, others) = binaries(&process::capture(&mut metadata)?)?;
    let mut command = cargo(workspace);
    command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--lib", "--bins"]);
    let ordinary = process::run("cargo test", command.args(named(&others)));
    if !tests.privileged || privileged.is_empty() {
        return ordinary;
    }
    let mut command = cargo(workspace);
    command.args(["test", "--workspace", "--locked", "--no-fail-fast"]).args(named(&privileged));
    let serial = process::run("cargo test: privileged", command.args(["--", "--test-threads=1"]));
    ordinary.and(serial)
}

fn named(binaries: &[String]) -> Vec<String> {
    binaries.iter().map(|name| format!("--test={name}")).collect()
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The names of the integration test binaries: the privileged ones, and the others.
fn binaries(metadata: &str) -> Result<(Vec<String>, Vec<String>)> {
    let metadata: Metadata =
        serde_json::from_str(metadata).context("cargo metadata prints something unknown")?;
    let targets = metadata.packages.into_iter().flat_map(|package| package.targets);
    Ok(targets
        .filter(|target| target.kind.iter().any(|kind| kind == "test"))
        .map(|target| target.name)
        .partition(|name| PRIVILEGED.contains(&name.as_str())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integration_tests_are_sorted_by_the_rights_they_need() {
        let metadata = r#"{"packages": [
            {"targets": [{"name": "paramedic", "kind": ["lib"]}, {"name": "live", "kind": ["test"]},
                         {"name": "health", "kind": ["test"]}]},
            {"targets": [{"name": "kernel", "kind": ["test"]}]}]}"#;
        let (privileged, others) = binaries(metadata).unwrap();
        assert_eq!(privileged, ["live", "kernel"]);
        assert_eq!(named(&others), ["--test=health"]);
    }
}
