//! Recorded responses of a real API server, and how they are interpreted.
use fake_apiserver::recorded::{Replay, exchange_of};
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::PostParams;
use paramedic_api_server::within;
use paramedic_core::guard::Gate;

use super::*;
use crate::{eviction::Answer, lock::is_conflict};

/// An agent that receives recorded responses.
fn agent(recordings: &[&str], node: &str, namespace: &str) -> Arc<Cluster> {
    let replay = Replay::of(recordings).unwrap();
    let identity = Identity {
        node: node.into(),
        namespace: namespace.into(),
        holder: format!("{node}/paramedic-x"),
    };
    let clock = Clock::Tokio(Instant::now());
    Arc::new(Cluster::new(replay.client(), identity, clock, Requests::uncounted()))
}

/// The pod of the recorded request, and whether it was a dry run.
fn subject(recording: &str) -> (PodRef, bool) {
    let exchange = exchange_of(recording).unwrap().unwrap();
    let part = |n| exchange.path.split('/').nth(n).unwrap().to_owned();
    let uid = exchange.request.pointer("/deleteOptions/preconditions/uid");
    let pod = PodRef {
        namespace: part(4),
        name: part(6),
        uid: uid.and_then(Value::as_str).unwrap_or("u").to_owned(),
        container: "app".into(),
        container_id: "0".repeat(64),
        owner: None,
        grace: Duration::ZERO,
    };
    (pod, exchange.path.contains("dryRun=All"))
}

/// The interpretation of a response, and the refusal for that reason.
async fn understood(recording: &str) -> (&'static str, Option<(Gate, String)>) {
    let (pod, dry_run) = subject(recording);
    let answer = agent(&[recording], "node1", OWN).ask_eviction(&pod, dry_run).await;
    let kind = match &answer {
        Answer::Allowed => "allowed",
        Answer::Budget(_) => "budget",
        Answer::MovedOn(_) => "moved on",
        Answer::Never(_) => "never",
        Answer::Unknown(_) => "unknown",
    };
    (kind, answer.refusal().map(|refusal| (refusal.gate, refusal.why.to_string())))
}

#[tokio::test(start_paused = true)]
async fn every_recorded_answer_to_an_eviction_is_understood() {
    let budget = Gate::DisruptionBudget;
    for (recording, kind) in [
        ("201-evicted", "allowed"),
        ("201-dry-run", "allowed"),
        ("not-ready.always-allow.201", "allowed"),
        ("not-ready.if-healthy-budget.201", "allowed"),
    ] {
        assert_eq!(understood(&format!("eviction/{recording}.json")).await, (kind, None));
    }
    for (recording, kind, gate, part) in [
        ("eviction/429-budget", "budget", budget, "The disruption budget shop needs 2 healthy"),
        ("eviction/429-dry-run", "budget", budget, "healthy pods and has"),
        ("eviction/429-straight-after-201", "budget", budget, "healthy pods and has"),
        ("eviction/429-budget-not-processed", "budget", budget, "still being processed"),
        ("eviction/not-ready.if-healthy-budget.429", "budget", budget, "healthy pods and has"),
        ("eviction/409-wrong-uid", "moved on", Gate::Identity, "UID in the precondition"),
        ("eviction/409-dry-run-wrong-uid", "moved on", Gate::Identity, "UID in the precondition"),
        ("eviction/404-gone", "moved on", Gate::Identity, "not found"),
        ("eviction/500-two-budgets", "never", budget, "more than one PodDisruptionBudget"),
        ("eviction/400-name-mismatch", "never", budget, "name in URL does not match"),
        ("rbac/403-evict", "never", budget, "cannot create resource"),
        ("fence/403-evict-other-node", "never", budget, "runs on node2, the agent on node1"),
        ("fence/403-evict-no-consent", "never", budget, "does not carry paramedic.dev/heal"),
        ("fence/403-evict-unbound-token", "never", budget, "not bound to a pod on a node"),
        ("fence/422-evict-no-params", "never", budget, "no params found"),
    ] {
        let (taken_for, refusal) = understood(&format!("{recording}.json")).await;
        let (refused_by, why) = refusal.unwrap();
        assert_eq!((taken_for, refused_by), (kind, gate), "{recording}: {why}");
        assert!(why.contains(part), "{recording}: {why}");
    }
}

#[tokio::test(start_paused = true)]
async fn only_recorded_conflicts_of_leases_are_conflicts() {
    for (recording, conflict) in [
        ("leases/409-already-exists.json", true),
        ("leases/409-conflict.json", true),
        ("leases/201-create.json", false),
        ("leases/200-update.json", false),
        ("leases/400-renew-time-without-micros.json", false),
        ("leases/422-update-without-resource-version.json", false),
    ] {
        let exchange = exchange_of(recording).unwrap().unwrap();
        let dry_run = exchange.path.contains("dryRun=All");
        let params = PostParams { dry_run, ..PostParams::default() };
        let lease: Lease = from_value(exchange.request).unwrap();
        let leases = agent(&[recording], "node2", "kube-system").leases.clone();
        let name = lease.metadata.name.clone().unwrap();
        let written = if exchange.method == "POST" {
            within(leases.create(&params, &lease)).await
        } else {
            within(leases.replace(&name, &params, &lease)).await
        };
        assert_eq!(written.is_ok(), exchange.status < 300, "{recording}: {written:?}");
        assert_eq!(written.is_err_and(|error| is_conflict(&error)), conflict, "{recording}");
    }
    let leases = agent(&["leases/404-get.json"], "node2", "kube-system").leases.clone();
    assert!(within(leases.get_opt("paramedic-default-web")).await.unwrap().is_none());
}
