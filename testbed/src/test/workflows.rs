//! The workflows, which run on other machines with a token of this repository: everything is
//! pinned, and has no more rights than it needs.
use std::{fs, path::Path};

use serde_json::{Value, json};

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

#[test]
fn workflows_may_read_and_nothing_else() {
    for (file, workflow) in workflows() {
        assert_eq!(workflow["permissions"], json!({"contents": "read"}), "{file}");
        for job in jobs(&workflow) {
            assert_eq!(job["permissions"], Value::Null, "{file}");
            assert!(job["timeout-minutes"].is_u64(), "{file}");
        }
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
