//! The workflows, which run on other machines with a token of this repository: everything is
//! pinned, and has no more rights than it needs.
use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::docs::mdbook::VERSION;

fn workflows() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.github/workflows");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let read = |file: std::path::PathBuf| {
        let text = fs::read_to_string(&file).unwrap();
        (file.display().to_string(), serde_saphyr::from_str(&text).unwrap())
    };
    files.map(read).collect()
}

fn jobs(workflow: &Value) -> impl Iterator<Item = &Value> {
    workflow["jobs"].as_object().unwrap().values()
}

#[test]
fn actions_are_pinned_to_a_commit() {
    let mut seen = 0;
    for (file, workflow) in workflows() {
        let steps = jobs(&workflow).flat_map(|job| job["steps"].as_array().unwrap());
        for action in steps.filter_map(|step| step["uses"].as_str()) {
            let pin = action.split_once('@').map(|(_, pin)| pin).unwrap_or_default();
            let is_commit = pin.len() == 40 && pin.bytes().all(|b| b.is_ascii_hexdigit());
            assert!(is_commit, "{file}: {action}");
            seen += 1;
        }
    }
    assert!(seen > 0);
}

/// What the jobs of a release may write. They run nothing of this repository: it was built by others.
fn rights(file: &str, job: &str) -> Value {
    match (file.ends_with("/release.yml"), job) {
        (true, "publish") => {
            json!({"contents": "write", "id-token": "write", "attestations": "write"})
        }
        (true, "pages") => json!({"pages": "write", "id-token": "write"}),
        _ => Value::Null,
    }
}

#[test]
fn workflows_may_read_and_the_publication_alone_may_write() {
    for (file, workflow) in workflows() {
        assert_eq!(workflow["permissions"], json!({"contents": "read"}), "{file}");
        for (name, job) in workflow["jobs"].as_object().unwrap() {
            assert_eq!(job["permissions"], rights(&file, name), "{file}: {name}");
            assert!(job["timeout-minutes"].is_u64(), "{file}");
            let text = job.to_string();
            let builds = text.contains("actions/checkout@") || text.contains("cargo ");
            assert!(!builds || job["permissions"].is_null(), "{file}: {name}");
        }
    }
}

#[test]
fn a_release_is_of_a_tag_checked_signed_and_with_provenance() {
    let found = workflows().into_iter().find(|(file, _)| file.ends_with("/release.yml"));
    let (_, release) = found.unwrap();
    assert_eq!(release["on"], json!({"push": {"tags": ["v*"]}}));
    let text = release.to_string();
    for part in [
        "cargo xtask release --arch",
        "[\"amd64\",\"arm64\"]",
        "sha256sum --check --strict SHA256SUMS",
        "cosign sign-blob",
        "actions/attest-build-provenance@",
        &format!("cargo install mdbook --version {VERSION} --locked"),
        "cargo xtask docs",
    ] {
        assert!(text.contains(part), "{part}");
    }
}

#[test]
fn everything_is_tested_as_on_any_machine_and_the_images_are_built() {
    let all: Vec<String> = workflows()
        .iter()
        .flat_map(|(_, workflow)| jobs(workflow))
        .flat_map(|job| job["steps"].as_array().unwrap())
        .filter_map(|step| step["run"].as_str().map(str::to_owned))
        .collect();
    assert!(all.iter().any(|run| run.ends_with(" .ci/run")), "{all:?}");
    assert!(all.iter().any(|run| run == "cargo xtask image"), "{all:?}");
}
