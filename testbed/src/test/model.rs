//! The Python that trains the forest: its style, its types and its tests. Training itself is `cargo
//! xtask train --check`.
use std::path::Path;

use anyhow::{Context, Result};
use xtask::{model::Package, process, workspace::Workspace};

pub(super) fn run(workspace: &Workspace) -> Result<()> {
    let package = Package::ready(workspace, Path::new("python3"))?;
    let tool = |name: &str, arguments: &[&str]| {
        let mut command = package.module(name);
        command.args(arguments).current_dir(&package.folder);
        command
    };
    let mut mypy = tool("mypy", &["--cache-dir"]);
    mypy.arg(workspace.target.join("mypy"));
    // Each runs, whatever the others find.
    let outcomes = [
        process::run("ruff: model", &mut tool("ruff", &["check", "--no-cache"])),
        process::run("ruff format: model", &mut tool("ruff", &["format", "--check", "--no-cache"]))
            .context("`ruff format` in model/ puts it right"),
        process::run("mypy: model", &mut mypy),
        package.test(&workspace.target),
    ];
    outcomes.into_iter().collect()
}
