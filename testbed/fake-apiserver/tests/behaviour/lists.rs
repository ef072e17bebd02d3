use fake_apiserver::{FakeApi, Kind, PodTemplate};
use serde_json::{Value, json};

use crate::behaviour::ask;

fn five() -> FakeApi {
    let fake = FakeApi::new();
    for (i, name) in ["a", "b", "c", "d", "e"].into_iter().enumerate() {
        let labels = json!({"heal": if i % 2 == 0 { "evict" } else { "soft" }});
        let namespace = if i < 3 { "one" } else { "two" };
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        fake.add_pod(json!({"metadata": metadata, "spec": {"nodeName": format!("node{i}")}}));
    }
    fake
}

async fn names(fake: &FakeApi, path: &str) -> (Vec<String>, Value) {
    let (status, list) = ask(fake, "GET", path, Value::Null).await;
    assert_eq!(status, 200, "{path}: {list}");
    let name = |pod: &Value| pod["metadata"]["name"].as_str().unwrap().to_owned();
    (list["items"].as_array().unwrap().iter().map(name).collect(), list["metadata"].clone())
}

#[tokio::test(start_paused = true)]
async fn lists_are_narrowed_by_namespace_and_selectors() {
    let fake = five();
    for (path, expected) in [
        ("/api/v1/pods", "abcde"),
        ("/api/v1/namespaces/one/pods", "abc"),
        ("/api/v1/namespaces/three/pods", ""),
        ("/api/v1/pods?labelSelector=heal%3Dsoft", "bd"),
        ("/api/v1/pods?labelSelector=heal+in+(evict)", "ace"),
        ("/api/v1/pods?fieldSelector=spec.nodeName%3Dnode3", "d"),
        ("/api/v1/pods?fieldSelector=metadata.namespace=two&labelSelector=heal=evict", "e"),
        ("/api/v1/pods?labelSelector=!heal", ""),
    ] {
        assert_eq!(names(&fake, path).await.0.concat(), expected, "{path}");
    }
    let path = "/api/v1/pods?fieldSelector=spec.colour%3Dred";
    assert_eq!(ask(&fake, "GET", path, Value::Null).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn pages_are_of_one_moment() {
    let fake = five();
    let (first, metadata) = names(&fake, "/api/v1/pods?limit=2").await;
    assert_eq!(first.concat(), "ab");
    assert_eq!(metadata["remainingItemCount"], 3);
    let version = metadata["resourceVersion"].clone();
    let token = metadata["continue"].as_str().unwrap().to_owned();
    fake.delete(Kind::Pod, "one", "c").unwrap();
    fake.add_pod(json!({"metadata": {"name": "f", "namespace": "two"}}));
    let next = |token: &str| format!("/api/v1/pods?limit=2&continue={token}");
    let (second, metadata) = names(&fake, &next(&token)).await;
    assert_eq!((second.concat().as_str(), &metadata["resourceVersion"]), ("cd", &version));
    let last = metadata["continue"].as_str().unwrap();
    let (third, metadata) = names(&fake, &next(last)).await;
    assert_eq!((third.concat().as_str(), &metadata["continue"]), ("e", &Value::Null));

    // Once the past is forgotten, the rest can only be had as it is now.
    fake.compact();
    let (status, expired) = ask(&fake, "GET", &next(&token), Value::Null).await;
    assert_eq!((status, &expired["reason"]), (410, &json!("Expired")));
    let rest = next(expired["metadata"]["continue"].as_str().unwrap());
    let (rest, metadata) = names(&fake, &rest).await;
    assert_eq!(rest.concat(), "cd");
    assert!(metadata["continue"].is_string());
    let (status, _) = ask(&fake, "GET", &next("nonsense"), Value::Null).await;
    assert_eq!(status, 400);
}

#[tokio::test(start_paused = true)]
async fn a_list_can_be_of_the_past() {
    let fake = five();
    let version = fake.version();
    fake.set_labels("one", "a", &json!({"heal": null})).unwrap();
    let exact = format!(
        "/api/v1/pods?labelSelector=heal&resourceVersion={version}&resourceVersionMatch=Exact"
    );
    let (then, metadata) = names(&fake, &exact).await;
    assert_eq!(
        (then.concat().as_str(), &metadata["resourceVersion"]),
        ("abcde", &json!(version.to_string()))
    );
    let not_older = exact.replace("Exact", "NotOlderThan");
    assert_eq!(names(&fake, &not_older).await.0.concat(), "bcde");
    assert_eq!(names(&fake, "/api/v1/pods?resourceVersion=0&limit=1").await.0.concat(), "abcde");
    for bad in [
        "/api/v1/pods?resourceVersionMatch=Exact",
        "/api/v1/pods?resourceVersion=0&resourceVersionMatch=Exact",
        "/api/v1/pods?sendInitialEvents=true",
    ] {
        assert_eq!(ask(&fake, "GET", bad, Value::Null).await.0, 422, "{bad}");
    }
    assert_eq!(ask(&fake, "GET", "/api/v1/pods?limit=x", Value::Null).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn every_kind_can_be_read_as_its_own() {
    use k8s_openapi::api::{
        apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::Job,
        core::v1::{Namespace, Node, Pod},
        policy::v1::PodDisruptionBudget,
    };
    let fake = FakeApi::new();
    let template = PodTemplate::new();
    fake.add_node("node1");
    fake.add_deployment("default", "a", 1, &template, &[]);
    fake.add_statefulset("default", "b", 1, &template, &[]);
    fake.add_daemonset("default", "c", &template, &["node1"]);
    fake.add_job("default", "d", 1, &template, &[]);
    fake.add_pdb("default", "e", "a", &json!({"maxUnavailable": "10%"}));
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "a"});
    let spec = json!({"scaleTargetRef": target, "maxReplicas": 5});
    let scaler = json!({"metadata": {"name": "f", "namespace": "default"}, "spec": spec});
    fake.put(Kind::HorizontalPodAutoscaler, scaler);

    async fn count<K>(fake: &FakeApi) -> usize
    where
        K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
    {
        kube::Api::<K>::all(fake.client("x")).list(&Default::default()).await.unwrap().items.len()
    }
    assert_eq!(count::<Deployment>(&fake).await, 1);
    assert_eq!(count::<ReplicaSet>(&fake).await, 1);
    assert_eq!(count::<StatefulSet>(&fake).await, 1);
    assert_eq!(count::<DaemonSet>(&fake).await, 1);
    assert_eq!(count::<Job>(&fake).await, 1);
    assert_eq!(count::<Pod>(&fake).await, 4);
    assert_eq!(count::<PodDisruptionBudget>(&fake).await, 1);
    assert_eq!(count::<HorizontalPodAutoscaler>(&fake).await, 1);
    assert_eq!(count::<Node>(&fake).await, 1);
    assert_eq!(count::<Namespace>(&fake).await, 4);
    let api = kube::Api::<Deployment>::namespaced(fake.client("x"), "default");
    assert_eq!(api.get("a").await.unwrap().status.unwrap().ready_replicas, Some(1));
    assert_eq!(api.get_opt("b").await.unwrap(), None);
}
