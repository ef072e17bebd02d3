//! `paramedic agent` as its DaemonSet runs it, against an API server over TCP.
use std::{thread, time::Duration};

use crate::{
    agent::{Directory, run, until},
    evidence,
    node::{Node, Pod},
};
use fake_apiserver::{Identity, Kind, Rule, granted_by};
use serde_json::{Value, json};

const FIRST_LIST: &str = "the first list of this node's pods from the API server";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn errors_get_a_soft_remedy_and_an_event() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("soft"));
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name()), ("ceiling", "soft")]);
    agent.sees_at_once(|| pod.errors(8));
    agent.hears("treatment ended", &[("remedy", "soft"), ("outcome", "healed")]);
    assert_eq!(pod.health()["error_count"], 0);
    let labels = "class=\"5xx\",namespace=\"default\",pod=\"web-0\",target=\"\"";
    agent.reaches(&format!("paramedic_target_http_responses_total{{{labels}}}"), 8.0);
    let begin = node.event("Healing");
    assert!(begin.starts_with("soft begins: reset_errors with confidence"), "{begin}");
    assert!(begin.contains("error_count"), "{begin}");
    assert!(node.event("Healed").starts_with("soft: healed after"));
    let event = node.fake.list(Kind::Event).remove(0);
    assert_eq!(event["regarding"]["name"], pod.name.as_str());
    assert!(pod.is_alive() && pod.sandbox.is_alive());
    assert!(node.fake.list(Kind::Lease).is_empty(), "a soft heal takes no lock");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn critical_errors_restart_the_container_and_the_successor_is_verified() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name()), ("ceiling", "restart")]);
    agent.sees_at_once(|| pod.errors(15));
    let status = pod.restart_once_ended();
    assert_eq!(status.code(), Some(0), "it was asked to end, not killed");
    let held = node.fake.get(Kind::Lease, "paramedic-system", "statefulset.default.web").unwrap();
    assert!(held["spec"]["holderIdentity"].as_str().unwrap().starts_with("node1/"), "{held:#}");
    agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
    assert!(node.event("Healed").starts_with("restart: healed after"));
    until("the lock is given back with the outcome", || {
        let lease = node.fake.get(Kind::Lease, "paramedic-system", "statefulset.default.web")?;
        let record = lease["metadata"]["annotations"]["paramedic.dev/record"].as_str()?;
        let record: Value = serde_json::from_str(record).unwrap();
        let free = lease["spec"]["holderIdentity"] == "";
        (free && record["heals"][0]["outcome"] == "healed").then_some(())
    });
    assert_eq!(agent.said("healing", &[]), 1);
    assert!(pod.is_alive());
    assert!(pod.sandbox.is_alive(), "the sandbox is not touched");
    let evicted = node.fake.requests().iter().any(|asked| asked.is_eviction() && !asked.dry_run);
    assert!(!evicted);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pod_without_the_label_is_not_watched() {
    let (node, state) = (Node::new(), Directory::new());
    let mut silent = Pod::start(&node, "silent", None);
    let pod = Pod::start(&node, "web", Some("soft"));
    let agent = node.ready_agent(&state, &[]);
    silent.errors(20);
    pod.errors(8);
    agent.hears("treatment ended", &[("outcome", "healed")]);
    let targets = agent.targets();
    assert_eq!(targets.len(), 1, "{targets:#?}");
    assert_eq!(targets[0]["name"], pod.full_name());
    assert_eq!(silent.health()["error_count"], 20);
    assert!(silent.is_alive());

    // Consent, and its end, take effect without a restart of the agent.
    let label = |value| serde_json::json!({ "paramedic.dev/heal": value });
    node.fake.set_labels("default", &silent.name, &label(Some("soft"))).unwrap();
    agent.hears("health check", &[("target", &silent.full_name())]);
    silent.errors(8);
    agent.hears("treatment ended", &[("target", &silent.full_name()), ("outcome", "healed")]);
    node.fake.set_labels("default", &silent.name, &label(None)).unwrap();
    agent.hears("no longer watched", &[("target", &silent.full_name())]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn without_the_api_server_soft_remedies_continue_and_hard_ones_wait() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name())]);
    node.fake.down(true);
    until("it is noticed", || (agent.metric("paramedic_api_server_heard") == 0.0).then_some(()));
    pod.errors(8);
    agent.hears("treatment ended", &[("remedy", "soft"), ("outcome", "healed")]);
    assert_eq!(agent.get("/readyz").0, 200, "the kubelet has no reason to restart it");

    // Each error is current: an old count never justifies a restart. A few do not call for one
    // until they have lasted, and a slow trickle leaves the model in doubt.
    let why = until("the restart is refused", || {
        pod.errors(15);
        thread::sleep(Duration::from_millis(200));
        let target = agent.target();
        (target["refused_by"] == "api_server").then(|| target["refused_why"].to_string())
    });
    assert!(why.contains("the API server does not answer"), "{why}");
    agent.hears("not healed", &[("remedy", "restart"), ("gate", "api_server")]);
    assert!(agent.metric("paramedic_refusals_total{gate=\"api_server\"}") > 0.0);
    assert!(pod.is_alive());

    node.fake.down(false);
    until("the restart is given", || {
        pod.errors(15);
        thread::sleep(Duration::from_millis(200));
        (!pod.is_alive()).then_some(())
    });
    assert_eq!(pod.restart_once_ended().code(), Some(0));
    agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn explain_shows_signals_verdict_and_refusal_of_a_pod() {
    let (node, state) = (Node::new(), Directory::new());
    let pod = Pod::start(&node, "web", Some("observe"));
    let agent = node.ready_agent(&state, &[]);
    agent.sees_at_once(|| pod.errors(15));
    agent.hears("not healed", &[("gate", "mode")]);
    let address = agent.address.to_string();
    let explain = |target: &str, more: &[&str]| {
        let arguments = [&["explain", target, "--agent", &address], more].concat();
        let output = run(&arguments);
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        (output.status.code(), String::from_utf8(said).unwrap())
    };
    for name in ["default/web-0", "web-0"] {
        let (code, story) = explain(name, &[]);
        assert_eq!(code, Some(0), "{story}");
        for word in ["default/web-0", "up to observe", "verdict", "restart_service", "error_count"]
        {
            assert!(story.contains(word), "no {word} in {story}");
        }
        assert!(story.contains("refused by  mode: its ceiling is observe"), "{story}");
    }
    let (code, view) = explain("default/web-0", &["--json"]);
    let view: Value = serde_json::from_str(&view).unwrap();
    assert_eq!((code, &view["name"]), (Some(0), &"default/web-0".into()));
    assert_eq!(explain("default/nobody", &[]).0, Some(1));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_dry_run_reports_the_remedy_and_applies_none() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    let agent = node.ready_agent(&state, &["--dry-run"]);
    agent.sees_at_once(|| pod.errors(15));
    agent.hears("would heal; this is a dry run", &[("remedy", "restart")]);
    assert!(node.event("WouldHeal").starts_with("restart would be applied"));
    assert!(pod.is_alive());
    assert_eq!(pod.health()["error_count"], 15);
    assert!(node.fake.list(Kind::Lease).is_empty());
    agent.healed_nothing();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn sigterm_waits_for_a_restart_and_the_next_process_verifies_it() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name())]);
    agent.sees_at_once(|| pod.errors(15));
    agent.hears("healing", &[("remedy", "restart")]);
    assert_eq!(agent.terminate().code(), Some(0));
    assert!(!pod.is_alive(), "a restart that has begun is carried through");
    assert_eq!(pod.restart_once_ended().code(), Some(0));

    let agent = node.ready_agent(&state, &[]);
    let taken_up = "found an intention without an outcome: it counts as applied and is verified";
    agent.hears(taken_up, &[("remedy", "restart")]);
    agent.hears("treatment ended", &[("remedy", "restart")]);
    agent.healed_nothing();
    assert!(pod.is_alive());
    let outcome = until("the outcome is written down", || {
        let outcome = agent.incidents()[0]["outcome"].clone();
        (!outcome.is_null()).then_some(outcome)
    });
    assert!(outcome == "healed" || outcome == "unverified", "{outcome}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn sigterm_at_rest_ends_only_the_agent() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("evict"));
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name())]);
    assert_eq!(agent.terminate().code(), Some(0));
    assert!(pod.is_alive());
    until("its watch is closed", || (node.fake.open_watches() == 0).then_some(()));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn before_the_first_list_the_agent_is_not_ready_and_names_it() {
    let (node, state) = (Node::new(), Directory::new());
    let pod = Pod::start(&node, "web", Some("soft"));
    node.fake.down(true);
    let agent = node.agent(&state, &[]);
    let (status, pending) = agent.get("/readyz");
    assert_eq!(status, 503);
    assert!(pending.contains(FIRST_LIST), "{pending}");
    assert_eq!(agent.get("/livez").0, 200, "it is alive all the same");
    node.fake.down(false);
    agent.hears("watching", &[("target", &pod.full_name())]);
    until("it is ready", || (agent.get("/readyz").0 == 200).then_some(()));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_invalid_annotation_is_reported_and_lowers_the_ceiling_to_observe() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    let bad = serde_json::json!({
        "metadata": { "annotations": { "paramedic.dev/min-confidence": "very" } },
    });
    node.fake.patch(Kind::Pod, "default", &pod.name, &bad).unwrap();
    let agent = node.ready_agent(&state, &[]);
    agent.sees_at_once(|| pod.errors(15));
    agent.hears("not healed", &[("gate", "mode"), ("reason", "its ceiling is observe")]);
    let note = node.event("BadSetting");
    assert!(note.contains("paramedic.dev/min-confidence: \"very\" is not a number"), "{note}");
    assert!(pod.is_alive());
    agent.healed_nothing();
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_cap_of_a_namespace_holds_over_the_label_until_it_is_lifted() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    node.fake.add_namespace("default", &[("paramedic.dev/heal-at-most", "observe")], &[]);
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name()), ("ceiling", "observe")]);
    pod.errors(15);
    agent.hears("not healed", &[("gate", "mode")]);
    let target = agent.target();
    let capped = target["capped"].as_str().unwrap();
    assert!(capped.contains("its namespace permits observe at most"), "{capped}");
    assert_eq!(target["refused_why"], capped);
    let story = run(&["explain", &pod.full_name(), "--agent", &agent.address.to_string()]);
    let story = String::from_utf8(story.stdout).unwrap();
    assert!(story.contains(&format!("capped      {capped}")), "{story}");
    assert!(pod.is_alive());

    // Nothing but the label of the namespace changes.
    node.fake.add_namespace("default", &[("paramedic.dev/heal-at-most", "restart")], &[]);
    until("the agent has heard it", || (agent.target()["ceiling"] == "restart").then_some(()));
    assert!(agent.target()["capped"].is_null());
    until("the restart is given", || {
        pod.errors(15);
        thread::sleep(Duration::from_millis(200));
        (!pod.is_alive()).then_some(())
    });
    assert_eq!(pod.restart_once_ended().code(), Some(0));
    agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
}

#[test]
fn all_invalid_arguments_are_reported_at_once() {
    let output = run(&[
        "agent",
        "--node-name=Not_A_Name",
        "--namespace=-",
        "--interval=0",
        "--verify-window=0",
        "--node-budget=99",
        "--state-dir=relative",
    ]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for flag in ["node-name", "namespace", "interval", "verify-window", "node-budget", "state-dir"]
    {
        assert!(said.contains(&format!("--{flag}")), "no --{flag} in {said}");
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_restart_leaves_evidence_of_its_cgroup_and_says_that_its_log_is_not_mounted() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name()), ("ceiling", "restart")]);
    agent.sees_at_once(|| pod.errors(15));
    pod.restart_once_ended();
    agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
    let evidence = evidence::evidence(&state);
    assert_eq!(evidence["name"], pod.full_name());
    let files = evidence["found"]["cgroup"]["files"].as_object().unwrap();
    assert!(files.contains_key("cpu.stat"), "{evidence:#}");
    assert_eq!(evidence["found"]["processes"]["list"][0]["name"], "patient-app");
    let missing = evidence["missing"].as_array().unwrap();
    let why = missing.iter().find(|one| one["part"] == "log").unwrap()["why"].as_str().unwrap();
    assert!(why.contains("/var/log/pods"), "{why}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn whoever_may_annotate_the_pod_approves_its_restart() {
    let (node, state) = (Node::new(), Directory::new());
    let pods = Rule::new("", &["pods"], &["get", "patch"]).in_namespace("default");
    node.fake.identity("token-of-owner", Identity::new("owner").may([pods]));
    let agent = Identity::service_account("paramedic-system", "paramedic-agent").on_node("node1");
    let granted = granted_by("10-rbac.yaml", "paramedic-agent");
    // It may drain pods; that it may not approve for itself, the fence sees to.
    node.fake.fence(Some(&agent.username));
    node.fake.identity("token-of-node1", agent.may(granted));
    node.fake.open(false);
    let mut pod = Pod::start(&node, "web", Some("restart"));
    let ask = json!({ "metadata": { "annotations": { "paramedic.dev/ask": "restart" } } });
    node.fake.patch(Kind::Pod, "default", &pod.name, &ask).unwrap();
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name()), ("ceiling", "restart")]);
    let request = until("it asks", || {
        pod.errors(15);
        thread::sleep(Duration::from_millis(200));
        agent.target()["asks"]["request"].as_str().map(str::to_owned)
    });
    let event = node.event_with("HealRefused", "approval");
    assert!(event.contains(&request), "{event}");

    let address = agent.address.to_string();
    let approve = ["approve", "default/web-0", "--agent", &address];
    let refused = node.run_as("token-of-node1", &approve);
    assert_eq!(refused.status.code(), Some(1));
    let why = String::from_utf8(refused.stderr).unwrap();
    let by_hand = format!("pod/web-0 paramedic.dev/approve={request}");
    assert!(why.contains(&by_hand) && why.contains("403"), "{why}");
    assert!(pod.is_alive());

    let approved = node.run_as("token-of-owner", &approve);
    assert_eq!(approved.status.code(), Some(0), "{approved:?}");
    until("the restart is given", || {
        pod.errors(15);
        thread::sleep(Duration::from_millis(200));
        (!pod.is_alive()).then_some(())
    });
    agent.hears("approved", &[("target", &pod.full_name()), ("request", &request)]);
    pod.restart_once_ended();
    agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
    assert_eq!(agent.target()["asks"], Value::Null);
}

/// A drain takes the pod out of its Service while it still serves, and it is back afterwards.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pod_that_serves_is_drained_before_its_restart() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    drains(&node, &pod);
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name()), ("ceiling", "restart")]);
    is_drained(&node, &pod);
    agent.hears("drained: out of its Services", &[("target", &pod.full_name())]);
    thread::sleep(Duration::from_millis(1500));
    assert!(pod.is_alive(), "the restart waits for the drain");
    assert_eq!(pod.restart_once_ended().code(), Some(0));
    agent.hears("drained pod is back in its Services", &[]);
    assert_eq!(serving(&node, &pod), "true");
    agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
    let drained = "paramedic_drains_total{result=\"drained\"}";
    assert_eq!(agent.metric(drained), 1.0);
    let incidents = agent.incidents();
    let restart = incidents.iter().find(|incident| incident["remedy"] == "restart").unwrap();
    assert_eq!(restart["means"], "drain");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_pod_that_serves_nobody_is_restarted_without_a_drain() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    drains(&node, &pod);
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name())]);
    agent.sees_at_once(|| pod.errors(15));
    agent.hears("restarting without a drain", &[("target", &pod.full_name())]);
    assert_eq!(pod.restart_once_ended().code(), Some(0));
    agent.hears("treatment ended", &[("remedy", "restart"), ("outcome", "healed")]);
    assert!(node.fake.relabelled().is_empty());
}

/// SIGTERM during a drain: the pod is put back and not restarted. `paramedic release` puts one back
/// that was left by an agent that was killed.
#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_agent_that_stops_puts_a_drained_pod_back_and_people_can_too() {
    let (node, state) = (Node::new(), Directory::new());
    let mut pod = Pod::start(&node, "web", Some("restart"));
    drains(&node, &pod);
    let longer = json!({ "metadata": { "annotations": { "paramedic.dev/drain": "60s" } } });
    node.fake.patch(Kind::Pod, "default", &pod.name, &longer).unwrap();
    let agent = node.ready_agent(&state, &[]);
    agent.hears("watching", &[("target", &pod.full_name())]);
    is_drained(&node, &pod);
    assert_eq!(agent.terminate().code(), Some(0));
    assert_eq!(serving(&node, &pod), "true");
    assert!(pod.is_alive(), "it was not restarted");

    let left = json!({ "metadata": {
        "labels": { "paramedic.dev/serving": "false" },
        "annotations": { "paramedic.dev/drained-until": "2026-11-30T10:00:00Z" },
    } });
    node.fake.patch(Kind::Pod, "default", &pod.name, &left).unwrap();
    let released = node.run_as("token-of-owner", &["release", &pod.full_name()]);
    let said = String::from_utf8(released.stdout).unwrap();
    assert_eq!(released.status.code(), Some(1), "an unknown token");
    node.fake.identity("token-of-owner", Identity::new("owner"));
    assert_eq!(said, "");
    let released = node.run_as("token-of-owner", &["release", &pod.full_name()]);
    let said = String::from_utf8(released.stdout).unwrap();
    assert_eq!((released.status.code(), serving(&node, &pod)), (Some(0), json!("true")), "{said}");
    assert!(said.contains("released default/web-0: paramedic.dev/serving=true"), "{said}");
    for (what, why) in [
        (pod.full_name(), "there is nothing to release"),
        ("http://localhost:5000".to_owned(), "only pods of a cluster"),
        ("default/nobody".to_owned(), "there is no pod"),
    ] {
        let output = node.run_as("token-of-owner", &["release", &what]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
    }
}

/// Its owner wants it drained for two seconds, and a Service selects it while it is to serve.
fn drains(node: &Node, pod: &Pod) {
    let opted = json!({ "metadata": {
        "labels": { "paramedic.dev/serving": "true" },
        "annotations": { "paramedic.dev/drain": "2s" },
    } });
    node.fake.patch(Kind::Pod, "default", &pod.name, &opted).unwrap();
    let selector = json!({ "app": "web", "paramedic.dev/serving": "true" });
    let metadata = json!({ "name": "web", "namespace": "default" });
    node.fake.put(Kind::Service, json!({ "metadata": metadata, "spec": { "selector": selector } }));
}

/// Makes errors among good responses, until the agent takes it out of its Service: no reset has
/// helped.
fn is_drained(node: &Node, pod: &Pod) {
    until("it is drained", || {
        pod.serves(1);
        pod.errors(15);
        thread::sleep(Duration::from_millis(200));
        (serving(node, pod) == "false").then_some(())
    });
}

fn serving(node: &Node, pod: &Pod) -> Value {
    let pod = node.fake.get(Kind::Pod, "default", &pod.name).unwrap();
    pod["metadata"]["labels"]["paramedic.dev/serving"].clone()
}
