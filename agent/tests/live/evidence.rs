//! Evidence before a restart: what it names, where it is, and how it is read.
use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};

use crate::{
    agent::{Agent, Directory, run, until},
    servers::Server,
};

const MAY_RESTART: [&str; 4] = ["--max-remedy", "restart", "--grace", "0"];

/// What `paramedic incidents` prints.
fn told(state: &Directory, form: &[&str]) -> String {
    let directory = state.path().to_str().unwrap();
    let output = run(&[&["incidents", "--state-dir", directory], form].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{form:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The evidence of the first incident.
pub(crate) fn evidence(state: &Directory) -> Value {
    serde_json::from_str(&told(state, &["--evidence", "1", "--json"])).unwrap()
}

#[test]
fn evidence_is_printed_as_text_and_as_json_and_a_damaged_file_is_said_to_be() {
    let state = Directory::new();
    let file = json!({
        "version": 1, "incident": 7, "boot": "b", "target": { "uid": "web", "instance": "1" },
        "name": "web", "remedy": "restart", "wall_time": 1, "took_ms": 5, "summary": "3 threads",
        "missing": [{ "part": "log", "why": "a plain process" }], "samples": [], "found": {},
    });
    fs::create_dir(state.file("evidence")).unwrap();
    fs::write(state.file("evidence/7.json"), file.to_string()).unwrap();
    fs::write(state.file("evidence/8.json"), "{").unwrap();
    let page = told(&state, &["--evidence", "7"]);
    assert!(page.starts_with("Evidence of incident 7: web, 1970-01-01T00:00:01Z\n"), "{page}");
    assert!(page.contains("missing    log: a plain process\n"), "{page}");
    let json: Value = serde_json::from_str(&told(&state, &["--evidence", "7", "--json"])).unwrap();
    assert_eq!((&json["incident"], &json["summary"]), (&7.into(), &"3 threads".into()));
    for (incident, why) in [("8", "left untouched"), ("9", "no evidence of incident 9")] {
        let directory = state.path().to_str().unwrap();
        let output = run(&["incidents", "--evidence", incident, "--state-dir", directory]);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_restart_of_a_hung_service_leaves_evidence_that_names_its_stuck_threads() {
    let state = Directory::new();
    let mut patient = Server::patient();
    let arguments = [&MAY_RESTART[..], &["--patience", "1", "--warm-up", "0"]].concat();
    let agent = Agent::watch(&[&patient.url], &state, &arguments);
    until("it was seen well", || (agent.target()["health"]["result"] == "well").then_some(()));
    patient.hangs();
    agent.hears("healing", &[("remedy", "restart")]);
    agent.hears("evidence kept", &[]);
    patient.ended();

    let evidence = evidence(&state);
    let groups = evidence["found"]["threads"]["groups"].as_array().unwrap();
    let stuck = groups.iter().find(|group| group["names"]["patient-app"].is_u64());
    let stuck = stuck.unwrap_or_else(|| panic!("{evidence:#}"));
    assert_eq!(stuck["state"], "T", "{evidence:#}");
    assert!(!stuck["stack"].as_array().unwrap().is_empty(), "{evidence:#}");
    let process = &evidence["found"]["processes"]["list"][0];
    assert_eq!((&process["name"], &process["pid"]), (&"patient-app".into(), &patient.pid().into()));
    let sockets = &evidence["found"]["sockets"]["serving"];
    assert_eq!(sockets["states"]["listen"], 1, "{evidence:#}");
    assert!(evidence["found"]["descriptors"]["open"].as_u64() > Some(3), "{evidence:#}");
    let samples = evidence["samples"].as_array().unwrap();
    let failures = |sample: &Value| sample["features"]["health_failures"].as_f64() > Some(0.0);
    assert!(samples.len() > 1 && samples.iter().any(failures), "{evidence:#}");
    assert!(evidence["took_ms"].as_u64() < Some(1000), "{evidence:#}");
    let missing = evidence["missing"].as_array().unwrap();
    assert!(missing.iter().any(|one| one["part"] == "log"), "{missing:?}");

    let file = state.file("evidence").join("1.json");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(&state.file("evidence"))), (0o600, 0o700));
    let page = told(&state, &["--evidence", "1"]);
    assert!(page.contains("in state T") && page.contains("patient-app (1)"), "{page}");
    let story = told(&state, &["--verbose"]);
    assert!(story.contains("paramedic incidents --evidence 1"), "{story}");
    let summary = &agent.incidents()[0]["evidence"];
    assert!(summary.as_str().is_some_and(|text| text.contains("1 T")), "{summary}");
    for path in ["/evidence/1.json", "/api/v1/evidence/1", "/api/v1/incidents/1"] {
        assert_eq!(agent.get(path).0, 404, "evidence is not served: {path}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn with_evidence_off_a_restart_leaves_none() {
    let state = Directory::new();
    let mut patient = Server::patient();
    let arguments = [&MAY_RESTART[..], &["--evidence", "off"]].concat();
    let agent = Agent::watch(&[&patient.url], &state, &arguments);
    agent.sees_at_once(|| patient.errors(15));
    agent.hears("healing", &[("remedy", "restart")]);
    patient.ended();
    assert!(!state.file("evidence").exists());
    assert_eq!(agent.said("evidence kept", &[]), 0);
    let directory = state.path().to_str().unwrap();
    let none = run(&["incidents", "--evidence", "1", "--state-dir", directory]);
    assert_eq!(none.status.code(), Some(1));
    let why = String::from_utf8(none.stderr).unwrap();
    assert!(
        why.contains("no evidence of incident 1") && why.contains("--evidence is off"),
        "{why}"
    );
}
