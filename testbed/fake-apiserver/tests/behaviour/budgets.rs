use std::time::Duration;

use fake_apiserver::{FakeApi, Kind, PodTemplate};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::behaviour::evict;

fn web(replicas: u32, spec: &Value) -> (FakeApi, Vec<String>) {
    let fake = FakeApi::new();
    fake.add_node("node1");
    fake.add_node("node2");
    let template = PodTemplate::new().grace(5);
    let pods = fake.add_deployment("default", "web", replicas, &template, &[]);
    fake.add_pdb("default", "web", "web", spec);
    (fake, pods)
}

/// Allowed, healthy, desired, expected.
fn status(fake: &FakeApi) -> [i64; 4] {
    let budget = fake.get(Kind::PodDisruptionBudget, "default", "web").unwrap();
    ["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]
        .map(|field| budget["status"][field].as_i64().unwrap())
}

#[tokio::test(start_paused = true)]
async fn the_status_of_a_budget_follows_the_pods() {
    let (fake, pods) = web(3, &json!({"maxUnavailable": 1}));
    assert_eq!(status(&fake), [1, 3, 2, 3]);
    assert_eq!(evict(&fake, &pods[0]).await, 201);
    assert_eq!(status(&fake), [0, 2, 2, 3]);
    assert_eq!(evict(&fake, &pods[1]).await, 429);
    // Replaced after 0.1 s, running after 1 s, ready after 1 s more.
    sleep(Duration::from_millis(2050)).await;
    assert_eq!(evict(&fake, &pods[1]).await, 429);
    sleep(Duration::from_millis(50)).await;
    assert_eq!(status(&fake), [1, 3, 2, 3]);
    assert_eq!(evict(&fake, &pods[1]).await, 201);
    fake.set_ready("default", &pods[2], false).unwrap();
    assert_eq!(status(&fake), [0, 1, 2, 3]);
    assert_eq!(fake.violations(), []);
    let evictions = fake.evictions();
    assert_eq!(evictions.len(), 2);
    assert_eq!(evictions[1].workload, Some(("Deployment".to_owned(), "web".to_owned())));
    assert_eq!(evictions[1].budget.as_ref().unwrap().1.healthy, 3);
    assert_eq!(evictions[1].at, Duration::from_millis(2100));
}

#[tokio::test(start_paused = true)]
async fn percentages_are_of_what_the_controller_wants() {
    let (fake, _) = web(7, &json!({"minAvailable": "50%"}));
    assert_eq!(status(&fake), [3, 7, 4, 7]);
    fake.scale(Kind::Deployment, "default", "web", 9).unwrap();
    assert_eq!(status(&fake), [2, 7, 5, 9]);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(status(&fake), [4, 9, 5, 9]);
}

#[tokio::test(start_paused = true)]
async fn a_budget_over_what_cannot_be_scaled_never_allows_anything() {
    let fake = FakeApi::new();
    let pods = fake.add_daemonset("default", "web", &PodTemplate::new(), &["node1", "node2"]);
    fake.add_pdb("default", "web", "web", &json!({"maxUnavailable": 1}));
    assert_eq!(evict(&fake, &pods[0]).await, 429);
    let budget = fake.get(Kind::PodDisruptionBudget, "default", "web").unwrap();
    assert_eq!(budget["status"]["conditions"][0]["reason"], "SyncFailed");
    let patch = json!({"spec": {"maxUnavailable": null, "minAvailable": 1}});
    fake.patch(Kind::PodDisruptionBudget, "default", "web", &patch).unwrap();
    assert_eq!(evict(&fake, &pods[0]).await, 201);
}

#[tokio::test(start_paused = true)]
async fn budgets_select_as_budgets_do() {
    let (fake, pods) = web(1, &json!({"minAvailable": 1}));
    assert_eq!(evict(&fake, &pods[0]).await, 429);
    let select = |selector: Value| {
        let patch = json!({"spec": {"selector": selector}});
        fake.patch(Kind::PodDisruptionBudget, "default", "web", &patch).unwrap();
    };
    select(json!({"matchLabels": {"app": "db"}}));
    assert_eq!(status(&fake), [0, 0, 1, 0]);
    // An empty selector means every pod of the namespace.
    select(json!({"matchLabels": null}));
    assert_eq!(status(&fake), [0, 1, 1, 1]);
    assert_eq!(evict(&fake, &pods[0]).await, 429);
    select(Value::Null);
    assert_eq!(evict(&fake, &pods[0]).await, 201);
}

#[tokio::test(start_paused = true)]
async fn pods_that_do_not_run_cost_nothing() {
    let (fake, pods) = web(1, &json!({"minAvailable": 1}));
    let pending = json!({"metadata": {"name": "new", "labels": {"app": "web"}},
        "spec": {"nodeName": "node1"}});
    fake.start_pod(pending);
    assert_eq!(evict(&fake, "new").await, 201);
    assert_eq!(evict(&fake, &pods[0]).await, 429);
    fake.delete_pod("default", &pods[0]).unwrap();
    assert_eq!(evict(&fake, &pods[0]).await, 201, "it goes anyway");
    assert_eq!(fake.violations(), []);
}

/// A server that was lied to evicts too many, and the record shows it.
#[tokio::test(start_paused = true)]
async fn a_violation_is_found_although_the_status_allows_it() {
    let (fake, pods) = web(2, &json!({"minAvailable": 1}));
    fake.pause_budgets(true);
    let lie = json!({"status": {"disruptionsAllowed": 2}});
    fake.patch(Kind::PodDisruptionBudget, "default", "web", &lie).unwrap();
    assert_eq!(evict(&fake, &pods[0]).await, 201);
    assert_eq!(fake.violations(), []);
    assert_eq!(evict(&fake, &pods[1]).await, 201);
    let violations = fake.violations();
    assert_eq!(violations.len(), 1);
    assert_eq!(violations[0].pod, pods[1]);
    let (budget, count) = violations[0].budget.clone().unwrap();
    assert_eq!((budget.as_str(), count.healthy, count.desired), ("web", 1, 1));
}
