//! The unit and integration tests, by nextest if it is there, else by cargo.
//!
//! Those that need root are ignored by default, so that plain `cargo test` passes without it and
//! names what it leaves out. Here they run with the others, and fail without their rights. They run
//! one at a time: they count what happens in the kernel, and two of them would count each other.
use anyhow::Result;
use xtask::{process, workspace::Workspace};

use super::{cargo, summary::Outcome};

/// The ignored tests that wait for a machine which this one need not be: `cargo xtask vm` runs
/// them.
const IN_MACHINES: [&str; 5] = [
    "kernel::resources::throttling_by_fentry_agrees_with_cpu_stat",
    "kernel::resources::throttling_by_kprobe_agrees_with_cpu_stat",
    "kernel::whole::limits_throttling_and_oom_kills_of_one_directory",
    "kernel::whole::a_neighbour_in_the_same_slice_is_not_counted",
    "v1_alone::a_target_is_watched_through_its_files_and_its_health",
];

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
        Outcome::Partly("without the ignored tests, which need root: --unprivileged".to_owned())
    })
}

fn nextest(workspace: &Workspace, tests: Tests) -> Result<()> {
    let mut command = cargo(workspace);
    command.args(["nextest", "run", "--workspace", "--locked"]);
    if tests.privileged {
        let left_out = IN_MACHINES.map(|name| format!("test(={name})")).join(" | ");
        command.args(["--run-ignored", "all", "-E", &format!("not ({left_out})")]);
    }
    process::run("cargo nextest run", &mut command)
}

fn cargo_test(workspace: &Workspace, tests: Tests) -> Result<()> {
    // Without `--tests` cargo runs the examples in the documentation too, which are a step.
    let test = || {
        let mut command = cargo(workspace);
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--tests"]);
        command
    };
    let ordinary = process::run("cargo test", &mut test());
    if !tests.privileged {
        return ordinary;
    }
    let mut ignored = test();
    ignored.args(["--", "--ignored", "--test-threads=1"]);
    ignored.args(IN_MACHINES.map(|name| format!("--skip={name}")));
    ordinary.and(process::run("cargo test: ignored tests", &mut ignored))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    /// The reason of what the suite runs.
    const NEEDS_ROOT: &str = "needs root: cargo xtask test";

    /// Each ignored test of the workspace: where it stands, its name and why it is ignored.
    fn ignored(folder: &Path, found: &mut Vec<(String, String, String)>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    ignored(&path, found);
                }
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap();
                let mut lines = text.lines().map(str::trim);
                while let Some(line) = lines.next() {
                    let conditional = line.starts_with("#[cfg_attr") && line.contains("ignore");
                    assert!(!conditional, "{}: {line}", path.display());
                    let Some(attribute) = line.strip_prefix("#[ignore") else { continue };
                    let reason = attribute.trim_start_matches(" = \"").trim_end_matches("\"]");
                    let head = lines.find(|line| line.contains("fn ")).unwrap();
                    let name = head.split("fn ").nth(1).unwrap().split('(').next().unwrap();
                    found.push((path.display().to_string(), name.to_owned(), reason.to_owned()));
                }
            }
        }
    }

    #[test]
    fn a_test_is_ignored_for_want_of_root_or_for_the_virtual_machines_alone() {
        let mut found = Vec::new();
        ignored(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), &mut found);
        let mut in_machines = Vec::new();
        for (file, name, reason) in found {
            if reason == NEEDS_ROOT {
                let alone = file.contains("/agent/tests/");
                assert!(alone, "{file}: {name}: .config/nextest.toml does not run it alone");
            } else {
                assert!(reason.ends_with(": cargo xtask vm"), "{file}: {name}: {reason:?}");
                in_machines.push(name);
            }
        }
        let named = IN_MACHINES.map(|name| name.rsplit("::").next().unwrap());
        in_machines.sort();
        let mut named = named.to_vec();
        named.sort_unstable();
        assert_eq!(in_machines, named);
    }
}
