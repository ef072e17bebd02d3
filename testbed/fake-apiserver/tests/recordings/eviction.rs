use std::time::Duration;

use fake_apiserver::{FakeApi, Kind, recorded};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::recordings::compare::{masked, same};

const AGENT: &str = "agent";
/// The uids that the recordings name.
const A: &str = "d3edccbe-d895-44b0-95b2-7de357c6c39e";
const A2: &str = "5e7f100e-687e-439c-b7b8-aa6b0920b8f8";

fn add_pod(fake: &FakeApi, name: &str, app: &str, uid: Option<&str>) {
    let mut pod = json!({"metadata": {"name": name, "labels": {"app": app}},
        "spec": {"nodeName": "node1"}});
    if let Some(uid) = uid {
        pod["metadata"]["uid"] = json!(uid);
    }
    fake.add_pod(pod);
}

/// Two pods of an app under a budget.
fn two(app: &str, names: [&str; 2], uid: &str, spec: &Value) -> FakeApi {
    let fake = FakeApi::new();
    add_pod(&fake, names[0], app, Some(uid));
    add_pod(&fake, names[1], app, None);
    fake.add_pdb("default", app, app, spec);
    fake
}

fn set_budget(fake: &FakeApi, name: &str, spec: &Value) {
    let patch = json!({"spec": spec});
    fake.patch(Kind::PodDisruptionBudget, "default", name, &patch).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_refuses_and_says_what_it_needs() {
    let fake = two("shop", ["a", "b"], A, &json!({"minAvailable": 2}));
    same(&fake, AGENT, "eviction/429-budget.json").await;
    same(&fake, AGENT, "eviction/429-dry-run.json").await;
}

#[tokio::test(start_paused = true)]
async fn a_real_eviction_of_the_wrong_uid_costs_the_budget_for_two_minutes() {
    let fake = two("shop", ["a", "b"], A, &json!({"minAvailable": 2}));
    set_budget(&fake, "shop", &json!({"minAvailable": 1}));
    let version = || fake.get(Kind::PodDisruptionBudget, "default", "shop").unwrap();
    let before = version();
    for name in [
        "eviction/201-dry-run.json",
        "eviction/201-dry-run-in-body.json",
        "eviction/409-dry-run-wrong-uid.json",
    ] {
        same(&fake, AGENT, name).await;
    }
    assert_eq!(version(), before, "dry runs cost nothing");

    same(&fake, AGENT, "eviction/409-wrong-uid.json").await;
    let recorded = recorded::value("eviction/budget-after-409.json").unwrap();
    assert_eq!(timeless(&version()), timeless(&recorded));
    same(&fake, AGENT, "eviction/429-after-409-wrong-uid.json").await;

    sleep(Duration::from_secs(119)).await;
    same(&fake, AGENT, "eviction/429-after-409-wrong-uid.json").await;
    sleep(Duration::from_secs(1)).await;
    same(&fake, AGENT, "eviction/201-dry-run.json").await;
    assert_eq!(fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn a_budget_that_was_not_looked_at_asks_for_patience() {
    let fake = two("store", ["a2", "b2"], A2, &json!({"minAvailable": 2}));
    fake.pause_budgets(true);
    set_budget(&fake, "store", &json!({"minAvailable": 1}));
    same(&fake, AGENT, "eviction/429-budget-not-processed.json").await;
    fake.pause_budgets(false);
    same(&fake, AGENT, "eviction/201-evicted.json").await;
}

#[tokio::test(start_paused = true)]
async fn an_eviction_leaves_its_mark_and_the_next_is_refused() {
    let fake = two("store", ["a2", "b2"], A2, &json!({"minAvailable": 1}));
    same(&fake, AGENT, "eviction/201-evicted.json").await;

    let pod = fake.get(Kind::Pod, "default", "a2").unwrap();
    let recorded = recorded::value("eviction/pod-status-after-201.json").unwrap();
    for field in ["deletionGracePeriodSeconds", "generation", "uid"] {
        assert_eq!(pod["metadata"][field], recorded["metadata"][field], "{field}");
    }
    assert!(pod["metadata"]["deletionTimestamp"].is_string());
    let conditions = |pod: &Value| -> Vec<Value> {
        let all = pod["status"]["conditions"].as_array().unwrap().iter();
        all.map(|c| json!([c["type"], c["status"], c["reason"], c["message"]])).collect()
    };
    assert_eq!(conditions(&pod), conditions(&recorded));
    let container = |pod: &Value| pod["status"]["containerStatuses"][0].clone();
    for field in ["name", "ready", "started", "restartCount", "lastState"] {
        assert_eq!(container(&pod)[field], container(&recorded)[field], "{field}");
    }

    same(&fake, AGENT, "eviction/429-straight-after-201.json").await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(fake.get(Kind::Pod, "default", "a2"), None);
    assert_eq!(fake.evictions().len(), 1);
    assert_eq!(fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn an_unready_pod_depends_on_the_others_or_on_the_policy() {
    let fake = two("store", ["a2", "b2"], A2, &json!({"minAvailable": 2}));
    add_pod(&fake, "bad", "store", None);
    fake.set_ready("default", "bad", false).unwrap();
    same(&fake, AGENT, "eviction/not-ready.if-healthy-budget.201.json").await;
    set_budget(&fake, "store", &json!({"minAvailable": 3}));
    same(&fake, AGENT, "eviction/not-ready.if-healthy-budget.429.json").await;
    set_budget(&fake, "store", &json!({"unhealthyPodEvictionPolicy": "AlwaysAllow"}));
    let budget = fake.get(Kind::PodDisruptionBudget, "default", "store").unwrap();
    same(&fake, AGENT, "eviction/not-ready.always-allow.201.json").await;
    let after = fake.get(Kind::PodDisruptionBudget, "default", "store").unwrap();
    assert_eq!(after["status"], budget["status"], "it spends nothing");
    // A pod that goes anyway costs nothing either.
    same(&fake, AGENT, "eviction/not-ready.always-allow.201.json").await;
    assert_eq!(fake.violations(), []);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_succeed_is_refused() {
    let fake = two("store", ["a2", "b2"], A2, &json!({"minAvailable": 1}));
    same(&fake, AGENT, "eviction/404-gone.json").await;
    same(&fake, AGENT, "eviction/400-name-mismatch.json").await;
    fake.add_pdb("default", "another", "store", &json!({"minAvailable": 1}));
    same(&fake, AGENT, "eviction/500-two-budgets.json").await;
}

/// Without dates and versions.
fn timeless(budget: &Value) -> Value {
    let mut budget = masked(budget);
    budget["metadata"]["resourceVersion"].take();
    for condition in budget["status"]["conditions"].as_array_mut().unwrap() {
        condition["lastTransitionTime"].take();
    }
    for date in budget["status"]["disruptedPods"].as_object_mut().unwrap().values_mut() {
        date.take();
    }
    budget
}
