//! The interface for users and scripts: exit codes, JSON, pages, signals.
use std::{
    io::Write,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use crate::{
    agent::{Agent, Directory, PARAMEDIC, get, run, until},
    servers::Server,
};
use serde_json::Value;

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A server that was healed softly, once.
fn healed(state: &Directory) -> (Server, Agent) {
    let patient = Server::patient();
    let agent = Agent::watch(&[&patient.url], state, &[]);
    patient.errors(8);
    until("the outcome is in the journal", || {
        agent.incidents().into_iter().find(|incident| incident["outcome"] == "healed")
    });
    (patient, agent)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn incidents_are_listed_while_the_agent_runs_and_after_it_ended() {
    let state = Directory::new();
    let directory = state.path().to_str().unwrap();
    let told = |form: &[&str]| {
        let output = run(&[&["incidents", "--state-dir", directory], form].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        String::from_utf8(output.stdout).unwrap()
    };
    let json = || serde_json::from_str::<Vec<Value>>(&told(&["--json"])).unwrap();

    let none = run(&["incidents", "--json", "--state-dir", directory]);
    assert_eq!(none.status.code(), Some(1));
    assert!(stderr(&none).contains("no journal"), "{}", stderr(&none));

    let (patient, agent) = healed(&state);
    let incidents = agent.incidents();
    assert_eq!(incidents.len(), 1);
    assert_eq!(incidents[0]["name"], patient.url.as_str());
    assert_eq!(incidents[0]["reasons"][0]["feature"], "error_count");
    assert_eq!(json(), incidents);
    assert_eq!(agent.terminate().code(), Some(0));
    assert_eq!(json(), incidents);
    for form in [&[][..], &["--verbose"]] {
        let story = told(form);
        for word in [patient.url.as_str(), "soft", "healed", "error_count"] {
            assert!(story.contains(word), "no {word} in {story}");
        }
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn check_names_the_mechanism_of_every_signal() {
    let output = run(&["check", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["ok"], true, "{told:#}");
    assert_eq!(output.status.code(), Some(0));
    let probes = told["probes"].as_array().unwrap();
    let signals: Vec<_> = probes.iter().filter_map(|probe| probe["signal"].as_str()).collect();
    let all = ["http_responses", "http_requests", "tcp_resets_received", "tcp_resets_sent"];
    let others = ["tcp_retransmits", "cpu_throttling", "oom_kills", "tls_responses"];
    assert_eq!(signals, [&all[..], &others].concat());
    for probe in probes {
        assert!(probe["mechanism"].as_str().is_some_and(|name| !name.is_empty()), "{probe}");
        assert!(probe["reason"].is_null(), "{probe}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_a_reason() {
    for (arguments, why) in [
        (&["watch"][..], "URL"),
        (&["watch", "http://192.0.2.1:80"], "not an address of this machine"),
        (&["watch", "ftp://localhost"], "only http, https and grpc"),
        (&["watch", "http://localhost:1", "--patience", "0"], "--patience"),
        (&["watch", "http://localhost:1", "--warm-up=-1"], "--warm-up"),
        (&["watch", "http://localhost:1", "--max-remedy", "kill"], "--max-remedy"),
        (&["watch", "http://localhost:1", "--interval", "0", "--grace=-1"], "--interval"),
        (&["watch", "http://localhost:1", "--interval", "0", "--grace=-1"], "--grace"),
        (&["watch", "http://localhost:1", "--min-confidence", "NaN"], "--min-confidence"),
        (&["watch", "http://localhost:1", "--notify", "slack=hooks"], "--notify number 1: "),
        (&["watch", "http://localhost:1", "--notify-file", "/nowhere"], "--notify-file /nowhere"),
        (&["watch", "http://localhost:1", "--dump", "threaddump"], "--dump"),
        (&["watch", "http://localhost:1", "--evidence", "maybe"], "--evidence"),
        (&["incidents", "--json", "--verbose"], "--verbose"),
        (&["incidents", "--evidence", "1", "--verbose"], "--evidence"),
        (&["heal"], "heal"),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
        assert!(stderr(&output).contains(why), "{arguments:?}: {}", stderr(&output));
    }
}

#[test]
fn a_mistake_in_a_specification_is_named_without_its_secret() {
    for command in [&["watch", "http://localhost:1"][..], &["agent", "--node-name", "worker-1"]] {
        let given = ["--notify", "slack=s3cret", "--notify", "pagerduty=s3cret"];
        let output = run(&[command, &given].concat());
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        let said = stderr(&output);
        assert!(said.contains("--notify number 1") && said.contains("--notify number 2"), "{said}");
        assert!(!said.contains("s3cret"), "{said}");
    }
}

#[test]
fn an_operators_limit_under_its_old_name_is_an_error_and_not_ignored() {
    let mut agent = Command::new(PARAMEDIC);
    agent.args(["agent", "--runtime", "docker"]).env("PARAMEDIC_MAX_ACTION", "soft");
    let output = agent.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("PARAMEDIC_MAX_REMEDY"), "{}", stderr(&output));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_address_in_use_exits_with_1_and_names_the_flag() {
    let (state, other) = (Directory::new(), Directory::new());
    let patient = Server::patient();
    let agent = Agent::watch(&[&patient.url], &state, &[]);
    let taken = agent.address.to_string();
    let directory = other.path().to_str().unwrap();
    let output = run(&["watch", &patient.url, "--listen", &taken, "--state-dir", directory]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--listen"), "{}", stderr(&output));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_metrics_pass_prometheus_own_linter() {
    let state = Directory::new();
    let (_patient, agent) = healed(&state);
    let (status, page) = agent.get("/metrics");
    assert_eq!(status, 200);
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    let mut linter = promtool
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("this test needs promtool: apt-get install --no-install-recommends prometheus");
    linter.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = linter.wait_with_output().unwrap();
    let said = [output.stdout.as_slice(), &output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

/// How long the agent may take to stop, whatever it waits for: a remedy in progress has 25 s, and
/// there is none here.
const END: Duration = Duration::from_secs(15);

#[track_caller]
fn ends_at_once(agent: Agent) {
    let begun = Instant::now();
    assert_eq!(agent.terminate().code(), Some(0));
    assert!(begun.elapsed() < END, "it took {:?}", begun.elapsed());
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn sigterm_ends_the_agent_and_not_the_target() {
    let state = Directory::new();
    let (mut patient, agent) = healed(&state);
    ends_at_once(agent);
    assert!(patient.is_alive());
    assert_eq!(get(patient.address, "/health").unwrap().0, 200);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn sigterm_ends_the_agent_while_a_poll_hangs() {
    let state = Directory::new();
    let mut patient = Server::patient();
    let agent = Agent::watch(&[&patient.url], &state, &[]);
    patient.hangs();
    agent.reaches("paramedic_health_polls_total{result=\"timeout\"}", 1.0);
    ends_at_once(agent);
    assert!(patient.is_alive());
}
