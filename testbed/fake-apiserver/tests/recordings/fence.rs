use fake_apiserver::{FakeApi, Identity, recorded};
use serde_json::json;

use crate::recordings::compare::{recording, same, send};

const AGENT: &str = "system:serviceaccount:kube-system:paramedic";
const BOUND: &str = "bound";
const UNBOUND: &str = "unbound";

fn fake() -> FakeApi {
    let fake = FakeApi::new();
    for (name, node, consent) in [
        ("on-node1", "node1", "evict"),
        ("on-node1-observe", "node1", "observe"),
        ("on-node1-restart", "node1", "restart"),
        ("on-node2", "node2", "evict"),
    ] {
        let labels = json!({"paramedic.dev/heal": consent});
        fake.add_pod(json!({"metadata": {"name": name, "namespace": "default", "labels": labels},
            "spec": {"nodeName": node}}));
    }
    fake.add_pod(json!({"metadata": {"name": "plain"}, "spec": {"nodeName": "node1"}}));
    fake.identity(BOUND, Identity::new(AGENT).on_node("node1"));
    fake.identity(UNBOUND, Identity::new(AGENT));
    fake.fence(Some(AGENT));
    fake
}

#[tokio::test(start_paused = true)]
async fn the_fence_holds_as_recorded() {
    let fake = fake();
    for name in [
        "fence/201-evict-own-node.json",
        "fence/403-evict-other-node.json",
        "fence/403-evict-no-consent.json",
        "fence/422-evict-no-params.json",
        "fence/403-delete-other-node.json",
    ] {
        same(&fake, BOUND, name).await;
    }
    for name in ["fence/403-evict-unbound-token.json", "fence/403-delete-unbound-token.json"] {
        same(&fake, UNBOUND, name).await;
    }
}

/// Where the project's policy went further than the recorded one: the budget is asked before
/// restarts too.
#[tokio::test(start_paused = true)]
async fn a_dry_run_needs_less_consent_than_the_real_thing() {
    let fake = fake();
    let mut exchange = recording("fence/201-evict-own-node.json");
    let real = "/api/v1/namespaces/default/pods/on-node1-restart/eviction";
    exchange.request["metadata"]["name"] = json!("on-node1-restart");
    exchange.path = format!("{real}?dryRun=All");
    assert_eq!(send(&fake, BOUND, &exchange).await.status, 201);
    exchange.path = real.to_owned();
    assert_eq!(send(&fake, BOUND, &exchange).await.status, 403);
    // Admission does not see a dry run that only the body asks for.
    exchange.request["deleteOptions"] = json!({"dryRun": ["All"]});
    assert_eq!(send(&fake, BOUND, &exchange).await.status, 403);
}

#[tokio::test(start_paused = true)]
async fn the_fence_is_around_the_agent_only() {
    let fake = fake();
    let mut exchange = recording("fence/403-evict-other-node.json");
    assert_eq!(send(&fake, "another-user", &exchange).await.status, 201);
    exchange.path = "/api/v1/namespaces/default/pods/plain/eviction?dryRun=All".to_owned();
    exchange.request["metadata"]["name"] = json!("plain");
    assert_eq!(send(&fake, BOUND, &exchange).await.status, 403);
    fake.fence(None);
    assert_eq!(send(&fake, BOUND, &exchange).await.status, 201);
}

/// What the fake says is what the recorded policy says.
#[test]
fn the_words_are_those_of_the_policy() {
    let policy = recorded::text("fence/policy.yaml").unwrap();
    for words in [
        "name: paramedic-own-node}",
        "name: paramedic-own-node-delete}",
        "paramedic: the token is not bound to a pod on a node",
        "paramedic: the pod does not carry paramedic.dev/heal=evict",
        "' runs on '",
        "', the agent on '",
        "'no node'",
        "'no known node'",
        "parameterNotFoundAction: Deny",
        AGENT,
    ] {
        assert!(policy.contains(words), "{words}");
    }
}
