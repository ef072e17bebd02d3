//! The fence around changes of pods, as `manifests/20-fence.yaml` draws it.
use std::{fs, path::Path};

use fake_apiserver::{FakeApi, Identity, Kind, PodTemplate};
use serde_json::{Value, json};

use crate::behaviour::ask_as;

const AGENT: &str = "system:serviceaccount:paramedic-system:paramedic-agent";
const SERVING: &str = "paramedic.dev/serving";
const UNTIL: &str = "paramedic.dev/drained-until";
const QUARANTINED: &str = "paramedic.dev/quarantined";
const DEADLINE: &str = "2026-11-30T10:00:00Z";

fn fake() -> FakeApi {
    let fake = FakeApi::new();
    fake.identity("bound", Identity::new(AGENT).on_node("node1"));
    fake.identity("unbound", Identity::new(AGENT));
    fake.fence(Some(AGENT));
    for (name, node, consent, give_up) in [
        ("none", "node1", None, None),
        ("soft", "node1", Some("soft"), Some("quarantine")),
        ("restart", "node1", Some("restart"), Some("quarantine")),
        ("evict", "node1", Some("evict"), None),
        ("kept", "node1", Some("evict"), Some("quarantine")),
        ("elsewhere", "node2", Some("evict"), Some("quarantine")),
    ] {
        let mut labels = json!({ "app": name, "team": "shop", SERVING: "true" });
        if let Some(consent) = consent {
            labels["paramedic.dev/heal"] = json!(consent);
        }
        let mut annotations = json!({ "note": "x" });
        if let Some(give_up) = give_up {
            annotations["paramedic.dev/give-up"] = json!(give_up);
        }
        fake.add_pod(json!({
            "metadata": {
                "name": name, "labels": labels, "annotations": annotations,
                "finalizers": ["example.com/x"],
            },
            "spec": { "nodeName": node },
        }));
    }
    fake
}

async fn patch(fake: &FakeApi, token: &str, pod: &str, metadata: &Value) -> (u16, String) {
    let path = format!("/api/v1/namespaces/default/pods/{pod}");
    let (status, body) = ask_as(fake, token, "PATCH", &path, json!({ "metadata": metadata })).await;
    (status, body["message"].as_str().unwrap_or_default().to_owned())
}

fn drain() -> Value {
    json!({ "labels": { SERVING: "false" }, "annotations": { UNTIL: DEADLINE } })
}

fn back() -> Value {
    json!({ "labels": { SERVING: "true" }, "annotations": { UNTIL: null } })
}

fn quarantine() -> Value {
    json!({ "labels": { "app": null }, "annotations": { QUARANTINED: "{}" } })
}

#[tokio::test(start_paused = true)]
async fn a_drain_takes_consent_to_a_restart_and_its_end_takes_none() {
    let fake = fake();
    for (pod, status) in [("none", 403), ("soft", 403), ("restart", 200), ("evict", 200)] {
        let (found, why) = patch(&fake, "bound", pod, &drain()).await;
        assert_eq!(found, status, "{pod}: {why}");
        assert_eq!(why.contains("a drain takes restart or evict"), status == 403, "{why}");
    }
    fake.set_labels("default", "evict", &json!({ "paramedic.dev/heal": null })).unwrap();
    for pod in ["restart", "evict"] {
        assert_eq!(patch(&fake, "bound", pod, &back()).await.0, 200);
        assert_eq!(patch(&fake, "bound", pod, &back()).await.0, 403, "it was not drained");
    }
    let relabelled = fake.relabelled();
    assert_eq!(relabelled.len(), 4);
    assert!(relabelled[0].changes(SERVING, Some("true"), Some("false")));
    // What others have set meanwhile stays, and only the annotation goes.
    let taken_out = json!({ "labels": { SERVING: "canary" }, "annotations": { UNTIL: DEADLINE } });
    assert_eq!(patch(&fake, "owner", "restart", &taken_out).await.0, 200);
    assert_eq!(patch(&fake, "bound", "restart", &back()).await.0, 403);
    let only = json!({ "annotations": { UNTIL: null } });
    assert_eq!(patch(&fake, "bound", "restart", &only).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn a_quarantine_takes_consent_to_an_eviction_and_the_owners_wish() {
    let fake = fake();
    for (pod, status) in
        [("none", 403), ("soft", 403), ("restart", 403), ("evict", 403), ("kept", 200)]
    {
        let (found, why) = patch(&fake, "bound", pod, &quarantine()).await;
        assert_eq!(found, status, "{pod}: {why}");
    }
    let (status, why) = patch(&fake, "bound", "kept", &quarantine()).await;
    assert_eq!(status, 403, "once");
    assert!(why.contains("heal=evict and paramedic.dev/give-up=quarantine"), "{why}");
    let put_back = json!({ "labels": { "app": "kept" }, "annotations": { QUARANTINED: null } });
    assert_eq!(patch(&fake, "bound", "kept", &put_back).await.0, 403, "that is for people");
    assert_eq!(patch(&fake, "owner", "kept", &put_back).await.0, 200);
}

#[tokio::test(start_paused = true)]
async fn an_agent_changes_nothing_else() {
    let fake = fake();
    for change in [
        json!({ "labels": { "app": "other" } }),
        json!({ "labels": { "new": "x" } }),
        json!({ "labels": { SERVING: "false" } }),
        json!({ "labels": { SERVING: null }, "annotations": { UNTIL: DEADLINE } }),
        json!({ "labels": { SERVING: "false", "team": null }, "annotations": { UNTIL: DEADLINE } }),
        json!({ "labels": { SERVING: "false", "team": "x" }, "annotations": { UNTIL: DEADLINE } }),
        json!({ "labels": { "app": null } }),
        json!({ "labels": { "app": "x" }, "annotations": { QUARANTINED: "{}" } }),
        json!({ "labels": { "app": null, "new": "x" }, "annotations": { QUARANTINED: "{}" } }),
        json!({ "labels": { "paramedic.dev/heal": null }, "annotations": { QUARANTINED: "{}" } }),
        json!({ "labels": { SERVING: null }, "annotations": { QUARANTINED: "{}" } }),
        json!({ "annotations": { "note": null } }),
        json!({ "annotations": { "paramedic.dev/approve": "evict-1" } }),
        json!({ "labels": { "app": null },
            "annotations": { QUARANTINED: "{}", "note": "y" } }),
        json!({ "labels": { "app": null }, "annotations": { QUARANTINED: "{}" },
            "finalizers": [] }),
        json!({ "labels": { "app": null }, "annotations": { QUARANTINED: "{}" },
            "ownerReferences": [{ "name": "x" }] }),
        json!({ "annotations": {} }),
    ] {
        let (status, why) = patch(&fake, "bound", "kept", &change).await;
        assert_eq!(status, 403, "{change}");
        assert!(why.contains("denied request: paramedic: "), "{why}");
    }
    let image = json!({ "spec": { "containers": [{ "name": "app", "image": "evil" }] } });
    let path = "/api/v1/namespaces/default/pods/kept";
    let (status, body) = ask_as(&fake, "bound", "PATCH", path, image).await;
    assert_eq!(status, 403, "{body}");
    assert!(fake.relabelled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_of_another_node_and_a_token_without_one_are_refused() {
    let fake = fake();
    let (status, why) = patch(&fake, "bound", "elsewhere", &drain()).await;
    assert_eq!(status, 403);
    assert!(why.contains("runs on node2, the agent on node1"), "{why}");
    let (status, why) = patch(&fake, "unbound", "kept", &drain()).await;
    assert_eq!(status, 403);
    assert!(why.contains("not bound to a pod on a node"), "{why}");
    assert_eq!(patch(&fake, "owner", "elsewhere", &drain()).await.0, 200, "only of the agent");
}

/// What the fake says is what the policy says.
#[test]
fn the_words_are_those_of_the_manifest() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../manifests/20-fence.yaml");
    let text = fs::read_to_string(file).unwrap();
    for words in [
        "name: paramedic-agent-pods",
        "paramedic: the token is not bound to a pod on a node",
        "' may only be drained, put back or quarantined, and nothing else of it changed'",
        "': a drain takes restart or evict and the label paramedic.dev/serving, a quarantine takes '",
        "'evict and give-up=quarantine'",
        AGENT,
    ] {
        assert!(text.contains(words), "{words}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_controller_lets_a_pod_go_that_it_no_longer_selects_and_takes_it_back() {
    let fake = FakeApi::new();
    fake.add_node("node1");
    let pods = fake.add_deployment("default", "web", 2, &PodTemplate::new(), &[]);
    fake.set_labels("default", &pods[0], &json!({ "app": null })).unwrap();
    let pod = || fake.get(Kind::Pod, "default", &pods[0]).unwrap();
    assert_eq!(pod()["metadata"]["ownerReferences"], Value::Null);
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    assert_eq!(fake.list(Kind::Pod).len(), 3, "another took its place");
    fake.set_labels("default", &pods[0], &json!({ "app": "web" })).unwrap();
    assert!(pod()["metadata"]["ownerReferences"].is_array());
    tokio::time::sleep(std::time::Duration::from_secs(40)).await;
    assert_eq!(fake.list(Kind::Pod).len(), 2, "one too many was deleted");
}
