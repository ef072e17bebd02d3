//! The registration with the API server, from its beginning to its end.
use std::collections::BTreeSet;

use fake_apiserver::{FakeApi, Kind};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::{
    HPA, OWN, Scene,
    scene::{NAME, path},
};
use crate::{
    autoscale::Metric,
    metrics_api::{
        Version,
        keeper::{Keeper, unix_seconds},
        registration::Registration,
    },
};

const SERVICES: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];

fn service(fake: &FakeApi, name: &str) -> Option<Value> {
    fake.get(Kind::APIService, "", name)
}

#[tokio::test]
async fn it_registers_itself_with_its_own_certificates_and_owner() {
    let scene = Scene::new().await;
    let role = scene.fake.get(Kind::ClusterRole, "", NAME).unwrap();
    for name in SERVICES {
        let service = service(&scene.fake, name).unwrap();
        let spec = &service["spec"];
        assert_eq!(spec["service"], json!({"namespace": OWN, "name": NAME, "port": 443}));
        assert_ne!(spec["insecureSkipTLSVerify"], json!(true));
        let owner = &service["metadata"]["ownerReferences"][0];
        assert_eq!(
            (&owner["kind"], &owner["uid"]),
            (&json!("ClusterRole"), &role["metadata"]["uid"])
        );
    }
    // That its certificates are good is what every request here rests on.
    assert_eq!(scene.get(HPA, &path(Metric::Http5xxRatio)).await.status, 200);
}

#[tokio::test]
async fn another_adapters_registration_is_left_alone() {
    let fake = FakeApi::new();
    fake.add_namespace(OWN, &[], &[]);
    fake.put(Kind::ClusterRole, json!({"metadata": {"name": NAME}, "rules": []}));
    let foreign = |name: &str, labels: Value| {
        let (version, _) = name.split_once('.').unwrap();
        json!({
            "metadata": {"name": name, "labels": labels},
            "spec": {
                "group": "custom.metrics.k8s.io", "version": version,
                "service": {"namespace": "monitoring", "name": "prometheus-adapter", "port": 443},
                "groupPriorityMinimum": 100, "versionPriority": 100,
                "insecureSkipTLSVerify": true,
            },
        })
    };
    // Even with our label: whose it is says the Service.
    fake.put(
        Kind::APIService,
        foreign(SERVICES[0], json!({"app.kubernetes.io/part-of": "paramedic"})),
    );
    fake.put(Kind::APIService, foreign(SERVICES[1], json!({})));
    let before = SERVICES.map(|name| service(&fake, name));
    let mut scene = Scene::within(fake).await;
    scene
        .until("it has looked", || async {
            let requests = scene.fake.requests();
            requests.iter().filter(|r| r.resource == "apiservices" && r.verb == "get").count() >= 2
        })
        .await;
    scene.fake.delete(Kind::APIService, "", SERVICES[0]).ok();
    scene.stop().await;
    assert_eq!(service(&scene.fake, SERVICES[1]), before[1]);
    let written = scene.fake.requests().into_iter().filter(|request| {
        request.resource == "apiservices" && !["get", "list", "watch"].contains(&request.verb)
    });
    assert_eq!(written.count(), 0);
}

/// What is asked of the API server in the whole of these tests is what the manifest grants.
#[tokio::test]
async fn it_asks_for_nothing_that_the_manifest_does_not_grant() {
    let mut scene = Scene::new().await;
    scene.get(HPA, &path(Metric::Http5xxRatio)).await;
    scene.stop().await;
    let requests = scene.fake.requests();
    let denied: Vec<_> = requests.iter().filter(|request| request.status == Some(403)).collect();
    assert!(denied.is_empty(), "{denied:?}");
    let asked: BTreeSet<_> = requests.iter().map(|request| request.resource.as_str()).collect();
    let granted = [
        "apiservices",
        "clusterroles",
        "configmaps",
        "deployments",
        "endpointslices",
        "pods",
        "secrets",
        "subjectaccessreviews",
        "tokenreviews",
    ];
    assert_eq!(asked, BTreeSet::from(granted));
}

#[tokio::test]
async fn on_the_way_out_the_registration_goes_first() {
    // Nobody has a Deployment here: it is being uninstalled.
    let mut scene = Scene::new().await;
    scene.stop().await;
    assert!(SERVICES.iter().all(|name| service(&scene.fake, name).is_none()));
}

#[tokio::test]
async fn a_replica_that_is_replaced_leaves_the_registration_to_the_next() {
    for (replicas, stays) in [(2, true), (0, false)] {
        let mut scene = Scene::new().await;
        scene.fake.put(
            Kind::Deployment,
            json!({
                "metadata": {"name": NAME, "namespace": OWN},
                "spec": {
                    "replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
                    "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}},
                },
            }),
        );
        scene.stop().await;
        assert_eq!(service(&scene.fake, SERVICES[1]).is_some(), stays, "{replicas} replicas");
    }
}

#[tokio::test]
async fn whoever_deletes_the_role_gets_rid_of_the_registration() {
    let scene = Scene::new().await;
    scene.fake.delete(Kind::ClusterRole, "", NAME).unwrap();
    scene
        .until("collected", || async {
            SERVICES.iter().all(|name| service(&scene.fake, name).is_none())
        })
        .await;
}

#[tokio::test]
async fn two_replicas_share_one_authority() {
    let scene = Scene::new().await;
    let (bundle, secret) = (scene.bundle(), scene.fake.get(Kind::Secret, OWN, NAME));
    // Another life in the same cluster.
    let front = scene.front.pem.clone();
    let again = Scene::within(scene.fake.clone()).await;
    scene.fake.set_requestheader(&front, &["front-proxy-client"]);
    assert_eq!((again.bundle(), again.fake.get(Kind::Secret, OWN, NAME)), (bundle, secret));
    let genuine = scene.front.sign("front-proxy-client");
    scene
        .until("the other one answers", || async {
            let key = genuine.1.clone_key();
            let answer =
                again.ask(Some((genuine.0.clone(), key)), "/apis", &[("X-Remote-User", "a")]);
            answer.await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
}

/// Through a whole rotation: the successor is made known to everybody before it signs.
#[tokio::test]
async fn a_new_authority_is_made_known_everywhere_before_it_signs() {
    const DAY: i64 = 24 * 3600;
    let fake = FakeApi::new();
    fake.add_namespace(OWN, &[], &[]);
    fake.put(Kind::ClusterRole, json!({"metadata": {"name": NAME}, "rules": []}));
    let keeper = Keeper::new(fake.client("a"), OWN, NAME);
    let registration = Registration::new(fake.client("a"), OWN, NAME);
    let begun = unix_seconds();
    let mut bundles = Vec::new();
    // Two rounds of two replicas each day.
    for day in [0, 59, 60, 61, 62, 89, 91] {
        let authority = keeper.round(begun + day * DAY).await.unwrap();
        let bundle = authority.bundle();
        assert_eq!(keeper.round(begun + day * DAY).await.unwrap().bundle(), bundle);
        registration.keep(Version::V1beta2, &bundle).await.unwrap();
        let map = fake.get(Kind::ConfigMap, OWN, NAME).unwrap();
        assert_eq!(map["data"]["ca.crt"], json!(bundle));
        let service = service(&fake, SERVICES[1]).unwrap();
        let told: ByteString = serde_json::from_value(service["spec"]["caBundle"].clone()).unwrap();
        assert_eq!(told.0, bundle.as_bytes());
        bundles.push((day, bundle.matches("BEGIN CERTIFICATE").count()));
    }
    assert_eq!(bundles, [(0, 1), (59, 1), (60, 2), (61, 2), (62, 2), (89, 2), (91, 1)]);
}

#[tokio::test]
async fn a_secret_that_was_edited_is_named_and_not_overwritten() {
    let fake = FakeApi::new();
    fake.add_namespace(OWN, &[], &[]);
    let secret =
        json!({"metadata": {"name": NAME, "namespace": OWN}, "data": {"authority.json": "eA=="}});
    fake.put(Kind::Secret, secret.clone());
    let keeper = Keeper::new(fake.client("a"), OWN, NAME);
    let error = keeper.round(unix_seconds()).await.unwrap_err().to_string();
    assert!(error.contains(NAME) && error.contains("delete it"), "{error}");
    let after = fake.get(Kind::Secret, OWN, NAME).unwrap();
    assert_eq!(after["data"], secret["data"]);
}
