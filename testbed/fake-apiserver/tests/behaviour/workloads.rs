use std::time::Duration;

use fake_apiserver::{FakeApi, Kind, PodTemplate, Rollout};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::behaviour::{ask, evict, pod_names};

const NODES: [&str; 3] = ["node1", "node2", "node3"];

fn cluster() -> FakeApi {
    let fake = FakeApi::new();
    NODES.into_iter().for_each(|node| fake.add_node(node));
    fake
}

fn status(fake: &FakeApi, kind: Kind, name: &str) -> Value {
    fake.get(kind, "default", name).unwrap()["status"].clone()
}

fn node_of(fake: &FakeApi, pod: &str) -> String {
    let pod = fake.get(Kind::Pod, "default", pod).unwrap();
    pod["spec"]["nodeName"].as_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_deployment_is_made_of_sets_and_pods() {
    let fake = cluster();
    let template = PodTemplate::new()
        .label("paramedic.dev/heal", "evict")
        .annotation("paramedic.dev/port", "1");
    let pods = fake.add_deployment("default", "web", 6, &template, &["node1", "node2"]);
    let mut nodes: Vec<String> = pods.iter().map(|pod| node_of(&fake, pod)).collect();
    nodes.sort();
    assert_eq!(nodes, ["node1", "node1", "node1", "node2", "node2", "node2"]);

    let pod = fake.get(Kind::Pod, "default", &pods[0]).unwrap();
    assert_eq!(pod["metadata"]["labels"]["app"], "web");
    assert_eq!(pod["metadata"]["labels"]["paramedic.dev/heal"], "evict");
    assert_eq!(pod["metadata"]["annotations"]["paramedic.dev/port"], "1");
    let container = &pod["spec"]["containers"][0];
    assert_eq!(
        container["ports"][0],
        json!({"name": "http", "containerPort": 5000, "protocol": "TCP"})
    );
    let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    assert_eq!(id.strip_prefix("containerd://").unwrap().len(), 64);

    let owner = &pod["metadata"]["ownerReferences"][0];
    assert_eq!(owner["kind"], "ReplicaSet");
    let set = fake.get(Kind::ReplicaSet, "default", owner["name"].as_str().unwrap()).unwrap();
    assert_eq!(set["metadata"]["uid"], owner["uid"]);
    assert_eq!(set["metadata"]["ownerReferences"][0]["name"], "web");
    let status = status(&fake, Kind::Deployment, "web");
    for field in ["replicas", "readyReplicas", "availableReplicas", "updatedReplicas"] {
        assert_eq!(status[field], 6, "{field}");
    }
    assert_eq!(status["observedGeneration"], 1);
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_has_a_successor_elsewhere_and_goes_in_its_grace_period() {
    let fake = cluster();
    let pods = fake.add_deployment("default", "web", 3, &PodTemplate::new().grace(5), &NODES);
    assert_eq!(evict(&fake, &pods[1]).await, 201);
    let ready = |fake: &FakeApi| status(fake, Kind::Deployment, "web")["readyReplicas"].clone();
    assert_eq!(ready(&fake), 2);
    assert_eq!(pod_names(&fake).len(), 3);
    sleep(Duration::from_millis(100)).await;
    assert_eq!(pod_names(&fake).len(), 4);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(ready(&fake), 3);
    sleep(Duration::from_millis(2899)).await;
    assert!(pod_names(&fake).contains(&pods[1]));
    sleep(Duration::from_millis(1)).await;
    assert!(!pod_names(&fake).contains(&pods[1]));
    assert_eq!(pod_names(&fake).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_successor_of_a_stateful_pod_has_its_name() {
    let fake = cluster();
    let pods = fake.add_statefulset("default", "db", 2, &PodTemplate::new().grace(5), &NODES);
    assert_eq!(pods, ["db-0", "db-1"]);
    let uid =
        |fake: &FakeApi| fake.get(Kind::Pod, "default", "db-0").unwrap()["metadata"]["uid"].clone();
    let before = uid(&fake);
    assert_eq!(evict(&fake, "db-0").await, 201);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(uid(&fake), before);
    sleep(Duration::from_millis(1100)).await;
    assert_ne!(uid(&fake), before);
    assert_eq!(status(&fake, Kind::StatefulSet, "db")["readyReplicas"], 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(status(&fake, Kind::StatefulSet, "db")["readyReplicas"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_comes_back_on_its_node() {
    let fake = cluster();
    let pods = fake.add_daemonset("default", "log", &PodTemplate::new().grace(1), &NODES);
    let node = node_of(&fake, &pods[2]);
    fake.delete_pod("default", &pods[2]).unwrap();
    sleep(Duration::from_secs(4)).await;
    let nodes: Vec<String> = pod_names(&fake).iter().map(|pod| node_of(&fake, pod)).collect();
    assert_eq!(nodes.iter().filter(|n| **n == node).count(), 1);
    let status = status(&fake, Kind::DaemonSet, "log");
    assert_eq!((&status["numberReady"], &status["desiredNumberScheduled"]), (&json!(3), &json!(3)));
}

#[tokio::test(start_paused = true)]
async fn jobs_run_pods_that_are_not_restarted() {
    let fake = cluster();
    let pods = fake.add_job("default", "import", 1, &PodTemplate::new(), &NODES);
    assert_eq!(status(&fake, Kind::Job, "import")["active"], 1);
    fake.restart_container("default", &pods[0], "app", 1).unwrap();
    sleep(Duration::from_secs(5)).await;
    let pod = fake.get(Kind::Pod, "default", &pods[0]).unwrap();
    assert_eq!(pod["status"]["phase"], "Failed");
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
    let status = status(&fake, Kind::Job, "import");
    assert_eq!((&status["active"], &status["failed"]), (&json!(1), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn scaling_adds_and_removes() {
    let fake = cluster();
    fake.add_deployment("default", "web", 2, &PodTemplate::new().grace(1), &NODES);
    fake.scale(Kind::Deployment, "default", "web", 5).unwrap();
    assert_eq!(status(&fake, Kind::Deployment, "web")["observedGeneration"], 2);
    sleep(Duration::from_secs(3)).await;
    assert_eq!(status(&fake, Kind::Deployment, "web")["readyReplicas"], 5);
    fake.scale(Kind::Deployment, "default", "web", 1).unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pod_names(&fake).len(), 1);
    fake.delete(Kind::Deployment, "default", "web").unwrap();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(pod_names(&fake).len(), 0);
    assert_eq!(fake.list(Kind::ReplicaSet).len(), 0);
    assert!(fake.scale(Kind::Deployment, "default", "web", 1).is_err());
}

#[tokio::test(start_paused = true)]
async fn a_rolling_update_can_be_shown() {
    let fake = cluster();
    fake.add_deployment("default", "web", 3, &PodTemplate::new(), &NODES);
    let seen = || {
        let object = fake.get(Kind::Deployment, "default", "web").unwrap();
        let number = |value: &Value| value.as_i64().unwrap_or(0);
        (
            number(&object["metadata"]["generation"]),
            number(&object["status"]["observedGeneration"]),
            number(&object["status"]["updatedReplicas"]),
        )
    };
    let set = |rollout| fake.set_rolling(Kind::Deployment, "default", "web", rollout).unwrap();
    assert_eq!(seen(), (1, 1, 3));
    set(Rollout::Unobserved);
    assert_eq!(seen(), (2, 1, 3));
    set(Rollout::Updated(0));
    assert_eq!(seen(), (2, 2, 0));
    set(Rollout::Updated(2));
    assert_eq!(seen(), (2, 2, 2));
    set(Rollout::Done);
    assert_eq!(seen(), (2, 2, 3));
}

#[tokio::test(start_paused = true)]
async fn cordoned_nodes_get_no_pods() {
    let fake = cluster();
    let pods = fake.add_deployment("default", "web", 1, &PodTemplate::new().grace(0), &[]);
    let node = node_of(&fake, &pods[0]);
    for other in NODES.into_iter().filter(|other| *other != node) {
        fake.patch(Kind::Node, "", other, &json!({"spec": {"unschedulable": true}})).unwrap();
    }
    fake.delete_pod("default", &pods[0]).unwrap();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(node_of(&fake, &pod_names(&fake)[0]), node);
    let all = json!({"spec": {"unschedulable": true}});
    fake.patch(Kind::Node, "", &node, &all).unwrap();
    fake.delete_pod("default", &pod_names(&fake)[0]).unwrap();
    sleep(Duration::from_secs(3)).await;
    let pod = fake.get(Kind::Pod, "default", &pod_names(&fake)[0]).unwrap();
    assert_eq!(
        (&pod["status"]["phase"], &pod["spec"]["nodeName"]),
        (&json!("Pending"), &Value::Null)
    );
}

#[tokio::test(start_paused = true)]
async fn a_delete_request_respects_preconditions_and_dry_runs() {
    let fake = cluster();
    let pods = fake.add_deployment("default", "web", 1, &PodTemplate::new().grace(1), &NODES);
    let path = format!("/api/v1/namespaces/default/pods/{}", pods[0]);
    let wrong = json!({"preconditions": {"uid": "x"}});
    assert_eq!(ask(&fake, "DELETE", &path, wrong).await.0, 409);
    let dry = format!("{path}?dryRun=All");
    assert_eq!(ask(&fake, "DELETE", &dry, Value::Null).await.0, 200);
    assert!(
        fake.get(Kind::Pod, "default", &pods[0]).unwrap()["metadata"]["deletionTimestamp"]
            .is_null()
    );
    let (status, body) = ask(&fake, "DELETE", &path, Value::Null).await;
    assert_eq!((status, &body["kind"]), (200, &json!("Pod")));
    assert!(body["metadata"]["deletionTimestamp"].is_string());
    sleep(Duration::from_secs(1)).await;
    assert_eq!(ask(&fake, "DELETE", &path, Value::Null).await.0, 404);
}
