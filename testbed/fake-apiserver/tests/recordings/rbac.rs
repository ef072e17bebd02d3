use fake_apiserver::{FakeApi, Identity, Rule};

use crate::recordings::compare::{recording, same, send};

const AGENT: &str = "agent";
const NO_RIGHTS: &str = "no-rights";

fn fake() -> FakeApi {
    let fake = FakeApi::new();
    let agent = Identity::service_account("kube-system", "paramedic").may([
        Rule::new("", &["pods"], &["get", "list", "watch"]),
        Rule::new("", &["pods/eviction"], &["create"]),
        Rule::new("coordination.k8s.io", &["leases"], &["get", "create", "update"])
            .in_namespace("kube-system"),
    ]);
    fake.identity(AGENT, agent);
    fake.identity(NO_RIGHTS, Identity::service_account("default", "default").may([]));
    fake
}

#[tokio::test(start_paused = true)]
async fn what_is_not_granted_is_denied_in_the_same_words() {
    let fake = fake();
    for name in [
        "rbac/403-list-nodes.json",
        "rbac/403-delete-lease.json",
        "rbac/403-extension-apiserver-authentication.json",
    ] {
        same(&fake, AGENT, name).await;
    }
    for name in ["rbac/403-watch-pods.json", "rbac/403-evict.json"] {
        same(&fake, NO_RIGHTS, name).await;
        // The agent only learns that there is no such pod.
        let mut exchange = recording(name);
        exchange.path = exchange.path.replace("watch=true", "watch=true&timeoutSeconds=1");
        exchange.stream = name.contains("watch").then(Vec::new);
        assert_ne!(send(&fake, AGENT, &exchange).await.status, 403, "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_token_is_not_let_in() {
    let fake = FakeApi::new();
    for name in ["rbac/401-bad-token.json", "rbac/401-token-of-deleted-pod.json"] {
        let client = fake.client("agent");
        assert_eq!(client.apiserver_version().await.unwrap().minor, "36");
        fake.revoke("agent");
        let exchange = recording(name);
        let request = crate::recordings::compare::request(&exchange);
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status().as_u16(), exchange.status);
        let body = response.into_body().collect_bytes().await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body, exchange.response);
    }
}
