//! A recorded trace of a real target, and its replay.
use std::{fs, path::PathBuf};

use crate::{
    agent::{Agent, Directory, run, until},
    servers::Server,
};
use serde_json::Value;

fn replay(trace: &Directory, options: &[&str]) -> (Option<i32>, String) {
    let parts = fs::read_dir(trace.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut parts: Vec<PathBuf> = parts.collect();
    parts.sort();
    let parts: Vec<&str> = parts.iter().filter_map(|part| part.to_str()).collect();
    let output = run(&[&["replay"], options, &parts].concat());
    let told = String::from_utf8(output.stdout).unwrap();
    (output.status.code(), told + &String::from_utf8_lossy(&output.stderr))
}

fn events(told: &str, event: &str) -> Vec<Value> {
    let all = told.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    all.filter(|line| line["event"] == event).collect()
}

/// A server that is healed softly, and then restarted, while a trace is recorded.
fn recorded(state: &Directory, trace: &Directory) -> (Server, Agent) {
    let mut patient = Server::patient();
    let arguments = ["--record", trace.path().to_str().unwrap(), "--max-remedy", "restart"];
    let agent = Agent::watch(&[&patient.url], state, &arguments);
    patient.errors(8);
    agent.hears("treatment ended", &[("remedy", "soft"), ("outcome", "healed")]);
    agent.sees_at_once(|| patient.errors(15));
    agent.hears("healing", &[("remedy", "restart")]);
    patient.ended();
    (patient, agent)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_replay_of_an_incident_gives_the_same_remedies() {
    let (state, trace) = (Directory::new(), Directory::new());
    let (patient, agent) = recorded(&state, &trace);
    let before = agent.incidents();
    assert_eq!(agent.terminate().code(), Some(0));

    let (code, told) = replay(&trace, &["--json"]);
    assert_eq!(code, Some(0), "{told}");
    let remedies = events(&told, "remedy");
    // The journal's newest is first.
    for (incident, remedy) in before.iter().rev().zip(&remedies) {
        assert_eq!(incident["remedy"], remedy["remedy"]);
        assert_eq!(incident["action"], remedy["decision"]["action"]);
        let confidence = |v: &Value| v.as_f64().unwrap();
        let off =
            confidence(&incident["confidence"]) - confidence(&remedy["decision"]["confidence"]);
        assert!(off.abs() < 1e-6, "{off}");
        assert_eq!(remedy["target"], patient.url.as_str());
    }
    assert_eq!((before.len(), remedies.len()), (2, 2), "{told}");
    // The replay repeats what the trace notes of the agent.
    let names = |events: &[Value]| events.iter().map(|e| e["remedy"].clone()).collect::<Vec<_>>();
    assert_eq!(names(&events(&told, "recorded_remedy")), names(&remedies));
    let outcomes = events(&told, "recorded_outcome");
    assert_eq!(outcomes[0]["outcome"], "healed", "{told}");
    assert!(events(&told, "recorded_verdict").len() > 1, "{told}");
    assert!(!told.contains("warning:"), "{told}");
    let summary = &events(&told, "summary")[0]["summary"];
    assert_eq!(summary["truncated"], false);
    assert_eq!(summary["missing"], 0);

    let (code, rows) = replay(&trace, &["--rows"]);
    assert_eq!(code, Some(0), "{rows}");
    assert!(rows.starts_with("at_ns,boot,target,uid,instance,trigger,cpu_usage,"), "{rows}");
    assert!(rows.lines().count() as u64 > summary["samples"].as_u64().unwrap());

    let (code, told) = replay(&trace, &["--json", "--max-remedy", "soft"]);
    assert_eq!(code, Some(0), "{told}");
    assert!(events(&told, "remedy").iter().all(|remedy| remedy["remedy"] == "soft"), "{told}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_killed_agent_leaves_a_trace_that_says_so() {
    let (state, trace) = (Directory::new(), Directory::new());
    let (_patient, agent) = recorded(&state, &trace);
    until("the remedy is on disk", || {
        replay(&trace, &[]).1.contains("REMEDY restart").then_some(())
    });
    drop(agent);
    let (_, told) = replay(&trace, &[]);
    assert!(told.contains("a trace ends early"), "{told}");
}

#[test]
fn an_invalid_trace_exits_with_1_and_wrong_usage_with_2() {
    let directory = Directory::new();
    fs::write(directory.file("x.trace.gz"), "no trace").unwrap();
    let (code, told) = replay(&directory, &[]);
    assert_eq!(code, Some(1));
    assert!(told.contains("is not a Paramedic trace"), "{told}");
    let (code, told) = replay(&directory, &["--min-confidence", "3"]);
    assert_eq!(code, Some(2), "{told}");
    assert_eq!(run(&["replay"]).status.code(), Some(2));
}
