use fake_apiserver::{FakeApi, Kind, Rule, recorded};
use serde_json::json;

use crate::recordings::compare::{masked, recording, same, same_as};

const CONTROLLER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";

#[tokio::test(start_paused = true)]
async fn the_front_proxy_is_introduced_as_recorded() {
    let name = "aggregation/extension-apiserver-authentication.json";
    let mut exchange = recording(name);
    let fake = FakeApi::new();
    fake.skip_versions(26 - fake.version());
    let recorded = &mut exchange.response["data"];
    let ca = recorded["requestheader-client-ca-file"].as_str().unwrap();
    fake.set_requestheader(ca, &["front-proxy-client"]);
    let there = fake.get(Kind::ConfigMap, "kube-system", "extension-apiserver-authentication");
    let client_ca = there.unwrap()["data"]["client-ca-file"].take();
    assert!(client_ca.is_string() && client_ca.as_str() != Some(ca));
    recorded["client-ca-file"] = client_ca;
    same_as(&fake, "a", name, &exchange).await;
}

#[tokio::test(start_paused = true)]
async fn access_is_reviewed_as_recorded() {
    let fake = FakeApi::new();
    fake.grant(CONTROLLER, Rule::new("custom.metrics.k8s.io", &["*"], &["get", "list", "watch"]));
    same(&fake, "a", "aggregation/subject-access-review-denied.json").await;
    let name = "aggregation/subject-access-review-allowed.json";
    let mut exchange = recording(name);
    let reason = exchange.response["status"]["reason"].as_str().unwrap();
    // The role of the real one has a longer name.
    let reason = reason.replace("system:controller:", "");
    exchange.response["status"]["reason"] = json!(reason);
    same_as(&fake, "a", name, &exchange).await;
    fake.forget_grants(CONTROLLER);
    exchange.response["status"] = json!({"allowed": false});
    same_as(&fake, "a", name, &exchange).await;
}

#[tokio::test(start_paused = true)]
async fn an_api_service_looks_as_recorded() {
    let mut recorded = recorded::value("aggregation/apiservice-available.json").unwrap();
    // The recorded one was shortened, and is no Base64 any more.
    recorded["spec"]["caBundle"] = json!("QUJD");
    let mut body = recorded.clone();
    body["metadata"] = json!({"name": body["metadata"]["name"]});
    let fake = FakeApi::new();
    fake.skip_versions(1357 - fake.version());
    let mut exchange = recording("leases/201-create.json");
    exchange.path = "/apis/apiregistration.k8s.io/v1/apiservices".to_owned();
    exchange.request = body;
    exchange.response = recorded.clone();
    exchange.response["metadata"]["resourceVersion"] = json!("1358");
    // Whether it is available is not for its creator to say.
    exchange.response["status"] = json!({});
    same_as(&fake, "a", "a new APIService", &exchange).await;
    let name = "v1beta2.custom.metrics.k8s.io";
    let status = json!({"status": recorded["status"]});
    fake.patch(Kind::APIService, "", name, &status).unwrap();
    let there = fake.get(Kind::APIService, "", name).unwrap();
    assert_eq!(masked(&there), masked(&recorded));
}
