use std::pin::pin;

use fake_apiserver::{FakeApi, Identity, Kind, Rule};
use futures::StreamExt;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    kube_aggregator::pkg::apis::apiregistration::v1::APIService,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::watcher::{self, Event, watcher},
};
use serde_json::{Value, json};

use crate::behaviour::{ask, ask_as};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SECRETS: &str = "/api/v1/namespaces/default/secrets";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
const ROLES: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles";

fn code(error: kube::Error) -> (u16, String) {
    match error {
        kube::Error::Api(status) => (status.code, status.reason),
        other => panic!("{other}"),
    }
}

fn api_service() -> Value {
    json!({
        "metadata": {"name": "v1beta2.custom.metrics.k8s.io"},
        "spec": {
            "group": "custom.metrics.k8s.io", "version": "v1beta2", "caBundle": "QUJD",
            "groupPriorityMinimum": 100, "versionPriority": 200,
            "service": {"namespace": "default", "name": "metrics"},
        },
    })
}

/// A body for each kind, with the collection that it goes to.
fn samples() -> [(Kind, &'static str, Value); 6] {
    let named = json!({"name": "a", "labels": {"app": "web"}});
    [
        (Kind::Service, "/api/v1/namespaces/default/services", json!({"metadata": named})),
        (Kind::EndpointSlice, SLICES, json!({"metadata": named, "addressType": "IPv4"})),
        (Kind::ConfigMap, MAPS, json!({"metadata": named, "data": {"a": "b"}})),
        (Kind::Secret, SECRETS, json!({"metadata": named, "data": {"a": "QUJD"}})),
        (Kind::ClusterRole, ROLES, json!({"metadata": named, "rules": []})),
        (Kind::APIService, SERVICES, {
            let mut service = api_service();
            service["metadata"]["labels"] = json!({"app": "web"});
            service
        }),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_plain_kind_is_made_read_changed_and_removed() {
    let fake = FakeApi::new();
    for (kind, path, body) in samples() {
        let name = body["metadata"]["name"].as_str().unwrap();
        let one = format!("{path}/{name}");
        assert_eq!(ask(&fake, "GET", &one, Value::Null).await.0, 404, "{one}");
        let dry = format!("{path}?dryRun=All");
        assert_eq!(ask(&fake, "POST", &dry, body.clone()).await.0, 201, "{one}");
        assert_eq!(fake.list(kind).len(), 0, "{one}");

        let (status, created) = ask(&fake, "POST", path, body.clone()).await;
        assert_eq!(status, 201, "{created}");
        assert_eq!(created["kind"], kind.name());
        assert_eq!(created["apiVersion"], kind.api_version());
        for key in ["uid", "resourceVersion", "creationTimestamp"] {
            assert!(created["metadata"][key].is_string(), "{one}: {key}");
        }
        let namespace = if kind.is_namespaced() { json!("default") } else { Value::Null };
        assert_eq!(created["metadata"]["namespace"], namespace);
        assert_eq!(ask(&fake, "GET", &one, Value::Null).await, (200, created.clone()));
        let (status, again) = ask(&fake, "POST", path, body.clone()).await;
        assert_eq!((status, &again["reason"]), (409, &json!("AlreadyExists")), "{one}");

        for (query, count) in [
            ("labelSelector=app%3Dweb".to_owned(), 1),
            ("labelSelector=app%3Ddb".to_owned(), 0),
            (format!("fieldSelector=metadata.name%3D{name}"), 1),
            ("fieldSelector=metadata.name%3Dother".to_owned(), 0),
        ] {
            let (status, list) = ask(&fake, "GET", &format!("{path}?{query}"), Value::Null).await;
            assert_eq!((status, list["items"].as_array().unwrap().len()), (200, count), "{query}");
        }

        let mut changed = created.clone();
        changed["metadata"]["labels"]["app"] = json!("db");
        let (status, written) = ask(&fake, "PUT", &one, changed.clone()).await;
        assert_eq!((status, &written["metadata"]["labels"]["app"]), (200, &json!("db")), "{one}");
        assert_eq!(written["metadata"]["uid"], created["metadata"]["uid"]);
        let (status, late) = ask(&fake, "PUT", &one, changed.clone()).await;
        assert_eq!((status, &late["reason"]), (409, &json!("Conflict")), "{one}");
        // Without a version only some kinds can be replaced.
        changed["metadata"]["resourceVersion"].take();
        let unconditional = ask(&fake, "PUT", &one, changed.clone()).await.0;
        assert_eq!(unconditional, if kind == Kind::APIService { 422 } else { 200 }, "{one}");
        // A changed uid means another object.
        changed["metadata"]["resourceVersion"] = written["metadata"]["resourceVersion"].clone();
        changed["metadata"]["uid"] = json!("another");
        assert_eq!(ask(&fake, "PUT", &one, changed.clone()).await.0, 409, "{one}");

        let wrong = json!({"preconditions": {"uid": "another"}});
        let (status, body) = ask(&fake, "DELETE", &one, wrong).await;
        assert_eq!((status, &body["reason"]), (409, &json!("Conflict")), "{one}");
        let right = json!({"preconditions": {"uid": created["metadata"]["uid"]}});
        assert_eq!(ask(&fake, "DELETE", &one, right).await.0, 200, "{one}");
        assert_eq!(ask(&fake, "DELETE", &one, Value::Null).await.0, 404, "{one}");
        // What is not there is created by a PUT, or not, as its kind has it.
        changed["metadata"] = json!({"name": name});
        let by_put = matches!(kind, Kind::Service | Kind::ClusterRole);
        let status = ask(&fake, "PUT", &one, changed).await.0;
        assert_eq!(status, if by_put { 201 } else { 404 }, "{one}");
    }
}

#[tokio::test(start_paused = true)]
async fn bad_objects_are_refused_with_a_reason() {
    let fake = FakeApi::new();
    let service = |pointer: &str, value: Value| {
        let mut service = api_service();
        *service.pointer_mut(pointer).unwrap() = value;
        service
    };
    let named = |rest: Value| {
        let mut object = json!({"metadata": {"name": "a"}});
        object.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        object
    };
    for (path, body, status, why) in [
        (MAPS, json!([]), 400, "expected an object"),
        (MAPS, json!("a"), 400, "expected an object"),
        (MAPS, json!({"metadata": 5}), 400, "expected an object"),
        (MAPS, json!({}), 422, "name or generateName: Required value"),
        (MAPS, json!({"metadata": {"name": "a", "namespace": "b"}}), 400, "does not match"),
        (MAPS, named(json!({"data": {"a": 5}})), 400, "cannot unmarshal number"),
        (MAPS, named(json!({"data": "x"})), 400, "cannot unmarshal string"),
        (MAPS, named(json!({"kind": "Secret"})), 400, "cannot be handled as a ConfigMap"),
        (MAPS, named(json!({"apiVersion": "v2"})), 400, "does not match the expected API version"),
        ("/api/v1/namespaces/nowhere/configmaps", named(json!({})), 404, "\"nowhere\" not found"),
        (SECRETS, named(json!({"data": {"a": "-"}})), 400, "illegal base64 data at input byte 0"),
        (SECRETS, named(json!({"stringData": {"a": "b"}})), 400, "stringData"),
        (SECRETS, named(json!({"type": "kubernetes.io/tls"})), 422, "data[tls.crt]: Required"),
        (SLICES, named(json!({})), 422, "addressType: Required value"),
        (
            SLICES,
            named(json!({"addressType": "IPv4", "endpoints": [{"addresses": []}]})),
            422,
            "endpoints[0].addresses: Required value",
        ),
        (SERVICES, service("/metadata/name", json!("x")), 422, "must be `spec.version+"),
        (SERVICES, service("/spec/versionPriority", json!(0)), 422, "must be positive and less"),
        (SERVICES, service("/spec/caBundle", json!("<pem>")), 400, "illegal base64"),
        (SERVICES, service("/spec/service", Value::Null), 422, "may not have a caBundle"),
        (SERVICES, service("/spec/service/name", json!("")), 422, "spec.service.name: Required"),
        (
            SERVICES,
            {
                let mut service = api_service();
                service["spec"]["insecureSkipTLSVerify"] = json!(true);
                service
            },
            422,
            "may not be true if caBundle is present",
        ),
    ] {
        let (got, answer) = ask(&fake, "POST", path, body.clone()).await;
        assert_eq!(got, status, "{body}: {answer}");
        let message = answer["message"].as_str().unwrap();
        assert!(message.contains(why), "{body}: {message}");
    }
    let all = [Kind::ConfigMap, Kind::Secret, Kind::EndpointSlice, Kind::APIService];
    assert!(all.iter().all(|kind| fake.list(*kind).is_empty()));
}

#[tokio::test(start_paused = true)]
async fn what_is_fixed_stays_as_it_is() {
    let fake = FakeApi::new();
    let map = json!({"metadata": {"name": "a", "namespace": "default"}, "immutable": true,
        "data": {"a": "b"}});
    fake.put(Kind::ConfigMap, map);
    let path = format!("{MAPS}/a");
    let (status, body) = ask(&fake, "PATCH", &path, json!({"data": {"a": "c"}})).await;
    assert_eq!((status, &body["details"]["causes"][0]["field"]), (422, &json!("data")));
    assert_eq!(
        ask(&fake, "PATCH", &path, json!({"metadata": {"labels": {"a": "b"}}})).await.0,
        200
    );

    let (_, secret) = ask(&fake, "POST", SECRETS, json!({"metadata": {"name": "a"}})).await;
    assert_eq!(secret["type"], "Opaque");
    let path = format!("{SECRETS}/a");
    let tls = json!({"type": "kubernetes.io/tls", "data": {"tls.crt": "", "tls.key": ""}});
    let (status, body) = ask(&fake, "PATCH", &path, tls).await;
    assert_eq!((status, &body["details"]["causes"][0]["field"]), (422, &json!("type")));

    // A client cannot make an APIService available by writing its status.
    ask(&fake, "POST", SERVICES, api_service()).await;
    let path = format!("{SERVICES}/v1beta2.custom.metrics.k8s.io");
    let available = json!({"status": {"conditions": [{"type": "Available", "status": "True"}]}});
    let (status, body) = ask(&fake, "PATCH", &path, available).await;
    assert_eq!((status, &body["status"]), (200, &json!({})));
}

#[tokio::test(start_paused = true)]
async fn the_typed_client_of_kube_gets_along() {
    let fake = FakeApi::new();
    let client = fake.client("api");
    let secrets = Api::<Secret>::namespaced(client.clone(), "default");
    let mut secret = Secret::default();
    secret.metadata.generate_name = Some("tls-".to_owned());
    let bytes = ByteString(b"abc".to_vec());
    secret.data.get_or_insert_default().insert("key".to_owned(), bytes.clone());
    let made = secrets.create(&PostParams::default(), &secret).await.unwrap();
    assert!(made.name_any().starts_with("tls-") && made.name_any().len() == 9);
    let read = secrets.get(&made.name_any()).await.unwrap();
    assert_eq!(read.data.unwrap()["key"], bytes);
    let list = secrets.list(&ListParams::default().fields("type=Opaque")).await.unwrap();
    assert_eq!(list.items.len(), 1);

    let services = Api::<APIService>::all(client);
    let service: APIService = serde_json::from_value(api_service()).unwrap();
    let made = services.create(&PostParams::default(), &service).await.unwrap();
    let error = services.create(&PostParams::default(), &service).await.unwrap_err();
    assert_eq!(code(error), (409, "AlreadyExists".to_owned()));
    let mut old = made.clone();
    old.labels_mut().insert("a".to_owned(), "b".to_owned());
    let name = made.name_any();
    let written = services.replace(&name, &PostParams::default(), &old).await.unwrap();
    let error = services.replace(&name, &PostParams::default(), &old).await.unwrap_err();
    assert_eq!(code(error), (409, "Conflict".to_owned()));
    let patch = json!({"metadata": {"resourceVersion": made.resource_version()},
        "spec": {"caBundle": "QUJE"}});
    let error = services.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await;
    assert_eq!(code(error.unwrap_err()), (409, "Conflict".to_owned()));
    let only = |uid| {
        let preconditions = Preconditions { uid, resource_version: None };
        DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
    };
    let error = services.delete(&name, &only(Some("x".to_owned()))).await.unwrap_err();
    assert_eq!(code(error), (409, "Conflict".to_owned()));
    services.delete(&name, &only(written.uid())).await.unwrap();
    assert!(services.get_opt(&name).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn plain_objects_are_watched() {
    for lists in [false, true] {
        let fake = FakeApi::new();
        let map = |value: &str| json!({"metadata": {"name": "a", "namespace": "default"}, "data": {"a": value}});
        let first = fake.put(Kind::ConfigMap, map("1"));
        let same = fake.put(Kind::ConfigMap, map("1"));
        assert_eq!(first, same, "no change, no version");
        let config = watcher::Config::default().fields("metadata.name=a");
        let config = if lists { config.streaming_lists() } else { config };
        let maps = Api::<ConfigMap>::namespaced(fake.client("api"), "default");
        let mut stream = pin!(watcher(maps, config));
        let value = |map: &ConfigMap| map.data.as_ref().unwrap()["a"].clone();
        assert!(matches!(stream.next().await, Some(Ok(Event::Init))));
        let next = stream.next().await;
        assert!(matches!(next, Some(Ok(Event::InitApply(map))) if value(&map) == "1"));
        assert!(matches!(stream.next().await, Some(Ok(Event::InitDone))));
        let second = fake.put(Kind::ConfigMap, map("2"));
        assert_eq!(first["metadata"]["uid"], second["metadata"]["uid"]);
        let next = stream.next().await;
        assert!(matches!(next, Some(Ok(Event::Apply(map))) if value(&map) == "2"));
        fake.delete(Kind::ConfigMap, "default", "a").unwrap();
        assert!(matches!(stream.next().await, Some(Ok(Event::Delete(_)))));
    }
}

#[tokio::test(start_paused = true)]
async fn bookmarks_are_as_empty_as_real_ones() {
    let fake = FakeApi::new();
    let expected = [
        (SLICES, json!({"addressType": "", "endpoints": null, "ports": null})),
        (ROLES, json!({"rules": null})),
        (MAPS, json!({})),
    ];
    for (path, content) in expected {
        let path = format!(
            "{path}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3&resourceVersion={}",
            fake.version()
        );
        let (status, bookmark) = ask(&fake, "GET", &path, Value::Null).await;
        assert_eq!((status, &bookmark["type"]), (200, &json!("BOOKMARK")), "{path}");
        let mut object = bookmark["object"].as_object().unwrap().clone();
        for key in ["kind", "apiVersion", "metadata"] {
            assert!(object.remove(key).is_some(), "{path}: {key}");
        }
        assert_eq!(Value::Object(object), content, "{path}");
    }
}

#[tokio::test(start_paused = true)]
async fn to_create_by_put_and_to_read_takes_the_right() {
    let fake = FakeApi::new();
    let group = "rbac.authorization.k8s.io";
    let rules = [
        Rule::new(group, &["clusterroles"], &["update"]),
        Rule::new("", &["configmaps"], &["get"]).in_namespace("kube-system"),
    ];
    fake.identity("api", Identity::new("api").may(rules));
    fake.set_requestheader("ca", &[]);
    let role = json!({"metadata": {"name": "a"}, "rules": []});
    let (status, body) = ask_as(&fake, "api", "PUT", &format!("{ROLES}/a"), role).await;
    assert_eq!(status, 403);
    assert!(body["message"].as_str().unwrap().contains("cannot create"), "{body}");
    let path = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
    assert_eq!(ask_as(&fake, "api", "GET", path, Value::Null).await.0, 200);
    assert_eq!(ask_as(&fake, "api", "GET", &format!("{MAPS}/a"), Value::Null).await.0, 403);
    let asked = fake.requests();
    assert_eq!(asked.iter().filter(|r| r.resource == "configmaps").count(), 2);
    assert_eq!(asked.iter().filter(|r| r.status == Some(403)).count(), 2);
}
