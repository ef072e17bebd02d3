//! Conditions that keep the agent from applying remedies, or hard ones, however sick the target is.
use std::{fs, thread, time::Duration};

use crate::{
    agent::{Agent, Directory, run, until},
    servers::Server,
};

const MAY_RESTART: [&str; 2] = ["--max-remedy", "restart"];

fn pause(state: &Directory) {
    fs::write(state.file("paused"), "").unwrap();
}

fn go_on(state: &Directory) {
    fs::remove_file(state.file("paused")).unwrap();
}

#[track_caller]
fn healed_softly(agent: &Agent, patient: &mut Server) {
    agent.hears("treatment ended", &[("remedy", "soft"), ("outcome", "healed")]);
    assert_eq!(agent.said("healing", &[]), 1);
    assert!(patient.is_alive());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn while_paused_no_remedy_is_applied() {
    let state = Directory::new();
    let mut patient = Server::patient();
    pause(&state);
    let agent = Agent::watch(&[&patient.url], &state, &[]);
    patient.errors(8);
    agent.hears("not healed", &[("gate", "paused")]);
    assert_eq!(agent.target()["refused_by"], "paused");
    assert_eq!(agent.incidents().len(), 0);
    agent.healed_nothing();
    go_on(&state);
    healed_softly(&agent, &mut patient);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_second_agent_in_the_same_state_directory_only_observes() {
    let state = Directory::new();
    let mut patient = Server::patient();
    // Until both have seen the errors.
    pause(&state);
    let first = Agent::watch(&[&patient.url], &state, &[]);
    let second = Agent::watch(&[&patient.url], &state, &MAY_RESTART);
    second.hears("another agent holds the state directory: this one only observes", &[]);
    patient.errors(15);
    first.hears("not healed", &[("gate", "paused")]);
    second.hears("not healed", &[("gate", "mode"), ("reason", "its ceiling is observe")]);
    go_on(&state);
    healed_softly(&first, &mut patient);
    second.healed_nothing();
    assert_eq!(second.get("/api/v1/incidents").0, 404);
    assert_eq!(first.incidents().len(), 1);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_corrupt_journal_is_left_unchanged_and_permits_no_restart() {
    let state = Directory::new();
    let (journal, garbage) = (state.file("journal.sqlite3"), b"not a database\n".repeat(1000));
    fs::write(&journal, &garbage).unwrap();
    let mut patient = Server::patient();
    let agent = Agent::watch(&[&patient.url], &state, &MAY_RESTART);
    let report = agent.hears("no journal: no hard remedies", &[]);
    assert!(report.text("error").contains("left untouched"), "{report:?}");
    assert_eq!(agent.metric("paramedic_journal_writable"), 0.0);
    patient.errors(8);
    healed_softly(&agent, &mut patient);
    agent.sees_at_once(|| patient.errors(15));
    agent.hears("not healed", &[("gate", "journal"), ("remedy", "restart")]);
    assert_eq!(agent.said("healing", &[]), 1);
    assert!(patient.is_alive());
    drop(agent);
    assert_eq!(fs::read(&journal).unwrap(), garbage);
    let left = fs::read_dir(state.path()).unwrap().map(|file| file.unwrap().file_name());
    let mut left: Vec<_> = left.collect();
    left.sort();
    assert_eq!(left, ["agent.lock", "journal.sqlite3"]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn at_times_that_the_owner_excludes_nothing_is_done() {
    let state = Directory::new();
    let mut patient = Server::patient();
    let always = ["--max-remedy", "restart", "--not-between", "00:00-24:00 Europe/Berlin"];
    let agent = Agent::watch(&[&patient.url], &state, &always);
    patient.errors(8);
    let refusal = agent.hears("not healed", &[("gate", "window"), ("remedy", "soft")]);
    assert!(refusal.text("reason").contains("paramedic.dev/not-between"), "{refusal:?}");
    let refusals = "paramedic_refusals_total{gate=\"window\"}";
    agent.reaches(refusals, agent.metric(refusals) + 3.0);
    assert_eq!(agent.said("healing", &[]), 0);
    assert!(patient.is_alive());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_restart_waits_for_the_approval_of_its_request() {
    let state = Directory::new();
    let mut patient = Server::patient();
    let arguments = [&MAY_RESTART[..], &["--ask", "--grace", "0"]].concat();
    let agent = Agent::watch(&[&patient.url], &state, &arguments);
    let (address, directory) = (agent.address.to_string(), state.path().to_str().unwrap());
    let url = patient.url.clone();
    let approve = |more: &[&str]| {
        let command = ["approve", &url, "--agent", &address, "--state-dir", directory];
        let output = run(&[&command[..], more].concat());
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    let (code, said) = approve(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("the agent asks nothing about"), "{said}");

    let request = until("it asks", || {
        patient.errors(15);
        thread::sleep(Duration::from_millis(200));
        agent.target()["asks"]["request"].as_str().map(str::to_owned)
    });
    let refusal = agent.hears("not healed", &[("gate", "approval"), ("remedy", "restart")]);
    assert!(refusal.text("reason").contains(&request), "{refusal:?}");
    assert_eq!(agent.said("healing", &[("remedy", "restart")]), 0);
    let (code, said) = approve(&["--request", "restart-1"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&request), "it names the one that is open: {said}");
    assert!(patient.is_alive());

    let (code, said) = approve(&["--request", &request]);
    assert_eq!(code, Some(0), "{said}");
    until("the restart is given", || {
        patient.errors(15);
        thread::sleep(Duration::from_millis(200));
        (!patient.is_alive()).then_some(())
    });
    agent.hears("approved", &[("request", &request)]);
    agent.hears("healing", &[("remedy", "restart")]);
}

/// Watches a server with an unusable model, and causes fifteen errors.
fn without_a_model(state: &Directory, arguments: &[&str]) -> (Server, Agent) {
    let model = state.file("model.onnx");
    fs::write(&model, b"\x08\x07garbage".repeat(1000)).unwrap();
    let patient = Server::patient();
    let mut all = vec!["--model", model.to_str().unwrap()];
    all.extend(MAY_RESTART.iter().chain(arguments));
    let agent = Agent::watch(&[&patient.url], state, &all);
    assert_eq!(agent.metric("paramedic_rules_active"), 1.0);
    agent.sees_at_once(|| patient.errors(15));
    (patient, agent)
}

const RULES_SAY_RESTART: &str =
    "paramedic_decisions_total{action=\"restart_service\",source=\"rules\"}";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn rules_heal_softly_at_most() {
    let state = Directory::new();
    let (mut patient, agent) = without_a_model(&state, &[]);
    healed_softly(&agent, &mut patient);
    assert!(agent.metric(RULES_SAY_RESTART) >= 2.0);
    assert_eq!(
        agent.metric("paramedic_decisions_total{action=\"no_action\",source=\"model\"}"),
        0.0
    );
    assert_eq!(agent.incidents()[0]["source"], "rules");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn rules_restart_if_permitted() {
    let state = Directory::new();
    let (mut patient, agent) = without_a_model(&state, &["--rules-may-restart"]);
    agent.hears("healing", &[("remedy", "restart"), ("source", "rules")]);
    assert_eq!(patient.ended().code(), Some(0), "it was killed instead of being asked to end");
    assert_eq!(agent.said("healing", &[]), 1);
}
