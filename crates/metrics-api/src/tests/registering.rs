//! Registration with the API server, from start to removal.
use std::collections::BTreeSet;

use fake_apiserver::{FakeApi, Identity, Kind, granted_by};
use k8s_openapi::ByteString;
use paramedic_pod_metrics::Metric;
use serde_json::{Value, json};

use super::{
    HPA, OWN, Scene,
    scene::{NAME, installed, path, put_deployment},
};
use crate::{
    ca_store::{CaStore, unix_seconds},
    registration::{Registration, Standing},
};

const SERVICES: [&str; 2] = ["v1beta1.custom.metrics.k8s.io", "v1beta2.custom.metrics.k8s.io"];

fn service(fake: &FakeApi, name: &str) -> Option<Value> {
    fake.get(Kind::APIService, "", name)
}

impl Scene {
    async fn until_registered(&self) {
        let all = || async { SERVICES.iter().all(|name| service(&self.fake, name).is_some()) };
        self.until("registered", all).await;
    }
}

#[tokio::test]
async fn it_registers_itself_with_its_own_certificates_and_owner() {
    let scene = Scene::new().await;
    scene.until_registered().await;
    assert_eq!(scene.registered(), scene.bundle());
    let role = scene.fake.get(Kind::ClusterRole, "", NAME).unwrap();
    for name in SERVICES {
        let service = service(&scene.fake, name).unwrap();
        let spec = &service["spec"];
        assert_eq!(spec["service"], json!({"namespace": OWN, "name": NAME, "port": 443}));
        assert_ne!(spec["insecureSkipTLSVerify"], json!(true));
        let owner = &service["metadata"]["ownerReferences"][0];
        let expected = (&json!("ClusterRole"), &role["metadata"]["uid"]);
        assert_eq!((&owner["kind"], &owner["uid"]), expected);
    }
    // Every request in these tests proves that its certificates are valid.
    assert_eq!(scene.get(HPA, &path(Metric::Http5xxRatio)).await.status, 200);
}

/// Another adapter's APIService.
fn foreign(name: &str, labels: &Value) -> Value {
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
}

fn written(fake: &FakeApi) -> usize {
    let reads = ["get", "list", "watch"];
    let requests = fake.requests().into_iter();
    requests.filter(|r| r.resource == "apiservices" && !reads.contains(&r.verb)).count()
}

#[tokio::test]
async fn an_api_service_of_another_adapter_prevents_registration() {
    // Even with our label: its Service shows the owner.
    let ours = json!({"app.kubernetes.io/part-of": "paramedic"});
    for theirs in [&SERVICES[..1], &SERVICES[1..], &SERVICES[..]] {
        let fake = installed();
        for name in theirs {
            fake.put(Kind::APIService, foreign(name, &ours));
        }
        let before = SERVICES.map(|name| service(&fake, name));
        let mut scene = Scene::within(fake).await;
        let looked = || async {
            let requests = scene.fake.requests();
            requests.iter().filter(|r| r.resource == "apiservices").count() >= 4
        };
        scene.until("it has looked", looked).await;
        // Not even during shutdown.
        scene.fake.delete(Kind::Deployment, OWN, NAME).unwrap();
        scene.stop().await;
        assert_eq!(SERVICES.map(|name| service(&scene.fake, name)), before, "{theirs:?}");
        assert_eq!(written(&scene.fake), 0);
    }
}

#[tokio::test]
async fn a_later_adapter_gets_the_whole_group() {
    let fake = installed();
    let registration = Registration::new(fake.client("a"), OWN, NAME);
    assert_eq!(registration.keep("bundle", true).await.unwrap(), Standing::Ours);
    fake.put(Kind::APIService, foreign(SERVICES[0], &json!({})));
    let standing = registration.keep("bundle", true).await.unwrap();
    assert!(matches!(standing, Standing::Foreign { .. }), "{standing:?}");
    assert!(service(&fake, SERVICES[0]).is_some() && service(&fake, SERVICES[1]).is_none());
}

/// An APIService without a backend blocks the deletion of every namespace.
#[tokio::test]
async fn an_unready_replica_registers_nothing() {
    let fake = installed();
    let registration = Registration::new(fake.client("a"), OWN, NAME);
    assert_eq!(registration.keep("bundle", false).await.unwrap(), Standing::NotYet);
    assert!(service(&fake, SERVICES[1]).is_none());
    // It still maintains an existing one.
    registration.keep("bundle", true).await.unwrap();
    assert_eq!(registration.keep("another", false).await.unwrap(), Standing::Ours);
    // A replica that is still running does not create it again either.
    SERVICES.iter().for_each(|name| fake.delete(Kind::APIService, "", name).unwrap());
    put_deployment(&fake, 0);
    assert_eq!(registration.keep("bundle", true).await.unwrap(), Standing::NotYet);
    fake.delete(Kind::Deployment, OWN, NAME).unwrap();
    assert_eq!(registration.keep("bundle", true).await.unwrap(), Standing::NotYet);
    assert!(service(&fake, SERVICES[1]).is_none());
}

#[tokio::test]
async fn a_forbidden_request_counts_as_uninstalled() {
    let fake = installed();
    Registration::new(fake.client("a"), OWN, NAME).keep("bundle", true).await.unwrap();
    // The namespace's roles are gone; the cluster's roles are not.
    let rules = granted_by("50-metrics-api.yaml", NAME).into_iter();
    let left = rules.filter(|rule| rule.namespace.is_none());
    fake.identity("left", Identity::service_account(OWN, NAME).may(left));
    Registration::new(fake.client("left"), OWN, NAME).leave().await;
    assert!(SERVICES.iter().all(|name| service(&fake, name).is_none()));
    // An API server that does not respond is no reason to remove it.
    Registration::new(fake.client("a"), OWN, NAME).keep("bundle", true).await.unwrap();
    fake.cut_off("left", true);
    Registration::new(fake.client("left"), OWN, NAME).leave().await;
    assert!(service(&fake, SERVICES[1]).is_some());
}

/// All requests in these tests together are what the manifest grants.
#[tokio::test]
async fn all_requests_are_granted_by_the_manifest() {
    let mut scene = Scene::new().await;
    scene.until_registered().await;
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
async fn shutdown_removes_the_registration_only_on_uninstall() {
    type End = fn(&FakeApi);
    let ends: [(End, bool); 3] = [
        (|_| (), true),
        (|fake| put_deployment(fake, 0), false),
        (|fake| fake.delete(Kind::Deployment, OWN, NAME).unwrap(), false),
    ];
    for (end, stays) in ends {
        let mut scene = Scene::new().await;
        scene.until_registered().await;
        end(&scene.fake);
        scene.stop().await;
        assert_eq!(service(&scene.fake, SERVICES[1]).is_some(), stays);
    }
}

#[tokio::test]
async fn deleting_the_cluster_role_removes_the_registration() {
    let scene = Scene::new().await;
    scene.until_registered().await;
    scene.fake.delete(Kind::ClusterRole, "", NAME).unwrap();
    let collected = || async { SERVICES.iter().all(|name| service(&scene.fake, name).is_none()) };
    scene.until("collected", collected).await;
}

#[tokio::test]
async fn two_replicas_share_one_authority() {
    let scene = Scene::new().await;
    let (bundle, secret) = (scene.bundle(), scene.fake.get(Kind::Secret, OWN, NAME));
    // A later process in the same cluster.
    let again = Scene::within(scene.fake.clone()).await;
    assert_eq!((again.bundle(), again.fake.get(Kind::Secret, OWN, NAME)), (bundle, secret));
    again.until_ready().await;
    let answers = || async {
        let genuine = again.front.sign("front-proxy-client");
        let answer = again.ask(Some(genuine), "/apis", &[("X-Remote-User", "a")]).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    again.until("the other one answers", answers).await;
}

/// A whole rotation: the successor is published before it signs.
#[tokio::test]
async fn a_new_root_is_published_before_it_signs() {
    const DAY: i64 = 24 * 3600;
    let fake = installed();
    let ca_store = CaStore::new(fake.client("a"), OWN, NAME);
    let registration = Registration::new(fake.client("a"), OWN, NAME);
    let begun = unix_seconds();
    let mut bundles = Vec::new();
    for day in [0, 59, 60, 61, 62, 89, 91] {
        let authority = ca_store.round(begun + day * DAY).await.unwrap();
        let bundle = authority.bundle();
        // The check of the other replica.
        assert_eq!(ca_store.round(begun + day * DAY).await.unwrap().bundle(), bundle);
        registration.keep(&bundle, true).await.unwrap();
        let map = fake.get(Kind::ConfigMap, OWN, NAME).unwrap();
        assert_eq!(map["data"]["ca.crt"], json!(bundle));
        for name in SERVICES {
            let service = service(&fake, name).unwrap();
            let told: ByteString =
                serde_json::from_value(service["spec"]["caBundle"].clone()).unwrap();
            assert_eq!(told.0, bundle.as_bytes());
        }
        bundles.push((day, bundle.matches("BEGIN CERTIFICATE").count()));
    }
    assert_eq!(bundles, [(0, 1), (59, 1), (60, 2), (61, 2), (62, 2), (89, 2), (91, 1)]);
}

/// A deleted Secret starts a new authority. One replica has read it, the other has not.
#[tokio::test]
async fn a_replica_with_an_older_authority_does_not_undo_the_newer_one() {
    let fake = installed();
    let replica = |name: &str| {
        let registration = Registration::new(fake.client(name), OWN, NAME);
        (CaStore::new(fake.client(name), OWN, NAME), registration)
    };
    let (a, b) = (replica("a"), replica("b"));
    let old = a.0.round(unix_seconds()).await.unwrap().bundle();
    assert_eq!(a.1.keep(&old, true).await.unwrap(), Standing::Ours);
    fake.delete(Kind::Secret, OWN, NAME).unwrap();
    let new = b.0.round(unix_seconds()).await.unwrap().bundle();
    assert_ne!(new, old);
    // Until it is published, readers know the old one.
    assert_eq!(a.1.keep(&old, true).await.unwrap(), Standing::Ours);
    assert_eq!(b.1.keep(&new, true).await.unwrap(), Standing::Ours);
    let before = SERVICES.map(|name| service(&fake, name));
    assert_eq!(a.1.keep(&old, true).await.unwrap(), Standing::Behind);
    assert_eq!(SERVICES.map(|name| service(&fake, name)), before);
    // The replica does not create it with the old one either.
    fake.delete(Kind::APIService, "", SERVICES[0]).unwrap();
    assert_eq!(a.1.keep(&old, true).await.unwrap(), Standing::Behind);
    assert_eq!(service(&fake, SERVICES[0]), None);
    let new = a.0.round(unix_seconds()).await.unwrap().bundle();
    assert_eq!(a.1.keep(&new, true).await.unwrap(), Standing::Ours);
    assert!(service(&fake, SERVICES[0]).is_some());
}

#[tokio::test]
async fn an_edited_secret_is_reported_and_not_overwritten() {
    let fake = FakeApi::new();
    fake.add_namespace(OWN, &[], &[]);
    let metadata = json!({"name": NAME, "namespace": OWN});
    let secret = json!({"metadata": metadata, "data": {"authority.json": "eA=="}});
    fake.put(Kind::Secret, secret.clone());
    let ca_store = CaStore::new(fake.client("a"), OWN, NAME);
    let error = ca_store.round(unix_seconds()).await.unwrap_err().to_string();
    assert!(error.contains(NAME) && error.contains("delete it"), "{error}");
    let after = fake.get(Kind::Secret, OWN, NAME).unwrap();
    assert_eq!(after["data"], secret["data"]);
}
