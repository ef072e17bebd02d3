use fake_apiserver::{FakeApi, Identity, Rule};
use serde_json::{Value, json};

use crate::behaviour::ask_as;

async fn get(fake: &FakeApi, path: &str) -> u16 {
    ask_as(fake, "agent", "GET", path, Value::Null).await.0
}

#[tokio::test(start_paused = true)]
async fn rules_grant_by_namespace_name_and_verb() {
    let fake = FakeApi::new();
    fake.add_namespace("paramedic", &[], &[("paramedic.dev/paused", "true")]);
    fake.add_node("node1");
    let rules = [
        Rule::new("", &["pods"], &["list"]),
        Rule::new("", &["namespaces"], &["get"]).in_namespace("paramedic").named(&["paramedic"]),
        Rule::new("coordination.k8s.io", &["leases"], &["*"]).in_namespace("paramedic"),
        Rule::new("apps", &["*"], &["get"]).named(&["web"]),
    ];
    fake.identity("agent", Identity::new("agent").may(rules));
    for (path, status) in [
        ("/api/v1/pods", 200),
        ("/api/v1/namespaces/default/pods", 200),
        ("/api/v1/namespaces/default/pods/web", 403),
        ("/api/v1/pods?watch=true&timeoutSeconds=1", 403),
        // A Role in a namespace may grant that namespace itself.
        ("/api/v1/namespaces/paramedic", 200),
        ("/api/v1/namespaces/default", 403),
        ("/api/v1/namespaces", 403),
        ("/api/v1/nodes/node1", 403),
        ("/apis/coordination.k8s.io/v1/namespaces/paramedic/leases", 200),
        ("/apis/coordination.k8s.io/v1/namespaces/default/leases", 403),
        ("/apis/coordination.k8s.io/v1/leases", 403),
        ("/apis/apps/v1/namespaces/default/deployments/web", 404),
        ("/apis/apps/v1/namespaces/default/deployments/db", 403),
        ("/apis/nowhere.dev/v1/things", 403),
        ("/version", 200),
        ("/readyz", 200),
        ("/apis", 404),
    ] {
        assert_eq!(get(&fake, path).await, status, "{path}");
    }
    let eviction = json!({"kind": "Eviction", "metadata": {"name": "web"}});
    let path = "/api/v1/namespaces/default/pods/web/eviction";
    assert_eq!(ask_as(&fake, "agent", "POST", path, eviction.clone()).await.0, 403);
    let rule = Rule::new("", &["pods/eviction"], &["create"]);
    fake.identity("agent", Identity::new("agent").may([rule]));
    assert_eq!(ask_as(&fake, "agent", "POST", path, eviction).await.0, 404);
}

#[tokio::test(start_paused = true)]
async fn what_the_fake_does_not_do_it_refuses() {
    let fake = FakeApi::new();
    fake.add_pod(json!({"metadata": {"name": "a"}, "spec": {"nodeName": "node1"}}));
    for (method, path, status) in [
        ("POST", "/api/v1/namespaces/default/pods", 405),
        ("PUT", "/api/v1/namespaces/default/pods/a", 405),
        ("DELETE", "/api/v1/namespaces/default/pods", 405),
        ("DELETE", "/api/v1/namespaces/default", 405),
        ("GET", "/api/v1/namespaces/default/pods/a/log", 404),
        ("GET", "/api/v1/serviceaccounts", 404),
        ("GET", "/apis/apps/v2/deployments", 404),
    ] {
        assert_eq!(ask_as(&fake, "x", method, path, json!({})).await.0, status, "{method} {path}");
    }
}
