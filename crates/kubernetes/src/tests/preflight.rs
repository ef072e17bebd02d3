//! Each pre-flight check, and the requests that are made before it refuses.
use std::{sync::Arc, time::Duration};

use fake_apiserver::{Fault, Identity as Account, Kind, Rollout};
use paramedic_core::guard::Gate;
use serde_json::json;
use tokio::time::sleep;

use super::*;

const PAUSE: &str = "get namespaces 200";
const POD: &str = "get pods 200";
const SET: &str = "get replicasets 200";
const DEPLOYMENT: &str = "get deployments 200";
const BUDGET: &str = "create pods/eviction dry 201";

/// The first of the requests before a hard remedy, in order.
fn first(questions: usize) -> Vec<&'static str> {
    [PAUSE, POD, SET, DEPLOYMENT, BUDGET][..questions].to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_restart_makes_every_check_and_takes_the_lock_last() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    // The first time it only reports a sick pod, and gives other nodes time to report theirs.
    let (gate, why) = {
        let (refusal, _) =
            agent.clear(&request(&scene.first(), Remedy::Restart)).await.unwrap_err();
        (refusal.gate.name(), refusal.why.to_string())
    };
    assert_eq!((gate, why.contains("waiting for other nodes")), ("overload", true), "{why}");
    let lease = ["get leases 404", "create leases 201"];
    assert_eq!(scene.asked(), [&first(5)[..], &lease].concat());
    sleep(Duration::from_secs(4)).await;
    let lock = clear(&agent, &scene.first()).await.unwrap();
    assert_eq!(lock.holds(scene.clock.now()), Ok(()));
    let lease = ["get leases 200", "update leases 200"];
    assert_eq!(scene.asked(), [&first(5)[..], &lease].concat());
    assert_eq!(scene.holder(), "node1/1");
    agent.release(lock, None).await;
    assert_eq!(scene.asked(), ["get leases 200", "update leases 200"]);

    let lock = clear(&agent, &scene.first()).await.unwrap();
    // The pause switch was read less than two seconds ago, and the Lease exists now.
    let lease = ["get leases 200", "update leases 200"];
    assert_eq!(scene.asked(), [&first(5)[1..], &lease].concat());
    drop(lock);
}

#[tokio::test(start_paused = true)]
async fn a_soft_remedy_checks_only_the_pause_switch() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    for _ in 0..3 {
        assert!(agent.clear(&request(&scene.first(), Remedy::Soft)).await.unwrap().is_none());
    }
    assert_eq!(scene.asked(), first(1), "once in two seconds");
    sleep(Duration::from_secs(3)).await;
    assert!(agent.clear(&request(&scene.first(), Remedy::Soft)).await.unwrap().is_none());
    assert_eq!(scene.asked(), first(1));
}

#[tokio::test(start_paused = true)]
async fn a_paused_cluster_refuses_every_remedy() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    for (value, paused) in [("true", true), ("", true), ("no", true), ("false", false)] {
        scene.fake.add_namespace(OWN, &[], &[("paramedic.dev/paused", value)]);
        // An answer is not used for longer than this.
        sleep(Duration::from_secs(2)).await;
        for remedy in [Remedy::Soft, Remedy::Restart, Remedy::Evict] {
            let request = Request { dry_run: true, ..request(&scene.first(), remedy) };
            let answer = agent.clear(&request).await.map(|_| ());
            let refused = answer.map_err(|(refusal, wait)| (refusal.gate, wait));
            let expected = Err((Gate::Paused, Duration::from_secs(4)));
            assert_eq!(refused, if paused { expected } else { Ok(()) }, "{value} {remedy:?}");
        }
    }
    let why = {
        scene.fake.add_namespace(OWN, &[], &[("paramedic.dev/paused", "true")]);
        sleep(Duration::from_secs(2)).await;
        scene.asked();
        refused(&agent, &scene.first()).await
    };
    assert_eq!(why.0, "paused");
    assert!(why.1.contains(OWN), "{}", why.1);
    assert_eq!(scene.asked(), first(1));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_no_longer_the_judged_one_is_refused() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let judged = scene.first();
    let other = Arc::new(PodRef { uid: "other".into(), ..(*judged).clone() });
    let (gate, why) = refused(&agent, &other).await;
    assert_eq!((gate, why.contains("another pod has its name")), ("identity", true), "{why}");
    assert_eq!(scene.asked(), first(2));

    scene.fake.restart_container("default", &judged.name, "app", 1).unwrap();
    sleep(Duration::from_millis(800)).await;
    let (gate, why) = refused(&agent, &judged).await;
    assert_eq!((gate, why.contains("is not running")), ("identity", true), "{why}");
    sleep(Duration::from_secs(2)).await;
    let (gate, why) = refused(&agent, &judged).await;
    assert_eq!((gate, why.contains("was restarted")), ("identity", true), "{why}");

    let judged = scene.pod(&judged.name);
    scene.fake.delete_pod("default", &judged.name).unwrap();
    let (gate, why) = refused(&agent, &judged).await;
    assert_eq!((gate, why.contains("is being deleted")), ("identity", true), "{why}");
    sleep(Duration::from_secs(31)).await;
    let (gate, why) = refused(&agent, &judged).await;
    assert_eq!((gate, why.contains("it was deleted")), ("identity", true), "{why}");
    assert!(scene.lease().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_label_that_was_just_lowered_is_applied() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let pod = scene.first();
    for (label, gate) in [("soft", "mode"), ("observe", "mode"), ("never", "mode")] {
        let labels = json!({ "paramedic.dev/heal": label });
        scene.fake.set_labels("default", &pod.name, &labels).unwrap();
        assert_eq!(refused(&agent, &pod).await.0, gate, "{label}");
    }
    scene.fake.set_labels("default", &pod.name, &json!({ "paramedic.dev/heal": null })).unwrap();
    assert_eq!(refused(&agent, &pod).await.0, "identity");
    let labels = json!({ "paramedic.dev/heal": "restart" });
    scene.fake.set_labels("default", &pod.name, &labels).unwrap();
    let evict = agent.clear(&request(&pod, Remedy::Evict)).await.map(|_| ());
    assert_eq!(evict.unwrap_err().0.gate, Gate::Mode);
    assert!(scene.lease().is_none());
    assert!(clear(&agent, &pod).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_changing_workload_refuses_hard_remedies() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let set = |rollout| {
        scene.fake.set_rolling(Kind::Deployment, "default", "web", rollout).unwrap();
    };
    for rollout in [Rollout::Unobserved, Rollout::Updated(1)] {
        set(rollout);
        scene.asked();
        assert_eq!(refused(&agent, &scene.first()).await.0, "rollout", "{rollout:?}");
        assert_eq!(scene.asked().last().unwrap(), DEPLOYMENT);
    }
    set(Rollout::Done);
    scene.fake.scale(Kind::Deployment, "default", "web", 4).unwrap();
    assert_eq!(refused(&agent, &scene.first()).await.0, "rollout", "the fourth is yet to come");
    sleep(Duration::from_secs(5)).await;
    assert!(clear(&agent, &scene.first()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_forbids_a_restart_too_and_is_named() {
    let scene = Scene::new(3);
    scene.fake.add_pdb("default", "web-budget", "web", &json!({ "minAvailable": 3 }));
    let agent = scene.agent("node1");
    let (gate, why) = refused(&agent, &scene.first()).await;
    assert_eq!(gate, "disruption_budget");
    assert!(why.contains("web-budget needs 3 healthy pods and has 3"), "{why}");
    assert_eq!(scene.asked(), [&first(4)[..], &["create pods/eviction dry 429"]].concat());
    let budget = scene.fake.get(Kind::PodDisruptionBudget, "default", "web-budget").unwrap();
    assert!(budget["status"]["disruptedPods"].is_null());
}

#[tokio::test(start_paused = true)]
async fn two_budgets_over_one_pod_are_named_and_not_taken_for_an_outage() {
    let scene = Scene::new(3);
    for name in ["one", "two"] {
        scene.fake.add_pdb("default", name, "web", &json!({ "minAvailable": 1 }));
    }
    let (gate, why) = refused(&scene.agent("node1"), &scene.first()).await;
    assert_eq!(gate, "disruption_budget");
    assert!(why.contains("more than one PodDisruptionBudget"), "{why}");
}

#[tokio::test(start_paused = true)]
async fn throttling_is_no_budget_although_it_has_the_same_status() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    let throttled = Fault::Status { code: 429, retry_after: Some(1) };
    scene.fake.fail_next(1, Logged::is_eviction, throttled);
    let (gate, _) = refused(&agent, &scene.first()).await;
    assert_eq!(gate, "api_server");
    assert_eq!(scene.asked().last().unwrap(), "create pods/eviction dry 429", "asked once");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_the_fence_is_named() {
    let scene = Scene::new(4);
    let account = Account::service_account(OWN, "paramedic-agent");
    scene.fake.fence(Some(&account.username));
    scene.fake.identity("node1", account.clone().on_node("node1"));
    let agent = scene.agent("node1");
    let mut nodes = Vec::new();
    for name in &scene.pods {
        let pod = scene.fake.get(Kind::Pod, "default", name).unwrap();
        let node = pod["spec"]["nodeName"].as_str().unwrap().to_owned();
        if node == "node1" {
            let lock = clear(&agent, &scene.pod(name)).await.unwrap();
            agent.release(lock, None).await;
        } else {
            let (gate, why) = refused(&agent, &scene.pod(name)).await;
            assert_eq!(gate, "disruption_budget");
            assert!(why.contains("runs on node2, the agent on node1"), "{why}");
        }
        nodes.push(node);
    }
    nodes.sort();
    assert_eq!(nodes, ["node1", "node1", "node2", "node2"]);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_makes_the_same_checks_and_writes_nothing() {
    let scene = Scene::new(4);
    let agent = scene.agent("node1");
    let dry = Request { dry_run: true, ..request(&scene.first(), Remedy::Evict) };
    assert!(agent.clear(&dry).await.unwrap().is_none());
    assert_eq!(scene.asked(), [&first(5)[..], &["get leases 404"]].concat());
    assert!(scene.lease().is_none());

    let other = scene.agent("node2");
    let lock = clear(&other, &scene.pod(&scene.pods[1])).await.unwrap();
    let before = scene.lease();
    let refusal = agent.clear(&dry).await.map(|_| ()).unwrap_err().0;
    assert_eq!(refusal.gate, Gate::WorkloadLock);
    assert_eq!(scene.lease(), before);
    drop(lock);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_the_lock_writes_nothing() {
    let scene = Scene::new(3);
    let agent = scene.agent("node1");
    scene.fake.add_pdb("default", "web", "web", &json!({ "minAvailable": 3 }));
    refused(&agent, &scene.first()).await;
    scene.fake.set_rolling(Kind::Deployment, "default", "web", Rollout::Unobserved).unwrap();
    refused(&agent, &scene.first()).await;
    scene
        .fake
        .set_labels("default", &scene.pods[0], &json!({"paramedic.dev/heal": "soft"}))
        .unwrap();
    refused(&agent, &scene.first()).await;
    scene.fake.add_namespace(OWN, &[], &[("paramedic.dev/paused", "true")]);
    sleep(Duration::from_secs(2)).await;
    refused(&agent, &scene.first()).await;
    let asked = scene.fake.requests();
    assert!(asked.iter().all(|request| request.verb == "get" || request.dry_run), "{asked:?}");
}
